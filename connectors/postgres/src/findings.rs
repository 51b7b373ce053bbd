//! What `check` looks at on this server: each an `ensure_...` that names the setting, what was found, what
//! is needed, and the statement that mends it. Nothing is changed.

use pontoon_core::{
    Result, TableName,
    node::{Finding, Node, SetupPlan, Severity},
};
use tokio_postgres::{Client, Row};

use crate::{
    admin::{APPLIERS, ORIGIN_FUNCTIONS},
    catalog::{self, get, one, text},
    error,
    node::PostgresNode,
    quote::{Ident, Table},
    version::Version,
};

/// One look, and what came of it.
struct Look<'a> {
    client: &'a Client,
    node: &'a PostgresNode,
    plan: &'a SetupPlan,
    version: Version,
    superuser: bool,
    findings: Vec<Finding>,
}

/// Looks at everything.
pub(crate) async fn look(client: &Client, node: &PostgresNode, plan: &SetupPlan) -> Result<Vec<Finding>> {
    const SUPERUSER: &str = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
    let version = Version::of(client).await?;
    let superuser = get(&one(client, SUPERUSER, &[]).await?, 0)?;
    let mut look = Look { client, node, plan, version, superuser, findings: Vec::new() };
    look.ensure_server().await?;
    if plan.followed {
        look.ensure_log().await?;
    }
    look.ensure_origins().await?;
    look.ensure_rights().await?;
    look.ensure_set_up().await?;
    look.ensure_tables().await?;
    look.ensure_constraints().await?;
    look.ensure_triggers().await?;
    if plan.followed {
        look.ensure_replica_identity().await?;
        look.tell_of_partitions().await?;
    }
    Ok(look.findings)
}

