//! The session that writes.
//!
//! * Its replication origin marks everything that it commits as the bridge's. One session at a time can
//!   use an origin: a predecessor whose process is dead but whose backend is not is ended first. It can
//!   do no harm meanwhile, as its token is an old one.
//! * Each transaction holds the lease's row shared from its first statement to its end, and has the
//!   token there; see [`crate::lease`]. A standby that was promoted has it too: see [`crate::timeline`].
//! * `pg_replication_origin_xact_setup` gives the transaction the commit time of the write that it
//!   brings; without it the log would say zero.
//! * `session_replication_role = replica` keeps triggers and foreign keys off.
//! * A transaction begins with what comes first in it: all of that is sent before any of it is answered, so that a
//!   small one waits for the server twice. Should BEGIN be refused, as a cancel may, the server would commit each
//!   of the others by itself, so they do nothing then ([`IN_TRANSACTION`]).
//! * A failed transaction is never committed: after an error or a miss only `rollback` is let through
//!   (a COMMIT would be answered with "ROLLBACK" and no error).

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use futures_util::future::{join, join3};
use pontoon_core::{
    Code, CopyState, Error, Key, MappedTable, Position, Resolution, Result, Row, TableId, Tag,
    history::Retention,
    new_key::{Answer, NewKey},
    node::{Applied, Applier, Session, Sum, TableBatch, Tables, Tried, UpdateGroup},
    quarantine::{Stored, StoredWrite},
    repair::Repair,
};
use tokio::time::{Instant, sleep};
use tokio_postgres::{
    Client, Statement,
    types::{PgLsn, ToSql},
};

use crate::{
    catalog::get,
    connect::{Link, Role, Target},
    encode::Array,
    error, history, lease, load,
    names::Names,
    node, quarantine, record, requests,
    scan::{of_table, rows_of_keys},
    state,
    statement::{self, IN_TRANSACTION, Locking},
    ties, timeline,
};

/// Rows that one statement carries at most: enough that its round trip costs nothing beside them, and few enough that they can be made
/// into parameters while the server works on as many before them.
const STATEMENT_ROWS_MAX: usize = 500;

/// Bytes of parameters after which a statement is closed, so that neither side holds much at once.
pub(crate) const STATEMENT_BYTES: usize = 4 * 1024 * 1024;

/// Prepared statements kept by a session: some for each table. The server holds a plan for each.
const STATEMENTS_MAX: usize = 256;

/// The server ends a transaction in which nothing happens for so long: the host is dead. A rendezvous
/// waits at most ten seconds within one.
const IDLE_IN_TRANSACTION: &str = "20s";

/// The server ends a session that is idle for so long; the engine lets go of its own after 30 s.
const IDLE: &str = "120s";

/// How long the opening waits for the origin of a predecessor that is being ended.
const ORIGIN_FREE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a predecessor that is ending by itself, as one of our own does, is left to it.
const PREDECESSOR_ENDS_WITHIN: Duration = Duration::from_millis(250);

/// The pause between two tries.
const ORIGIN_FREE_INTERVAL: Duration = Duration::from_millis(50);

/// What is sent stands in a buffer of the driver's client and in one of its connection, and both stay as large as they ever were
/// (`InnerClient::with_buf` of tokio-postgres, `Framed` of tokio-util). From so many bytes of a statement on that is too much to be kept.
const BLOAT_BYTES: usize = 16 << 20;

/// Whether a transaction is under way, and fit to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// It is to begin with what comes first in it.
    Told,
    Open,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Prepared {
    Lease,
    Origin,
    Checkpoint,
    Insert(TableId),
    Update(TableId, Vec<usize>, Vec<Sum>),
    Delete(TableId),
    Rows(TableId, Locking),
}

/// A session that writes as one applier.
pub(crate) struct PostgresSession {
    link: Link,
    names: Names,
    applier: i32,
    token: i64,
    tables: Tables,
    statements: HashMap<Prepared, Statement>,
    state: State,
    /// With what one begins that is to begin.
    tag: Option<Tag>,
    /// The transaction has a savepoint.
    savepoint: bool,
    is_bloated: bool,
}

const LEASE_SQL: &str = "SELECT 1 FROM pontoon.control WHERE bridge = $1 AND name = 'lease' AND number = $2 FOR SHARE";

const ORIGIN_SQL: &str = "SELECT pg_replication_origin_xact_setup($1::pg_lsn,
    timestamptz '1970-01-01 00:00:00+00' + $2::bigint * interval '1 microsecond')";

