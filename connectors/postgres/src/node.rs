//! The node: one database, and the connections that are opened to it.
//!
//! Nothing is kept but a target and, for marks and looks at the log, one connection that is opened when
//! it is first needed and again after an error. Marks need a connection of their own: one with an origin
//! set up would mark them as an echo, with a commit time that is not this server's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pontoon_core::{
    Checkpoint, Code, CopyState, Error, LogIdentity, MappedTable, Position, Resolution, Result, TableId, TableName,
    TableSchema,
    neighbours::Carried,
    node::{
        Applier, CarriedOver, LeaseAttempt, LogReader, LogStatus, Mark, Node, NodeOptions, PassedOver, Peer, Scan,
        Session, SetUp, Tables,
    },
    pressure::{Pressure, PressureLimits},
    quarantine::Asked,
    record::{key_from_text, stored_row},
    requests::Requests,
    state::{NodeState, Pause, Throttle, Unmapped, UnmappedResolution},
    verified::Verified,
};
use tokio::time::timeout;
use tokio_postgres::{Client, GenericClient, Row, types::PgLsn};

use crate::{
    catalog::{self, get, text},
    connect::{Link, Role, Target},
    error, lease,
    names::Names,
    pause, pressure, quarantine,
    quote::Table,
    requests,
    scan::{self, PostgresScan},
    session::PostgresSession,
    slot, state, tables, throttle, ties, timeline, verified,
};

/// A mark or a look at the log that takes longer is given up with its connection: a server that does
/// not answer is to be noticed within half a minute.
const HELPER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// The header of a page of the log, and that of a file's first page (`XLogPageHeaderData`, `XLogLongPageHeaderData` of xlog_internal.h).
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

/// A PostgreSQL database.
pub struct PostgresNode {
    name: String,
    pub(crate) names: Names,
    target: Target,
    helper: Mutex<Option<Link>>,
}

impl PostgresNode {
    /// Reads the options; connects to nothing.
    pub(crate) fn new(options: NodeOptions) -> Result<PostgresNode> {
        let target = Target::parse(&options)?;
        let names = Names::new(&options.bridge)?;
        Ok(PostgresNode { name: options.name, names, target, helper: Mutex::new(None) })
    }

    /// Opens a connection for one piece of work.
    pub(crate) async fn link(&self, what: &str) -> Result<Link> {
        self.connect_as(&Role::new(&self.names.bridge, what)).await
    }

    /// Opens a connection with settings of its own.
    pub(crate) async fn connect_as(&self, role: &Role) -> Result<Link> {
        self.target.connect(role).await.map_err(|error| error.at(&self.name))
    }

    /// The user who is logged in.
    pub(crate) fn user(&self) -> &str {
        &self.target.user
    }

    /// Says of an error at which node it happened.
    pub(crate) fn at<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.at(&self.name))
    }

    /// Runs `work` on the helper connection; opens one where it is not there, was lost since or is in use, and closes it after an error. Nobody waits
    /// for another's answer: one that a lock holds up would hold up all of them.
    pub(crate) async fn with_helper<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T> + Send) -> Result<T> {
        let link = match self.kept() {
            Some(link) => link,
            None => self.target.connect(&helper_role(&self.names)).await?,
        };
        let late = |_| Error::new(Code::ConnectionLost, "the server does not answer");
        let outcome = timeout(HELPER_TIMEOUT, work(&link.client)).await.map_err(late)??;
        *self.helper() = Some(link);
        Ok(outcome)
    }

    fn helper(&self) -> MutexGuard<'_, Option<Link>> {
        self.helper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The helper connection, if it is there still. It is taken out, so that a call that is dropped half way leaves none with an answer due.
    fn kept(&self) -> Option<Link> {
        self.helper().take().filter(|link| !link.client.is_closed())
    }
}

