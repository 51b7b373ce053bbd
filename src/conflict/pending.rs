//! A node's local writes of some keys, found in the queue of its log.
//!
//! The queue holds everything that the other node has not got, so a scan of it up to the fence finds all of a key's
//! pending writes, and the bridge's own echoes between them. It may hold more: what was applied a moment ago, or of a
//! run that is applied part by part the parts that are done. These are durable on the other node and so not pending:
//! what was written there since was written on top of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pontoon_core::{Fragment, LogEvent, Origin, Position, Result, node::Tables, quarantine::StoredWrite};

use crate::direction::{
    plan::{self, Place},
    queue::Queue,
};

/// Bytes of events that a scan holds at a time.
const SCAN_BYTES: usize = 1 << 20;

/// One local write of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) position: Position,
    /// In microseconds since 1970 UTC, by the clock of the server where it was first made.
    pub(crate) commit_time: i64,
    /// There was a row before.
    pub(crate) before: bool,
    /// There is one after.
    pub(crate) after: bool,
}

/// What a log says of a key, up to a fence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Local writes, in order.
    pub(crate) writes: Vec<Write>,
    /// How many of them came before the bridge's own last write of the key in this log: that write was
    /// made on top of them, and so superseded them.
    pub(crate) seen: usize,
    /// Where that write ends.
    pub(crate) own: Option<Position>,
}

impl History {
    /// Puts what is stored of the key before what the log still holds. What was stored a moment ago may be in both.
    pub(crate) fn after(self, stored: &[StoredWrite]) -> History {
        let own = stored.iter().filter(|write| write.own).map(|write| write.position.clone());
        let own = own.chain(self.own).reduce(|a, b| if b.covers(&a) { b } else { a });
        let last = stored.iter().map(|write| &write.position).reduce(|a, b| if b.covers(a) { b } else { a });
        let changes = stored.iter().filter(|write| !write.own).map(|write| Write {
            position: write.position.clone(),
            commit_time: write.commit_time,
            before: write.before,
            after: write.after,
        });
        let rest = self.writes.into_iter().filter(|write| last.is_none_or(|last| !last.covers(&write.position)));
        let writes: Vec<Write> = changes.chain(rest).collect();
        let seen =
            writes.iter().take_while(|write| own.as_ref().is_some_and(|own| own.covers(&write.position))).count();
        History { writes, seen, own }
    }
}

/// What the scan of a log found.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) histories: BTreeMap<Place, History>,
    /// Keys that a local write joined to one of the keys asked for.
    pub(crate) links: Vec<(Place, Place)>,
}

/// Scans a queue for writes of `keys` after what is `applied`, up to `fence`, which the reader has passed.
pub(crate) fn scan(
    queue: &Arc<Queue>,
    tables: &Tables,
    keys: &BTreeSet<Place>,
    applied: &Position,
    fence: &Position,
) -> Result<Pending> {
    let mut scan = Scan { tables, keys, pending: Pending::default(), open: Vec::new() };
    let mut at = queue.first();
    loop {
        let events = queue.events(at, SCAN_BYTES)?;
        if events.is_empty() {
            return Ok(scan.pending);
        }
        at += events.len() as u64;
        for event in &events {
            match &**event {
                LogEvent::Fragment(fragment) => {
                    scan.look(fragment)?;
                    if let Some(position) = &fragment.position
                        && !scan.close(position, applied, fence)
                    {
                        return Ok(scan.pending);
                    }
                }
                LogEvent::Progress(_) | LogEvent::Held(_) => {}
                LogEvent::Obstacle(_) => return Ok(scan.pending),
            }
        }
    }
}

struct Scan<'a> {
    tables: &'a Tables,
    keys: &'a BTreeSet<Place>,
    pending: Pending,
    /// Of the transaction whose end, and so whose position, has not been seen yet.
    open: Vec<Open>,
}

enum Open {
    Local(Place, i64, plan::Net),
    Link(Place, Place),
    Own(Place),
}

impl Scan<'_> {
    fn look(&mut self, fragment: &Fragment) -> Result<()> {
        for change in &fragment.changes {
            let table = plan::table(self.tables, change.table)?;
            let places = plan::places(table, change);
            if !places.iter().any(|place| self.keys.contains(place)) {
                continue;
            }
            if fragment.origin == Origin::Own {
                self.open.extend(places.into_iter().map(Open::Own));
                continue;
            }
            if let [from, to] = &places[..] {
                self.open.push(Open::Link(from.clone(), to.clone()));
            }
            let parts = plan::parts(table, change).into_iter();
            self.open.extend(parts.map(|(place, net)| Open::Local(place, fragment.commit_time, net)));
        }
        Ok(())
    }

    /// The transaction ends here. `false`: it lies beyond the fence, and so does all that follows.
    fn close(&mut self, position: &Position, applied: &Position, fence: &Position) -> bool {
        if !fence.covers(position) {
            return false;
        }
        if applied.covers(position) {
            self.open.clear();
            return true;
        }
        for open in self.open.drain(..) {
            match open {
                Open::Link(from, to) => self.pending.links.push((from, to)),
                Open::Own(place) => {
                    let history = self.pending.histories.entry(place).or_default();
                    history.seen = history.writes.len();
                    history.own = Some(position.clone());
                }
                Open::Local(place, commit_time, plan::Net { before, after }) => {
                    let (before, after) = (before.is_some(), after.is_some());
                    let write = Write { position: position.clone(), commit_time, before, after };
                    self.pending.histories.entry(place).or_default().writes.push(write);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Position {
        Position::Index(n)
    }

    fn stored(n: u64, own: bool) -> StoredWrite {
        StoredWrite { position: at(n), commit_time: n as i64, own, before: true, after: true, discard: false }
    }

    fn history(writes: &[u64], own: Option<u64>) -> History {
        let write = |&n: &u64| Write { position: at(n), commit_time: n as i64, before: true, after: true };
        let seen = writes.iter().filter(|n| own.is_some_and(|own| own > **n)).count();
        History { writes: writes.iter().map(write).collect(), seen, own: own.map(at) }
    }

    fn positions(history: &History) -> Vec<Position> {
        history.writes.iter().map(|write| write.position.clone()).collect()
    }

    #[test]
    fn what_is_stored_comes_before_what_the_log_holds_and_once() {
        let all = history(&[3, 5], None).after(&[stored(1, false), stored(3, false)]);
        assert_eq!((positions(&all), all.seen), (vec![at(1), at(3), at(5)], 0));
        assert_eq!(history(&[3], None).after(&[]), history(&[3], None));
    }

    #[test]
    fn the_bridges_own_write_supersedes_what_is_stored_before_it() {
        let in_the_log = history(&[6, 8], Some(7)).after(&[stored(1, false), stored(3, false)]);
        assert_eq!((in_the_log.writes.len(), in_the_log.seen), (4, 3));
        let stored_too = history(&[6], None).after(&[stored(1, false), stored(2, true), stored(3, false)]);
        assert_eq!((positions(&stored_too), stored_too.seen), (vec![at(1), at(3), at(6)], 1));
        let before_it = history(&[], Some(2)).after(&[stored(3, false)]);
        assert_eq!((before_it.writes.len(), before_it.seen), (1, 0));
    }
}
