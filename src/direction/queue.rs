//! What has been read and not yet applied, of one direction.
//!
//! The reader appends and never waits for the target: what does not fit into memory goes to the spill
//! file, in blocks. The applier looks at events by their number, as often as it needs to, and releases
//! them once their commit is known. A rendezvous scans what is not released, for pending writes.
//!
//! Only whole transactions are visible: what a reader left unfinished when its connection broke never
//! was there. What comes of a transaction before its decision is kept in the `hold`, within the same limits.
//! Memory is bounded by `memory_max` and a few open blocks; the index has one entry a block.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pontoon_core::{Code, Error, Fragment, Held, LogEvent, Position, Result};
use tokio::sync::Notify;

use super::{
    block::{Block, Room, event_bytes},
    hold::{self, Hold, Taken, Tally},
};
use crate::level;

/// How far a log has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadUpTo {
    /// The number after the last visible event.
    pub event: u64,
    /// The position that it ends at.
    pub position: Position,
}

/// Limits of one direction. Only the first two are an operator's matter; a simulation makes all small.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of events kept in memory.
    pub memory_max: usize,
    /// Bytes in the spill file, at which the reader stops.
    pub spill_max: u64,
    /// A block is closed when its events pass this size: the unit of spilling and reading back. Small
    /// beside the memory limit, large beside a disk's latency.
    pub block_bytes: usize,
    /// Bytes of events in a run: some hundredths of a second's worth of applying, so that the commit does not count, and small
    /// beside the queue. Also what is in memory at a time of a transaction larger than that.
    pub run_bytes: usize,
    /// Changes in a run, for the same reason where rows are small.
    pub run_changes: usize,
}

impl Limits {
    /// The limits of a direction that may keep so much in memory and so much on disk.
    pub fn new(memory_max: usize, spill_max: u64) -> Self {
        Limits { memory_max, spill_max, block_bytes: 256 << 10, run_bytes: 2 << 20, run_changes: 4_000 }
    }
}

/// Of so many places it is known which transaction stood before each: more than a reader passes while a rendezvous waits for it.
const NAMED_MAX: usize = 4096;

struct Inner {
    blocks: VecDeque<Block>,
    /// The last places that the reader has passed, with the name of the transaction before each.
    named: VecDeque<Position>,
    next: u64,
    released: u64,
    hold: Hold,
    /// The transaction that was decided last, by its number in the hold, and its first event.
    decided: (u64, u64),
    room: Room,
    /// The block that was last read back, since neighbours are asked for one after the other.
    recent: Option<(u64, Arc<Vec<Arc<LogEvent>>>)>,
}

/// The queue of one direction.
pub struct Queue {
    inner: Mutex<Inner>,
    limits: Limits,
    read: level::Sender<ReadUpTo>,
    /// How often something of an undecided transaction was read.
    held: level::Sender<u64>,
    released: Notify,
}

/// What there is of a transaction that was undecided.
pub(super) enum Undecided {
    /// It still is: what follows, or nothing while that is less than was asked for.
    Open(Vec<Arc<LogEvent>>),
    /// It commits: the number of its first event.
    Decided(u64),
    /// All of it was rolled back, or a part; or others were decided since.
    Gone,
}