#[async_trait]
impl Node for PostgresNode {
    fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&self) -> Result<Peer> {
        let link = self.link("check").await?;
        let row = link.client.query_one("SHOW server_version", &[]).await;
        let row = self.at(row.map_err(|error| error::of_statement(&error)))?;
        let version: String = get(&row, 0)?;
        // `15.18 (Debian 15.18-0+deb12u1)`
        let server = format!("PostgreSQL {}", version.split(' ').next().unwrap_or_default());
        Ok(Peer { server, certificate_expiry: link.certificate_expiry, statement_bytes_max: None })
    }

    async fn identity(&self) -> Result<LogIdentity> {
        let link = self.link("check").await?;
        self.at(slot::identity(&link.client).await)
    }

    async fn carried_over(&self, log: &LogIdentity, places: &[Position]) -> Result<Option<CarriedOver>> {
        let own = self.identity().await?;
        let fork = self.at(timeline::forked_from(&self.target, &self.names, &own, log).await)?;
        Ok(fork.map(|fork| {
            let places = places.iter().map(|place| fork.covers(place).then(|| place.clone())).collect();
            CarriedOver { fork, places }
        }))
    }

    async fn list_tables(&self) -> Result<Vec<TableName>> {
        let link = self.link("catalog").await?;
        self.at(catalog::list_tables(&link.client).await)
    }

    async fn describe(&self, names: &[TableName]) -> Result<Vec<Option<TableSchema>>> {
        let link = self.link("catalog").await?;
        let mut tables = self.at(catalog::describe(&link.client, names).await)?;
        self.at(ties::add(&link.client, &mut tables).await)?;
        Ok(tables)
    }

    async fn is_as_mapped(&self, table: &MappedTable) -> Result<bool> {
        let found = self.describe(std::slice::from_ref(&table.name)).await?;
        Ok(found.into_iter().flatten().any(|now| table.is_as(&now)))
    }

    async fn state(&self, tables: &Tables) -> Result<NodeState> {
        let link = self.link("state").await?;
        self.at(node_state(&link.client, &self.names, tables).await)
    }

    async fn copies(&self, tables: &Tables) -> Result<Vec<CopyState>> {
        let copies = self.with_helper(async |client| state::copies(client, &self.names, tables).await);
        self.at(copies.await)
    }

    async fn estimate(&self, table: &TableName) -> Result<Option<u64>> {
        // -1 where the table was never analysed; of a partitioned one the sum of what is below it.
        const SQL: &str = "SELECT sum(c.reltuples)::bigint FROM pg_class c
            WHERE c.relkind <> 'p' AND c.reltuples >= 0 AND c.oid IN (
                SELECT to_regclass($1) UNION SELECT relid FROM pg_partition_tree(to_regclass($1)))";
        let name = Table(table).to_string();
        let estimate = self.with_helper(async |client| {
            let row = client.query_one(SQL, &[&name]).await.map_err(|error| error::of_statement(&error))?;
            Ok(get::<Option<i64>>(&row, 0)?.and_then(|rows| u64::try_from(rows).ok()))
        });
        self.at(estimate.await)
    }

    async fn try_lease(&self) -> Result<LeaseAttempt> {
        self.at(lease::attempt(&self.target, &self.names).await)
    }

    async fn open_reader(
        &self,
        start: &Checkpoint,
        tables: &Tables,
        passed: &PassedOver,
    ) -> Result<Box<dyn LogReader>> {
        let link = self.link("opener").await?;
        let reader = slot::open_reader(&self.target, &self.names, &link.client, start, tables, passed).await;
        Ok(Box::new(self.at(reader)?))
    }

    async fn open_tail(
        &self,
        start: Option<&Position>,
        tables: &Tables,
        passed: &PassedOver,
    ) -> Result<Box<dyn LogReader>> {
        let link = self.link("opener").await?;
        let reader = slot::open_tail(&self.target, &self.names, &link.client, start, tables, passed).await;
        Ok(Box::new(self.at(reader)?))
    }

    async fn open_session(&self, applier: Applier, token: i64, tables: &Tables) -> Result<Box<dyn Session>> {
        let session = PostgresSession::open(&self.target, &self.names, applier, token, tables).await;
        Ok(Box::new(self.at(session)?))
    }

    async fn open_scan(&self, tables: &Tables) -> Result<Box<dyn Scan>> {
        let link = self.connect_as(&scan::role(Role::new(&self.names.bridge, "scan"))).await?;
        Ok(Box::new(PostgresScan::new(link, tables)))
    }

    async fn mark(&self, mark: Mark) -> Result<()> {
        let word = match mark {
            Mark::Heartbeat => "heartbeat",
            Mark::Barrier => "barrier",
        };
        // Transactional, so that its commit flushes the log.
        let sql = format!("SELECT pg_logical_emit_message(true, $1, $2::text || ' ' || {})", slot::members_sql("$3"));
        let names = &self.names;
        let marked = self.with_helper(async |client| {
            let statement = client.query(&sql, &[&names.message_prefix, &word, &names.slot]).await;
            statement.map(|_| ()).map_err(|error| error::of_statement(&error))
        });
        self.at(marked.await)
    }

    async fn asked(&self, tables: &Tables) -> Result<Vec<Asked>> {
        let asked = self.with_helper(async |client| quarantine::asked(client, &self.names.bridge, tables).await).await;
        self.at(asked)
    }

    async fn requests(&self, tables: &Tables) -> Result<Requests> {
        let asked = self.with_helper(async |client| requests::asked(client, &self.names.bridge, tables).await).await;
        self.at(asked)
    }

    async fn paused(&self) -> Result<Option<Pause>> {
        let read = self.with_helper(async |client| pause::read(client, &self.names.bridge).await).await;
        self.at(read)
    }

    async fn verified(&self) -> Result<Option<Verified>> {
        let read = self.with_helper(async |client| verified::read(client, &self.names.bridge).await).await;
        self.at(read)
    }

    async fn throttled(&self) -> Result<Option<Throttle>> {
        let read = self.with_helper(async |client| throttle::read(client, &self.names.bridge).await).await;
        self.at(read)
    }

    async fn pressure(&self, limits: &PressureLimits) -> Result<Pressure> {
        let read = self.with_helper(async |client| pressure::read(client, &self.names.bridge, limits).await).await;
        self.at(read)
    }

    async fn log_status(&self, since: Option<&Position>) -> Result<LogStatus> {
        // safe_wal_size: null where max_slot_wal_keep_size sets no limit.
        const SQL: &str = "SELECT pg_current_wal_insert_lsn(), s.restart_lsn, s.safe_wal_size,
                (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
                current_setting('wal_block_size')::bigint, pg_size_bytes(current_setting('wal_segment_size'))
            FROM (SELECT 1) AS one LEFT JOIN pg_replication_slots s ON s.slot_name = $1";
        let name = &self.names.slot;
        let looked = self.with_helper(async |client| {
            let row = client.query_one(SQL, &[name]).await.map_err(|error| error::of_statement(&error))?;
            let end = end_of_log(get::<PgLsn>(&row, 0)?.into(), get(&row, 4)?, get(&row, 5)?);
            let retained_from = get::<Option<PgLsn>>(&row, 1)?.map(u64::from);
            let headroom = get::<Option<i64>>(&row, 2)?;
            Ok((end, retained_from, headroom, get::<i64>(&row, 3)?))
        });
        let (end, retained_from, headroom, clock) = self.at(looked.await)?;
        Ok(LogStatus {
            end: Position::Lsn(end),
            behind_bytes: since.map(|since| Position::Lsn(end).bytes_since(since).unwrap_or(0)),
            retained_bytes: retained_from.map(|from| end.saturating_sub(from)),
            headroom_bytes: headroom.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
            clock,
        })
    }
}

