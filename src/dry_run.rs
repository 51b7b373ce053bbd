//! What a bridge would do if it began now, counted and not done: `pontoon run --dry-run`.
//!
//! Both logs are read from the checkpoints to where they end now, as `pontoon tail` reads them: by a slot or a reader of their own, which confirms nothing and
//! takes nothing from a process of the bridge. What comes is gathered and planned as the engine does it ([`crate::direction`]), records, quarantine and
//! what an operator passes over heeded. Then, in the place of a conditional write, the row that the first change of a key was made on is held against
//! the row that the target has now, by the comparison that the engine makes of the rows that it has locked (`Net::takes`).
//!
//! Why that finds the conflicts that the engine would: what the source's log holds of a key links from image to image, so the first of them alone can miss.
//! Where two do not link, the engine would meet that as well. What the target wrote since its own log was applied has changed its
//! row, and shows by that. A key that both wrote is settled once for both, so where one direction finds a conflict, the other one has it too.
//! Of a key only the first change is compared, and the last counts: what is written is the difference of the two.
//!
//! What it cannot know, since only writing tells: what the target's constraints refuse, unique values and references among them; and which rule
//! would decide. Nor what is written while it looks.
//!
//! Nothing is locked, so somebody may apply meanwhile; then what was read of rows and of logs does not go together. That shows in the checkpoints
//! and in the number of the latest record, which are read before and after.
//!
//! Of a key 24 bytes are kept: hashes in the place of its values and of its images. Of at most [`KEYS_MAX`] in a direction the chance that any two
//! keys share one is below one in ten million.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    pin::Pin,
    sync::Arc,
};

use pontoon_core::{
    Change, Code, Error, Held, LogEvent, Position, Result, Row, TableId,
    node::{LogReader, Node, Scan, Tables},
    state::NodeState,
};

use crate::{
    aside, barrier, bridge,
    config::Config,
    conflict::{policy::Policy, quarantine, quarantine::Quarantine, resolutions::Resolutions, verdict},
    direction::{
        close_over,
        gather::{self, Gathered, Gathering, Piece, Run},
        plan::{self, Hold, InLog, Net, Place, Plan, Planner},
        queue::{Limits, Queue},
    },
    epoch,
    mapping::Mapping,
    nodes::Nodes,
    observe::ConflictKind,
    promoted,
    rules::Rules,
    service,
    side::{Pair, Side},
};

/// Keys of a direction that are counted; then it ends, and says so. They take about 30 MB.
const KEYS_MAX: usize = 900_000;

/// Keys of a statement: enough that its way to the server and back is no matter, and few rows in memory where they are large.
const KEYS_AT_ONCE: usize = 500;

/// Bytes of memory for what is read of a log and not counted yet: a run, and as much again for what is undecided.
const MEMORY_MAX: usize = 2 << 20;

/// What came of it.
pub(crate) struct Counted {
    /// The directions that are used.
    pub(crate) directions: Vec<Direction>,
    /// Keys in conflict, each once.
    pub(crate) conflicts: u64,
    /// Somebody has applied meanwhile: the numbers say nothing.
    pub(crate) moved: bool,
}

/// One direction.
pub(crate) struct Direction {
    pub(crate) source: Side,
    /// The checkpoint.
    pub(crate) from: Position,
    /// Up to where the log was counted.
    pub(crate) to: Position,
    /// Transactions that would be applied.
    pub(crate) transactions: u64,
    pub(crate) ended: Ended,
    /// Those that go this way.
    pub(crate) tables: Vec<(Arc<str>, Counts)>,
}

/// Why it was counted no further.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    /// There the log ended.
    AtEnd,
    /// It was told to stop.
    Told,
    /// It has counted [`KEYS_MAX`] keys.
    Full,
    /// The bridge would stop there, or set the table aside.
    Obstacle(Error),
}

