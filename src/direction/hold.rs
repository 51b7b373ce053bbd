//! What has been read of transactions that are not decided yet.
//!
//! Pieces are kept in memory up to a share of the queue's room, and beyond it in the same spill file: those of the
//! largest transaction go first, as they do on the server. What is rolled back is dropped. At the decision what is
//! in memory is appended to the queue, and blocks on disk are handed to it by reference, with a [`Decision`] through
//! which they are read: however large a transaction is, it is written to disk once and read back when it is applied.
//!
//! Nothing here outlives the session: the queue and its hold are made anew with the reader, which yields the pieces
//! again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use pontoon_core::{Change, Fragment, Held, LogEvent, Position, Result};

use super::{
    block::{self, Block, Room},
    spill,
};
use crate::event::Rows;

/// One part in so many of a direction's memory is for pieces: the rest is for what the applier is at, which would
/// else go through the disk for as long as a large transaction is open.
const MEMORY_SHARE: usize = 2;

/// Blocks' worth of pieces that stay in memory however little room there is: several small transactions that are
/// undecided for long are not written piece by piece.
const BLOCKS_MIN: usize = 2;

/// The pieces of all transactions that are not decided.
#[derive(Default)]
pub(super) struct Hold {
    undecided: BTreeMap<Arc<str>, Undecided>,
    /// The number of the last that began.
    last: u64,
    /// Of pieces in memory.
    memory_bytes: usize,
}

/// One transaction. Beside its pieces it takes some bytes for each subtransaction, of which the server keeps
/// several hundred for the same time.
#[derive(Default)]
struct Undecided {
    /// Its own, from 1 on: names are used again.
    number: u64,
    spilled: Vec<Spilled>,
    /// After those on disk.
    pieces: Vec<Arc<LogEvent>>,
    /// Of the pieces in memory.
    memory_bytes: usize,
    /// What each subtransaction that is not undone has done.
    parts: HashMap<u32, Tally>,
    undone: HashSet<u32>,
}

struct Spilled {
    block: Block,
    /// The subtransaction that all in it is of.
    only: Option<u32>,
}

/// What a transaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Its changes.
    pub(crate) rows: Rows,
    /// Their size in memory.
    pub(crate) bytes: u64,
}

/// What became of a transaction whose pieces are on disk.
pub(super) struct Decision {
    /// A fragment of it, without changes and position.
    fragment: Fragment,
    undone: HashSet<u32>,
}

/// A transaction that commits.
pub(super) struct Decided {
    /// Its number here, if all that was held of it commits; else 0.
    pub(super) number: u64,
    /// What is on disk, and comes first.
    pub(super) blocks: Vec<Block>,
    /// What follows, in memory: fragments.
    pub(super) fragments: Vec<LogEvent>,
}

impl Hold {
    /// Keeps a piece. Errors: spill failed.
    pub(super) fn add(&mut self, piece: LogEvent, room: &mut Room) -> Result<()> {
        let LogEvent::Held(Held::Piece { id, part, changes }) = &piece else { return Ok(()) };
        let bytes = block::event_bytes(&piece);
        let last = &mut self.last;
        let undecided = self.undecided.entry(id.clone()).or_insert_with(|| {
            *last += 1;
            Undecided { number: *last, ..Undecided::default() }
        });
        undecided.parts.entry(*part).or_default().count(changes);
        undecided.pieces.push(Arc::new(piece));
        undecided.memory_bytes += bytes;
        self.memory_bytes += bytes;
        room.memory_bytes += bytes;
        self.spill_largest(room)
    }

    /// Moves pieces of the largest transaction to disk where they take more than their share.
    fn spill_largest(&mut self, room: &mut Room) -> Result<()> {
        let limits = room.limits;
        let too_much = self.memory_bytes > limits.memory_max / MEMORY_SHARE || room.is_used_up();
        if !too_much || self.memory_bytes < BLOCKS_MIN * limits.block_bytes {
            return Ok(());
        }
        let Some(largest) = self.undecided.values_mut().max_by_key(|undecided| undecided.memory_bytes) else {
            return Ok(());
        };
        self.memory_bytes -= std::mem::take(&mut largest.memory_bytes);
        let mut pieces = std::mem::take(&mut largest.pieces).into_iter().peekable();
        while let Some(first) = pieces.peek() {
            let mut only = part_of(first);
            let mut block = Block::new(0);
            while let Some(piece) = pieces.next_if(|_| block.bytes < limits.block_bytes) {
                only = only.filter(|part| part_of(&piece) == Some(*part));
                let bytes = block::event_bytes(&piece);
                // Never refused: the block is in memory, and smaller than that.
                let _ = block.add(piece, bytes, limits.block_bytes);
            }
            if !room.spill(&mut block)? {
                return Err(spill::disk_full());
            }
            largest.spilled.push(Spilled { block, only });
        }
        Ok(())
    }

