//! Whether the log of a server that was promoted goes on from the one that was read of its source, and where in it the places are that
//! were kept.
//!
//! A replica writes what it replicates into files of its own (`log_replica_updates`), each transaction under the name that it has on its source (its
//! GTID), and in the same order (MySQL: `replica_preserve_commit_order`, ON since 8.0.27; MariaDB: within a domain). So the place behind a transaction of the source's
//! log is the place behind the transaction of that name. What a file begins with says which transactions stand in those before it, and tells
//! in which one to look (`SHOW BINLOG EVENTS`: an event `Previous_gtids` of MySQL, `Gtid_list` of MariaDB).
//!
//! Names alone do not tell a replica of that server: its own source has those transactions too, and none of what the bridge wrote; and servers of MariaDB that were
//! given no number share theirs. But a replica has what the bridge keeps on its source, also which log that is.
//!
//! MariaDB's own name of a server is a hash of its machine's network address and its port (`calculate_server_uid` of `sql/feedback/utils.cc`): a replica that comes to stand at
//! its source's port on its source's machine is that server by name. Then nothing is found to be promoted, and the files tell that they are others ([`crate::reader`]).
//!
//! What was committed on a replica itself before it was promoted was never on its source (an errant transaction), and nobody has read it: where one is found
//! between those that were replicated and the place from which the log is to be read, it is named, and nothing is applied.

use std::collections::{HashMap, HashSet};

use pontoon_core::{
    Beside, Code, Error, Gtid, LogIdentity, Position, Result,
    error::first_few,
    neighbours::Joined,
    node::{CarriedOver, PassedOver, Tables},
    state::another_server,
    value::parse_uuid,
};

use crate::{
    connect::{Client, Purpose, number, text},
    encode,
    files::{self, FIRST_OFFSET, File},
    node::{MysqlNode, identity},
    reader::{Reader, Role},
    state,
};

/// Errant transactions that a message names.
const NAMED_MAX: usize = 5;

/// The event that tells what stands in the files before is one of the first.
const HEAD_EVENTS: usize = 4;

/// Where the node's log has the places of `log` ([`pontoon_core::node::Node::carried_over`]). The first of them is the checkpoint: whatever
/// it covers counts no more, and is where it is. Errors: log lost, where the server has no file any more that goes back so far; log behind, where there
/// are errant transactions before the checkpoint.
pub(crate) async fn carried_over(
    node: &MysqlNode,
    log: &LogIdentity,
    places: &[Position],
) -> Result<Option<CarriedOver>> {
    let Some((checkpoint, name)) = places.first().and_then(|place| Some((place, place.gtid()?))) else {
        return Ok(None);
    };
    let ahead = places.iter().filter(|place| !checkpoint.covers(place));
    let Some(wanted) = ahead.map(Position::gtid).chain([Some(name)]).collect::<Option<HashSet<Gtid>>>() else {
        return Ok(None);
    };
    let mut client = node.client(Purpose::Look).await?;
    let Some(servers) = Servers::of(&mut client, node.bridge(), log, &name).await? else { return Ok(None) };
    let files = files::files(&mut client).await?;
    let Some(first) = first_file(&mut client, &files, &wanted).await? else {
        let text = format!(
            "the server was promoted, and none of its files goes back to {name}, which the checkpoint is behind"
        );
        return Err(files::lost(&text));
    };
    let end = files::log_end(&mut client).await?;
    let mut search = Search::new(servers, name, wanted);
    search.read(node, &first, &end).await?;
    search.ensure_nothing_is_errant(node.label())?;
    // Where all of them stand before the files that were read, so does what the two have in common.
    let fork = search.fork.clone().unwrap_or(first);
    let here = |place: &Position| {
        let name = if checkpoint.covers(place) { name } else { place.gtid()? };
        let mut here = search.found.get(&name)?.clone();
        if let (Position::Binlog { beside, .. }, true) = (&mut here, place.since() != *place) {
            // What was prepared by XA and not decided stands somewhere before.
            beside.since = files::first(&files);
        }
        Some(here)
    };
    Ok(Some(CarriedOver { fork, places: places.iter().map(here).collect() }))
}

/// Whether the server is the one that a session of the bridge has begun with. The promoted server has the lease's token as its source had it, so that alone does
/// not keep out a session that began before: whoever is connected to a host that is dead may be late to notice, and what it opens meanwhile leads to
/// the new one. There it would move a checkpoint that is older than it knows, past what is lost. Errors: connection lost, where it was promoted since.
pub(crate) async fn is_noted(client: &mut Client, bridge: &str) -> Result<()> {
    let own = identity(client).await?;
    if noted(client, bridge).await?.is_none_or(|noted| noted == own) {
        return Ok(());
    }
    Err(another_server(&own))
}

