//! A node's local writes of some keys that the other node has not got, found in the queue of its log.
//!
//! The queue holds everything that the other node has not got, so a scan of it up to the fence finds all of a key's
//! pending writes, and the bridge's own echoes between them. It may hold more: what was applied a moment ago, or of a
//! run that is applied part by part the parts that are done. These are durable on the other node and so not pending:
//! what was written there since was written on top of them. What is in quarantine is behind the checkpoint, and put
//! before what the queue holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pontoon_core::{Fragment, LogEvent, Origin, Position, Result, TableId, node::Tables, quarantine::StoredWrite};

use super::{chain::Chain, policy::Policy};
use crate::direction::{
    plan::{self, Place},
    queue::Queue,
};

/// Bytes of events that a scan holds at a time.
const SCAN_BYTES: usize = 1 << 20;

/// What a log says of a key, up to a fence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Local writes that the other node has not got.
    pub(crate) all: Chain,
    /// Those after the bridge's own last write of the key in this log: that write was made on top of the ones before
    /// it, and so superseded them.
    pub(crate) unseen: Chain,
    /// There is such a write of the bridge.
    pub(crate) own: bool,
    /// There is a write that no operator had looked at when they decided.
    pub(crate) unlooked: bool,
    /// Where what is stored ends. What was stored a moment ago may still be in the queue.
    pub(super) stored: Option<Position>,
}

impl History {
    /// A local write.
    fn write(&mut self, write: Chain) {
        self.all.append(write.clone());
        self.unseen.append(write);
    }

    /// The bridge's own write.
    fn own_write(&mut self, supersedes: bool) {
        self.own = true;
        if supersedes {
            self.unseen = Chain::default();
        }
    }

    /// Adds what is stored of the key, in the order of the log. `supersedes` as in [`Search`].
    pub(crate) fn add_stored(&mut self, stored: Vec<StoredWrite>, policy: Option<&Policy>, supersedes: bool) {
        for StoredWrite { position, commit_time, own, before, after, looked, .. } in stored {
            self.stored = Some(position);
            if own {
                self.own_write(supersedes);
            } else {
                self.unlooked |= !looked;
                self.write(Chain::of(commit_time, before, after, policy));
            }
        }
    }
}

/// What the scan of a log found.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) histories: BTreeMap<Place, History>,
    /// Keys that a local write joined to one of the keys asked for.
    pub(crate) links: Vec<(Place, Place)>,
}

/// What a scan looks for.
pub(crate) struct Search<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) policies: &'a [Policy],
    pub(crate) keys: &'a BTreeSet<Place>,
    /// The reader has passed it.
    pub(crate) fence: &'a Position,
    /// Up to here the other node has applied or stored everything.
    pub(crate) applied: Position,
    /// What is settled of each key.
    pub(crate) settled: BTreeMap<Place, Position>,
    /// Up to where the log is passed over for a table: as if it were not there.
    pub(crate) passed_over: BTreeMap<TableId, Position>,
    /// What the bridge's own write supersedes no longer contends (rule `Seen`).
    pub(crate) supersedes: bool,
}

