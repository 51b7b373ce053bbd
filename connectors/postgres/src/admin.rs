//! Set-up, teardown and skips: what an operator does beside the running bridge.
//!
//! The order of set-up matters. The publication is committed before the slot is made, as pgoutput looks
//! it up in the catalogs as they were at the place of the log that it decodes. The slot's
//! `confirmed_flush_lsn` is where the log stands: all that commits after it is in the slot.
//!
//! The bridge's user needs no superuser's rights. What only one can do (a publication of tables that are
//! another's, grants) [`setup_sql`] prints; once that is run, `setup` finds it done and goes on.

use std::{fmt::Display, time::Duration};

use async_trait::async_trait;
use pontoon_core::{
    Checkpoint, Code, CopyState, Error, MappedTable, Position, Result, TableDefinition, TableDraft, TableName,
    history::{Count, Filter, Record},
    neighbours::{Carried, Joined, Surroundings},
    new_key::{Of, Request},
    node::{Admin, Applier, Finding, SetupPlan, Tables},
    quarantine::{Ask, Counts, Entry},
    repair::Repair,
    sequences::{GeneratedKey, Standing},
    state::{Reload, Throttle},
    verified::Verified,
};
use tokio_postgres::{Client, Transaction, types::PgLsn};

use crate::{
    catalog::{get, text},
    connect::{Link, Role},
    create, definition, error, findings, history,
    lease::{self, RAISE},
    names::Names,
    node::{self, PostgresNode},
    pause, quarantine,
    quote::{Ident, List, Literal, Table},
    reload, requests, sequences, slot, start, state, surroundings, tables, throttle, verified,
    version::Version,
};

/// A slot can only be made once all transactions that are under way have ended.
const SETUP_TIMEOUT: &str = "60s";

/// The functions that a session which writes, and set-up and teardown, have to call.
pub(crate) const ORIGIN_FUNCTIONS: [&str; 4] = [
    "pg_catalog.pg_replication_origin_create(text)",
    "pg_catalog.pg_replication_origin_drop(text)",
    "pg_catalog.pg_replication_origin_session_setup(text)",
    "pg_catalog.pg_replication_origin_xact_setup(pg_lsn, timestamptz)",
];

/// The sessions that write.
pub(crate) const APPLIERS: [Applier; 3] = [Applier::Direction, Applier::Rendezvous, Applier::Beside];

impl PostgresNode {
    async fn admin_link(&self) -> Result<Link> {
        let role = Role::new(&self.names.bridge, "setup")
            .set("statement_timeout", SETUP_TIMEOUT)
            .set("synchronous_commit", "on");
        self.connect_as(&role).await
    }
}

#[async_trait]
impl Admin for PostgresNode {
    async fn findings(&self, plan: &SetupPlan) -> Result<Vec<Finding>> {
        let link = self.link("check").await?;
        self.at(findings::look(&link.client, self, plan).await)
    }

    async fn surroundings(&self, tables: &Tables) -> Result<Surroundings> {
        let link = self.link("check").await?;
        self.at(surroundings::look(&link.client, &self.names.bridge, tables).await)
    }

    async fn setup_sql(&self, plan: &SetupPlan) -> Result<Vec<String>> {
        let link = self.link("check").await?;
        let version = self.at(Version::of(&link.client).await)?;
        let mut sql = setup_sql(&self.names, self.user(), version, plan);
        // Where there are none, or it may not look, there is nothing that it could bring up.
        sql.extend(tables::migration(&link.client).await.unwrap_or_default());
        Ok(sql)
    }

    async fn define_tables(&self, names: &[TableName]) -> Result<Vec<Option<TableDefinition>>> {
        let link = self.link("catalog").await?;
        self.at(definition::load(&link.client, names).await)
    }

    async fn draft_tables(&self, definitions: &[TableDefinition]) -> Result<Vec<TableDraft>> {
        let link = self.link("catalog").await?;
        self.at(create::drafts(&link.client, definitions).await)
    }