fn checkpoint_sql() -> String {
    format!(
        "INSERT INTO pontoon.checkpoint AS c (bridge, applier, position, sequence, commit_time)
        SELECT $1::text, $2::int4, $3::text, 1, $4::int8 WHERE {IN_TRANSACTION}
        ON CONFLICT (bridge, applier) DO UPDATE SET position = coalesce(excluded.position, c.position),
            sequence = c.sequence + 1, commit_time = excluded.commit_time, updated_at = now()"
    )
}

impl PostgresSession {
    pub(crate) async fn open(
        target: &Target,
        names: &Names,
        applier: Applier,
        token: i64,
        tables: &Tables,
    ) -> Result<PostgresSession> {
        // Each key is to be looked up in the index, whatever the statistics say; and planned each time, as
        // a plan that was kept from when a table was small reads all of it for every row.
        let role = Role::new(&names.bridge, &format!("applier {}", applier.number()))
            .set("session_replication_role", "replica")
            .set("synchronous_commit", "on")
            .set("default_transaction_isolation", "read committed")
            .set("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION)
            .set("idle_session_timeout", IDLE)
            .set("enable_hashjoin", "off")
            .set("enable_mergejoin", "off")
            .set("enable_seqscan", "off")
            .set("enable_material", "off")
            .set("plan_cache_mode", "force_custom_plan")
            .set("jit", "off");
        let link = target.connect(&role).await?;
        set_up_origin(&link.client, names, applier, &role.application_name).await?;
        timeline::is_noted(&link.client, names).await?;
        Ok(PostgresSession {
            link,
            names: names.clone(),
            applier: applier.number(),
            token,
            tables: tables.clone(),
            statements: HashMap::new(),
            state: State::Idle,
            tag: None,
            savepoint: false,
            is_bloated: false,
        })
    }

    /// Within a transaction that is fit for it, and until the work has succeeded no longer is.
    async fn enter(&mut self) -> Result<()> {
        match self.beginning().await? {
            Some(beginning) => beginning.send(&self.link.client).await,
            None => Ok(()),
        }
    }

    /// The same, and what has to be sent before where the transaction is yet to begin.
    async fn beginning(&mut self) -> Result<Option<Beginning>> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Open => Ok(None),
            State::Told => {
                let tag = match self.tag.take() {
                    Some(tag) => Some(self.tagging(tag).await?),
                    None => None,
                };
                let (lease, bridge) = (self.prepared(Prepared::Lease).await?, self.names.bridge.clone());
                Ok(Some(Beginning { lease, bridge, token: self.token, tag }))
            }
            State::Idle | State::Failed => {
                Err(Error::new(Code::Internal, "a statement without a transaction that it could be part of"))
            }
        }
    }

    async fn tagging(&mut self, tag: Tag) -> Result<Tagging> {
        let (origin, checkpoint) = (self.prepared(Prepared::Origin).await?, self.prepared(Prepared::Checkpoint).await?);
        Ok(Tagging { origin, checkpoint, bridge: self.names.bridge.clone(), applier: self.applier, tag })
    }

    async fn prepared(&mut self, what: Prepared) -> Result<Statement> {
        if let Some(statement) = self.statements.get(&what) {
            return Ok(statement.clone());
        }
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        let table = |id: &TableId| &self.tables[id.index()];
        let (sql, of) = match &what {
            Prepared::Lease => (LEASE_SQL.to_string(), None),
            Prepared::Origin => (ORIGIN_SQL.to_string(), None),
            Prepared::Checkpoint => (checkpoint_sql(), None),
            Prepared::Insert(id) => (statement::insert(table(id)), Some(table(id))),
            Prepared::Update(id, changed, sums) => (statement::update(table(id), changed, sums), Some(table(id))),
            Prepared::Delete(id) => (statement::delete(table(id)), Some(table(id))),
            Prepared::Rows(id, locking) => (statement::by_key(table(id), *locking), Some(table(id))),
        };
        let prepared = self.link.client.prepare(&sql).await;
        let statement = prepared.map_err(|error| match of {
            Some(table) => of_table(&error, table),
            None => error::of_statement(&error),
        })?;
        self.statements.insert(what, statement.clone());
        Ok(statement)
    }

    /// The statements of a batch, prepared, each with its rows.
    async fn steps<'a>(&mut self, table: TableId, batch: &'a TableBatch) -> Result<Vec<Step<'a>>> {
        let deletes = batch.deletes.iter().map(|row| Written { before: Some(row), after: None });
        let mut wanted = vec![(Prepared::Delete(table), deletes.collect::<Vec<_>>())];
        for UpdateGroup { changed, sums, rows } in &batch.updates {
            let rows = rows.iter().map(|(before, after)| Written { before: Some(before), after: Some(after) });
            wanted.push((Prepared::Update(table, changed.clone(), sums.clone()), rows.collect()));
        }
        let inserts = batch.inserts.iter().map(|row| Written { before: None, after: Some(row) });
        wanted.push((Prepared::Insert(table), inserts.collect()));
        let mut steps = Vec::new();
        for (what, rows) in wanted.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            steps.push(Step { statement: self.prepared(what.clone()).await?, what, rows });
        }
        Ok(steps)
    }

    /// Runs the statements of a batch, the parameters of each made while the server works on the one before. A transaction that is
    /// to begin does so with the first.
    async fn apply_batch(
        &mut self,
        table: TableId,
        batch: &TableBatch,
        mut beginning: Option<Beginning>,
    ) -> Result<Applied> {
        let steps = self.steps(table, batch).await?;
        let (tables, client) = (&self.tables, &self.link.client);
        let table = &tables[table.index()];
        let mut pieces = steps.iter().flat_map(|step| step.pieces(table));
        let mut next = pieces.next();
        while let Some(piece) = next {
            let Some(Piece { statement, arrays, rows }) = piece? else { return Ok(Applied::Missed) };
            self.is_bloated |= arrays.iter().map(Array::bytes).sum::<usize>() >= BLOAT_BYTES;
            let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
            let begin = async { if let Some(told) = beginning.take() { told.send(client).await } else { Ok(()) } };
            let (begun, written, made) =
                join3(begin, client.execute(statement, &parameters), async { pieces.next() }).await;
            begun?;
            if written.map_err(|error| of_table(&error, table))? != rows as u64 {
                return Ok(Applied::Missed);
            }
            next = made;
        }
        if let Some(told) = beginning {
            told.send(client).await?;
        }
        Ok(Applied::All)
    }

    async fn rows(&mut self, table: TableId, keys: &[Key], locking: Locking) -> Result<Vec<Option<Row>>> {
        self.enter().await?;
        let statement = self.prepared(Prepared::Rows(table, locking)).await?;
        let tables = self.tables.clone();
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(STATEMENT_ROWS_MAX) {
            found.extend(rows_of_keys(&self.link.client, &statement, &tables[table.index()], keys).await?);
        }
        self.state = State::Open;
        Ok(found)
    }
}