/// Rows of a table, each once by its key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) inserts: u64,
    pub(crate) updates: u64,
    pub(crate) deletes: u64,
    /// Those that are not as expected on the target.
    pub(crate) conflicts: BTreeMap<&'static str, u64>,
    /// Those that are in quarantine already, or that the target's columns cannot hold.
    pub(crate) quarantined: u64,
}

/// Counts, until `told`. Errors: a process of the bridge works and is not paused; not set up; and what keeps a bridge from beginning.
pub(crate) async fn run(config: &Config, opened: &Nodes, told: impl Future<Output = ()>) -> Result<Counted> {
    let mapping = service::paired(config, opened).await?;
    let nodes = &opened.nodes;
    refuse_at_work(nodes, mapping.reads).await?;
    let found = bridge::states::read(nodes, &mapping.tables).await?;
    let mut states = found.clone();
    epoch::check(nodes, &states)?;
    let promoted = promoted::look(nodes, &mapping.tables, Rules::ALL, &mut states).await?;
    aside::arrangements(&[], &mapping.tables, Rules::ALL, &mut states);
    tokio::pin!(told);
    let mut counters = Vec::new();
    for source in Side::BOTH.into_iter().filter(|side| mapping.reads[*side]) {
        let counter = Counter::open(config, nodes, &mapping, &states, source).await;
        let cannot_be_opened = |error| {
            promoted::cannot_be_opened(error, nodes[source].name(), promoted[source].as_ref(), &mapping.tables[source])
        };
        let mut counter = counter.map_err(cannot_be_opened)?;
        if matches!(counters.last(), Some(Counter { ended: Ended::Told, .. })) {
            // It is told once, and for both.
            counter.ended = Ended::Told;
        } else {
            counter.count(&mut told).await.map_err(|error| error.at(nodes[source].name()))?;
        }
        counters.push(counter);
    }
    let now = bridge::states::read(nodes, &mapping.tables).await?;
    let moved = Side::BOTH
        .into_iter()
        .any(|side| (&found[side].checkpoint, found[side].highest_id) != (&now[side].checkpoint, now[side].highest_id));
    let in_conflict = |counter: &Counter<'_>| -> Vec<u64> {
        let keys = counter.keys.iter().filter(|(_, known)| known.fate == Fate::Conflict);
        keys.map(|(key, _)| *key).collect()
    };
    let settled: HashSet<u64> = counters.iter().flat_map(in_conflict).collect();
    let other = |one: &Counter<'_>| counters.iter().find(|other| other.source != one.source);
    let directions = counters.iter().map(|counter| counted(counter, other(counter), &settled)).collect();
    Ok(Counted { directions, conflicts: settled.len() as u64, moved })
}

/// Errors: somebody applies what would be counted.
async fn refuse_at_work(nodes: &Pair<Arc<dyn Node>>, reads: Pair<bool>) -> Result<()> {
    let Some(holder) = barrier::holder(nodes).await? else { return Ok(()) };
    for source in Side::BOTH.into_iter().filter(|side| reads[*side]) {
        if bridge::pauses::of(nodes, source).await?.is_none() {
            let text = format!("the bridge runs: {holder}; it applies what would be counted");
            return Err(Error::new(Code::Config, text)
                .hint("stop it or run `pontoon pause` first, and `pontoon resume` when it is counted"));
        }
    }
    Ok(())
}

/// What is known of a key.
#[derive(Clone, Copy)]
struct Known {
    table: TableId,
    /// The row that the first change was made on, and the one that the last has left; 0 for none.
    before: u32,
    after: u32,
    /// Whether the last change found a row and left one.
    last: (bool, bool),
    /// The target has a row.
    target: bool,
    fate: Fate,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Written,
    Conflict,
    Quarantined,
}

