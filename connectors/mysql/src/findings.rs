//! What `check` looks at on this server: each an `ensure_...` that names the setting, what was found,
//! what is needed, and the statement that mends it. Nothing is changed: rights on tables are tried by
//! EXPLAIN, which needs the statement's rights and does not run it.

use std::collections::HashMap;

use pontoon_core::{
    Code, Result, TableName,
    node::{Finding, SetupPlan, Severity},
};

use crate::{
    admin, catalog,
    connect::{Client, Field, Flavour, text},
    files,
    node::MysqlNode,
    quote::{Ident, Table},
    tables,
};

/// A log that is kept for less than this is soon gone while a bridge is down over a weekend.
const RETENTION_SECONDS_LEAST: f64 = 3.0 * 86_400.0;

/// One look, and what came of it.
struct Look<'a> {
    client: &'a mut Client,
    node: &'a MysqlNode,
    plan: &'a SetupPlan,
    settings: HashMap<String, String>,
    findings: Vec<Finding>,
}

/// Looks at everything.
pub(crate) async fn look(client: &mut Client, node: &MysqlNode, plan: &SetupPlan) -> Result<Vec<Finding>> {
    let rows = client.rows("SHOW GLOBAL VARIABLES").await?;
    let settings = rows.iter().filter_map(|row| Some((text(row, 0)?, text(row, 1)?))).collect();
    let mut look = Look { client, node, plan, settings, findings: Vec::new() };
    look.ensure_version();
    if plan.followed {
        look.ensure_log_settings();
        look.ensure_log_rights().await?;
        look.ensure_decided().await?;
    }
    if plan.written {
        look.ensure_writable();
    }
    look.ensure_durable();
    look.ensure_table_rights().await?;
    look.ensure_set_up().await?;
    look.ensure_tables().await?;
    if plan.written {
        look.ensure_no_triggers().await?;
    }
    if plan.followed {
        look.ensure_cascades_logged().await?;
    }
    Ok(look.findings)
}