/// Scans a queue, from what is known of the keys already.
pub(crate) fn scan(queue: &Arc<Queue>, search: Search<'_>, known: BTreeMap<Place, History>) -> Result<Pending> {
    let pending = Pending { histories: known, links: Vec::new() };
    let mut scan = Scan { search, pending, open: Open::default() };
    let mut at = queue.first();
    loop {
        let expected = at;
        let events = queue.next_events(&mut at, SCAN_BYTES)?;
        if events.is_empty() {
            return Ok(scan.pending);
        }
        if at != expected + events.len() as u64 {
            // The applier of this log goes on meanwhile: what it has released, whole transactions, is applied.
            scan.open = Open::default();
        }
        for event in &events {
            match &**event {
                LogEvent::Fragment(fragment) => {
                    scan.look(fragment)?;
                    if let Some(position) = &fragment.position
                        && !scan.close(position)
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
    search: Search<'a>,
    pending: Pending,
    open: Open,
}

/// Of the transaction whose end, and so whose position, has not been seen yet.
#[derive(Default)]
struct Open {
    local: BTreeMap<Place, Chain>,
    /// With whether the bridge's own write tells what had been seen.
    own: BTreeMap<Place, bool>,
    links: BTreeSet<(Place, Place)>,
}

impl Scan<'_> {
    fn look(&mut self, fragment: &Fragment) -> Result<()> {
        for change in &fragment.changes {
            let table = plan::table(self.search.tables, change.table)?;
            let places = plan::places(table, change);
            if !places.iter().any(|place| self.search.keys.contains(place)) {
                continue;
            }
            let policy = self.search.policies.get(table.id.index());
            if fragment.origin == Origin::Own {
                for (place, net) in plan::parts(table, change) {
                    *self.open.own.entry(place).or_default() |= !net.only_adds(policy);
                }
                continue;
            }
            if let [from, to] = &places[..] {
                self.open.links.insert((from.clone(), to.clone()));
            }
            for (place, net) in plan::parts(table, change) {
                let write = Chain::of(fragment.commit_time, net.before, net.after, policy);
                self.open.local.entry(place).or_default().append(write);
            }
        }
        Ok(())
    }

    /// The transaction ends here. `false`: it lies beyond the fence, and so does all that follows.
    fn close(&mut self, position: &Position) -> bool {
        if !self.search.fence.covers(position) {
            return false;
        }
        let Open { mut local, mut own, mut links } = std::mem::take(&mut self.open);
        if self.search.applied.covers(position) {
            return true;
        }
        let passed_over = |place: &Place| self.search.passed_over.get(&place.0).is_some_and(|at| at.covers(position));
        local.retain(|place, _| !passed_over(place));
        own.retain(|place, _| !passed_over(place));
        links.retain(|(from, _)| !passed_over(from));
        for (place, tells) in own {
            let history = self.pending.histories.entry(place).or_default();
            // One that came before what is stored tells nothing of it, and any other is stored as well.
            let is_stored = history.stored.as_ref().is_some_and(|stored| stored.covers(position));
            history.own_write(self.search.supersedes && tells && !is_stored);
        }
        self.pending.links.extend(links);
        for (place, writes) in local {
            let settled = self.search.settled.get(&place).is_some_and(|settled| settled.covers(position));
            let history = self.pending.histories.entry(place).or_default();
            if history.stored.as_ref().is_some_and(|stored| stored.covers(position)) {
                continue;
            }
            history.unlooked = true;
            if !settled {
                history.write(writes);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use pontoon_core::{Change, Key, MappedTable, Operation, TableId, TableName, Value};

    use super::{
        super::chain::tests::{additive, row},
        *,
    };
    use crate::direction::queue::Limits;

    fn at(n: u64) -> Position {
        Position::Index(n)
    }

    fn place() -> Place {
        (TableId(0), Key(vec![Value::Integer(1)]))
    }

    fn tables() -> Tables {
        Tables::from([MappedTable::plain(TableName::new("main", "t"), Vec::new())])
    }

    fn stored(n: u64, own: bool) -> StoredWrite {
        let (before, after) = (Some(row(1, n.into())), Some(row(1, i128::from(n) + 1)));
        StoredWrite { id: 0, position: at(n), commit_time: n as i64, own, before, after, looked: false }
    }

    /// A log in which the transactions `local` add one to the row and `own` write it anew, as found up to the fence.
    fn found(local: &[u64], own: &[u64], applied: u64, settled: u64, known: Vec<StoredWrite>) -> History {
        let queue = Arc::new(Queue::new(at(0), Limits::new(1 << 20, 0), &std::env::temp_dir()));
        for n in 1..10 {
            let origin = if own.contains(&n) { Origin::Own } else { Origin::Local };
            let (before, after) = (row(1, n.into()), row(1, i128::from(n) + 1));
            let operation = match origin {
                Origin::Own => Operation::Insert { after },
                _ => Operation::Update { before, after, unchanged: Vec::new() },
            };
            let written = own.contains(&n) || local.contains(&n);
            let changes =
                written.then_some(Change { table: TableId(0), operation, reshaped: false }).into_iter().collect();
            let fragment = Fragment {
                transaction: "1".into(),
                origin,
                commit_time: n as i64,
                first: true,
                changes,
                position: Some(at(n)),
            };
            queue.push(LogEvent::Fragment(fragment)).unwrap();
        }
        let mut history = History::default();
        history.add_stored(known, Some(&additive()), true);
        let search = Search {
            tables: &tables(),
            policies: &[additive()],
            keys: &BTreeSet::from([place()]),
            fence: &at(8),
            applied: at(applied),
            settled: BTreeMap::from([(place(), at(settled))]),
            passed_over: BTreeMap::new(),
            supersedes: true,
        };
        scan(&queue, search, BTreeMap::from([(place(), history)])).unwrap().histories.remove(&place()).unwrap()
    }

    /// How much was added by all that is pending, and by what is unseen.
    fn sums(history: &History) -> (i128, i128) {
        let sum = |chain: &Chain| match chain.sum(1) {
            Some(Some(Value::Integer(n))) => *n,
            _ => 0,
        };
        (sum(&history.all), sum(&history.unseen))
    }

    #[test]
    fn what_is_stored_comes_before_what_the_log_holds_and_once() {
        assert_eq!(sums(&found(&[3, 5], &[], 0, 0, vec![stored(1, false), stored(3, false)])), (3, 3));
        assert_eq!(sums(&found(&[3, 9], &[], 0, 0, Vec::new())), (1, 1));
    }

    #[test]
    fn the_bridges_own_write_supersedes_what_is_stored_before_it() {
        assert_eq!(sums(&found(&[6, 8], &[7], 0, 0, vec![stored(1, false), stored(3, false)])), (4, 1));
        assert_eq!(sums(&found(&[6], &[], 0, 0, vec![stored(1, false), stored(2, true), stored(3, false)])), (3, 2));
        assert_eq!(sums(&found(&[], &[2], 0, 0, vec![stored(3, false)])), (1, 1));
    }

    #[test]
    fn what_is_applied_or_settled_is_not_pending() {
        assert_eq!(sums(&found(&[1, 2, 3, 4], &[], 2, 3, Vec::new())), (1, 1));
        let settled = found(&[1, 2], &[], 0, 2, Vec::new());
        assert!(settled.all.is_empty() && settled.unlooked);
        assert!(!found(&[1, 2], &[], 2, 0, Vec::new()).unlooked);
    }

    /// Each transaction comes in two fragments, and adds one in each.
    #[test]
    fn what_is_released_meanwhile_is_no_part_of_what_follows() {
        // Whether one thread comes into the middle of the other's work is chance, but not in so many rounds.
        (0..40).for_each(|_| is_looked_at_and_released());
    }

    fn is_looked_at_and_released() {
        const TRANSACTIONS: u64 = 10_000;
        let queue = Arc::new(Queue::new(at(0), Limits::new(1 << 30, 0), &std::env::temp_dir()));
        for n in 1..=2 * TRANSACTIONS {
            let (before, after) = (row(1, n.into()), row(1, i128::from(n) + 1));
            let ends = n.is_multiple_of(2);
            let fragment = Fragment {
                transaction: "1".into(),
                origin: Origin::Local,
                commit_time: 1,
                first: !ends,
                changes: vec![Change {
                    table: TableId(0),
                    operation: Operation::Update { before, after, unchanged: Vec::new() },
                    reshaped: false,
                }],
                position: ends.then(|| at(n)),
            };
            queue.push(LogEvent::Fragment(fragment)).unwrap();
        }
        let applier = std::thread::spawn({
            let queue = queue.clone();
            move || (1..=TRANSACTIONS).for_each(|n| queue.release(2 * n))
        });
        let (tables, policies) = (tables(), [additive()]);
        let keys = BTreeSet::from([place()]);
        while queue.first() < 2 * TRANSACTIONS {
            let search = Search {
                tables: &tables,
                policies: &policies,
                keys: &keys,
                fence: &at(2 * TRANSACTIONS),
                applied: at(0),
                settled: BTreeMap::new(),
                passed_over: BTreeMap::new(),
                supersedes: true,
            };
            let found = scan(&queue, search, BTreeMap::new()).unwrap();
            let pending = found.histories.get(&place()).map_or((0, 0), sums).0;
            assert_eq!(pending % 2, 0, "{pending}");
        }
        applier.join().unwrap();
    }
}