/// Counts one direction.
struct Counter<'a> {
    source: Side,
    tables: &'a Pair<Tables>,
    policies: &'a [Policy],
    resolutions: Resolutions,
    quarantine: Quarantine,
    skips: Vec<Position>,
    reader: Box<dyn LogReader>,
    scan: Box<dyn Scan>,
    queue: Queue,
    /// The number of the next event of the queue.
    at: u64,
    from: Position,
    /// Where the log ended at the beginning.
    end: Position,
    to: Position,
    transactions: u64,
    ended: Ended,
    keys: HashMap<u64, Known>,
}

impl<'a> Counter<'a> {
    async fn open(
        config: &Config,
        nodes: &Pair<Arc<dyn Node>>,
        mapping: &'a Mapping,
        states: &Pair<NodeState>,
        source: Side,
    ) -> Result<Counter<'a>> {
        let (node, target) = (&nodes[source], &nodes[source.other()]);
        let at = |error: Error| error.at(node.name());
        let start = bridge::states::checkpoint(nodes, states, source)?;
        let (log, end) = (node.identity().await.map_err(at)?, node.log_status(None).await.map_err(at)?.end);
        promoted::is_of(node.name(), start, &log)?;
        let from = start.position.clone();
        let (tables, passed) = (&mapping.tables, bridge::states::passed_over(states, source));
        let reader = node.open_tail(Some(&from), &tables[source], &passed).await.map_err(at)?;
        let scan = target.open_scan(&tables[source.other()]).await.map_err(|error| error.at(target.name()))?;
        let limits = Limits::new(MEMORY_MAX, config.limits.spill_bytes);
        Ok(Counter {
            source,
            tables,
            policies: &mapping.policies,
            resolutions: Resolutions::new(states, true),
            quarantine: Quarantine::new(states, quarantine::KEYS_MAX)?,
            skips: passed.skips,
            reader,
            scan,
            queue: Queue::new(from.clone(), limits, &config.limits.spill_dir),
            at: 0,
            to: from.clone(),
            from,
            end,
            transactions: 0,
            ended: Ended::AtEnd,
            keys: HashMap::new(),
        })
    }

    /// Counts up to the end. Cuts no transaction.
    async fn count(&mut self, told: &mut Pin<&mut impl Future<Output = ()>>) -> Result<()> {
        loop {
            let is_read = self.queue.read_up_to().get().position.covers(&self.end);
            let how = Gathering { by_time: false, echoes: true, rows_max: usize::MAX, skips: &self.skips };
            match gather::gather(&self.queue, self.at, how)? {
                Gathered::Run(run) => {
                    if !self.take(&run).await? {
                        self.ended = Ended::Full;
                        return Ok(());
                    }
                }
                Gathered::Obstacle(obstacle) => {
                    self.ended = Ended::Obstacle(obstacle.error);
                    return Ok(());
                }
                Gathered::Nothing if is_read => return Ok(()),
                Gathered::Nothing => tokio::select! {
                    biased;
                    () = told.as_mut() => {
                        self.ended = Ended::Told;
                        return Ok(());
                    }
                    filled = fill(self.reader.as_mut(), &self.queue, &self.tables[self.source], &self.end) => filled?,
                },
            }
        }
    }

    /// Takes a run. `false`: there is no room for all of its keys.
    async fn take(&mut self, run: &Run) -> Result<bool> {
        let mut at = run.events.0;
        while run.changes > 0 && at < run.events.1 {
            let (pieces, next) = run.chunk(&self.queue, at)?;
            if !self.take_changes(&pieces).await? {
                return Ok(false);
            }
            at = if run.is_large() { next } else { run.events.1 };
        }
        self.transactions += run.transactions;
        self.to = run.position.clone();
        self.at = run.events.1;
        self.queue.release(self.at);
        Ok(true)
    }

    async fn take_changes(&mut self, pieces: &[Piece]) -> Result<bool> {
        let (target, mut held) =
            (self.source.other(), Quarantined { quarantine: &self.quarantine, met: BTreeSet::new() });
        let settled = |place: &Place, position: &Position| self.resolutions.settled(target, place, position);
        let planner = Planner { target: &self.tables[target], policies: self.policies, settled: &settled };
        let plan = planner.plan(pieces, &mut held)?;
        let held = held.met;
        let in_all = plan.in_all();
        let new = in_all.keys().filter(|place| !self.keys.contains_key(&fingerprint(**place))).count();
        if self.keys.len() + new + held.len() > KEYS_MAX {
            return Ok(false);
        }
        let last = last(&self.tables[target], pieces)?;
        let mut conflicts: BTreeSet<Place> = plan.unlinked.union(&plan.incomparable).cloned().collect();
        let mut fresh = Vec::new();
        let expected = plan.expected();
        for (place, (before, after)) in &in_all {
            let (before, after) = (hash_of(*before), hash_of(*after));
            let last = last.get(*place).copied().unwrap_or((true, true));
            if let Some(known) = self.keys.get_mut(&fingerprint(*place)) {
                let adds = self.policies.get(place.0.index()).is_some_and(|policy| policy.additive().next().is_some());
                if known.after != before && !adds {
                    conflicts.insert((*place).clone());
                }
                (known.after, known.last) = (after, last);
                continue;
            }
            let known = Known { table: place.0, before, after, last, target: false, fate: Fate::Written };
            self.keys.insert(fingerprint(*place), known);
            if let Some(net) = expected.get(place) {
                fresh.push((*place, *net));
            }
        }
        for place in unfit(&plan, planner.target, self.policies)? {
            self.set(&place, Fate::Quarantined);
            fresh.retain(|(fresh, _)| **fresh != place);
        }
        conflicts.extend(self.differing(&fresh).await?);
        close_over(&mut conflicts, &plan.links);
        for place in &conflicts {
            self.set(place, Fate::Conflict);
        }
        for place in held {
            let known = Known {
                table: place.0,
                before: 0,
                after: 0,
                last: (true, true),
                target: false,
                fate: Fate::Quarantined,
            };
            self.keys.insert(fingerprint(&place), known);
        }
        Ok(true)
    }

    fn set(&mut self, place: &Place, fate: Fate) {
        if let Some(known) = self.keys.get_mut(&fingerprint(place)) {
            known.fate = fate;
        }
    }

    /// The places whose row on the target is not the expected one.
    async fn differing(&mut self, expected: &[(&Place, &Net)]) -> Result<Vec<Place>> {
        let mut differing = Vec::new();
        for same_table in expected.chunk_by(|(a, _), (b, _)| a.0 == b.0) {
            for part in same_table.chunks(KEYS_AT_ONCE) {
                let Some(((table, _), _)) = part.first() else { continue };
                let keys: Vec<_> = part.iter().map(|(place, _)| place.1.clone()).collect();
                let rows = self.scan.rows(*table, &keys).await?;
                let policy = self.policies.get(table.index());
                for ((place, net), row) in part.iter().zip(rows) {
                    if let Some(known) = self.keys.get_mut(&fingerprint(*place)) {
                        known.target = row.is_some();
                    }
                    if !net.takes(row.as_ref(), policy) {
                        differing.push((*place).clone());
                    }
                }
            }
        }
        Ok(differing)
    }
}

