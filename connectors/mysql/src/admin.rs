//! Set-up, teardown and skips: what an operator does beside the running bridge.
//!
//! Nothing of the servers' own is changed: a database with four tables is all that there is. The
//! bridge's user needs these rights and no more, tried on both servers with a user that has nothing else:
//! `REPLICATION SLAVE` to read the log, `REPLICATION CLIENT` to ask where it ends (MariaDB calls the latter
//! `BINLOG MONITOR` and takes either word), reading and writing of the mapped tables and of the
//! database `pontoon`, and there also to create and drop. `TRIGGER` on tables that are written is
//! there for `check` alone: without it the servers do not show whether a table has any.
//!
//! No session setting that the bridge pins needs a right of its own.

use std::time::Duration;

use async_trait::async_trait;
use pontoon_core::{
    Beside, Checkpoint, Code, CopyState, Error, MappedTable, Position, Result, TableDefinition, TableDraft, TableName,
    history::{Count, Filter, Record},
    neighbours::{Carried, Joined, Surroundings},
    new_key::{Of, Request},
    node::{Admin, ChangedTables, Finding, SetupPlan, Tables},
    quarantine::{Ask, Counts, Entry},
    repair::Repair,
    sequences::{GeneratedKey, Standing},
    state::{Reload, Throttle},
    verified::Verified,
};

use crate::{
    connect::{Client, Flavour, Purpose, Script, number, text},
    create, definition, encode, files, findings, history, lease,
    node::{MysqlNode, identity},
    pause, quarantine,
    quote::{Ident, Table},
    reader, reload, requests, sequences, start, state, surroundings, tables, throttle, verified,
};

#[async_trait]
impl Admin for MysqlNode {
    async fn findings(&self, plan: &SetupPlan) -> Result<Vec<Finding>> {
        findings::look(&mut self.client(Purpose::Look).await?, self, plan).await
    }

    async fn surroundings(&self, _: &Tables) -> Result<Surroundings> {
        surroundings::look(&mut self.client(Purpose::Look).await?, self).await
    }

    async fn setup_sql(&self, plan: &SetupPlan) -> Result<Vec<String>> {
        // Without any right in the database of the URL the server lets nobody in there (error 1044).
        let client = match self.client(Purpose::Look).await {
            Err(error) if error.code() == Code::LoginRefused => {
                self.target().without_database().connect(Purpose::Look).await
            }
            other => other,
        };
        let mut found = None;
        let (account, flavour) = match client {
            Ok(mut client) => {
                // Who may not look there is given the right by these statements.
                found = state::format(&mut client).await.ok().flatten();
                (account(&mut client).await?, Some(client.server.flavour))
            }
            Err(error) if error.code() == Code::LoginRefused => (format!("{}@'%'", encode::text(self.user())), None),
            Err(error) => return Err(error),
        };
        let mut sql = grants(&account, plan);
        match flavour {
            Some(Flavour::Mysql) if plan.followed => {
                sql.insert(1, format!("GRANT XA_RECOVER_ADMIN ON *.* TO {account}"));
            }
            // To see whether it is a replica of the other node.
            Some(Flavour::Mariadb) => sql.insert(0, format!("GRANT REPLICA MONITOR ON *.* TO {account}")),
            _ => {}
        }
        sql.extend(tables::create());
        sql.extend(found.into_iter().flat_map(tables::migration));
        sql.extend(tables::create_rows(self.bridge()));
        Ok(sql)
    }

    async fn define_tables(&self, names: &[TableName]) -> Result<Vec<Option<TableDefinition>>> {
        let names: Vec<TableName> = names.iter().map(|name| self.full_name(name)).collect();
        definition::load(&mut self.client(Purpose::Look).await?, &names).await
    }

    async fn draft_tables(&self, definitions: &[TableDefinition]) -> Result<Vec<TableDraft>> {
        create::drafts(&mut self.client(Purpose::Look).await?, definitions).await
    }