    async fn create_tables(&self, drafts: &[TableDraft]) -> Result<()> {
        let mut link = self.admin_link().await?;
        self.at(create::make(&mut link.client, self.user(), drafts).await)
    }

    async fn remove_new_tables(&self, drafts: &[TableDraft]) -> Result<Vec<String>> {
        let mut link = self.admin_link().await?;
        self.at(create::unmake(&mut link.client, drafts).await)
    }

    async fn setup(&self, plan: &SetupPlan) -> Result<Checkpoint> {
        let link = self.admin_link().await?;
        self.at(setup(&link.client, &self.names, plan).await)
    }

    async fn start_at(&self, plan: &SetupPlan, position: &Position) -> Result<Checkpoint> {
        let link = self.admin_link().await?;
        self.at(start::at(&link.client, &self.names, plan, position).await)
    }

    async fn install_checkpoint(&self, plan: &SetupPlan, other: &Checkpoint) -> Result<()> {
        let mut link = self.admin_link().await?;
        let name = pontoon_core::node::Node::name(self);
        self.at(install_checkpoint(&mut link.client, &self.names, name, plan, other).await)
    }

    async fn let_go(&self, plan: &SetupPlan) -> Result<()> {
        let link = self.admin_link().await?;
        self.at(let_go(&link.client, &self.names, plan).await)
    }

    async fn teardown_sql(&self, _plan: &SetupPlan) -> Result<Vec<String>> {
        let link = self.link("check").await?;
        let last = self.at(is_last(&link.client, &self.names).await)?;
        Ok(teardown_sql(&self.names, last))
    }

    async fn teardown(&self, _plan: &SetupPlan) -> Result<Vec<String>> {
        let link = self.admin_link().await?;
        self.at(teardown(&link.client, &self.names).await)
    }

    async fn request_copies(&self, tables: &Tables, copies: &[CopyState]) -> Result<()> {
        let link = self.admin_link().await?;
        self.at(tables::format_check(&link.client).await)?;
        let there = self.at(state::copies(&link.client, &self.names, tables).await)?;
        let underway = |copy: &&CopyState| !there.iter().any(|found| found.table == copy.table && !found.done);
        for copy in copies.iter().filter(underway) {
            self.at(state::note_copy(&link.client, &self.names, tables, copy).await)?;
        }
        Ok(())
    }

    async fn sequence(&self, key: &GeneratedKey) -> Result<Standing> {
        let link = self.admin_link().await?;
        self.at(sequences::standing(&link.client, key).await)
    }

    async fn advance_sequence(&self, key: &GeneratedKey) -> Result<Standing> {
        let mut link = self.admin_link().await?;
        self.at(sequences::advance(&mut link.client, key).await)
    }

    async fn pause(&self, length: Option<Duration>) -> Result<()> {
        let mut link = self.admin_link().await?;
        self.at(tables::format_check(&link.client).await)?;
        self.at(pause::give(&mut link.client, &self.names.bridge, length).await)
    }

    async fn resume(&self) -> Result<bool> {
        let link = self.admin_link().await?;
        self.at(tables::format_check(&link.client).await)?;
        self.at(pause::take_back(&link.client, &self.names.bridge).await)
    }

    async fn note_verified(&self, verified: &Verified) -> Result<()> {
        let link = self.admin_link().await?;
        self.at(tables::format_check(&link.client).await)?;
        self.at(verified::note(&link.client, &self.names.bridge, verified).await)
    }

    async fn throttle(&self, word: Option<Throttle>) -> Result<()> {
        let link = self.admin_link().await?;
        self.at(tables::format_check(&link.client).await)?;
        self.at(match word {
            Some(word) => throttle::give(&link.client, &self.names.bridge, word).await,
            None => throttle::take_back(&link.client, &self.names.bridge).await,
        })
    }