/// The log that is noted as the server's own.
async fn noted(client: &mut Client, bridge: &str) -> Result<Option<LogIdentity>> {
    let pair = client.scalar(state::pair(bridge)).await.map_err(state::not_set_up)?;
    Ok(pair.and_then(|pair| Joined::from_text(&pair)).map(|joined| joined.log))
}

/// By what a server is known in the names of its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Mysql([u8; 16]),
    Mariadb(u32),
}

impl Maker {
    fn of(name: &Gtid) -> Maker {
        match name {
            Gtid::Mysql { server, .. } => Maker::Mysql(*server),
            Gtid::Mariadb { server, .. } => Maker::Mariadb(*server),
        }
    }
}

/// The server before the promotion, and this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Servers {
    source: Maker,
    own: Maker,
}

impl Servers {
    /// `None`: it is no replica of that one. `name` is one of the source's transactions.
    async fn of(client: &mut Client, bridge: &str, log: &LogIdentity, name: &Gtid) -> Result<Option<Servers>> {
        let own = identity(client).await?;
        // Or that has been noted here, and not yet on the other node.
        if !noted(client, bridge).await?.is_some_and(|noted| noted == *log || noted == own) {
            return Ok(None);
        }
        let uuid = |log: &LogIdentity| log.0.strip_prefix("mysql:").and_then(parse_uuid).map(Maker::Mysql);
        let (source, own) = match name {
            Gtid::Mysql { .. } => (uuid(log), uuid(&own)),
            Gtid::Mariadb { .. } => {
                let rows = client.rows("SELECT @@server_id").await?;
                (Some(Maker::of(name)), rows.first().and_then(|row| number(row, 0)).map(Maker::Mariadb))
            }
        };
        let servers = source.zip(own).map(|(source, own)| Servers { source, own });
        Ok(servers.filter(|servers| servers.source != servers.own))
    }
}

/// What is looked for in the log, and what was found.
struct Search {
    servers: Servers,
    checkpoint: Gtid,
    /// The checkpoint's, and all others.
    wanted: HashSet<Gtid>,
    /// The place behind each.
    found: HashMap<Gtid, Position>,
    /// The place behind the last of the source's.
    fork: Option<Position>,
    /// The server's own between the source's, before the checkpoint.
    errant: Vec<Gtid>,
}

impl Search {
    fn new(servers: Servers, checkpoint: Gtid, wanted: HashSet<Gtid>) -> Search {
        Search { servers, checkpoint, wanted, found: HashMap::new(), fork: None, errant: Vec::new() }
    }

    fn has_the_checkpoint(&self) -> bool {
        self.found.contains_key(&self.checkpoint)
    }

    /// Reads the log from a place to another.
    async fn read(&mut self, node: &MysqlNode, start: &Position, end: &Position) -> Result<()> {
        let mut reader = Reader::open(node, Role::Tail, Some(start), &Tables::from([]), &PassedOver::default()).await?;
        let mut last = None;
        while !reader.position().covers(end) {
            reader.step(|_, _| Ok(())).await?;
            let here = reader.position();
            if here.gtid() != last {
                last = here.gtid();
                self.passed(last, here);
            }
        }
        Ok(())
    }

    /// A transaction ends here.
    fn passed(&mut self, name: Option<Gtid>, here: Position) {
        let Some(name) = name else { return };
        if Maker::of(&name) == self.servers.own && self.fork.is_some() && !self.has_the_checkpoint() {
            self.errant.push(name);
        }
        if self.wanted.contains(&name) {
            self.found.insert(name, here.clone());
        }
        if Maker::of(&name) == self.servers.source {
            self.fork = Some(here);
        }
    }

    fn ensure_nothing_is_errant(&self, node: &str) -> Result<()> {
        // Where the checkpoint is lost it is not known which of them came after the promotion, and there is no going on.
        if self.errant.is_empty() || !self.has_the_checkpoint() {
            return Ok(());
        }
        let text = format!(
            "{node}: the server was promoted, and was written to while it was a replica: {}. Its source never had that, and the other side has not seen it",
            first_few(self.errant.iter(), NAMED_MAX)
        );
        Err(Error::new(Code::LogBehind, text).hint(
            "compare the tables (`pontoon verify`) and make them equal, then `pontoon teardown` and `pontoon setup`; docs/operations.md, \
             \"A replica in the place of its source\"",
        ))
    }
}