    /// Drops what is rolled back: all of a transaction, or one of its subtransactions.
    pub(super) fn undo(&mut self, id: &str, part: Option<u32>, room: &mut Room) {
        let Some(part) = part else {
            if let Some(undecided) = self.undecided.remove(id) {
                self.take_from_memory(undecided.memory_bytes, room);
                undecided.spilled.iter().for_each(|spilled| room.give_back(&spilled.block));
            }
            return;
        };
        let Some(undecided) = self.undecided.get_mut(id) else { return };
        if undecided.parts.remove(&part).is_none() {
            return;
        }
        undecided.undone.insert(part);
        let mut bytes = 0;
        while let Some(piece) = undecided.pieces.pop_if(|piece| undone(piece, &undecided.undone)) {
            bytes += block::event_bytes(&piece);
        }
        undecided.memory_bytes -= bytes;
        if undecided.pieces.is_empty() {
            let undone = &undecided.undone;
            let of_undone = |last: &mut Spilled| last.only.is_some_and(|part| undone.contains(&part));
            while let Some(last) = undecided.spilled.pop_if(of_undone) {
                room.give_back(&last.block);
            }
        }
        self.take_from_memory(bytes, room);
    }

    /// Takes a transaction that commits; `fragment` is the one of its decision.
    pub(super) fn decide(&mut self, id: &str, fragment: &Fragment, room: &mut Room) -> Decided {
        let undecided = self.undecided.remove(id).unwrap_or_default();
        self.take_from_memory(undecided.memory_bytes, room);
        let number = if undecided.undone.is_empty() { undecided.number } else { 0 };
        let fragment = Fragment { first: false, position: None, ..fragment.clone() };
        let decision = Arc::new(Decision { fragment, undone: undecided.undone });
        let fragments = undecided.pieces.into_iter().filter(|piece| !undone(piece, &decision.undone));
        let fragments = fragments.map(|piece| decision.fragment(Arc::unwrap_or_clone(piece))).collect();
        let mut blocks: Vec<Block> = undecided.spilled.into_iter().map(|spilled| spilled.block).collect();
        blocks.iter_mut().for_each(|block| block.decide(&decision));
        Decided { number, blocks, fragments }
    }

    /// The largest of those that began after number `after`, if it has so many bytes and nothing of it was undone.
    pub(super) fn largest(&self, bytes_min: u64, after: u64) -> Option<u64> {
        let whole = self.undecided.values().filter(|undecided| undecided.number > after && undecided.undone.is_empty());
        let largest = whole.map(|undecided| (undecided.bytes(), undecided.number)).max();
        largest.filter(|(bytes, _)| *bytes >= bytes_min).map(|(_, number)| number)
    }

    /// The pieces of a transaction behind what was taken already, of so many bytes; none while less is at hand. `None`: it is not undecided any more,
    /// or a part of it was undone.
    pub(super) fn pieces(&self, number: u64, taken: Taken, bytes: u64) -> Result<Option<Vec<Arc<LogEvent>>>> {
        let is_it = |undecided: &&Undecided| undecided.number == number && undecided.undone.is_empty();
        let Some(undecided) = self.undecided.values().find(is_it) else { return Ok(None) };
        let mut pieces = Vec::new();
        if undecided.bytes() < taken.bytes + bytes {
            return Ok(Some(pieces));
        }
        let (mut at, mut rest) = (0, bytes);
        let mut take = |at: u64, events: &[Arc<LogEvent>]| {
            for event in events.iter().skip(usize::try_from(taken.pieces.saturating_sub(at)).unwrap_or(usize::MAX)) {
                if rest > 0 {
                    rest = rest.saturating_sub(bytes_of(event));
                    pieces.push(event.clone());
                }
            }
            rest > 0
        };
        for Spilled { block, .. } in &undecided.spilled {
            if at + block.count > taken.pieces && !take(at, &block.events()?) {
                return Ok(Some(pieces));
            }
            at += block.count;
        }
        take(at, &undecided.pieces);
        Ok(Some(pieces))
    }

