//! Opening the log: what has to be true of the server, its publication and its slot before the first
//! event, and the start of the stream.
//!
//! A slot that is missing, invalid, or has been moved past the checkpoint means that changes are gone.
//! It is said with the gap, and nothing is made anew in silence.

use std::time::Duration;

use pontoon_core::{
    Checkpoint, Code, Error, LogIdentity, Position, Result, TableName,
    node::{PassedOver, Tables},
};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, types::PgLsn};

use crate::{
    catalog::{self, get, text},
    connect::{Role, Target},
    error,
    log::{assemble::Reading, wire::Wire},
    names::Names,
    quote::{Ident, Literal},
    reader::Reader,
    shape::Shapes,
};

/// The server ends a reader of which it has heard nothing for so long; until then the slot is taken.
/// A reader that is polled says something every second.
const SENDER_TIMEOUT: &str = "15s";

/// How long a start waits for a slot that is still taken by the reader of a dead process.
const SLOT_FREE_TIMEOUT: Duration = Duration::from_secs(20);

/// The pause between two looks at it.
const SLOT_FREE_INTERVAL: Duration = Duration::from_millis(250);

/// Which log it is, now. `pg_walfile_name` names the timeline that is written. Errors: busy, while the server is a standby, which writes none.
pub(crate) async fn identity(client: &Client) -> Result<LogIdentity> {
    const SQL: &str = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN format('postgres:%s:%s', system_identifier,
            ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int) END
        FROM pg_control_system()";
    let row = client.query_one(SQL, &[]).await.map_err(|error| error::of_statement(&error))?;
    match get::<Option<String>>(&row, 0)? {
        Some(log) => Ok(LogIdentity(log.into())),
        None => Err(Error::new(Code::ServerBusy, "the server is a standby: it writes no log of its own")
            .hint("it is waited for until it is promoted, or another server answers at its address")),
    }
}

/// Tables up to which a heartbeat tells each: a few kB. Beyond it carries their hash.
const NAMED_TABLES_MAX: usize = 200;

/// A publication's tables as text, as a subselect: of each its number, a hash of its name and [`PARTIAL`] where a
/// partition does not log whole rows; or a hash of it all. `parameter` is the publication's name.
pub(crate) fn members_sql(parameter: &str) -> String {
    format!(
        "(SELECT CASE WHEN count(*) <= {NAMED_TABLES_MAX} THEN coalesce(string_agg(m.member, ',' ORDER BY m.prrelid), '') \
         ELSE md5(string_agg(m.member, ',' ORDER BY m.prrelid)) END \
         FROM (SELECT r.prrelid, r.prrelid || ':' || left(md5(n.nspname || '.' || c.relname), 8) || CASE WHEN c.relkind = 'p' \
         AND EXISTS (SELECT FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid \
         WHERE t.isleaf AND l.relreplident <> 'f') THEN '{PARTIAL}' ELSE '' END AS member \
         FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid \
         JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE p.pubname = {parameter}) AS m)"
    )
}

/// Marks a table of which a partition has another replica identity than FULL. Its rows before would come with nulls for
/// what is not in the log, as pgoutput goes by the root's identity; a new partition does not inherit it.
const PARTIAL: char = '!';

/// What a heartbeat says against a table, by its place where that is known.
pub(crate) enum Fault {
    /// It is not in the publication, or not by its name.
    Gone(Option<usize>),
    /// A partition of it does not log whole rows.
    Partial(usize),
}

/// The tables that a publication had when the log was opened.
pub(crate) struct Members {
    text: String,
    /// Those that are followed, by their place.
    followed: Vec<(usize, String)>,
}

impl Members {
    /// `text` is what [`members_sql`] gave; `followed` are the places and numbers of the followed tables.
    pub(crate) fn new(text: String, followed: Vec<(usize, u32)>) -> Members {
        let member = |oid: u32| {
            let start = format!("{oid}:");
            let found = text.split(',').find(|member| member.starts_with(&start)).unwrap_or(&start);
            found.trim_end_matches(PARTIAL).to_owned()
        };
        let followed = followed.into_iter().map(|(at, oid)| (at, member(oid))).collect();
        Members { text, followed }
    }

    /// What is wrong with a followed table by what a heartbeat says. Tables may have come.
    pub(crate) fn fault(&self, text: &str) -> Option<Fault> {
        let members: Vec<&str> = text.split(',').collect();
        let partial = |member: &str| members.iter().any(|found| found.strip_suffix(PARTIAL) == Some(member));
        if let Some((at, _)) = self.followed.iter().find(|(_, member)| partial(member)) {
            return Some(Fault::Partial(*at));
        }
        let told = text.is_empty() || text.contains(':');
        let gone = self.followed.iter().find(|(_, member)| !members.contains(&member.as_str()));
        gone.filter(|_| text != self.text).map(|(at, _)| Fault::Gone(told.then_some(*at)))
    }
}