    async fn create_tables(&self, drafts: &[TableDraft]) -> Result<()> {
        create::make(&mut self.client(Purpose::Look).await?, drafts).await
    }

    async fn remove_new_tables(&self, drafts: &[TableDraft]) -> Result<Vec<String>> {
        Ok(create::unmake(&mut self.client(Purpose::Look).await?, drafts).await)
    }

    async fn setup(&self, plan: &SetupPlan) -> Result<Checkpoint> {
        let mut client = self.client(Purpose::Look).await?;
        create(&mut client, self.bridge()).await.map_err(privileged)?;
        let log = identity(&mut client).await?;
        let position = match files::start(&mut client).await {
            Ok(end) if plan.followed => {
                let seed = format!("setup/{}/{}/{}", self.bridge(), self.label(), std::process::id());
                reader::with_birth(self.target(), end, &seed).await?
            }
            Ok(end) => end,
            // A server that is only written to need not write a log, or show it; nobody will read from here.
            Err(error) if !plan.followed && matches!(error.code(), Code::SettingWrong | Code::PrivilegeMissing) => {
                Position::Binlog { base: "none".into(), file: 0, offset: 0, beside: Beside::default() }
            }
            Err(error) => return Err(error),
        };
        Ok(Checkpoint { position, log })
    }

    async fn start_at(&self, _plan: &SetupPlan, position: &Position) -> Result<Checkpoint> {
        let log = identity(&mut self.client(Purpose::Look).await?).await?;
        Ok(Checkpoint { position: start::at(self, position).await?, log })
    }