    async fn ask_reload(&self) -> Result<i64> {
        let link = self.admin_link().await?;
        self.at(tables::format_check(&link.client).await)?;
        self.at(reload::ask(&link.client, &self.names.bridge).await)
    }

    async fn reload_asked(&self) -> Result<Option<Reload>> {
        let read = self.with_helper(async |client| reload::read(client, &self.names.bridge).await).await;
        self.at(read)
    }

    async fn answer_reload(&self, number: i64, answer: &str) -> Result<()> {
        let work = async |client: &Client| reload::answer(client, &self.names.bridge, number, answer).await;
        self.at(self.with_helper(work).await)
    }

    async fn skip(&self, position: &Position) -> Result<()> {
        const SQL: &str = "INSERT INTO pontoon.control (bridge, name) VALUES ($1, 'skip:' || $2::text)
            ON CONFLICT (bridge, name) DO UPDATE SET updated_at = now()";
        let link = self.admin_link().await?;
        self.at(slot::lsn_of(position))?;
        self.at(tables::format_check(&link.client).await)?;
        let done = link.client.execute(SQL, &[&self.names.bridge, &position.to_string()]).await;
        self.at(done.map(|_| ()).map_err(|error| error::of_statement(&error)))
    }

    async fn quarantine(&self, limit: usize) -> Result<Vec<Entry>> {
        let link = self.admin_link().await?;
        self.at(tables::format_check(&link.client).await)?;
        self.at(quarantine::entries(&link.client, &self.names.bridge, limit).await)
    }

    async fn quarantine_counts(&self) -> Result<Counts> {
        let link = self.admin_link().await?;
        self.at(tables::format_check(&link.client).await)?;
        self.at(quarantine::counts(&link.client, &self.names.bridge).await)
    }

    async fn ask(&self, ids: &[i64], ask: Ask) -> Result<()> {
        let link = self.admin_link().await?;
        self.at(quarantine::ask(&link.client, &self.names.bridge, ids, ask).await)
    }

    async fn ask_new_key(&self, request: &Request) -> Result<()> {
        let link = self.admin_link().await?;
        self.at(requests::ask_new_key(&link.client, &self.names.bridge, request).await)
    }

    async fn ask_repairs(&self, tables: &Tables, repairs: &[Repair]) -> Result<()> {
        let mut link = self.admin_link().await?;
        self.at(requests::ask_repairs(&mut link.client, &self.names.bridge, tables, repairs).await)
    }

    async fn new_key(&self, of: Of) -> Result<Option<Request>> {
        let link = self.admin_link().await?;
        self.at(tables::format_check(&link.client).await)?;
        self.at(requests::find_new_key(&link.client, &self.names.bridge, of).await)
    }

    async fn records(&self, filter: &Filter, limit: usize) -> Result<Vec<Record>> {
        let link = self.admin_link().await?;
        self.at(tables::format_check(&link.client).await)?;
        self.at(history::records(&link.client, &self.names.bridge, filter, limit).await)
    }

    async fn record_counts(&self) -> Result<Vec<Count>> {
        let link = self.admin_link().await?;
        self.at(tables::format_check(&link.client).await)?;
        self.at(history::counts(&link.client, &self.names.bridge).await)
    }
}

/// The tables of the publication.
fn followed(plan: &SetupPlan) -> Vec<&MappedTable> {
    plan.tables.iter().filter(|table| table.followed).collect()
}

fn publication_tables(plan: &SetupPlan) -> String {
    let followed = followed(plan);
    let names: Vec<_> = followed.iter().map(|table| Table(&table.name)).collect();
    List(&names).to_string()
}

fn create_publication(names: &Names, plan: &SetupPlan) -> String {
    let tables =
        if followed(plan).is_empty() { String::new() } else { format!("FOR TABLE {} ", publication_tables(plan)) };
    format!(
        "CREATE PUBLICATION {} {tables}WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
        Ident(&names.slot)
    )
}

