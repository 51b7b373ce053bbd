//! Timelines: whether the log of a server that was promoted goes on from the one that was read of its primary.
//!
//! A promotion begins a new timeline, and with it another log by our name of it ([`crate::slot::identity`]). The server keeps what led to it in a file: for
//! each timeline before, the place up to which this one's log is the same (`readTimeLineHistory` of timeline.c). Positions up to there mean the same in
//! both; what the old primary wrote behind it is not in the new log, and the new one has other things at the same positions.
//!
//! `TIMELINE_HISTORY` of the replication protocol gives that file as it is. The first timeline has none.
//!
//! The promoted server has the lease's token as its primary had it, so that alone does not keep out a session of the bridge that began before: whoever is connected to
//! a host that is dead may be late to notice, and what it opens meanwhile leads to the new one. There it would move a checkpoint that is older than it knows, past what
//! is lost. So nothing is written on a server whose log is not the one that is noted there ([`Node::carried_over`](pontoon_core::node::Node::carried_over) and
//! what follows from it note it, under a new token).

use pontoon_core::{Code, Error, LogIdentity, Position, Result, neighbours::Joined, state::another_server};
use tokio_postgres::Client;

use crate::{
    catalog::get,
    connect::{Role, Target},
    error,
    log::wire::Wire,
    names::Names,
    slot,
};

/// How an error's message ends where the server has no such file: it was never promoted, or its log was reset to a timeline by hand (`pg_resetwal`).
const NO_SUCH_FILE: &str = "(58P01)";

/// Server and timeline of a log's name.
fn parts(log: &LogIdentity) -> Option<(&str, u32)> {
    let (system, timeline) = log.0.strip_prefix("postgres:")?.split_once(':')?;
    Some((system, timeline.parse().ok()?))
}

/// Up to where the server's log, which is named `own`, is the same as `log`; `None` where it does not go on from it.
pub(crate) async fn forked_from(
    target: &Target,
    names: &Names,
    own: &LogIdentity,
    log: &LogIdentity,
) -> Result<Option<Position>> {
    let (Some((system, now)), Some((other, before))) = (parts(own), parts(log)) else { return Ok(None) };
    if system != other {
        return Ok(None);
    }
    let mut wire = Wire::connect(target, &Role::new(&names.bridge, "history")).await?;
    let answer = match wire.query(&format!("TIMELINE_HISTORY {now}")).await {
        Err(error) if error.message().contains(NO_SUCH_FILE) => return Ok(None),
        answer => answer?.into_iter().next(),
    };
    let history = answer.and_then(|mut row| row.remove("content").flatten()).unwrap_or_default();
    left_at(&history, before).map(|place| place.map(Position::Lsn))
}

/// Whether the server is the one that a session of the bridge has begun with. Errors: connection lost, where it was promoted since.
pub(crate) async fn is_noted(client: &Client, names: &Names) -> Result<()> {
    let (own, noted) = tokio::try_join!(slot::identity(client), noted(client, names))?;
    if !noted.is_some_and(|noted| is_another_timeline(&own, &noted)) {
        return Ok(());
    }
    Err(another_server(&own))
}

/// Of the same server's.
fn is_another_timeline(log: &LogIdentity, other: &LogIdentity) -> bool {
    let (Some((system, now)), Some((of, before))) = (parts(log), parts(other)) else { return false };
    system == of && now != before
}

/// Asks which pair of databases a bridge joins.
pub(crate) const PAIR: &str = "SELECT value FROM pontoon.control WHERE bridge = $1 AND name = 'pair'";

/// The log that is noted as the server's own.
async fn noted(client: &Client, names: &Names) -> Result<Option<LogIdentity>> {
    let row = client.query_opt(PAIR, &[&names.bridge]).await.map_err(|error| error::of_statement(&error))?;
    let pair: Option<String> = row.map(|row| get(&row, 0)).transpose()?.flatten();
    Ok(pair.and_then(|pair| Joined::from_text(&pair)).map(|joined| joined.log))
}

/// Where a timeline was left, by the file of a later one. Each line is a timeline, the place and a reason; what begins with `#` is none.
fn left_at(history: &str, timeline: u32) -> Result<Option<u64>> {
    let lines = history.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let mut words = line.split_whitespace();
        let number = words.next().and_then(|word| word.parse::<u32>().ok());
        let place = words.next().and_then(|word| word.parse::<Position>().ok());
        match (number, place) {
            (Some(number), Some(Position::Lsn(place))) if number == timeline => return Ok(Some(place)),
            (Some(_), Some(Position::Lsn(_))) => {}
            _ => {
                return Err(Error::new(
                    Code::Protocol,
                    format!("the server's history of timelines has the line {line:?}"),
                ));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_tells_where_each_timeline_was_left() {
        let history =
            "1\t0/3000150\tno recovery target specified\n\n# by hand\n2\t1/A0\tno recovery target specified\n";
        let left = |timeline| left_at(history, timeline).unwrap();
        assert_eq!((left(1), left(2), left(3)), (Some(0x0300_0150), Some(0x1_0000_00A0), None));
        assert_eq!(left_at("", 1).unwrap(), None);
        assert_eq!(left_at("1 nowhere", 1).unwrap_err().code(), Code::Protocol);
    }

    #[test]
    fn a_log_has_a_server_and_a_timeline() {
        let of = |text: &str| LogIdentity(text.into());
        assert_eq!(parts(&of("postgres:7123:2")), Some(("7123", 2)));
        assert_eq!(parts(&of("mysql:0a-1:2")), None);
        assert_eq!(parts(&of("postgres:7123")), None);
        let another = |one, two| is_another_timeline(&of(one), &of(two));
        assert!(another("postgres:7123:2", "postgres:7123:1") && !another("postgres:7123:2", "postgres:7123:2"));
        assert!(!another("postgres:7123:2", "postgres:7124:1") && !another("postgres:7123:2", "mysql:0a-1"));
    }
}