impl Look<'_> {
    /// A finding that is as it should be where `good`, and else of the severity given.
    fn add(
        &mut self,
        code: &'static str,
        good: bool,
        bad: Severity,
        actual: impl Into<String>,
        expected: &str,
        remedy: String,
    ) {
        let severity = if good { Severity::Ok } else { bad };
        let remedy = if good { None } else { Some(remedy) };
        let (subject, actual, expected) = (self.node.name().to_string(), actual.into(), expected.into());
        self.findings.push(Finding { code, severity, subject, actual, expected, remedy });
    }

    /// The same of a table; nothing is said of one that is as it should be.
    fn add_table(
        &mut self,
        code: &'static str,
        severity: Severity,
        table: &TableName,
        actual: String,
        expected: &str,
        remedy: Option<String>,
    ) {
        let subject = format!("{}: {table}", self.node.name());
        self.findings.push(Finding { code, severity, subject, actual, expected: expected.into(), remedy });
    }

    async fn rows(&self, sql: &str) -> Result<Vec<Row>> {
        let names: Vec<_> = self.plan.tables.iter().map(|table| catalog::with_schema(&table.name)).collect();
        let (schemas, tables) = catalog::split(&names);
        self.client.query(sql, &[&schemas, &tables]).await.map_err(|error| error::of_statement(&error))
    }

    async fn setting(&self, name: &str) -> Result<String> {
        text(&one(self.client, "SELECT coalesce(current_setting($1, true), '')", &[&name]).await?, 0)
    }

    async fn number(&self, sql: &str) -> Result<i64> {
        get(&one(self.client, sql, &[]).await?, 0)
    }

    async fn ensure_server(&mut self) -> Result<()> {
        let found = self.setting("server_version").await?;
        let good = self.version.is_served();
        self.add("server-version", good, Severity::Blocking, found, "14 or later", "upgrade the server".into());
        let standby = self.number("SELECT pg_is_in_recovery()::int::int8").await? != 0;
        let found = if standby { "a standby" } else { "a primary" };
        self.add("server-role", !standby, Severity::Blocking, found, "a primary", "connect to the primary".into());
        let encoding = self.setting("server_encoding").await?;
        let good = encoding != "SQL_ASCII";
        let remedy = "load the database into one with encoding UTF8".into();
        self.add("server-encoding", good, Severity::Blocking, encoding, "an encoding other than SQL_ASCII", remedy);
        Ok(())
    }

    async fn ensure_log(&mut self) -> Result<()> {
        let level = self.setting("wal_level").await?;
        let remedy = "ALTER SYSTEM SET wal_level = 'logical'; then restart the server".into();
        self.add("wal-level", level == "logical", Severity::Blocking, level, "logical", remedy);
        let slot = &self.node.names.slot;
        let reader = format!("pontoon {} reader", self.node.names.bridge);
        let row = one(
            self.client,
            "SELECT current_setting('max_replication_slots')::int8 - count(*) FILTER (WHERE slot_name <> $1),
                    current_setting('max_wal_senders')::int8 - (SELECT count(*) FROM pg_stat_replication
                        WHERE application_name <> $2)
                FROM pg_replication_slots",
            &[slot, &reader],
        )
        .await?;
        let (slots, senders): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
        let remedy = "raise max_replication_slots and restart the server".into();
        self.add("replication-slots", slots >= 1, Severity::Blocking, format!("{slots} free"), "1 free", remedy);
        let remedy = "raise max_wal_senders and restart the server".into();
        self.add("wal-senders", senders >= 1, Severity::Blocking, format!("{senders} free"), "1 free", remedy);
        let keep = self.setting("max_slot_wal_keep_size").await?;
        let remedy =
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB' (what the disk can spare); SELECT pg_reload_conf()"
                .into();
        let expected = "a limit, or a disk that is watched: the log is kept while the bridge is down";
        self.add("wal-retention", keep != "-1", Severity::Warning, keep, expected, remedy);
        let idle = self.setting("idle_replication_slot_timeout").await?;
        let good = matches!(idle.as_str(), "" | "0");
        let remedy = "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf()".into();
        self.add("slot-idle-timeout", good, Severity::Warning, idle, "0: a bridge that is down keeps its slot", remedy);
        let standbys = self.setting("synchronous_standby_names").await?;
        let remedy = "name the standbys one by one in synchronous_standby_names".into();
        let expected = "no star: the bridge's reader would count as a standby that commits wait for";
        self.add("synchronous-standbys", !standbys.contains('*'), Severity::Warning, standbys, expected, remedy);
        Ok(())
    }

    async fn ensure_origins(&mut self) -> Result<()> {
        let name = self.version.origins_setting();
        let most: i64 = self.setting(name).await?.parse().unwrap_or(0);
        let remedy = format!("raise {name} and restart the server");
        self.add("replication-origins", most >= 2, Severity::Blocking, format!("{name} = {most}"), "2 or more", remedy);
        Ok(())
    }

    async fn ensure_rights(&mut self) -> Result<()> {
        let user = Ident(self.node.user());
        if self.plan.followed {
            const SQL: &str = "SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user";
            let good: bool = get(&one(self.client, SQL, &[]).await?, 0)?;
            let remedy = format!("ALTER ROLE {user} REPLICATION");
            self.add(
                "privilege-replication",
                good,
                Severity::Blocking,
                word(good),
                "the right to read the log",
                remedy,
            );
        }
        let mut missing = Vec::new();
        for function in ORIGIN_FUNCTIONS {
            let row = one(self.client, "SELECT has_function_privilege($1, 'EXECUTE')", &[&function]).await?;
            if !get::<bool>(&row, 0)? {
                missing.push(format!("GRANT EXECUTE ON FUNCTION {function} TO {user}"));
            }
        }
        let good = missing.is_empty();
        self.add(
            "privilege-origin",
            good,
            Severity::Blocking,
            word(good),
            "the right to use replication origins",
            missing.join("; "),
        );
        let good = self.superuser
            || self.version.grants_settings()
                && self.number("SELECT has_parameter_privilege('session_replication_role', 'SET')::int::int8").await?
                    != 0;
        let remedy = if self.version.grants_settings() {
            format!("GRANT SET ON PARAMETER session_replication_role TO {user}")
        } else {
            format!("ALTER ROLE {user} SUPERUSER (from 15 on a lesser right does)")
        };
        self.add(
            "privilege-replica-role",
            good,
            Severity::Blocking,
            word(good),
            "the right to keep triggers and foreign keys off",
            remedy,
        );
        Ok(())
    }

    /// What setup makes. Before it, these are warnings: `check` is of use then too.
    async fn ensure_set_up(&mut self) -> Result<()> {
        let names = &self.node.names;
        let origins: Vec<_> = APPLIERS.iter().map(|applier| names.origin(applier.number())).collect();
        let row = one(
            self.client,
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'pontoon' AND c.relname = 'control'),
                (SELECT count(*) FROM pg_replication_origin WHERE roname = ANY ($2)),
                EXISTS (SELECT FROM pg_publication WHERE pubname = $1),
                (SELECT coalesce(wal_status, 'reserved') FROM pg_replication_slots WHERE slot_name = $1)",
            &[&names.slot, &origins],
        )
        .await?;
        let (schema, origins, publication): (bool, i64, bool) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        let slot: Option<String> = get(&row, 3)?;
        let setup = || "pontoon setup".to_string();
        self.add("schema", schema, Severity::Warning, there(schema), "there", setup());
        let good = origins == APPLIERS.len() as i64;
        self.add("origins", good, Severity::Warning, there(good), "there", setup());
        if self.plan.followed {
            self.add("publication", publication, Severity::Warning, there(publication), "there", setup());
            let (good, severity) = match slot.as_deref() {
                None => (false, Severity::Warning),
                Some("lost") => (false, Severity::Blocking),
                Some(_) => (true, Severity::Ok),
            };
            let remedy = if severity == Severity::Blocking {
                "compare the tables, then pontoon teardown and pontoon setup".to_string()
            } else {
                setup()
            };
            let is_there = slot.is_some();
            self.add("slot", good, severity, slot.unwrap_or_else(|| "not there".into()), "there, and not lost", remedy);
            if is_there && self.version.has_failover_slots() {
                self.ensure_failover().await?;
            }
        } else if slot.is_some() {
            let remedy = format!("SELECT pg_drop_replication_slot('{}')", self.node.names.slot);
            self.add(
                "slot",
                false,
                Severity::Warning,
                "there, and read by nobody: it keeps the log for ever",
                "not there",
                remedy,
            );
        }
        Ok(())
    }

    /// Whether a standby that is promoted has the slot, and all that the bridge has read.
    async fn ensure_failover(&mut self) -> Result<()> {
        const SQL: &str = "SELECT (SELECT failover FROM pg_replication_slots WHERE slot_name = $1),
            (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical')";
        let slot = &self.node.names.slot;
        let row = one(self.client, SQL, &[slot]).await?;
        let (failover, standbys): (bool, i64) = (get(&row, 0)?, get(&row, 1)?);
        let remedy = format!(
            "stop the bridge, ALTER_REPLICATION_SLOT {} (FAILOVER) in a session with replication=database, start it again",
            Ident(slot)
        );
        let expected = "failover: the standbys keep it too";
        self.add(
            "slot-failover",
            failover,
            Severity::Warning,
            if failover { "failover" } else { "no failover" },
            expected,
            remedy,
        );
        let named = self.setting("synchronized_standby_slots").await?;
        let good = standbys == 0 || !named.is_empty();
        let actual = if standbys == 0 {
            "no standby has a slot".into()
        } else {
            format!("{standbys} with slots, named: {named:?}")
        };
        let expected = "the slots of standbys that may be promoted: the bridge reads nothing that they have not got";
        let remedy = "ALTER SYSTEM SET synchronized_standby_slots = 'SLOT'; SELECT pg_reload_conf()".into();
        self.add("standby-slots", good, Severity::Warning, actual, expected, remedy);
        Ok(())
    }

    async fn ensure_tables(&mut self) -> Result<()> {
        const SQL: &str = "SELECT n.nspname::text, c.relname::text, c.relpersistence = 'u',
                c.relrowsecurity AND NOT pg_has_role(c.relowner, 'USAGE')
                    AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user),
                EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
                ARRAY(SELECT r FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r
                    WHERE NOT has_table_privilege(c.oid, r)),
                has_schema_privilege(n.oid, 'USAGE'), has_any_column_privilege(c.oid, 'UPDATE')
            FROM unnest($1::text[], $2::text[]) AS want(nspname, relname)
            JOIN pg_namespace n ON n.nspname = want.nspname
            JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname AND c.relkind IN ('r', 'p')";
        let user = Ident(self.node.user()).to_string();
        for row in self.rows(SQL).await? {
            let table = TableName::new(text(&row, 0)?, text(&row, 1)?);
            let name = Table(&table);
            if get(&row, 2)? {
                let remedy = Some(format!("ALTER TABLE {name} SET LOGGED"));
                self.add_table("table-unlogged", Severity::Blocking, &table, "unlogged".into(), "in the log", remedy);
            }
            if get(&row, 3)? {
                let remedy = Some(format!("ALTER ROLE {user} BYPASSRLS"));
                let actual = "row level security may hide rows from the bridge's user".into();
                self.add_table("row-security", Severity::Blocking, &table, actual, "all rows visible", remedy);
            }
            if !get::<bool>(&row, 4)? {
                self.add_table(
                    "primary-key",
                    Severity::Blocking,
                    &table,
                    "none".into(),
                    "a primary key",
                    Some(format!("ALTER TABLE {name} ADD PRIMARY KEY (...)")),
                );
            }
            let mut missing: Vec<String> = get(&row, 5)?;
            if !self.plan.written {
                // Any column's will do for locks.
                let locks: bool = get(&row, 7)?;
                missing.retain(|right| right == "SELECT" || right == "UPDATE" && !locks);
            }
            if !missing.is_empty() {
                let rights = missing.join(", ");
                let remedy = Some(format!("GRANT {rights} ON TABLE {name} TO {user}"));
                self.add_table(
                    "privilege-table",
                    Severity::Blocking,
                    &table,
                    format!("lacks {rights}"),
                    if self.plan.written { "the rights to read and write" } else { "the rights to read and to lock" },
                    remedy,
                );
            }
            if !get::<bool>(&row, 6)? {
                let schema = table.schema.as_deref().unwrap_or_default();
                let remedy = Some(format!("GRANT USAGE ON SCHEMA {} TO {user}", Ident(schema)));
                self.add_table(
                    "privilege-schema",
                    Severity::Blocking,
                    &table,
                    "lacks USAGE".into(),
                    "the right to use the schema",
                    remedy,
                );
            }
        }
        Ok(())
    }

    /// A deferrable unique or exclusion constraint is checked by a trigger of the server's own, which
    /// `session_replication_role = replica` keeps off as well: duplicates would get in.
    async fn ensure_constraints(&mut self) -> Result<()> {
        const SQL: &str = "SELECT n.nspname::text, c.relname::text, con.conname::text
            FROM unnest($1::text[], $2::text[]) AS want(nspname, relname)
            JOIN pg_namespace n ON n.nspname = want.nspname
            JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname
            JOIN pg_constraint con ON con.conrelid = c.oid AND con.contype IN ('p', 'u', 'x') AND con.condeferrable";
        if !self.plan.written {
            return Ok(());
        }
        for row in self.rows(SQL).await? {
            let table = TableName::new(text(&row, 0)?, text(&row, 1)?);
            let constraint = text(&row, 2)?;
            let remedy = format!(
                "ALTER TABLE {} DROP CONSTRAINT {}, and add it again without DEFERRABLE",
                Table(&table),
                Ident(&constraint)
            );
            let actual = format!("{constraint:?} is deferrable, and not checked while triggers are off");
            self.add_table("constraint-deferrable", Severity::Blocking, &table, actual, "NOT DEFERRABLE", Some(remedy));
        }
        Ok(())
    }

    async fn ensure_triggers(&mut self) -> Result<()> {
        const SQL: &str = "SELECT n.nspname::text, c.relname::text, tg.tgname::text, tg.tgenabled = 'A'
            FROM unnest($1::text[], $2::text[]) AS want(nspname, relname)
            JOIN pg_namespace n ON n.nspname = want.nspname
            JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname
            JOIN pg_trigger tg ON tg.tgrelid = c.oid AND tg.tgenabled IN ('A', 'R') AND NOT tg.tgisinternal";
        if !self.plan.written {
            return Ok(());
        }
        for row in self.rows(SQL).await? {
            let table = TableName::new(text(&row, 0)?, text(&row, 1)?);
            let trigger = text(&row, 2)?;
            let word = if get(&row, 3)? { "ALWAYS" } else { "REPLICA" };
            let remedy = format!("ALTER TABLE {} ENABLE TRIGGER {}", Table(&table), Ident(&trigger));
            let actual = format!("trigger {trigger:?} is enabled {word}: it fires on what the bridge writes");
            self.add_table(
                "trigger",
                Severity::Blocking,
                &table,
                actual,
                "no trigger that fires on apply",
                Some(remedy),
            );
        }
        Ok(())
    }

    /// Of a partitioned table each partition counts, as each logs its own rows, and the table itself, by
    /// whose setting pgoutput says whether what it sends of a row before is all of it.
    async fn ensure_replica_identity(&mut self) -> Result<()> {
        const SQL: &str = "SELECT ln.nspname::text, leaf.relname::text, leaf.relreplident::text
            FROM unnest($1::text[], $2::text[], $3::bool[]) AS want(nspname, relname, followed)
            JOIN pg_namespace n ON n.nspname = want.nspname
            JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname AND c.relkind IN ('r', 'p')
            CROSS JOIN LATERAL (SELECT c.oid AS relid
                UNION SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf) AS tree
            JOIN pg_class leaf ON leaf.oid = tree.relid
            JOIN pg_namespace ln ON ln.oid = leaf.relnamespace
            WHERE want.followed AND leaf.relreplident <> 'f'";
        for row in self.followed_rows(SQL).await? {
            let table = TableName::new(text(&row, 0)?, text(&row, 1)?);
            let actual = match text(&row, 2)?.as_str() {
                "d" => "DEFAULT",
                "n" => "NOTHING",
                _ => "USING INDEX",
            };
            let remedy = format!("ALTER TABLE {} REPLICA IDENTITY FULL", Table(&table));
            self.add_table("replica-identity", Severity::Blocking, &table, actual.into(), "FULL", Some(remedy));
        }
        Ok(())
    }

    /// What is done to a partition as a whole is published for no table where rows are published by the root (manual,
    /// CREATE PUBLICATION, `publish_via_partition_root`).
    async fn tell_of_partitions(&mut self) -> Result<()> {
        const SQL: &str = "SELECT n.nspname::text, c.relname::text
            FROM unnest($1::text[], $2::text[], $3::bool[]) AS want(nspname, relname, followed)
            JOIN pg_namespace n ON n.nspname = want.nspname
            JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname AND c.relkind = 'p'
            WHERE want.followed ORDER BY 1, 2";
        for row in self.followed_rows(SQL).await? {
            let table = TableName::new(text(&row, 0)?, text(&row, 1)?);
            let actual = "partitioned: TRUNCATE, DROP and DETACH of a partition, and ATTACH of one with rows, are not in the log";
            let remedy = "delete and insert rows instead, or do the same by hand on the other side";
            let (expected, remedy) = ("rows that change by statements on the table", Some(remedy.to_owned()));
            self.add_table("partitioned", Severity::Warning, &table, actual.into(), expected, remedy);
        }
        Ok(())
    }

    /// The rows of a query whose parameters are the tables, and which of them are followed.
    async fn followed_rows(&self, sql: &str) -> Result<Vec<Row>> {
        let names: Vec<_> = self.plan.tables.iter().map(|table| catalog::with_schema(&table.name)).collect();
        let (schemas, tables) = catalog::split(&names);
        let followed: Vec<_> = self.plan.tables.iter().map(|table| table.followed).collect();
        let rows = self.client.query(sql, &[&schemas, &tables, &followed]).await;
        rows.map_err(|error| error::of_statement(&error))
    }
}

fn word(good: bool) -> &'static str {
    if good { "granted" } else { "missing" }
}

fn there(good: bool) -> &'static str {
    if good { "there" } else { "not there" }
}