/// Everything as a superuser would run it. Grants first.
fn setup_sql(names: &Names, user: &str, version: Version, plan: &SetupPlan) -> Vec<String> {
    let user = Ident(user);
    let mut sql = grants(user, version, plan);
    sql.push(format!("CREATE SCHEMA IF NOT EXISTS pontoon AUTHORIZATION {user}"));
    sql.push(format!("SET ROLE {user}"));
    sql.extend(tables::create().into_iter().skip(1));
    sql.push("RESET ROLE".into());
    if plan.followed {
        sql.push(create_publication(names, plan));
        sql.push(format!("ALTER PUBLICATION {} OWNER TO {user}", Ident(&names.slot)));
        sql.push(format!("SELECT {}", make_slot(Literal(&names.slot), version)));
    }
    for applier in APPLIERS {
        let origin = names.origin(applier.number());
        sql.push(format!("SELECT pg_replication_origin_create({})", Literal(&origin)));
    }
    sql
}

/// The call that makes the slot `name`. Where the server can keep it on its standbys too it does (manual, "Logical Replication Failover"): it costs nothing where there are
/// none.
fn make_slot(name: impl Display, version: Version) -> String {
    let failover = if version.has_failover_slots() { ", failover => true" } else { "" };
    format!("pg_create_logical_replication_slot({name}, 'pgoutput'{failover})")
}

/// The least rights that everything works with.
fn grants(user: Ident<'_>, version: Version, plan: &SetupPlan) -> Vec<String> {
    let mut sql = vec![format!("ALTER ROLE {user} REPLICATION")];
    for function in ORIGIN_FUNCTIONS {
        sql.push(format!("GRANT EXECUTE ON FUNCTION {function} TO {user}"));
    }
    if version.grants_settings() {
        sql.push(format!("GRANT SET ON PARAMETER session_replication_role TO {user}"));
    } else {
        // Before 15 a setting of a superuser can be given to nobody else.
        sql.push(format!("ALTER ROLE {user} SUPERUSER"));
    }
    let mut schemas: Vec<_> = plan.tables.iter().filter_map(|table| table.name.schema.as_deref()).collect();
    schemas.sort_unstable();
    schemas.dedup();
    for schema in schemas {
        sql.push(format!("GRANT USAGE ON SCHEMA {} TO {user}", Ident(schema)));
    }
    for (at, table) in plan.tables.iter().enumerate() {
        let name = Table(&table.name);
        let why = if at == 0 { LOCKS_ONLY } else { "" };
        sql.push(match plan.written {
            true => format!("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {name} TO {user}"),
            false => format!("{why}GRANT SELECT, {} ON TABLE {name} TO {user}", right_to_lock(table)),
        });
    }
    sql
}

/// Why there is more to a table that is only read.
const LOCKS_ONLY: &str = "-- UPDATE is for locks alone: a copy waits for a row that somebody holds, and a conflict is settled under locks on\n\
    -- both sides. PostgreSQL knows no lesser right to lock a row, but is content with one column.\n";

/// UPDATE of the key's columns, or of all where the table cannot be seen yet.
fn right_to_lock(table: &MappedTable) -> String {
    let key: Vec<_> = table.key.iter().map(|&at| Ident(&table.columns[at].column.name)).collect();
    if key.is_empty() { "UPDATE".into() } else { format!("UPDATE ({})", List(&key)) }
}

async fn setup(client: &Client, names: &Names, plan: &SetupPlan) -> Result<Checkpoint> {
    let identity = slot::identity(client).await?;
    create_tables(client).await?;
    migrate(client).await?;
    tables::format_check(client).await?;
    create_origins(client, names).await?;
    let position = if plan.followed {
        create_publication_in_step(client, names, plan).await?;
        create_slot(client, names).await?
    } else {
        insert_lsn(client).await?
    };
    Ok(Checkpoint { position: Position::Lsn(position), log: identity })
}