impl Queue {
    /// An empty queue of a log that is read from `start` on.
    pub fn new(start: Position, limits: Limits, folder: &Path) -> Self {
        Queue {
            inner: Mutex::new(Inner {
                blocks: VecDeque::new(),
                named: start.gtid().is_some().then(|| start.clone()).into_iter().collect(),
                next: 0,
                released: 0,
                hold: Hold::default(),
                decided: (0, 0),
                room: Room::new(limits, folder),
                recent: None,
            }),
            limits,
            read: level::Sender::new(ReadUpTo { event: 0, position: start }),
            held: level::Sender::new(0),
            released: Notify::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event; the end of a transaction makes all of it visible. What is held of an undecided transaction
    /// is kept aside until its decision. Errors: spill failed.
    pub fn push(&self, event: LogEvent) -> Result<()> {
        let (mut position, mut is_held) = (None, false);
        let next = {
            let mut inner = self.inner();
            match event {
                LogEvent::Held(Held::Decided { id, fragment }) => {
                    inner.decide(&id, &fragment)?;
                    position = fragment.position;
                }
                LogEvent::Held(held) => {
                    inner.hold(held)?;
                    is_held = true;
                }
                event => {
                    match &event {
                        LogEvent::Fragment(fragment) => position.clone_from(&fragment.position),
                        LogEvent::Progress(progress) => position = Some(progress.position.clone()),
                        // The transaction of an obstacle is never read: where the log is read up to stays.
                        LogEvent::Obstacle(_) => position = Some(self.read.get().position),
                        LogEvent::Held(_) => {}
                    }
                    inner.append(event)?;
                }
            }
            if let Some(named) = position.as_ref().filter(|position| position.gtid().is_some()) {
                if inner.named.len() >= NAMED_MAX {
                    inner.named.pop_front();
                }
                inner.named.push_back(named.clone());
            }
            inner.next
        };
        if let Some(position) = position {
            self.read.set(ReadUpTo { event: next, position });
        }
        if is_held {
            self.held.modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Changes whenever something of an undecided transaction was read.
    pub(super) fn held_so_far(&self) -> level::Receiver<u64> {
        self.held.subscribe()
    }

    /// The number of the largest undecided transaction of those that began after number `after`, if it has so many bytes and nothing of it was undone.
    pub(super) fn largest_undecided(&self, bytes_min: u64, after: u64) -> Option<u64> {
        self.inner().hold.largest(bytes_min, after)
    }

    /// What follows of a transaction that was undecided, of so many bytes.
    pub(super) fn undecided(&self, number: u64, taken: Taken, bytes: u64) -> Result<Undecided> {
        let inner = self.inner();
        match inner.decided {
            (of, first) if of == number => Ok(Undecided::Decided(first)),
            _ => Ok(inner.hold.pieces(number, taken, bytes)?.map_or(Undecided::Gone, Undecided::Open)),
        }
    }

    /// A place that has been read, with the name of the last transaction before it that was of any concern, where that is known still.
    pub(crate) fn with_name(&self, mut place: Position) -> Position {
        let inner = self.inner();
        let before = inner.named.iter().rev().find(|named| place.covers(named)).and_then(Position::gtid);
        if let (Position::Binlog { beside, .. }, Some(gtid)) = (&mut place, before) {
            beside.gtid = Some(gtid);
        }
        place
    }

    /// What an undecided transaction has done so far.
    pub(crate) fn held(&self, id: &str) -> Tally {
        self.inner().hold.tally(id)
    }

    /// The limits.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// How far the log has been read, to look at or to wait for.
    pub fn read_up_to(&self) -> level::Receiver<ReadUpTo> {
        self.read.subscribe()
    }

    /// Visible events from number `from` on: at least one where there is one, then as many as are at
    /// hand without passing `bytes_max`.
    pub fn events(&self, from: u64, bytes_max: usize) -> Result<Vec<Arc<LogEvent>>> {
        let mut at = from;
        self.next_events(&mut at, bytes_max)
    }

    /// The same from number `at` on, or from the first that is not released by now, for those who do not release them
    /// themselves; `at` is then the number of what follows.
    pub(crate) fn next_events(&self, at: &mut u64, bytes_max: usize) -> Result<Vec<Arc<LogEvent>>> {
        let visible = self.read.get().event;
        let mut inner = self.inner();
        // From here on `block` has every number up to `visible`, so that each turn of the loop goes on.
        *at = (*at).max(inner.first());
        let (mut events, mut bytes) = (Vec::new(), 0);
        while *at < visible && (events.is_empty() || bytes < bytes_max) {
            let block = inner.block(*at)?;
            for event in block.1.iter().skip((*at - block.0) as usize) {
                if *at >= visible || (!events.is_empty() && bytes >= bytes_max) {
                    break;
                }
                bytes += event_bytes(event);
                events.push(event.clone());
                *at += 1;
            }
        }
        Ok(events)
    }

    /// The number of the first event that is not released.
    pub(crate) fn first(&self) -> u64 {
        self.inner().first()
    }

    /// Forgets the events before number `before`: their commit is known.
    pub fn release(&self, before: u64) {
        let mut inner = self.inner();
        inner.released = before;
        while inner.blocks.front().is_some_and(|block| block.first + block.count <= before) {
            inner.pop_block();
        }
        drop(inner);
        self.released.notify_waiters();
    }

    /// Whether the reader has to stop until something is released.
    pub fn is_full(&self) -> bool {
        self.inner().room.is_full()
    }

    /// An error where all that is kept is of transactions whose end is not read yet: no release will make room.
    pub(crate) fn stuck_check(&self) -> Result<()> {
        // On a full disk it may be anybody's files that are in the way, the other direction's as well.
        if self.bytes().1 < self.limits.spill_max || self.first() < self.read.get().event {
            return Ok(());
        }
        let text = format!("transactions whose end is not read yet fill the spill file ({} bytes)", self.bytes().1);
        Err(Error::new(Code::SpillFailed, text).hint("raise [limits] spill_gib"))
    }

    /// Tries again whether the spill's disk takes what it had no room for.
    pub(crate) fn look_for_room(&self) -> Result<()> {
        let mut inner = self.inner();
        if inner.room.is_full() { inner.spill_last() } else { Ok(()) }
    }

    /// Waits for the next release.
    pub async fn wait_for_release(&self) {
        self.released.notified().await;
    }

    /// Bytes in memory and in the spill file, with what is held.
    pub fn bytes(&self) -> (usize, u64) {
        let inner = self.inner();
        (inner.room.memory_bytes, inner.room.spill_bytes)
    }
}

impl Inner {
    fn first(&self) -> u64 {
        self.blocks.front().map_or(self.next, |block| block.first.max(self.released))
    }

    fn append(&mut self, event: LogEvent) -> Result<()> {
        if let LogEvent::Obstacle(_) = event {
            self.hold.clear(&mut self.room);
        }
        let (bytes, bytes_max) = (event_bytes(&event), self.room.limits.block_bytes);
        let mut event = Arc::new(event);
        if let Some(last) = self.blocks.back_mut() {
            match last.add(event, bytes, bytes_max) {
                Ok(()) => {
                    self.room.memory_bytes += bytes;
                    self.next += 1;
                    return Ok(());
                }
                Err(refused) => event = refused,
            }
        }
        self.spill_last()?;
        let mut block = Block::new(self.next);
        // An empty block takes any event.
        let _ = block.add(event, bytes, bytes_max);
        self.blocks.push_back(block);
        self.room.memory_bytes += bytes;
        self.next += 1;
        Ok(())
    }

    /// Moves the last block to disk where memory is used up. Blocks nearer to the applier stay.
    fn spill_last(&mut self) -> Result<()> {
        match self.blocks.back_mut() {
            Some(block) if self.room.is_used_up() => self.room.spill(block).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn hold(&mut self, held: Held) -> Result<()> {
        match held {
            Held::Undone { id, part } => self.hold.undo(&id, part, &mut self.room),
            piece => self.hold.add(LogEvent::Held(piece), &mut self.room)?,
        }
        Ok(())
    }

    /// Appends a transaction of which all is held, as if it had been read here.
    fn decide(&mut self, id: &str, fragment: &Fragment) -> Result<()> {
        let decided = self.hold.decide(id, fragment, &mut self.room);
        if decided.number > 0 {
            self.decided = (decided.number, self.next);
        }
        let (first, last) = hold::ends(fragment);
        self.append(first)?;
        for mut block in decided.blocks {
            self.spill_last()?;
            block.first = self.next;
            self.next += block.count;
            self.blocks.push_back(block);
        }
        for fragment in decided.fragments {
            self.append(fragment)?;
        }
        self.append(last)
    }

    /// The events of the block that holds number `at`, and the number of its first.
    fn block(&mut self, at: u64) -> Result<(u64, Arc<Vec<Arc<LogEvent>>>)> {
        let index = self.blocks.partition_point(|block| block.first + block.count <= at);
        let Some(block) = self.blocks.get(index) else { return Ok((at, Arc::default())) };
        if !block.is_spilled() {
            return Ok((block.first, Arc::new(block.events()?)));
        }
        if let Some((first, events)) = &self.recent
            && *first == block.first
        {
            return Ok((*first, events.clone()));
        }
        let events = Arc::new(block.events()?);
        self.recent = Some((block.first, events.clone()));
        Ok((block.first, events))
    }

    fn pop_block(&mut self) {
        if let Some(block) = self.blocks.pop_front() {
            self.room.give_back(&block);
        }
    }
}

#[cfg(test)]
mod tests {
    use pontoon_core::{Origin, Progress};
    use proptest::prelude::*;

    use super::{super::block::EVENT_BYTES, *};

    fn progress(number: u64) -> LogEvent {
        LogEvent::Progress(Progress { position: Position::Index(number), time: None, barrier: false, passed_over: 0 })
    }

    fn piece(number: u64, last: bool) -> LogEvent {
        LogEvent::Fragment(Fragment {
            transaction: number.to_string().into(),
            origin: Origin::Local,
            commit_time: 0,
            first: true,
            changes: Vec::new(),
            position: last.then_some(Position::Index(number)),
        })
    }

    fn small(memory_max: usize) -> Limits {
        Limits { memory_max, block_bytes: 700, ..Limits::new(0, 10_000) }
    }

    proptest! {
        /// Whatever is spilled, read in pieces of any size and released in any steps, comes in order.
        #[test]
        fn what_goes_in_comes_out(count in 1u64..60, memory in 0usize..4_000, bytes in 1usize..2_000, step in 1u64..9) {
            let folder = tempfile::tempdir().unwrap();
            let queue = Queue::new(Position::Index(0), small(memory), folder.path());
            for number in 1..=count {
                queue.push(progress(number)).unwrap();
            }
            let mut at = 0;
            while at < count {
                let events = queue.events(at, bytes).unwrap();
                prop_assert!(!events.is_empty());
                for event in events {
                    at += 1;
                    prop_assert_eq!(&*event, &progress(at));
                }
                queue.release(at - at % step);
                prop_assert_eq!(queue.first(), at - at % step);
            }
            queue.release(count);
            prop_assert_eq!(queue.bytes(), (0, 0));
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the files have no name");
        }
    }

    /// As the applier does while somebody else looks for pending writes.
    #[test]
    fn what_is_released_meanwhile_is_passed_over() {
        for memory in [0, 1_000, 100_000] {
            let folder = tempfile::tempdir().unwrap();
            let queue = Queue::new(Position::Index(0), small(memory), folder.path());
            for number in 1..=60 {
                queue.push(progress(number)).unwrap();
            }
            for released in [7, 45, 60] {
                queue.release(released);
                let mut at = 3;
                let events = queue.next_events(&mut at, 1).unwrap();
                let next = (released < 60).then(|| Arc::new(progress(released + 1)));
                assert_eq!(events, next.iter().cloned().collect::<Vec<_>>());
                assert_eq!(at, released + events.len() as u64);
                assert_eq!(queue.events(0, 1).unwrap(), events);
            }
        }
    }

    #[test]
    fn a_transaction_is_seen_when_it_is_whole() {
        let queue = Queue::new(Position::Index(0), small(1_000), &std::env::temp_dir());
        queue.push(piece(1, false)).unwrap();
        queue.push(piece(1, false)).unwrap();
        assert!(queue.events(0, 1_000).unwrap().is_empty());
        assert_eq!(queue.read_up_to().get().position, Position::Index(0));
        queue.push(piece(1, true)).unwrap();
        assert_eq!(queue.events(0, 10_000).unwrap().len(), 3);
        assert_eq!(queue.read_up_to().get().position, Position::Index(1));
    }

    #[test]
    fn the_limits_hold() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::new(Position::Index(0), small(1_000), folder.path());
        let mut number = 0;
        while !queue.is_full() {
            number += 1;
            queue.push(progress(number)).unwrap();
            assert!(queue.bytes().0 <= 1_000 + 2 * 700 + EVENT_BYTES, "{:?}", queue.bytes());
        }
        queue.release(number);
        assert!(!queue.is_full());
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let queue = Queue::new(Position::Index(0), small(0), file.path());
        let failed = (0..50).find_map(|number| queue.push(progress(number)).err()).unwrap();
        assert_eq!(failed.code(), pontoon_core::Code::SpillFailed);
        assert!(failed.message().contains(&file.path().display().to_string()), "{failed}");
    }
}