/// Makes sure that the log can be read from `start` on, and opens it.
pub(crate) async fn open_reader(
    target: &Target,
    names: &Names,
    client: &Client,
    start: &Checkpoint,
    tables: &Tables,
    passed: &PassedOver,
) -> Result<Reader> {
    let identity = identity(client).await?;
    if identity != start.log {
        let text = format!("the checkpoint is of the log {}, the server has {identity}", start.log);
        return Err(Error::new(Code::LogIdentityChanged, text)
            .hint("connect to the server that the bridge was set up with, or compare the tables and set up anew"));
    }
    let from = lsn_of(&start.position)?;
    let look = Look::take(client, names).await?;
    if from > look.insert_lsn {
        let text = format!(
            "{} is applied on the other side, but this log ends at {}",
            start.position,
            Position::Lsn(look.insert_lsn)
        );
        return Err(Error::new(Code::LogBehind, text)
            .hint("the server was restored or lost its last transactions: compare the tables, then set up anew"));
    }
    look.slot_check(names, from)?;
    let shapes = Shapes::load(client, &names.slot, tables, look.insert_lsn).await?;
    publication_check(client, names, followed(tables)).await?;
    let role = role(names, "reader");
    let mut wire = Wire::connect(target, &role).await?;
    start_streaming(&mut wire, names, &names.slot, from).await?;
    let passed = passed.clone();
    let members = Members::new(look.members, shapes.followed(tables));
    let (names, tables) = (names.clone(), tables.clone());
    Ok(Reader::new(
        wire,
        Reading { names, tables, shapes, members, start: from, passed, everything: false },
        target,
        role,
    ))
}

/// Opens the log by a slot that is gone with the connection.
pub(crate) async fn open_tail(
    target: &Target,
    names: &Names,
    client: &Client,
    start: Option<&Position>,
    tables: &Tables,
    passed: &PassedOver,
) -> Result<Reader> {
    let look = Look::take(client, names).await?;
    publication_check(client, names, Vec::new()).await?;
    let from = match start {
        Some(position) => lsn_of(position)?,
        None => look.insert_lsn,
    };
    let shapes = Shapes::load(client, &names.slot, tables, look.insert_lsn).await?;
    let role = role(names, "tail");
    let mut wire = Wire::connect(target, &role).await?;
    let process = wire.query("SELECT pg_backend_pid() AS pid").await?;
    let pid = process.into_iter().next().and_then(|mut row| row.remove("pid").flatten()).unwrap_or_default();
    let slot = format!("pontoon_tail_{pid}");
    if look.slot.is_some() {
        // A copy begins where the bridge's slot does, at once and with what it still has.
        look.slot_check(names, from)?;
        let (from, to) = (Literal(&names.slot), Literal(&slot));
        wire.query(&format!("SELECT pg_copy_logical_replication_slot({from}, {to}, true)")).await?;
    } else if start.is_none() {
        wire.query(&format!("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT", Ident(&slot)))
            .await?;
    } else {
        return Err(no_slot(names, from));
    }
    start_streaming(&mut wire, names, &slot, from).await?;
    let members = Members::new(look.members, shapes.followed(tables));
    let passed = passed.clone();
    let (names, tables) = (names.clone(), tables.clone());
    Ok(Reader::new(
        wire,
        Reading { names, tables, shapes, members, start: from, passed, everything: true },
        target,
        role,
    ))
}

fn role(names: &Names, what: &str) -> Role {
    Role::new(&names.bridge, what).set("wal_sender_timeout", SENDER_TIMEOUT)
}

/// The number of a position of this kind of log.
pub(crate) fn lsn_of(position: &Position) -> Result<u64> {
    match position {
        Position::Lsn(lsn) => Ok(*lsn),
        other => Err(Error::new(Code::LogIdentityChanged, format!("{other} is no position of a PostgreSQL log"))),
    }
}

async fn start_streaming(wire: &mut Wire, names: &Names, slot: &str, from: u64) -> Result<()> {
    // A list of names in one option; each name is quoted as an identifier within the literal.
    let publication = Ident(&names.slot).to_string();
    let command = format!(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '2', publication_names {}, messages 'true', streaming 'on')",
        Ident(slot),
        Position::Lsn(from),
        Literal(&publication)
    );
    let give_up = Instant::now() + SLOT_FREE_TIMEOUT;
    loop {
        match wire.start_streaming(&command).await {
            Err(error) if error.code() == Code::Contention && Instant::now() < give_up => {
                wire.wait_until_ready().await?;
                sleep(SLOT_FREE_INTERVAL).await;
            }
            other => return other,
        }
    }
}

/// What is to be known of the server, read in one statement.
pub(crate) struct Look {
    /// Where the log ends.
    pub(crate) insert_lsn: u64,
    members: String,
    slot: Option<SlotLook>,
}