/// Reads on, until there is enough for a run, nothing more is at hand, or the end is reached.
async fn fill(reader: &mut dyn LogReader, queue: &Queue, tables: &Tables, end: &Position) -> Result<()> {
    let (limits, mut changes, mut bytes) = (queue.limits(), 0, 0);
    while changes < limits.run_changes && bytes < limits.run_bytes {
        let mut event = reader.next().await?;
        let read = match &mut event {
            LogEvent::Fragment(fragment) => Some(&mut fragment.changes),
            LogEvent::Held(Held::Piece { changes, .. }) => Some(changes),
            LogEvent::Progress(_) | LogEvent::Obstacle(_) | LogEvent::Held(_) => None,
        };
        if let Some(read) = read {
            // Who only looks is given the tables too that do not go this way.
            read.retain(|change| tables.get(change.table.index()).is_some_and(|table| table.followed));
            changes += read.len();
            bytes += read.iter().map(Change::memory_bytes).sum::<usize>();
        }
        let rests = matches!(event, LogEvent::Progress(_) | LogEvent::Obstacle(_));
        queue.push(event)?;
        if queue.is_full() {
            queue.stuck_check()?;
        }
        if rests || queue.read_up_to().get().position.covers(end) {
            break;
        }
    }
    Ok(())
}