/// Where the last record ends. Behind the end of a page the next one is inserted after the header that it will have (`XLogBytePosToRecPtr` of xlog.c): no
/// reader comes there before there is one.
fn end_of_log(insert: u64, block: i64, segment: i64) -> u64 {
    let into = |unit: i64| u64::try_from(unit).ok().and_then(|unit| insert.checked_rem(unit));
    let header = match (into(segment), into(block)) {
        (Some(LONG_HEADER), _) => LONG_HEADER,
        (_, Some(SHORT_HEADER)) => SHORT_HEADER,
        _ => 0,
    };
    insert - header
}

/// Commits are flushed whatever the server's default is, but need not have reached a standby.
fn helper_role(names: &Names) -> Role {
    Role::new(&names.bridge, "helper").set("synchronous_commit", "local")
}

/// What the bridge keeps in this database.
async fn node_state(client: &Client, names: &Names, tables: &Tables) -> Result<NodeState> {
    tables::format_check(client).await?;
    let (epoch, other_epoch) = epochs(client, names).await?;
    let (checkpoint, applied) = checkpoint(client, names).await?;
    let (resolutions, of_others) = resolutions(client, names, tables).await?;
    let (since, since_of_others) = since(client, names, tables).await?;
    Ok(NodeState {
        checkpoint,
        applied,
        resolutions,
        quarantine: quarantine::keys(client, &names.bridge, tables).await?,
        highest_id: quarantine::highest_id(client, &names.bridge).await?,
        last_record: last_record(client, names).await?,
        skips: skips(client, names).await?,
        tables: carried(client, names).await?,
        since,
        aside: places(client, names, "aside:").await?,
        unmapped: Unmapped { since: since_of_others, resolutions: of_others },
        other_bridges: other_bridges(client, names).await?,
        epoch,
        other_epoch,
    })
}