    /// What an undecided transaction has done so far and not undone.
    pub(super) fn tally(&self, id: &str) -> Tally {
        let mut tally = Tally::default();
        self.undecided
            .get(id)
            .into_iter()
            .flat_map(|undecided| undecided.parts.values())
            .for_each(|part| tally.add(part));
        tally
    }

    /// Drops all: the log ends here.
    pub(super) fn clear(&mut self, room: &mut Room) {
        while let Some((id, _)) = self.undecided.first_key_value() {
            let id = id.clone();
            self.undo(&id, None, room);
        }
    }

    fn take_from_memory(&mut self, bytes: usize, room: &mut Room) {
        self.memory_bytes -= bytes;
        room.memory_bytes -= bytes;
    }
}

impl Decision {
    /// A piece as a fragment of its transaction; one that was undone is empty.
    pub(super) fn fragment(&self, event: LogEvent) -> LogEvent {
        match event {
            LogEvent::Held(Held::Piece { part, changes, .. }) => {
                let changes = if self.undone.contains(&part) { Vec::new() } else { changes };
                LogEvent::Fragment(Fragment { changes, ..self.fragment.clone() })
            }
            other => other,
        }
    }
}

impl Tally {
    fn count(&mut self, changes: &[Change]) {
        for change in changes {
            self.rows.count(change);
            self.bytes += change.memory_bytes() as u64;
        }
    }

    fn add(&mut self, other: &Tally) {
        self.rows.inserts += other.rows.inserts;
        self.rows.updates += other.rows.updates;
        self.rows.deletes += other.rows.deletes;
        self.bytes += other.bytes;
    }
}

impl Undecided {
    /// Of its changes.
    fn bytes(&self) -> u64 {
        self.parts.values().map(|part| part.bytes).sum()
    }
}

/// What was taken of the pieces of an undecided transaction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    /// How many.
    pub(super) pieces: u64,
    /// Of their changes.
    bytes: u64,
}

impl Taken {
    pub(super) fn add(&mut self, piece: &LogEvent) {
        self.pieces += 1;
        self.bytes += bytes_of(piece);
    }
}

fn bytes_of(piece: &LogEvent) -> u64 {
    match piece {
        LogEvent::Held(Held::Piece { changes, .. }) => changes.iter().map(|change| change.memory_bytes() as u64).sum(),
        _ => 0,
    }
}

fn part_of(piece: &LogEvent) -> Option<u32> {
    match piece {
        LogEvent::Held(Held::Piece { part, .. }) => Some(*part),
        _ => None,
    }
}

fn undone(piece: &LogEvent, undone: &HashSet<u32>) -> bool {
    part_of(piece).is_some_and(|part| undone.contains(&part))
}