/// Brings the tables up to this version's format.
async fn migrate(client: &Client) -> Result<()> {
    let sql = tables::migration(client).await?;
    if sql.is_empty() {
        return Ok(());
    }
    let done = client.batch_execute(&sql.join(";\n")).await;
    if done.is_err() {
        // Where the connection is lost, so is the transaction.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    done.map_err(|error| privileged(&error, "bring the tables of the schema pontoon up to this version's format"))?;
    // For people, and for the owner alone to write.
    for sql in tables::comments() {
        if let Err(error) = client.batch_execute(&sql).await {
            tracing::debug!(%error, "the comments of the schema pontoon are left as they are");
            break;
        }
    }
    Ok(())
}

/// Creates the tables, unless all are there: a schema that is another's is not touched without need.
async fn create_tables(client: &Client) -> Result<()> {
    const THERE: &str = "SELECT to_regnamespace('pontoon') IS NOT NULL, NOT EXISTS (
        SELECT FROM unnest(ARRAY['checkpoint', 'resolution', 'quarantine', 'control']) AS name
        WHERE to_regclass('pontoon.' || name) IS NULL)";
    let row = client.query_one(THERE, &[]).await.map_err(|error| error::of_statement(&error))?;
    let (schema, all): (bool, bool) = (get(&row, 0)?, get(&row, 1)?);
    if all {
        return Ok(());
    }
    // CREATE SCHEMA wants a right on the database even where there is nothing to do.
    for sql in tables::create().iter().skip(schema.into()) {
        client
            .batch_execute(sql)
            .await
            .map_err(|error| privileged(&error, "create the schema pontoon and its tables"))?;
    }
    Ok(())
}

async fn create_origins(client: &Client, names: &Names) -> Result<()> {
    const SQL: &str = "SELECT pg_replication_origin_create($1)
        WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = $1)";
    for applier in APPLIERS {
        let done = client.execute(SQL, &[&names.origin(applier.number())]).await;
        done.map_err(|error| privileged(&error, "create replication origins"))?;
    }
    Ok(())
}

/// The publication, for exactly the followed tables.
async fn create_publication_in_step(client: &Client, names: &Names, plan: &SetupPlan) -> Result<()> {
    const SQL: &str =
        "SELECT p.pubviaroot AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND NOT p.puballtables,
            ARRAY(SELECT n.nspname::text || E'\\n' || c.relname::text FROM pg_publication_rel r
                JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE r.prpubid = p.oid ORDER BY 1)
        FROM pg_publication p WHERE p.pubname = $1";
    let row = client.query_opt(SQL, &[&names.slot]).await.map_err(|error| error::of_statement(&error))?;
    let what = "create a publication of the followed tables, which only their owner may";
    let publication = Ident(&names.slot);
    let Some(row) = row else {
        let done = client.batch_execute(&create_publication(names, plan)).await;
        return done.map_err(|error| privileged(&error, what));
    };
    let mut wanted: Vec<String> = followed(plan)
        .iter()
        .map(|table| format!("{}\n{}", table.name.schema.as_deref().unwrap_or("public"), table.name.name))
        .collect();
    wanted.sort_unstable();
    let mut found: Vec<String> = get(&row, 1)?;
    found.sort_unstable();
    if !get::<bool>(&row, 0)? {
        let sql = format!(
            "ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
        );
        client.batch_execute(&sql).await.map_err(|error| privileged(&error, what))?;
    }
    if wanted != found && !wanted.is_empty() {
        let sql = format!("ALTER PUBLICATION {publication} SET TABLE {}", publication_tables(plan));
        client.batch_execute(&sql).await.map_err(|error| privileged(&error, what))?;
    }
    Ok(())
}