/// What a transaction begins with.
struct Beginning {
    lease: Statement,
    bridge: String,
    token: i64,
    tag: Option<Tagging>,
}

impl Beginning {
    /// All of it is on its way before the first answer is waited for.
    async fn send(&self, client: &Client) -> Result<()> {
        let parameters: [&(dyn ToSql + Sync); 2] = [&self.bridge, &self.token];
        let (begun, held, tagged) = join3(
            client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
            client.query_opt(&self.lease, &parameters),
            async { if let Some(tag) = &self.tag { tag.send(client).await } else { Ok(()) } },
        )
        .await;
        begun.map_err(|error| error::of_statement(&error))?;
        if held.map_err(|error| error::of_statement(&error))?.is_none() {
            return Err(lease::lost());
        }
        tagged
    }
}

/// What gives a transaction the time of the write that it brings, and moves the checkpoint.
struct Tagging {
    origin: Statement,
    checkpoint: Statement,
    bridge: String,
    applier: i32,
    tag: Tag,
}

impl Tagging {
    async fn send(&self, client: &Client) -> Result<()> {
        let Tag { position, commit_time } = &self.tag;
        let lsn = match position {
            Some(Position::Lsn(lsn)) => PgLsn::from(*lsn),
            _ => PgLsn::from(0),
        };
        let position = position.as_ref().map(Position::durable);
        let origin: [&(dyn ToSql + Sync); 2] = [&lsn, commit_time];
        let checkpoint: [&(dyn ToSql + Sync); 4] = [&self.bridge, &self.applier, &position, commit_time];
        let (set_up, moved) =
            join(client.execute(&self.origin, &origin), client.execute(&self.checkpoint, &checkpoint)).await;
        set_up.map_err(|error| error::of_statement(&error))?;
        match moved.map_err(|error| error::of_statement(&error))? {
            1 => Ok(()),
            _ => Err(Error::new(Code::Internal, "a checkpoint outside of a transaction")),
        }
    }
}