/// The checkpoint, and whether a transaction of the bridge has been committed here.
async fn checkpoint(client: &Client, names: &Names) -> Result<(Option<Checkpoint>, bool)> {
    const SQL: &str = "SELECT applier, position, log, sequence > 0 FROM pontoon.checkpoint WHERE bridge = $1";
    let rows = client.query(SQL, &[&names.bridge]).await.map_err(|error| error::of_statement(&error))?;
    let (mut first, mut beside, mut applied) = (None, None, false);
    for row in &rows {
        let (applier, log): (i32, Option<String>) = (get(row, 0)?, get(row, 2)?);
        let position = get::<Option<String>>(row, 1)?.map(|text| position(&text)).transpose()?;
        if applier == Applier::Direction.number() {
            first = position.zip(log);
        } else if applier == Applier::Beside.number() {
            beside = position;
        }
        applied |= get::<bool>(row, 3)?;
    }
    let checkpoint = first.map(|(first, log)| Checkpoint::later(first, beside, LogIdentity(log.into())));
    Ok((checkpoint, applied))
}

const RESOLUTION: &str =
    "SELECT id, group_id, table_name, row_key, own_fence, other_fence, own_row, other_row, verdict,
        commit_time, rule, ancestor, taken
    FROM pontoon.resolution WHERE bridge = $1";

/// Those in force: of mapped tables, and of others.
async fn resolutions(
    client: &Client,
    names: &Names,
    tables: &Tables,
) -> Result<(Vec<Resolution>, Vec<UnmappedResolution>)> {
    let sql = format!("{RESOLUTION} AND in_force ORDER BY id");
    let rows = client.query(&sql, &[&names.bridge]).await.map_err(|error| error::of_statement(&error))?;
    read_resolutions(&rows, tables)
}

/// The highest id of a resolution, whatever its table.
async fn last_record(client: &Client, names: &Names) -> Result<i64> {
    const SQL: &str = "SELECT coalesce(max(id), 0) FROM pontoon.resolution WHERE bridge = $1";
    get(&client.query_one(SQL, &[&names.bridge]).await.map_err(|error| error::of_statement(&error))?, 0)
}

/// The resolution of this id, in force or not; `None` where there is none of a mapped table.
pub(crate) async fn recorded(client: &Client, names: &Names, tables: &Tables, id: i64) -> Result<Option<Resolution>> {
    let sql = format!("{RESOLUTION} AND id = $2");
    let rows = client.query(&sql, &[&names.bridge, &id]).await.map_err(|error| error::of_statement(&error))?;
    Ok(read_resolutions(&rows, tables)?.0.pop())
}

fn read_resolutions(rows: &[Row], tables: &Tables) -> Result<(Vec<Resolution>, Vec<UnmappedResolution>)> {
    let (mut found, mut of_others) = (Vec::new(), Vec::new());
    for row in rows {
        let (id, label) = (get::<i64>(row, 0)?, text(row, 2)?);
        let fence_at = |at| get::<Option<String>>(row, at)?.as_deref().map(position).transpose();
        let (own_fence, other_fence) = (fence_at(4)?, fence_at(5)?);
        let Some(table) = tables.iter().find(|table| *table.label == *label) else {
            of_others.push(UnmappedResolution { id, label: label.into(), key: text(row, 3)?, own_fence, other_fence });
            continue;
        };
        let unreadable =
            || Error::new(Code::Internal, format!("pontoon.resolution: record {id} of {label} cannot be read"));
        let row_at = |at| stored_row(table, get::<Option<String>>(row, at)?.as_deref(), unreadable);
        found.push(Resolution {
            id,
            group: get(row, 1)?,
            table: table.id,
            key: key_from_text(table, &text(row, 3)?).ok_or_else(unreadable)?,
            own_fence,
            other_fence,
            own_row: row_at(6)?,
            other_row: row_at(7)?,
            verdict: row_at(8)?,
            commit_time: get(row, 9)?,
            rule: text(row, 10)?,
            ancestor: row_at(11)?,
            columns: get::<Option<String>>(row, 12)?.map(Into::into),
        });
    }
    Ok((found, of_others))
}