/// The slot; and from where on it has the log.
async fn create_slot(client: &Client, names: &Names) -> Result<u64> {
    const LOOK: &str = "SELECT confirmed_flush_lsn, wal_status, database::text, current_database()::text
        FROM pg_replication_slots WHERE slot_name = $1";
    if let Some(row) = client.query_opt(LOOK, &[&names.slot]).await.map_err(|error| error::of_statement(&error))? {
        let (of, here): (Option<String>, String) = (get(&row, 2)?, get(&row, 3)?);
        if of.as_deref() != Some(&here) {
            let of = of.unwrap_or_default();
            let text =
                format!("the slot {:?} of this server is of its database {of:?}, and not of {here:?}", names.slot);
            return Err(Error::new(Code::BridgeNameTaken, text).hint("give this bridge another name"));
        }
        let confirmed = get::<Option<PgLsn>>(&row, 0)?.map(u64::from);
        return match (confirmed, get::<Option<String>>(&row, 1)?.as_deref()) {
            (Some(confirmed), status) if status != Some("lost") => Ok(confirmed),
            _ => Err(Error::new(Code::LogLost, format!("the slot {:?} was invalidated", names.slot))
                .hint("`pontoon teardown`, then `pontoon setup`, and compare the tables")),
        };
    }
    let version = Version::of(client).await?;
    let create = format!("SELECT lsn FROM {}", make_slot("$1", version));
    let row = client.query_one(&create, &[&names.slot]).await.map_err(|error| match error::sqlstate(&error) {
        Some(("57014", _)) => {
            let text = format!("no slot could be made within {SETUP_TIMEOUT}: a transaction has been open for longer");
            Error::new(Code::Contention, text)
                .hint("SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start")
        }
        _ => privileged(&error, "create a replication slot"),
    })?;
    Ok(get::<PgLsn>(&row, 0)?.into())
}

async fn insert_lsn(client: &Client) -> Result<u64> {
    let row = client.query_one("SELECT pg_current_wal_insert_lsn()", &[]).await;
    Ok(get::<PgLsn>(&row.map_err(|error| error::of_statement(&error))?, 0)?.into())
}

/// An error, with what was tried where a right was missing.
fn privileged(error: &tokio_postgres::Error, what: &str) -> Error {
    let said = error::of_statement(error);
    if said.code() != Code::PrivilegeMissing {
        return said;
    }
    Error::new(Code::PrivilegeMissing, format!("the bridge's user may not {what}: {}", said.message()))
        .hint("let a superuser run what `pontoon setup --print-sql` prints, then run `pontoon setup` again")
}