/// The keys of which what is written, or what is expected, does not fit the target's columns.
fn unfit(plan: &Plan, target: &Tables, policies: &[Policy]) -> Result<Vec<Place>> {
    let mut unfit = Vec::new();
    for (place, net) in plan.stages.iter().flatten() {
        let table = plan::table(target, place.0)?;
        if net.fits(table, policies.get(place.0.index()), &place.1, &"a dry run").is_err() {
            unfit.push(place.clone());
        }
    }
    Ok(unfit)
}

/// Of each key, whether the last change of it found a row and left one.
fn last(target: &Tables, pieces: &[Piece]) -> Result<HashMap<Place, (bool, bool)>> {
    let mut last = HashMap::new();
    for change in pieces.iter().filter_map(Piece::fragment).flat_map(|fragment| &fragment.changes) {
        let parts = plan::parts(plan::table(target, change.table)?, change);
        last.extend(parts.into_iter().map(|(place, net)| (place, (net.before.is_some(), net.after.is_some()))));
    }
    Ok(last)
}

/// Changes of keys in quarantine would be stored.
struct Quarantined<'a> {
    quarantine: &'a Quarantine,
    met: BTreeSet<Place>,
}

impl Hold for Quarantined<'_> {
    fn holds(&self, place: &Place) -> bool {
        self.met.contains(place) || self.quarantine.holds(place)
    }

    fn store(&mut self, _: &Change, parts: Vec<(Place, Net)>, _: InLog<'_>, _: Option<&Error>) -> Result<()> {
        self.met.extend(parts.into_iter().map(|(place, _)| place));
        Ok(())
    }
}

/// What a direction comes to. `settled` are the keys in conflict in either: that is the other's as well, where it has written the key.
fn counted(counter: &Counter<'_>, other: Option<&Counter<'_>>, settled: &HashSet<u64>) -> Direction {
    let mapped = &counter.tables[counter.source];
    let mut tables = vec![Counts::default(); mapped.len()];
    for (key, known) in &counter.keys {
        let Some(counts) = tables.get_mut(known.table.index()) else { continue };
        match (known.fate, known.before, known.after) {
            (Fate::Quarantined, ..) => counts.quarantined += 1,
            _ if settled.contains(key) => {
                let is_deleted = other.and_then(|other| other.keys.get(key)).is_some_and(|known| !known.last.1);
                let kind = ConflictKind::from(verdict::kind(known.last, known.target, is_deleted));
                *counts.conflicts.entry(kind.as_str()).or_default() += 1;
            }
            (_, before, after) if before == after => {}
            (_, 0, _) => counts.inserts += 1,
            (_, _, 0) => counts.deletes += 1,
            _ => counts.updates += 1,
        }
    }
    Direction {
        source: counter.source,
        from: counter.from.clone(),
        to: counter.to.clone(),
        transactions: counter.transactions,
        ended: counter.ended.clone(),
        tables: mapped
            .iter()
            .zip(tables)
            .filter(|(table, _)| table.followed)
            .map(|(table, counts)| (table.label.clone(), counts))
            .collect(),
    }
}

fn hash_of(row: Option<&Row>) -> u32 {
    row.map_or(0, |row| (fingerprint(row) as u32).max(1))
}

fn fingerprint(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