/// The first fragment of a transaction whose pieces follow, and the last.
pub(super) fn ends(fragment: &Fragment) -> (LogEvent, LogEvent) {
    let end =
        |first: bool, position: Option<Position>| LogEvent::Fragment(Fragment { first, position, ..fragment.clone() });
    (end(true, None), end(false, fragment.position.clone()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pontoon_core::{Operation, Origin, Progress, Row, TableId, Value};
    use proptest::prelude::*;

    use super::{
        super::queue::{Limits, Queue, Undecided},
        *,
    };

    fn change(number: i128) -> Change {
        Change {
            table: TableId(0),
            operation: Operation::Insert { after: Row(vec![Value::Integer(number)]) },
            reshaped: false,
        }
    }

    fn piece(id: &str, part: u32, changes: Vec<Change>) -> LogEvent {
        LogEvent::Held(Held::Piece { id: id.into(), part, changes })
    }

    fn undo(id: &str, part: Option<u32>) -> LogEvent {
        LogEvent::Held(Held::Undone { id: id.into(), part })
    }

    fn decide(id: &str, position: u64) -> LogEvent {
        LogEvent::Held(Held::Decided {
            id: id.into(),
            fragment: Fragment {
                transaction: format!("t{id}").into(),
                origin: Origin::Own,
                commit_time: 7,
                first: true,
                changes: Vec::new(),
                position: Some(Position::Index(position)),
            },
        })
    }

    fn small(memory_max: usize) -> Limits {
        Limits { memory_max, block_bytes: 900, ..Limits::new(0, u64::MAX) }
    }

    /// What lies visible in a queue from number `at` on, as whole transactions: their changes and positions.
    fn visible(queue: &Queue, at: &mut u64) -> Vec<(Vec<Change>, Position)> {
        let (mut whole, mut open) = (Vec::new(), Vec::new());
        loop {
            let events = queue.events(*at, 1_000).unwrap();
            if events.is_empty() {
                assert_eq!(open, [], "a transaction without its end");
                return whole;
            }
            for event in events {
                *at += 1;
                let LogEvent::Fragment(fragment) = &*event else { continue };
                assert_eq!((fragment.origin.clone(), fragment.commit_time), (Origin::Own, 7));
                assert!(!fragment.first || open.is_empty());
                open.extend(fragment.changes.clone());
                if let Some(position) = &fragment.position {
                    whole.push((std::mem::take(&mut open), position.clone()));
                }
            }
        }
    }

    /// What may happen to one of a few undecided transactions.
    #[derive(Debug, Clone)]
    enum Step {
        Piece(u8, u32, usize),
        Undo(u8, Option<u32>),
        Decide(u8),
        Progress,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0u8..4, 0u32..5, 0usize..5).prop_map(|(id, part, changes)| Step::Piece(id, part, changes)),
            2 => (0u8..4, 1u32..5).prop_map(|(id, part)| Step::Undo(id, Some(part))),
            1 => (0u8..4).prop_map(|id| Step::Undo(id, None)),
            2 => (0u8..4).prop_map(Step::Decide),
            2 => Just(Step::Progress),
        ]
    }

    fn changes_of(event: &LogEvent) -> &[Change] {
        match event {
            LogEvent::Held(Held::Piece { changes, .. }) => changes,
            LogEvent::Fragment(fragment) => &fragment.changes,
            _ => &[],
        }
    }

    proptest! {
        /// Whatever comes between, is undone and is spilled: what was taken of a transaction before its decision is what it begins with, or it is gone.
        #[test]
        fn what_is_taken_early_is_what_it_begins_with(steps in proptest::collection::vec(step(), 0..120), memory in 0usize..9_000) {
            let folder = tempfile::tempdir().unwrap();
            let queue = Queue::new(Position::Index(0), small(memory), folder.path());
            let (mut undone, mut number, mut last) = (BTreeSet::new(), 0, 0);
            let mut early: Option<(u64, Taken, Vec<Change>)> = None;
            for (step, position) in steps.into_iter().zip(1..) {
                match step {
                    Step::Piece(id, part, _) if undone.contains(&(id, part)) => {}
                    Step::Piece(id, part, count) => {
                        let changes = (0..count).map(|_| { number += 1; change(number) }).collect();
                        queue.push(piece(&id.to_string(), part, changes)).unwrap();
                    }
                    Step::Undo(id, part) => {
                        match part {
                            Some(part) => { undone.insert((id, part)); }
                            None => undone.retain(|(of, _)| *of != id),
                        }
                        queue.push(undo(&id.to_string(), part)).unwrap();
                    }
                    Step::Decide(id) => {
                        undone.retain(|(of, _)| *of != id);
                        queue.push(decide(&id.to_string(), position)).unwrap();
                    }
                    Step::Progress => {}
                }
                let begin = || queue.largest_undecided(1, last).map(|number| (number, Taken::default(), Vec::new()));
                let Some((of, mut taken, mut changes)) = early.take().or_else(begin) else { continue };
                last = of;
                match queue.undecided(of, taken, 200).unwrap() {
                    Undecided::Open(pieces) => {
                        for piece in &pieces {
                            taken.add(piece);
                            changes.extend_from_slice(changes_of(piece));
                        }
                        early = Some((of, taken, changes));
                    }
                    Undecided::Decided(first) => {
                        let pieces = usize::try_from(taken.pieces).unwrap();
                        let events = queue.events(first + 1, usize::MAX).unwrap();
                        let begins: Vec<Change> = events[..pieces].iter().flat_map(|event| changes_of(event)).cloned().collect();
                        prop_assert_eq!(changes, begins);
                    }
                    Undecided::Gone => {}
                }
            }
        }

        /// Whatever comes between, is undone and is spilled: a decided transaction has its changes in order.
        #[test]
        fn a_decision_brings_what_is_not_undone(steps in proptest::collection::vec(step(), 0..120), memory in 0usize..9_000) {
            let folder = tempfile::tempdir().unwrap();
            let queue = Queue::new(Position::Index(0), small(memory), folder.path());
            let mut expected: BTreeMap<u8, Vec<(u32, Change)>> = BTreeMap::new();
            let mut undone: BTreeSet<(u8, u32)> = BTreeSet::new();
            let (mut at, mut number) = (0, 0);
            for (step, position) in steps.into_iter().zip(1..) {
                match step {
                    Step::Piece(id, part, _) if undone.contains(&(id, part)) => {}
                    Step::Piece(id, part, count) => {
                        let changes: Vec<Change> = (0..count).map(|_| { number += 1; change(number) }).collect();
                        let own = expected.entry(id).or_default();
                        own.extend(changes.iter().map(|change| (part, change.clone())));
                        queue.push(piece(&id.to_string(), part, changes)).unwrap();
                    }
                    Step::Undo(id, part) => {
                        queue.push(undo(&id.to_string(), part)).unwrap();
                        match part {
                            Some(part) if expected.contains_key(&id) => {
                                expected.entry(id).or_default().retain(|(of, _)| *of != part);
                                undone.insert((id, part));
                            }
                            Some(_) => {}
                            None => {
                                expected.remove(&id);
                                undone.retain(|(of, _)| *of != id);
                            }
                        }
                    }
                    Step::Decide(id) => {
                        let changes: Vec<Change> =
                            expected.remove(&id).unwrap_or_default().into_iter().map(|(_, change)| change).collect();
                        undone.retain(|(of, _)| *of != id);
                        prop_assert_eq!(queue.held(&id.to_string()).rows.inserts, changes.len() as u64);
                        queue.push(decide(&id.to_string(), position)).unwrap();
                        let read = queue.read_up_to().get().position;
                        prop_assert_eq!(read, Position::Index(position));
                        prop_assert_eq!(visible(&queue, &mut at), vec![(changes, Position::Index(position))]);
                    }
                    Step::Progress => {
                        let position = Position::Index(position);
                        queue.push(LogEvent::Progress(Progress { position, time: None, barrier: false, passed_over: 0 })).unwrap();
                    }
                }
                prop_assert!(queue.bytes().0 <= memory + 8 * 900, "{:?}", queue.bytes());
            }
            for id in expected.keys() {
                queue.push(undo(&id.to_string(), None)).unwrap();
            }
            let end = queue.read_up_to().get().event;
            queue.release(end);
            prop_assert_eq!(queue.bytes(), (0, 0));
        }
    }

    #[test]
    fn a_large_transaction_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::new(Position::Index(0), small(4_000), folder.path());
        for number in 0..1_000 {
            queue.push(piece("1", 0, vec![change(number)])).unwrap();
        }
        let held = queue.bytes();
        assert!(held.0 < 4_000 && held.1 > 5_000, "{held:?}");
        queue.push(decide("1", 1)).unwrap();
        let bytes = queue.bytes();
        assert_eq!(bytes.1, held.1, "what was on disk stays where it is");
        let found = visible(&queue, &mut 0);
        assert_eq!(found, [((0..1_000).map(change).collect(), Position::Index(1))]);
    }

    #[test]
    fn a_subtransaction_that_is_undone_gives_back_its_disk() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::new(Position::Index(0), small(2_000), folder.path());
        queue.push(piece("1", 0, vec![change(0)])).unwrap();
        for number in 1..1_000 {
            queue.push(piece("1", 2, vec![change(number)])).unwrap();
        }
        let full = queue.bytes().1;
        queue.push(undo("1", Some(2))).unwrap();
        assert!(queue.bytes().1 < full / 10, "{:?} of {full}", queue.bytes());
        queue.push(decide("1", 1)).unwrap();
        assert_eq!(visible(&queue, &mut 0), [(vec![change(0)], Position::Index(1))]);
    }

    #[test]
    fn what_only_a_decision_can_release_is_told_from_what_the_applier_will() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { spill_max: 2_000, ..small(0) };
        let queue = Queue::new(Position::Index(0), limits, folder.path());
        queue
            .push(LogEvent::Progress(Progress {
                position: Position::Index(1),
                time: None,
                barrier: false,
                passed_over: 0,
            }))
            .unwrap();
        let mut number = 0;
        while !queue.is_full() {
            number += 1;
            queue.push(piece("1", 0, vec![change(number)])).unwrap();
        }
        queue.stuck_check().unwrap();
        queue.release(1);
        let error = queue.stuck_check().unwrap_err();
        assert_eq!(error.code(), pontoon_core::Code::SpillFailed, "{error}");
        queue.push(undo("1", None)).unwrap();
        assert!(!queue.is_full());
    }
}