/// The first checkpoint, and which pair of databases the bridge's name stands for.
async fn install_checkpoint(
    client: &mut Client,
    names: &Names,
    node_name: &str,
    plan: &SetupPlan,
    other: &Checkpoint,
) -> Result<()> {
    const PAIR: &str = "INSERT INTO pontoon.control (bridge, name, value) VALUES ($1, 'pair', $2) ON CONFLICT (bridge, name) DO NOTHING";
    const READ: &str = "SELECT value FROM pontoon.control WHERE bridge = $1 AND name = 'pair' FOR UPDATE";
    const FORGET: &str = "DELETE FROM pontoon.control WHERE bridge = $1 AND starts_with(name, $2)";
    const CARRY: &str = "INSERT INTO pontoon.control (bridge, name, value) SELECT $1, name, value
        FROM unnest($2::text[], $3::text[]) AS carried (name, value)";
    const LEASE: &str = "INSERT INTO pontoon.control (bridge, name, number) VALUES ($1, 'lease', 0) ON CONFLICT (bridge, name) DO NOTHING";
    const CHECKPOINT: &str = "INSERT INTO pontoon.checkpoint AS c (bridge, applier, source, position, log) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (bridge, applier) DO UPDATE SET source = excluded.source, position = excluded.position, log = excluded.log,
            updated_at = now() WHERE c.log IS NULL OR $6";
    // The row of the applier beside the first has a position as well, which counts until the first has another.
    const OTHERS: &str = "INSERT INTO pontoon.checkpoint AS c (bridge, applier, source) VALUES ($1, $2, $3)
        ON CONFLICT (bridge, applier) DO UPDATE SET source = excluded.source,
            position = CASE WHEN $4 THEN NULL ELSE c.position END, updated_at = now()";
    tables::format_check(client).await?;
    let log = slot::identity(client).await?;
    let pair = Joined::of(node_name, &log, plan).to_text();
    let failed = |error| error::of_statement(&error);
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.execute(PAIR, &[&names.bridge, &pair]).await.map_err(failed)?;
    let found = text(&transaction.query_one(READ, &[&names.bridge]).await.map_err(failed)?, 0)?;
    if found != pair {
        let text = format!("a bridge {:?} is set up here for {found}, and not for {pair}", names.bridge);
        return Err(Error::new(Code::BridgeNameTaken, text)
            .hint("give the bridge another name, or remove the other one with `pontoon teardown`"));
    }
    transaction.execute(LEASE, &[&names.bridge]).await.map_err(failed)?;
    let carried = Carried::of(plan).into_iter();
    let carried = carried.map(|(label, carried)| (format!("{}{label}", surroundings::TABLE), carried.to_text()));
    let (rows, values): (Vec<String>, Vec<String>) = carried.unzip();
    let anew = change_tables(&transaction, names, plan, other).await?;
    transaction.execute(FORGET, &[&names.bridge, &surroundings::TABLE]).await.map_err(failed)?;
    transaction.execute(CARRY, &[&names.bridge, &rows, &values]).await.map_err(failed)?;
    let (position, log) = (other.position.durable(), other.log.to_string());
    for applier in APPLIERS {
        let (bridge, number, source) = (&names.bridge, applier.number(), &plan.other_name);
        let set = match applier {
            Applier::Direction => {
                transaction.execute(CHECKPOINT, &[bridge, &number, source, &position, &log, &anew]).await
            }
            Applier::Rendezvous | Applier::Beside => {
                transaction.execute(OTHERS, &[bridge, &number, source, &anew]).await
            }
        };
        set.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// Notes from where on tables count whose changes have not come here so far. (What the log has of a table from before it was in the publication pgoutput
/// does not tell: it looks at the catalogs as of the place that it decodes, `get_rel_sync_entry` of pgoutput.c; tried.) Where the tables are others
/// than before, whoever works is shut out, and has to look at them anew. Whether the other node's log is to be followed from where it stands.
async fn change_tables(
    transaction: &Transaction<'_>,
    names: &Names,
    plan: &SetupPlan,
    other: &Checkpoint,
) -> Result<bool> {
    const FORGET: &str = "DELETE FROM pontoon.control
        WHERE bridge = $1 AND name IN ('since:' || $2::text, 'aside:' || $2::text, 'copy:' || $2::text)";
    const NOTE: &str = "INSERT INTO pontoon.control (bridge, name, value) VALUES ($1, 'since:' || $2::text, $3)";
    let failed = |error| error::of_statement(&error);
    let changed = plan.changed_tables(&node::carried(transaction, names).await?);
    if changed.any {
        transaction.execute(RAISE, &[&names.bridge, &None::<&str>]).await.map_err(failed)?;
    }
    for label in changed.end.iter().chain(&changed.begin) {
        transaction.execute(FORGET, &[&names.bridge, &&**label]).await.map_err(failed)?;
    }
    for label in &changed.begin {
        transaction.execute(NOTE, &[&names.bridge, &&**label, &other.position.durable()]).await.map_err(failed)?;
    }
    Ok(changed.from_nothing)
}

/// Removes slot and publication, where the log is not followed.
async fn let_go(client: &Client, names: &Names, plan: &SetupPlan) -> Result<()> {
    const SLOT: &str = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
    if plan.followed {
        return Ok(());
    }
    let dropped = client.execute(SLOT, &[&names.slot]).await;
    dropped.map_err(|error| match error::sqlstate(&error) {
        Some(("55006", _)) => Error::new(Code::Contention, format!("the slot {:?} is still read", names.slot))
            .hint("stop whoever reads it, and run `pontoon setup` again: else it keeps the log"),
        _ => privileged(&error, "drop a replication slot"),
    })?;
    let sql = format!("DROP PUBLICATION IF EXISTS {}", Ident(&names.slot));
    client.batch_execute(&sql).await.map_err(|error| privileged(&error, "drop the publication"))
}

/// Whether no other bridge has anything in the schema.
async fn is_last(client: &Client, names: &Names) -> Result<bool> {
    if !has_schema(client).await? {
        return Ok(false);
    }
    const SQL: &str = "SELECT NOT EXISTS (SELECT FROM pontoon.control WHERE bridge NOT IN ('', $1))
        AND NOT EXISTS (SELECT FROM pontoon.checkpoint WHERE bridge <> $1)";
    let row = client.query_one(SQL, &[&names.bridge]).await.map_err(|error| error::of_statement(&error))?;
    get(&row, 0)
}

async fn has_schema(client: &Client) -> Result<bool> {
    const SQL: &str = "SELECT to_regclass('pontoon.control') IS NOT NULL";
    get(&client.query_one(SQL, &[]).await.map_err(|error| error::of_statement(&error))?, 0)
}

fn teardown_sql(names: &Names, last: bool) -> Vec<String> {
    let (slot, bridge) = (Literal(&names.slot), Literal(&names.bridge));
    let mut sql = vec![
        format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {slot}"),
        format!("DROP PUBLICATION IF EXISTS {}", Ident(&names.slot)),
    ];
    for applier in APPLIERS {
        let origin = names.origin(applier.number());
        let origin = Literal(&origin);
        sql.push(format!(
            "SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE roname = {origin}"
        ));
    }
    if last {
        sql.push("DROP SCHEMA pontoon CASCADE".into());
    } else {
        for table in ["checkpoint", "resolution", "quarantine", "control"] {
            sql.push(format!("DELETE FROM pontoon.{table} WHERE bridge = {bridge}"));
        }
    }
    sql
}

async fn teardown(client: &Client, names: &Names) -> Result<Vec<String>> {
    if !lease::try_lock(client, names).await? {
        let holder = if has_schema(client).await? { lease::holder(client, names).await? } else { String::new() };
        return Err(Error::new(Code::Config, format!("the bridge {:?} runs: {holder}", names.bridge))
            .hint("stop it first; nothing was removed"));
    }
    let left = remove(client, names).await?;
    // Not with the connection, which ends some time after this returns: whoever begins anew would find the bridge at work.
    lease::unlock(client, names).await?;
    Ok(left)
}

async fn remove(client: &Client, names: &Names) -> Result<Vec<String>> {
    let last = is_last(client, names).await?;
    let schema = has_schema(client).await?;
    for sql in teardown_sql(names, last) {
        if schema || !sql.contains("pontoon.") {
            client.batch_execute(&sql).await.map_err(|error| privileged(&error, "remove what the bridge has here"))?;
        }
    }
    leftovers(client, names).await
}

/// What there still is of the bridge.
async fn leftovers(client: &Client, names: &Names) -> Result<Vec<String>> {
    const SQL: &str = "SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE slot_name = $1
        UNION ALL SELECT 'publication ' || pubname FROM pg_publication WHERE pubname = $1
        UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin WHERE roname = ANY ($2)";
    let origins: Vec<_> = APPLIERS.iter().map(|applier| names.origin(applier.number())).collect();
    let rows = client.query(SQL, &[&names.slot, &origins]).await.map_err(|error| error::of_statement(&error))?;
    let mut left = rows.iter().map(|row| text(row, 0)).collect::<Result<Vec<_>>>()?;
    if is_last(client, names).await? {
        left.push("schema pontoon".into());
    }
    Ok(left)
}