/// Makes the applier's origin this session's. A backend of the same applier that still has it is one
/// of a process that is dead or was taken over from.
async fn set_up_origin(client: &Client, names: &Names, applier: Applier, application_name: &str) -> Result<()> {
    const END_PREDECESSORS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = $1 AND usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()";
    let origin = names.origin(applier.number());
    let (give_up, grace) = (Instant::now() + ORIGIN_FREE_TIMEOUT, Instant::now() + PREDECESSOR_ENDS_WITHIN);
    loop {
        let done = client.execute("SELECT pg_replication_origin_session_setup($1)", &[&origin]).await;
        let Err(error) = done else { return Ok(()) };
        let error = error::of_statement(&error);
        match error.code() {
            Code::Contention if Instant::now() < grace => sleep(ORIGIN_FREE_INTERVAL).await,
            Code::Contention if Instant::now() < give_up => {
                let ended = client.execute(END_PREDECESSORS, &[&application_name]).await;
                let count = ended.map_err(|error| error::of_statement(&error))?;
                tracing::warn!(origin, count, "ended sessions of a predecessor that still had the replication origin");
                sleep(ORIGIN_FREE_INTERVAL).await;
            }
            Code::NotSetUp => {
                let text = format!("the replication origin {origin:?} is not there");
                return Err(Error::new(Code::NotSetUp, text).hint("run `pontoon setup`; it is safe to repeat"));
            }
            _ => return Err(error),
        }
    }
}

/// A row to write: as it must be, as it shall be.
struct Written<'a> {
    before: Option<&'a Row>,
    after: Option<&'a Row>,
}

/// A statement for rows.
struct Step<'a> {
    what: Prepared,
    statement: Statement,
    rows: Vec<Written<'a>>,
}

/// What of it goes to the server at a time: parameters for so many rows.
struct Piece<'a> {
    statement: &'a Statement,
    arrays: Vec<Array>,
    rows: usize,
}

impl Step<'_> {
    /// All of it, each piece made when it is asked for; `None` where a row must be as this table cannot have one.
    fn pieces<'a>(&'a self, table: &'a MappedTable) -> impl Iterator<Item = Result<Option<Piece<'a>>>> + Send + 'a {
        let mut rest = &self.rows[..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let made = arrays_of(table, &self.what, rest);
            rest = made.as_ref().ok().and_then(Option::as_ref).map_or(&[][..], |(_, rows)| &rest[*rows..]);
            let piece = |(arrays, rows)| Piece { statement: &self.statement, arrays, rows };
            Some(made.map(|made| made.map(piece)))
        })
    }
}