    async fn install_checkpoint(&self, plan: &SetupPlan, other: &Checkpoint) -> Result<()> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        let log = identity(&mut client).await?;
        install(&mut client, self, &Joined::of(self.label(), &log, plan).to_text(), plan, other).await
    }

    async fn let_go(&self, _plan: &SetupPlan) -> Result<()> {
        // These servers keep their log by time and size, not for a reader.
        Ok(())
    }

    async fn teardown_sql(&self, _plan: &SetupPlan) -> Result<Vec<String>> {
        let mut client = self.client(Purpose::Look).await?;
        if !is_there(&mut client).await? {
            return Ok(Vec::new());
        }
        let last = is_last(&mut client, self.bridge()).await?;
        Ok(if last { drop_all() } else { tables::remove_rows(self.bridge()) })
    }

    async fn teardown(&self, _plan: &SetupPlan) -> Result<Vec<String>> {
        let mut client = self.client(Purpose::Look).await?;
        if !lease::try_lock(&mut client, self.bridge()).await? {
            return Err(Error::new(Code::Config, format!("the bridge {:?} runs", self.bridge()))
                .hint("stop it first; nothing was removed"));
        }
        let left = teardown(&mut client, self.bridge()).await.map_err(privileged)?;
        // Not with the connection, which ends some time after this returns: whoever begins anew would find the bridge at work.
        lease::unlock(&mut client, self.bridge()).await?;
        Ok(left)
    }

    async fn request_copies(&self, tables: &Tables, copies: &[CopyState]) -> Result<()> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        let there = state::copies(&mut client, self.bridge(), tables).await?;
        let underway = |copy: &&CopyState| !there.iter().any(|found| found.table == copy.table && !found.done);
        for copy in copies.iter().filter(underway) {
            let Some(table) = tables.get(copy.table.index()) else { continue };
            client.run(state::note_copy(self.bridge(), table, copy)).await?;
        }
        Ok(())
    }

    async fn sequence(&self, key: &GeneratedKey) -> Result<Standing> {
        sequences::standing(&mut self.client(Purpose::Look).await?, key).await
    }

    async fn advance_sequence(&self, key: &GeneratedKey) -> Result<Standing> {
        sequences::advance(&mut self.client(Purpose::Look).await?, key).await
    }

    async fn pause(&self, length: Option<Duration>) -> Result<()> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        pause::give(&mut client, self.bridge(), length).await
    }

    async fn resume(&self) -> Result<bool> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        pause::take_back(&mut client, self.bridge()).await
    }

    async fn note_verified(&self, verified: &Verified) -> Result<()> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        verified::note(&mut client, self.bridge(), verified).await
    }

    async fn throttle(&self, word: Option<Throttle>) -> Result<()> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        match word {
            Some(word) => throttle::give(&mut client, self.bridge(), word).await,
            None => throttle::take_back(&mut client, self.bridge()).await,
        }
    }

    async fn ask_reload(&self) -> Result<i64> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        reload::ask(&mut client, self.bridge()).await
    }

    async fn reload_asked(&self) -> Result<Option<Reload>> {
        self.with_helper(async |client| reload::read(client, self.bridge()).await).await
    }

    async fn answer_reload(&self, number: i64, answer: &str) -> Result<()> {
        self.with_helper(async |client| reload::answer(client, self.bridge(), number, answer).await).await
    }

    async fn skip(&self, position: &Position) -> Result<()> {
        if position.binlog_file().is_none() {
            return Err(Error::new(Code::Config, format!("{position} is no position of this server's log"))
                .hint("MySQL and MariaDB: binlog.000003:1234"));
        }
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        let name = encode::text(&format!("{}{position}", tables::SKIP));
        let bridge = encode::text(self.bridge());
        let statement = format!(
            "INSERT INTO `pontoon`.`control` (bridge, name) VALUES ({bridge}, {name}) \
             ON DUPLICATE KEY UPDATE updated_at = CURRENT_TIMESTAMP(6)"
        );
        client.run(statement).await.map_err(privileged)?;
        Ok(())
    }

    async fn quarantine(&self, limit: usize) -> Result<Vec<Entry>> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        quarantine::entries(&mut client, self.bridge(), limit).await
    }

    async fn quarantine_counts(&self) -> Result<Counts> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        quarantine::counts(&mut client, self.bridge()).await
    }

    async fn ask(&self, ids: &[i64], ask: Ask) -> Result<()> {
        let mut client = self.client(Purpose::Look).await?;
        quarantine::ask(&mut client, self.bridge(), ids, ask).await.map_err(privileged)
    }

    async fn ask_new_key(&self, request: &Request) -> Result<()> {
        let mut client = self.client(Purpose::Look).await?;
        requests::ask_new_key(&mut client, self.bridge(), request).await.map_err(privileged)
    }

    async fn ask_repairs(&self, tables: &Tables, repairs: &[Repair]) -> Result<()> {
        let mut client = self.client(Purpose::Look).await?;
        requests::ask_repairs(&mut client, self.bridge(), tables, repairs).await.map_err(privileged)
    }

    async fn new_key(&self, of: Of) -> Result<Option<Request>> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        requests::find_new_key(&mut client, self.bridge(), of).await
    }

    async fn records(&self, filter: &Filter, limit: usize) -> Result<Vec<Record>> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        history::records(&mut client, self.bridge(), filter, limit).await
    }

    async fn record_counts(&self) -> Result<Vec<Count>> {
        let mut client = self.client(Purpose::Look).await?;
        state::check_format(&mut client).await?;
        history::counts(&mut client, self.bridge()).await
    }
}

/// The account that the server let in, as GRANT writes it.
pub(crate) async fn account(client: &mut Client) -> Result<String> {
    let current = client.scalar("SELECT CURRENT_USER()").await?.unwrap_or_default();
    let (user, host) = current.rsplit_once('@').unwrap_or((&current, "%"));
    Ok(format!("{}@{}", encode::text(user), encode::text(host)))
}