/// The last file before whose beginning none of these transactions stands, from its first event on; `None` where that was taken away.
async fn first_file(client: &mut Client, files: &[File], wanted: &HashSet<Gtid>) -> Result<Option<Position>> {
    for file in files.iter().rev() {
        let name = encode::text(&file.name);
        let events = client.rows(format!("SHOW BINLOG EVENTS IN {name} LIMIT {HEAD_EVENTS}")).await?;
        let head = events.iter().find(|row| matches!(text(row, 2).as_deref(), Some("Previous_gtids" | "Gtid_list")));
        let before = head.and_then(|row| text(row, 5)).unwrap_or_default();
        if !wanted.iter().any(|gtid| contains(&before, gtid)) {
            let (base, number) = files::split(&file.name)?;
            let beside = Beside::default();
            return Ok(Some(Position::Binlog { base: base.into(), file: number, offset: FIRST_OFFSET, beside }));
        }
    }
    Ok(None)
}

/// Whether a set has a transaction. Of MySQL it names servers, each with ranges of numbers (`UUID:1-5:7,UUID:3`; those with a tag are none here); of MariaDB
/// the last one of each server in each domain (`[0-1-77,1-2-5]`).
fn contains(set: &str, name: &Gtid) -> bool {
    let parts = set.trim().trim_start_matches('[').trim_end_matches(']').split(',').map(str::trim);
    match name {
        Gtid::Mysql { server, number } => parts.into_iter().any(|part| {
            let mut fields = part.split(':');
            fields.next().and_then(parse_uuid) == Some(*server)
                && fields.map_while(range).any(|range| range.contains(number))
        }),
        Gtid::Mariadb { domain, server, sequence } => parts.into_iter().any(|part| {
            let mut fields = part.split('-').map(|field| field.parse::<u64>().ok());
            let mut next = || fields.next().flatten();
            (next(), next()) == (Some((*domain).into()), Some((*server).into()))
                && next().is_some_and(|last| last >= *sequence)
        }),
    }
}

/// `7` or `1-5`; `None` for a tag.
fn range(text: &str) -> Option<std::ops::RangeInclusive<u64>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const OWN: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn gtid(text: &str) -> Gtid {
        text.parse().unwrap()
    }

    #[test]
    fn sets_say_what_stands_before_a_file() {
        let set = format!("{OWN}:1-3, \n{SOURCE}:1-5:7:tag:1-9");
        for (number, is_in) in [(1, true), (5, true), (6, false), (7, true), (8, false)] {
            assert_eq!(contains(&set, &gtid(&format!("{SOURCE}:{number}"))), is_in, "{number}");
        }
        assert!(!contains("", &gtid(&format!("{SOURCE}:1"))) && !contains("[]", &gtid("0-1-1")));
        let set = "[0-1-77,1-2-5]";
        for (name, is_in) in [("0-1-77", true), ("0-1-78", false), ("0-2-5", false), ("1-2-3", true)] {
            assert_eq!(contains(set, &gtid(name)), is_in, "{name}");
        }
    }

    /// What is found in a log of these transactions.
    fn found(checkpoint: &str, log: &[&str]) -> Search {
        let uuid = |text| parse_uuid(text).unwrap();
        let servers = Servers { source: Maker::Mysql(uuid(SOURCE)), own: Maker::Mysql(uuid(OWN)) };
        let checkpoint = gtid(checkpoint);
        let mut search = Search::new(servers, checkpoint, [checkpoint].into());
        for (at, name) in log.iter().enumerate() {
            search.passed(Some(gtid(name)), format!("bin.000001:{at}").parse().unwrap());
        }
        search
    }

    #[test]
    fn what_a_replica_was_given_is_found_and_what_it_was_not_is_named() {
        let (source, own) = (|n: u64| format!("{SOURCE}:{n}"), |n: u64| format!("{OWN}:{n}"));
        let log = [own(1), source(1), source(2), own(2), source(3), own(3)];
        let log: Vec<&str> = log.iter().map(String::as_str).collect();
        let place = |at: u64| Some(format!("bin.000001:{at}").parse::<Position>().unwrap());
        // The first of its own is of a time when it was no replica.
        let early = found(&source(2), &log);
        assert_eq!((early.found.get(&gtid(&source(2))).cloned(), early.fork.clone()), (place(2), place(4)));
        assert!(early.ensure_nothing_is_errant("a").is_ok());
        let late = found(&source(3), &log).ensure_nothing_is_errant("a").unwrap_err();
        assert_eq!(late.code(), Code::LogBehind);
        assert!(late.message().contains(&format!("while it was a replica: {OWN}:2. Its")), "{late}");
        // The source's last are lost.
        let lost = found(&source(4), &log);
        assert!(lost.found.is_empty() && lost.fork == place(4) && lost.ensure_nothing_is_errant("a").is_ok());
    }
}