/// The parameters for the first rows, and how many these are; `None` where a row must be as this table
/// cannot have one.
fn arrays_of(table: &MappedTable, what: &Prepared, rows: &[Written<'_>]) -> Result<Option<(Vec<Array>, usize)>> {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let compared;
    let (before, after, sums): (&[usize], &[usize], &[Sum]) = match what {
        Prepared::Delete(_) => (&all, &[], &[]),
        Prepared::Update(_, changed, sums) => {
            compared = statement::compared(table, sums);
            (&compared, changed, sums)
        }
        _ => (&[], &all, &[]),
    };
    let added: Vec<usize> = sums.iter().filter(|sum| sum.added).map(|sum| sum.at).collect();
    let column = |at: &usize| Array::new(&table.columns[*at]);
    let mut arrays: Vec<Array> = before.iter().chain(after).map(column).collect();
    arrays.extend(added.iter().map(|_| Array::of_numbers()));
    let mut count = 0;
    for row in rows.iter().take(STATEMENT_ROWS_MAX) {
        for (array, &at) in arrays.iter_mut().zip(before) {
            let value = row.before.map(|row| &row.0[at]);
            if value.is_none_or(|value| array.push(&table.columns[at], value).is_err()) {
                return Ok(None);
            }
        }
        for (number, (array, &at)) in arrays[before.len()..].iter_mut().zip(after.iter().chain(&added)).enumerate() {
            let push = |value| match number < after.len() {
                true => array.push(&table.columns[at], value),
                false => array.push_number(value),
            };
            if row.after.map(|row| &row.0[at]).map(push) != Some(Ok(())) {
                let text = format!(
                    "table {}: a value that column {:?} cannot hold",
                    table.name, table.columns[at].column.name
                );
                return Err(Error::new(Code::ValueMisfit, text));
            }
        }
        count += 1;
        if arrays.iter().map(Array::bytes).sum::<usize>() >= STATEMENT_BYTES {
            break;
        }
    }
    Ok(Some((arrays, count)))
}

#[async_trait]
impl Session for PostgresSession {
    async fn begin(&mut self, tag: Option<&Tag>) -> Result<()> {
        if std::mem::replace(&mut self.state, State::Failed) != State::Idle {
            return Err(Error::new(Code::Internal, "a transaction was begun within another"));
        }
        (self.tag, self.savepoint, self.state) = (tag.cloned(), false, State::Told);
        Ok(())
    }

    async fn tag(&mut self, tag: &Tag) -> Result<()> {
        self.enter().await?;
        self.tagging(tag.clone()).await?.send(&self.link.client).await?;
        self.state = State::Open;
        Ok(())
    }

    async fn apply(&mut self, table: TableId, batch: &TableBatch) -> Result<Applied> {
        let beginning = self.beginning().await?;
        let applied = self.apply_batch(table, batch, beginning).await?;
        if applied == Applied::All {
            self.state = State::Open;
        }
        Ok(applied)
    }

    async fn lock(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        self.rows(table, keys, Locking::ForUpdate).await
    }

    async fn read(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        self.rows(table, keys, Locking::No).await
    }

    async fn holders(&mut self, table: TableId, unique: usize, rows: &[Row]) -> Result<Vec<Option<Key>>> {
        self.enter().await?;
        let table = &self.tables[table.index()];
        let unique = ties::unique(table, unique)?;
        let mut found = Vec::with_capacity(rows.len());
        for rows in rows.chunks(STATEMENT_ROWS_MAX) {
            found.extend(ties::holders(&self.link.client, table, unique, rows).await?);
        }
        self.state = State::Open;
        Ok(found)
    }

    async fn orphans(&mut self, table: TableId, reference: usize, keys: &[Key]) -> Result<Vec<Key>> {
        self.enter().await?;
        let (tables, reference) = ties::tied(&self.tables, table, reference)?;
        let mut found = Vec::new();
        for keys in keys.chunks(STATEMENT_ROWS_MAX) {
            found.extend(ties::orphans(&self.link.client, tables, reference, keys).await?);
        }
        self.state = State::Open;
        Ok(found)
    }

    async fn children(&mut self, table: TableId, reference: usize, parents: &[Row], limit: usize) -> Result<Vec<Key>> {
        self.enter().await?;
        let (tables, reference) = ties::tied(&self.tables, table, reference)?;
        let mut found = Vec::new();
        for parents in parents.chunks(STATEMENT_ROWS_MAX) {
            let rest = limit - found.len();
            found.extend(ties::children(&self.link.client, tables, reference, parents, rest).await?);
        }
        self.state = State::Open;
        Ok(found)
    }

    async fn fence(&mut self) -> Result<Position> {
        self.enter().await?;
        let row = self.link.client.query_one("SELECT pg_current_wal_insert_lsn()", &[]).await;
        let lsn: PgLsn = get(&row.map_err(|error| error::of_statement(&error))?, 0)?;
        self.state = State::Open;
        Ok(Position::Lsn(lsn.into()))
    }

    async fn savepoint(&mut self) -> Result<()> {
        self.enter().await?;
        // The earlier one is given up, or each would be a level of its own.
        let sql = if self.savepoint { "RELEASE SAVEPOINT row; SAVEPOINT row" } else { "SAVEPOINT row" };
        self.link.client.batch_execute(sql).await.map_err(|error| error::of_statement(&error))?;
        (self.savepoint, self.state) = (true, State::Open);
        Ok(())
    }

    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        let done = self.link.client.batch_execute("ROLLBACK TO SAVEPOINT row").await;
        done.map_err(|error| error::of_statement(&error))?;
        self.state = State::Open;
        Ok(())
    }

    async fn store(&mut self, entries: &[Stored]) -> Result<()> {
        self.enter().await?;
        quarantine::store(&self.link.client, &self.names.bridge, &self.tables, entries).await?;
        self.state = State::Open;
        Ok(())
    }

    async fn stored(&mut self, table: TableId, key: &Key, after: i64) -> Result<Vec<StoredWrite>> {
        self.enter().await?;
        let table = &self.tables[table.index()];
        let stored = quarantine::stored(&self.link.client, &self.names.bridge, table, key, after).await?;
        self.state = State::Open;
        Ok(stored)
    }

    async fn release(&mut self, table: TableId, keys: &[Key]) -> Result<()> {
        self.enter().await?;
        let table = &self.tables[table.index()];
        quarantine::release(&self.link.client, &self.names.bridge, table, keys).await?;
        self.state = State::Open;
        Ok(())
    }

    async fn tried(&mut self, table: TableId, key: &Key, tried: &Tried) -> Result<()> {
        self.enter().await?;
        let table = &self.tables[table.index()];
        quarantine::tried(&self.link.client, &self.names.bridge, table, key, tried).await?;
        self.state = State::Open;
        Ok(())
    }

    async fn highest_id(&mut self) -> Result<i64> {
        self.enter().await?;
        let id = quarantine::highest_id(&self.link.client, &self.names.bridge).await?;
        self.state = State::Open;
        Ok(id)
    }

    async fn recorded(&mut self, id: i64) -> Result<Option<Resolution>> {
        self.enter().await?;
        let found = node::recorded(&self.link.client, &self.names, &self.tables, id).await?;
        self.state = State::Open;
        Ok(found)
    }

    async fn answer_new_key(&mut self, request: &NewKey, answer: &Answer) -> Result<bool> {
        self.enter().await?;
        let table = &self.tables[request.table.index()];
        let done = requests::answer_new_key(&self.link.client, &self.names.bridge, table, request, answer).await?;
        self.state = State::Open;
        Ok(done)
    }

    async fn repaired(&mut self, request: &Repair) -> Result<()> {
        self.enter().await?;
        requests::repaired(&self.link.client, &self.names.bridge, request).await?;
        self.state = State::Open;
        Ok(())
    }

    async fn record(&mut self, resolutions: &[Resolution]) -> Result<()> {
        self.enter().await?;
        record::write(&self.link.client, &self.names.bridge, &self.tables, resolutions).await?;
        self.state = State::Open;
        Ok(())
    }

    async fn load(&mut self, table: TableId, rows: &[&Row]) -> Result<Applied> {
        self.enter().await?;
        let tables = self.tables.clone();
        let mapped = &tables[table.index()];
        match load::copy_in(&self.link.client, mapped, rows).await {
            Ok(true) => {
                self.state = State::Open;
                Ok(Applied::All)
            }
            Ok(false) => Ok(Applied::Missed),
            // Of the key or of another constraint: a write of single rows tells them apart.
            Err(error) if matches!(error::sqlstate(&error), Some(("23505", _))) => Ok(Applied::Missed),
            Err(error) => Err(of_table(&error, mapped)),
        }
    }

    async fn note_copy(&mut self, copy: &CopyState) -> Result<()> {
        self.enter().await?;
        state::note_copy(&self.link.client, &self.names, &self.tables, copy).await?;
        self.state = State::Open;
        Ok(())
    }

    async fn retire(&mut self, ids: &[i64]) -> Result<()> {
        self.enter().await?;
        const SQL: &str =
            "UPDATE pontoon.resolution SET in_force = false WHERE bridge = $1 AND id = ANY ($2) AND in_force";
        let done = self.link.client.execute(SQL, &[&self.names.bridge, &ids]).await;
        done.map_err(|error| error::of_statement(&error))?;
        self.state = State::Open;
        Ok(())
    }

    async fn forget(&mut self, keep: &Retention, limit: usize) -> Result<u64> {
        self.enter().await?;
        let removed = history::forget(&self.link.client, &self.names.bridge, keep, limit).await?;
        self.state = State::Open;
        Ok(removed)
    }

    async fn commit(&mut self) -> Result<()> {
        self.enter().await?;
        self.link.client.batch_execute("COMMIT").await.map_err(|error| error::of_statement(&error))?;
        self.state = State::Idle;
        Ok(())
    }

    /// A commit flushes the log up to its own record, and so all before it; one that does not is written by the walwriter within
    /// three of its delays (manual, "Asynchronous Commit").
    async fn commit_in_order(&mut self) -> Result<()> {
        self.enter().await?;
        let sql = "SET LOCAL synchronous_commit = off; COMMIT";
        self.link.client.batch_execute(sql).await.map_err(|error| error::of_statement(&error))?;
        self.state = State::Idle;
        Ok(())
    }

    async fn rollback(&mut self) -> Result<()> {
        if self.state == State::Told {
            self.state = State::Idle;
            return Ok(());
        }
        self.state = State::Failed;
        self.link.client.batch_execute("ROLLBACK").await.map_err(|error| error::of_statement(&error))?;
        self.state = State::Idle;
        Ok(())
    }

    fn is_bloated(&self) -> bool {
        self.is_bloated
    }
}