/// The least rights that everything works with.
fn grants(account: &str, plan: &SetupPlan) -> Vec<String> {
    let mut sql = Vec::new();
    if plan.followed {
        sql.push(format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {account}"));
    }
    sql.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP ON `pontoon`.* TO {account}"));
    sql.extend(plan.tables.iter().enumerate().map(|(at, table)| {
        let name = Table(&table.name);
        let why = if at == 0 { LOCKS_ONLY } else { "" };
        match plan.written {
            true => format!("GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON {name} TO {account}"),
            false => format!("{why}GRANT SELECT, {} ON {name} TO {account}", right_to_lock(table)),
        }
    }));
    sql
}

/// Why there is more to a table that is only read. (MariaDB locks rows for whoever may read them.)
const LOCKS_ONLY: &str = "-- UPDATE is for locks alone: a conflict is settled under locks on both sides. MySQL lets nobody lock a row who may only\n\
    -- read it (UPDATE, DELETE or LOCK TABLES is wanted), but is content with one column.\n";

/// UPDATE of the key's columns, or of all where the table cannot be seen yet.
fn right_to_lock(table: &MappedTable) -> String {
    let key: Vec<_> = table.key.iter().map(|&at| Ident(&table.columns[at].column.name).to_string()).collect();
    if key.is_empty() { "UPDATE".into() } else { format!("UPDATE ({})", key.join(", ")) }
}

fn privileged(error: Error) -> Error {
    if error.code() != Code::PrivilegeMissing {
        return error;
    }
    Error::new(Code::PrivilegeMissing, format!("the bridge's user may not do this: {}", error.message()))
        .hint("let an administrator run what `pontoon setup --print-sql` prints, then run `pontoon setup` again")
}

/// Whether all of the bridge's tables are there.
pub(crate) async fn is_there(client: &mut Client) -> Result<bool> {
    let names: Vec<String> = tables::ALL.iter().map(|name| encode::text(name)).collect();
    let rows = client
        .rows(format!(
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '{}' AND table_name IN ({})",
            tables::DATABASE,
            names.join(", ")
        ))
        .await?;
    Ok(rows.first().and_then(|row| number::<usize>(row, 0)) == Some(tables::ALL.len()))
}

/// Where all is there nothing is created, which a user may lack the right to.
async fn create(client: &mut Client, bridge: &str) -> Result<()> {
    if !is_there(client).await? {
        for statement in tables::create() {
            client.run(statement).await?;
        }
    }
    if let Some(found) = state::format(client).await? {
        for statement in tables::migration(found) {
            client.run(statement).await?;
        }
    }
    state::check_format(client).await?;
    for statement in tables::create_rows(bridge) {
        client.run(statement).await?;
    }
    Ok(())
}

async fn install(
    client: &mut Client,
    node: &MysqlNode,
    pair: &str,
    plan: &SetupPlan,
    other: &Checkpoint,
) -> Result<()> {
    let bridge = encode::text(node.bridge());
    let mut script = Script::from("START TRANSACTION");
    script.push(format!(
        "INSERT INTO `pontoon`.`control` (bridge, name, value) VALUES ({bridge}, '{}', {}) \
         ON DUPLICATE KEY UPDATE name = VALUES(name)",
        tables::PAIR,
        encode::text(pair)
    ));
    script.push(format!(
        "SELECT value FROM `pontoon`.`control` WHERE bridge = {bridge} AND name = '{}' FOR UPDATE",
        tables::PAIR
    ));
    let answers = client.run(script).await.map_err(privileged)?;
    let found = answers.get(2).and_then(|answer| answer.rows.first()).and_then(|row| text(row, 0)).unwrap_or_default();
    if found != pair {
        client.run("ROLLBACK").await?;
        let message = format!("a bridge {:?} is set up here for {found}, and not for {pair}", node.bridge());
        return Err(Error::new(Code::BridgeNameTaken, message)
            .hint("give the bridge another name, or remove the other one with `pontoon teardown`"));
    }
    let mut script = Script::default();
    for statement in tables::create_rows(node.bridge()) {
        script.push(statement);
    }
    let known = client.rows(state::carried(node.bridge())).await.map_err(privileged)?;
    let changed = plan.changed_tables(&state::set_up(&known));
    for statement in change_tables(node.bridge(), &changed, other) {
        script.push(statement);
    }
    script.push(format!("DELETE FROM `pontoon`.`control` WHERE bridge = {bridge} AND name LIKE '{}%'", tables::TABLE));
    for (label, carried) in Carried::of(plan) {
        script.push(format!(
            "INSERT INTO `pontoon`.`control` (bridge, name, value) VALUES ({bridge}, {}, {})",
            encode::text(&format!("{}{label}", tables::TABLE)),
            encode::text(&carried.to_text())
        ));
    }
    let source = encode::text(&plan.other_name);
    script.push(format!("UPDATE `pontoon`.`checkpoint` SET source = {source} WHERE bridge = {bridge}"));
    // Nothing came here before: what the other node's log has until now stays there.
    let set = if changed.from_nothing { state::set_checkpoint } else { state::begin_checkpoint };
    script.push(set(node.bridge(), other));
    script.push("COMMIT");
    client.run(script).await.map_err(privileged)?;
    Ok(())
}

/// Notes from where on tables count whose changes have not come here so far. Where the tables are others than before, whoever works is shut out, and
/// has to look at them anew.
fn change_tables(bridge: &str, changed: &ChangedTables, other: &Checkpoint) -> Vec<String> {
    let name = encode::text(bridge);
    let row = |prefix: &str, label: &str| encode::text(&format!("{prefix}{label}"));
    let mut statements = Vec::new();
    if changed.any {
        statements.push(lease::raise(bridge, None));
    }
    for label in changed.end.iter().chain(&changed.begin) {
        let rows = [tables::SINCE, tables::ASIDE, tables::COPY].map(|prefix| row(prefix, label)).join(", ");
        statements.push(format!("DELETE FROM `pontoon`.`control` WHERE bridge = {name} AND name IN ({rows})"));
    }
    for label in &changed.begin {
        let position = encode::text(&other.position.durable());
        statements.push(format!(
            "INSERT INTO `pontoon`.`control` (bridge, name, value) VALUES ({name}, {}, {position})",
            row(tables::SINCE, label)
        ));
    }
    statements
}

async fn is_last(client: &mut Client, bridge: &str) -> Result<bool> {
    let bridge = encode::text(bridge);
    let parts: Vec<String> = tables::ALL
        .iter()
        .map(|table| format!("SELECT 1 AS one FROM `pontoon`.`{table}` WHERE bridge NOT IN ('', {bridge})"))
        .collect();
    Ok(client.rows(format!("SELECT 1 FROM ({}) AS other LIMIT 1", parts.join(" UNION ALL "))).await?.is_empty())
}

fn drop_all() -> Vec<String> {
    let tables = tables::ALL.iter().map(|table| format!("DROP TABLE IF EXISTS `pontoon`.`{table}`"));
    tables.chain(["DROP DATABASE IF EXISTS `pontoon`".to_owned()]).collect()
}

async fn teardown(client: &mut Client, bridge: &str) -> Result<Vec<String>> {
    let tables_of = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'pontoon'";
    let there = client.rows(tables_of).await?;
    if is_there(client).await? && !is_last(client, bridge).await? {
        for statement in tables::remove_rows(bridge) {
            client.run(statement).await?;
        }
        return Ok(Vec::new());
    }
    if !there.is_empty() {
        for statement in drop_all().iter().take(tables::ALL.len()) {
            client.run(statement.as_str()).await?;
        }
    }
    // What is not the bridge's own stays, and with it the database.
    let left: Vec<String> = client
        .rows(tables_of)
        .await?
        .iter()
        .filter_map(|row| Some(format!("table pontoon.{}", text(row, 0)?)))
        .collect();
    let exists =
        client.scalar("SELECT 1 FROM information_schema.schemata WHERE schema_name = 'pontoon'").await?.is_some();
    if left.is_empty() && exists {
        client.run("DROP DATABASE IF EXISTS `pontoon`").await?;
    }
    Ok(left)
}