struct SlotLook {
    plugin: String,
    wal_status: Option<String>,
    confirmed: Option<u64>,
    here: bool,
}

impl Look {
    pub(crate) async fn take(client: &Client, names: &Names) -> Result<Look> {
        let sql = format!(
            "SELECT pg_current_wal_insert_lsn(), {}, s.plugin::text, s.wal_status, s.confirmed_flush_lsn,
                s.database = current_database()
            FROM (SELECT 1) AS one LEFT JOIN pg_replication_slots s ON s.slot_name = $1",
            members_sql("$1")
        );
        let row = client.query_one(&sql, &[&names.slot]).await.map_err(|error| error::of_statement(&error))?;
        let slot = match get::<Option<String>>(&row, 2)? {
            None => None,
            Some(plugin) => Some(SlotLook {
                plugin,
                wal_status: get(&row, 3)?,
                confirmed: get::<Option<PgLsn>>(&row, 4)?.map(u64::from),
                here: get::<Option<bool>>(&row, 5)?.unwrap_or(false),
            }),
        };
        Ok(Look { insert_lsn: get::<PgLsn>(&row, 0)?.into(), members: text(&row, 1)?, slot })
    }

    /// From where on the slot has the log; `None` where there is no slot.
    pub(crate) fn slot_from(&self) -> Option<u64> {
        self.slot.as_ref().map(|slot| slot.confirmed.unwrap_or_default())
    }

    /// Whether the slot still has everything after `from`.
    pub(crate) fn slot_check(&self, names: &Names, from: u64) -> Result<()> {
        let Some(slot) = &self.slot else { return Err(no_slot(names, from)) };
        let position = Position::Lsn(from);
        if slot.plugin != "pgoutput" || !slot.here {
            let text =
                format!("the slot {:?} is not the bridge's: of plugin {} or another database", names.slot, slot.plugin);
            return Err(Error::new(Code::LogLost, text).hint(RESYNC));
        }
        if slot.wal_status.as_deref() == Some("lost") {
            let text = format!(
                "the slot {:?} was invalidated: log after {position} is gone (the log ends at {})",
                names.slot,
                Position::Lsn(self.insert_lsn)
            );
            return Err(Error::new(Code::LogLost, text).hint(RESYNC));
        }
        match slot.confirmed {
            Some(confirmed) if confirmed > from => {
                let text = format!(
                    "the slot {:?} was moved to {} or made anew, but only {position} is applied: what is between is gone",
                    names.slot,
                    Position::Lsn(confirmed)
                );
                Err(Error::new(Code::LogLost, text).hint(RESYNC))
            }
            Some(_) => Ok(()),
            None => Err(Error::new(Code::LogLost, format!("the slot {:?} is not usable", names.slot)).hint(RESYNC)),
        }
    }
}

const RESYNC: &str = "compare the tables (`pontoon verify`) and make them equal, then `pontoon teardown` and `pontoon setup`; \
    raise max_slot_wal_keep_size, and let nobody else use the slot";

fn no_slot(names: &Names, from: u64) -> Error {
    let text = format!("the slot {:?} is not there: log after {} is gone", names.slot, Position::Lsn(from));
    Error::new(Code::LogLost, text).hint(RESYNC)
}

/// The names of the followed tables.
pub(crate) fn followed(tables: &Tables) -> Vec<TableName> {
    tables.iter().filter(|table| table.followed).map(|table| catalog::with_schema(&table.name)).collect()
}

/// Whether the publication is there and has all followed tables.
pub(crate) async fn publication_check(client: &Client, names: &Names, followed: Vec<TableName>) -> Result<()> {
    const SQL: &str = "SELECT n.nspname::text, c.relname::text FROM pg_publication p
        LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid
        LEFT JOIN pg_class c ON c.oid = r.prrelid LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE p.pubname = $1 AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND p.pubviaroot";
    let rows = client.query(SQL, &[&names.slot]).await.map_err(|error| error::of_statement(&error))?;
    let missing = |text: String| Error::new(Code::NotSetUp, text).hint("run `pontoon setup`; it is safe to repeat");
    if rows.is_empty() {
        return Err(missing(format!("the publication {:?} is not there, or not as setup makes it", names.slot)));
    }
    let mut published = Vec::new();
    for row in &rows {
        if let (Some(schema), Some(name)) = (get::<Option<String>>(row, 0)?, get::<Option<String>>(row, 1)?) {
            published.push(TableName::new(schema, name));
        }
    }
    match followed.iter().find(|table| !published.contains(table)) {
        Some(table) => {
            let text = format!(
                "table {table} is not in the publication {:?}: what is written to it is not in the log",
                names.slot
            );
            Err(missing(text))
        }
        None => Ok(()),
    }
}