impl Look<'_> {
    /// A finding that is as it should be where `good`, and else of the severity given.
    fn add(
        &mut self,
        code: &'static str,
        good: bool,
        severity: Severity,
        actual: String,
        expected: &str,
        remedy: String,
    ) {
        self.add_for(self.node.label().to_owned(), code, good, severity, actual, expected, remedy);
    }

    fn add_table(
        &mut self,
        table: &TableName,
        code: &'static str,
        severity: Severity,
        actual: String,
        expected: &str,
        remedy: String,
    ) {
        self.add_for(format!("{}: {table}", self.node.label()), code, false, severity, actual, expected, remedy);
    }

    #[allow(clippy::too_many_arguments, reason = "a finding has that many parts")]
    fn add_for(
        &mut self,
        subject: String,
        code: &'static str,
        good: bool,
        severity: Severity,
        actual: String,
        expected: &str,
        remedy: String,
    ) {
        self.findings.push(Finding {
            code,
            severity: if good { Severity::Ok } else { severity },
            subject,
            actual,
            expected: expected.to_owned(),
            remedy: (!good).then_some(remedy),
        });
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// A setting that must have a value where the server has it at all.
    fn ensure_setting(&mut self, code: &'static str, name: &str, expected: &str, required: bool) {
        let found = match self.setting(name) {
            Some(found) => found.to_owned(),
            None if required => "absent".into(),
            None => return,
        };
        let good = found.eq_ignore_ascii_case(expected);
        let remedy = format!("SET GLOBAL {name} = {expected}, and in the server's configuration");
        self.add(code, good, Severity::Blocking, format!("{name} = {found}"), &format!("{name} = {expected}"), remedy);
    }

    fn ensure_version(&mut self) {
        let server = self.client.server.clone();
        let (good, words) = server.is_served();
        self.add("server-version", good, Severity::Blocking, server.name(), words, "upgrade the server".into());
        let fine = server.flavour == Flavour::Mysql;
        let actual = if fine { "microseconds" } else { "seconds: of two writes in one second the other node's wins" };
        let remedy = "prefer:NODE for tables where that matters; there is no setting for it".into();
        self.add("commit-time", fine, Severity::Warning, actual.into(), "the log tells microseconds", remedy);
    }

    fn ensure_log_settings(&mut self) {
        let on = self.setting("log_bin").is_some_and(|value| value.eq_ignore_ascii_case("ON"));
        let actual = format!("log_bin = {}", self.setting("log_bin").unwrap_or("absent"));
        self.add("log-bin", on, Severity::Blocking, actual, "log_bin = ON", "start the server with log_bin".into());
        self.ensure_setting("binlog-format", "binlog_format", "ROW", true);
        self.ensure_setting("binlog-row-image", "binlog_row_image", "FULL", true);
        self.ensure_setting("binlog-row-metadata", "binlog_row_metadata", "FULL", true);
        // MariaDB has no such setting: there every transaction has a name.
        if let Some(mode) = self.setting("gtid_mode") {
            let (on, actual) = (mode.eq_ignore_ascii_case("ON"), format!("gtid_mode = {mode}"));
            let remedy = "gtid_mode = ON and enforce_gtid_consistency = ON; docs/operations.md, \"A replica in the place of its source\"";
            let expected = "gtid_mode = ON, so that the bridge can go on from a replica that is promoted";
            self.add("gtid-mode", on, Severity::Warning, actual, expected, remedy.into());
        }
        // A copy counts on it: what is before another commit in the log is visible when that is.
        self.ensure_setting("binlog-order-commits", "binlog_order_commits", "ON", false);
        let id = self.setting("server_id").unwrap_or("0").to_owned();
        let remedy = "SET GLOBAL server_id = a number that no other server of the replication has".into();
        self.add(
            "server-id",
            id != "0",
            Severity::Blocking,
            format!("server_id = {id}"),
            "a number other than 0",
            remedy,
        );
        let seconds = |name: &str, unit: f64| {
            self.setting(name).and_then(|value| value.parse::<f64>().ok()).map(|value| value * unit)
        };
        let kept = seconds("binlog_expire_logs_seconds", 1.0)
            .filter(|&seconds| seconds > 0.0)
            .or(seconds("expire_logs_days", 86_400.0));
        let kept = kept.filter(|&seconds| seconds > 0.0);
        let good = kept.is_none_or(|seconds| seconds >= RETENTION_SECONDS_LEAST);
        let actual = kept.map_or("for ever".into(), |seconds| format!("{seconds} seconds"));
        let remedy = "SET GLOBAL binlog_expire_logs_seconds = 604800".into();
        self.add(
            "binlog-retention",
            good,
            Severity::Warning,
            actual,
            "3 days or longer: a bridge that is down needs it",
            remedy,
        );
    }

    async fn ensure_log_rights(&mut self) -> Result<()> {
        let remedy = "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the bridge's user".to_owned();
        let statement = self.client.server.log_end_statement();
        let rows = self.try_rows(statement).await?;
        let actual = if rows.is_some() { "granted" } else { "missing" };
        self.add(
            "privilege-log-status",
            rows.is_some(),
            Severity::Blocking,
            actual.into(),
            "REPLICATION CLIENT",
            remedy.clone(),
        );
        if let Some(row) = rows.as_ref().and_then(|rows| rows.first()) {
            let filters = [2, 3].map(|at| text(row, at).unwrap_or_default());
            let good = filters.iter().all(String::is_empty);
            let actual = format!("binlog_do_db = {:?}, binlog_ignore_db = {:?}", filters[0], filters[1]);
            let remedy = "take both out of the server's configuration: they hide rows or the bridge's tag".into();
            self.add("binlog-filter", good, Severity::Blocking, actual, "no filter", remedy);
        }
        let found = self
            .client
            .rows("SELECT 1 FROM information_schema.user_privileges WHERE privilege_type = 'REPLICATION SLAVE'")
            .await?;
        // By way of a role it is not in that list; MySQL then shows it by what it allows.
        let granted = !found.is_empty()
            || self.client.server.flavour == Flavour::Mysql && self.try_rows("SHOW REPLICAS").await?.is_some();
        let actual = if granted { "granted" } else { "not granted directly" };
        self.add("privilege-replication", granted, Severity::Blocking, actual.into(), "REPLICATION SLAVE", remedy);
        Ok(())
    }

    /// The log is read from the oldest undecided transaction on, after a restart: it must not be purged.
    async fn ensure_decided(&mut self) -> Result<()> {
        let prepared = files::prepared(self.client).await?;
        let seen = prepared.is_some();
        let remedy = "GRANT XA_RECOVER_ADMIN ON *.* TO the bridge's user";
        self.add(
            "privilege-xa-recover",
            seen,
            Severity::Warning,
            if seen { "granted" } else { "missing" }.into(),
            "XA_RECOVER_ADMIN: what XA prepared before `setup` is only then seen to be there",
            remedy.into(),
        );
        let count = prepared.unwrap_or_default();
        self.add(
            "xa-undecided",
            count == 0,
            Severity::Warning,
            format!("{count} transactions are prepared and not decided"),
            "none for long: the log from the oldest of them on is needed until then",
            "XA COMMIT or XA ROLLBACK what XA RECOVER lists".into(),
        );
        Ok(())
    }

    /// `None` where a right is missing.
    async fn try_rows(&mut self, statement: &str) -> Result<Option<Vec<Vec<Field>>>> {
        match self.client.rows(statement).await {
            Ok(rows) => Ok(Some(rows)),
            Err(error) if error.code() == Code::PrivilegeMissing => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn ensure_writable(&mut self) {
        let locked = ["read_only", "super_read_only"]
            .iter()
            .find(|name| self.setting(name).is_some_and(|value| !value.eq_ignore_ascii_case("OFF") && value != "0"));
        let actual = locked.map_or("writable".into(), |name| format!("{name} = ON"));
        let remedy = "connect to the primary, or SET GLOBAL read_only = OFF".into();
        self.add("read-only", locked.is_none(), Severity::Blocking, actual, "writable", remedy);
    }

    /// Only what a server keeps through a crash may be confirmed to the other side.
    fn ensure_durable(&mut self) {
        for (code, name) in [("sync-binlog", "sync_binlog"), ("flush-log", "innodb_flush_log_at_trx_commit")] {
            let found = self.setting(name).unwrap_or("absent").to_owned();
            let remedy = format!("SET GLOBAL {name} = 1, and in the server's configuration");
            let expected = "1: a crash of the machine loses nothing that the other side has";
            self.add(code, found == "1", Severity::Warning, format!("{name} = {found}"), expected, remedy);
        }
    }

    async fn ensure_table_rights(&mut self) -> Result<()> {
        let plan = self.plan;
        for table in plan.tables.iter() {
            let Some(column) = table.columns.first().map(|mapped| Ident(&mapped.column.name).to_string()) else {
                continue;
            };
            let name = Table(&table.name).to_string();
            let mut tries = vec![("SELECT", format!("SELECT {column} FROM {name} LIMIT 0"))];
            if !plan.written {
                // For locks alone, and any column's will do. This one is run, as EXPLAIN does not look at the right; it reads
                // no row that it could lock.
                tries.push(("UPDATE", format!("SELECT {column} FROM {name} LIMIT 0 FOR UPDATE")));
            } else {
                tries.push(("INSERT", format!("EXPLAIN INSERT INTO {name} ({column}) VALUES (NULL)")));
                tries.push(("UPDATE", format!("EXPLAIN UPDATE {name} SET {column} = {column} WHERE {column} IS NULL")));
                tries.push(("DELETE", format!("EXPLAIN DELETE FROM {name} WHERE {column} IS NULL")));
            }
            let mut missing = Vec::new();
            for (right, statement) in tries {
                match self.try_rows(&statement).await {
                    Ok(Some(_)) => {}
                    Ok(None) => missing.push(right),
                    // It may be done, and cannot be explained (a column without default).
                    Err(error) if error.code() == Code::RowRefused => {}
                    Err(error) => return Err(error),
                }
            }
            if !missing.is_empty() {
                let rights = missing.join(", ");
                let remedy = format!("GRANT {rights} ON {name} TO the bridge's user");
                self.add_table(
                    &table.name,
                    "privilege-table",
                    Severity::Blocking,
                    format!("{rights} missing"),
                    "granted",
                    remedy,
                );
            }
        }
        Ok(())
    }

    async fn ensure_set_up(&mut self) -> Result<()> {
        let there = admin::is_there(self.client).await?;
        let actual = if there { "there" } else { "not there" };
        self.add(
            "set-up",
            there,
            Severity::Warning,
            actual.into(),
            "the tables of the database pontoon",
            "pontoon setup".into(),
        );
        Ok(())
    }

    async fn ensure_tables(&mut self) -> Result<()> {
        let rows = self
            .client
            .rows(format!(
                "SELECT table_schema, table_name, engine FROM information_schema.tables WHERE {}",
                self.mapped("table")
            ))
            .await?;
        for row in &rows {
            let (Some(name), engine) = (name_of(row), text(row, 2).unwrap_or_default()) else { continue };
            if engine != "InnoDB" {
                let remedy = format!("ALTER TABLE {} ENGINE = InnoDB", Table(&name));
                self.add_table(
                    &name,
                    "table-engine",
                    Severity::Blocking,
                    engine,
                    "InnoDB: rows must be in a transaction",
                    remedy,
                );
            }
        }
        let plan = self.plan;
        let names: Vec<TableName> = plan.tables.iter().map(|table| table.name.clone()).collect();
        let found = crate::catalog::load(self.client, &names).await?;
        for (name, native) in names.iter().zip(found) {
            if native.is_none_or(|native| native.key.is_empty()) {
                let remedy = format!("ALTER TABLE {} ADD PRIMARY KEY (...)", Table(name));
                self.add_table(
                    name,
                    "primary-key",
                    Severity::Blocking,
                    "none, or over a part of a column".into(),
                    "a primary key",
                    remedy,
                );
            }
        }
        Ok(())
    }

    fn mapped(&self, prefix: &str) -> String {
        let names: Vec<TableName> = self.plan.tables.iter().map(|table| table.name.clone()).collect();
        let (schema, name) = match prefix {
            "table" => ("table_schema", "table_name"),
            "event" => ("event_object_schema", "event_object_table"),
            _ => ("unique_constraint_schema", "referenced_table_name"),
        };
        catalog::among(schema, name, &names)
    }

    /// Triggers cannot be switched off here, and what they change comes back as a conflict.
    async fn ensure_no_triggers(&mut self) -> Result<()> {
        let rows = self
            .client
            .rows(format!(
                "SELECT event_object_schema, event_object_table, trigger_name FROM information_schema.triggers WHERE {}",
                self.mapped("event")
            ))
            .await?;
        for row in &rows {
            let (Some(name), trigger) = (name_of(row), text(row, 2).unwrap_or_default()) else { continue };
            let schema = name.schema.clone().unwrap_or_default();
            let remedy = format!("DROP TRIGGER {}.{}", Ident(&schema), Ident(&trigger));
            let expected = "no trigger: it would also act on what the bridge writes";
            self.add_table(&name, "trigger", Severity::Blocking, format!("trigger {trigger}"), expected, remedy);
        }
        // Without the right the list is empty, whatever there is.
        let shown = self
            .client
            .rows(
                "SELECT NULL, NULL FROM information_schema.user_privileges WHERE privilege_type = 'TRIGGER' UNION ALL \
                 SELECT table_schema, NULL FROM information_schema.schema_privileges WHERE privilege_type = 'TRIGGER' UNION ALL \
                 SELECT table_schema, table_name FROM information_schema.table_privileges WHERE privilege_type = 'TRIGGER'",
            )
            .await?;
        let plan = self.plan;
        for table in plan.tables.iter() {
            let schema = table.name.schema.as_deref();
            let seen = shown.iter().any(|row| match (text(row, 0), text(row, 1)) {
                (None, _) => true,
                (of, None) => of.as_deref() == schema,
                (of, Some(name)) => of.as_deref() == schema && *name == *table.name.name,
            });
            if !seen {
                let remedy = format!("GRANT TRIGGER ON {} TO the bridge's user", Table(&table.name));
                let expected = "TRIGGER, without which the server shows none";
                self.add_table(
                    &table.name,
                    "privilege-trigger",
                    Severity::Warning,
                    "triggers cannot be seen".into(),
                    expected,
                    remedy,
                );
            }
        }
        Ok(())
    }

    /// Rows of children that a foreign key changes are in no log of MariaDB and of MySQL before 9.6 (and later
    /// where `innodb_native_foreign_keys` is on).
    async fn ensure_cascades_logged(&mut self) -> Result<()> {
        let server = self.client.server.clone();
        let native = self.setting("innodb_native_foreign_keys").is_some_and(|value| value.eq_ignore_ascii_case("ON"));
        if server.logs_cascades() && !native {
            return Ok(());
        }
        let rows = self
            .client
            .rows(format!(
                "SELECT constraint_schema, table_name, constraint_name, delete_rule, update_rule \
                 FROM information_schema.referential_constraints WHERE {}",
                self.mapped("referenced")
            ))
            .await?;
        for row in &rows {
            let Some(name) = name_of(row) else { continue };
            let [constraint, on_delete, on_update] = [2, 3, 4].map(|at| text(row, at).unwrap_or_default());
            let acts = |rule: &str| matches!(rule, "CASCADE" | "SET NULL" | "SET DEFAULT");
            if acts(&on_delete) || acts(&on_update) {
                let actual = format!("{constraint}: ON DELETE {on_delete} ON UPDATE {on_update}");
                let remedy = format!(
                    "ALTER TABLE {} DROP FOREIGN KEY {}, and add it without an action",
                    Table(&name),
                    Ident(&constraint)
                );
                let expected = "no action: this server does not log what it does";
                self.add_table(&name, "foreign-key-cascade", Severity::Blocking, actual, expected, remedy);
            }
        }
        Ok(())
    }
}

fn name_of(row: &[Field]) -> Option<TableName> {
    Some(TableName::new(text(row, 0)?, text(row, 1)?)).filter(|name| name.schema.as_deref() != Some(tables::DATABASE))
}