async fn skips(client: &Client, names: &Names) -> Result<Vec<Position>> {
    const SQL: &str =
        "SELECT substr(name, 6) FROM pontoon.control WHERE bridge = $1 AND name LIKE 'skip:%' ORDER BY name";
    let rows = client.query(SQL, &[&names.bridge]).await.map_err(|error| error::of_statement(&error))?;
    rows.iter().map(|row| position(&text(row, 0)?)).collect()
}

/// The tables that the bridge is set up for here.
pub(crate) async fn carried(client: &impl GenericClient, names: &Names) -> Result<Vec<SetUp>> {
    const SQL: &str = "SELECT substr(name, 7), value FROM pontoon.control WHERE bridge = $1 AND name LIKE 'table:%' ORDER BY name COLLATE \"C\"";
    let rows = client.query(SQL, &[&names.bridge]).await.map_err(|error| error::of_statement(&error))?;
    let arrives = |row| Ok(Carried::from_text(&text(row, 1)?).is_none_or(|carried| carried.arrives));
    rows.iter().map(|row| Ok((text(row, 0)?.into(), arrives(row)?))).collect()
}

/// Of mapped tables, and of others.
async fn since(client: &Client, names: &Names, tables: &Tables) -> Result<(Vec<Since>, Vec<(Arc<str>, Position)>)> {
    let (mut since, mut of_others) = (Vec::new(), Vec::new());
    for (label, place) in places(client, names, "since:").await? {
        match tables.iter().find(|table| table.label == label) {
            Some(table) => since.push((table.id, place)),
            None => of_others.push((label, place)),
        }
    }
    Ok((since, of_others))
}

type Since = (TableId, Position);

/// Places in the other node's log, by table, of the rows of `control` that begin so.
async fn places(client: &Client, names: &Names, prefix: &str) -> Result<Vec<(Arc<str>, Position)>> {
    const SQL: &str = "SELECT substr(name, length($2) + 1), value FROM pontoon.control
        WHERE bridge = $1 AND starts_with(name, $2) ORDER BY name COLLATE \"C\"";
    let rows = client.query(SQL, &[&names.bridge, &prefix]).await.map_err(|error| error::of_statement(&error))?;
    rows.iter().map(|row| Ok((text(row, 0)?.into(), position(&text(row, 1)?)?))).collect()
}

async fn epochs(client: &Client, names: &Names) -> Result<(i64, i64)> {
    const SQL: &str = "SELECT coalesce(max(number) FILTER (WHERE name = 'epoch'), 0),
        coalesce(max(number) FILTER (WHERE name = 'other_epoch'), 0) FROM pontoon.control WHERE bridge = $1";
    let row = client.query_one(SQL, &[&names.bridge]).await.map_err(|error| error::of_statement(&error))?;
    Ok((get(&row, 0)?, get(&row, 1)?))
}

async fn other_bridges(client: &Client, names: &Names) -> Result<Vec<String>> {
    const SQL: &str = "SELECT bridge FROM pontoon.control WHERE name = 'pair' AND bridge <> $1 ORDER BY bridge";
    let rows = client.query(SQL, &[&names.bridge]).await.map_err(|error| error::of_statement(&error))?;
    rows.iter().map(|row| text(row, 0)).collect()
}

/// A position that the bridge itself wrote down.
fn position(text: &str) -> Result<Position> {
    text.parse().map_err(|_| Error::new(Code::Internal, format!("{text:?} in the pontoon tables is no position")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_ends_before_a_header_that_nothing_stands_behind() {
        let end = |insert| end_of_log(insert, 8192, 16 << 20);
        assert_eq!(
            (end(3 * 8192 + 24), end(3 * 8192 + 32), end(3 * 8192 + 40)),
            (3 * 8192, 3 * 8192 + 32, 3 * 8192 + 40)
        );
        assert_eq!((end((16 << 20) + 40), end((16 << 20) + 48)), (16 << 20, (16 << 20) + 48));
    }
}
