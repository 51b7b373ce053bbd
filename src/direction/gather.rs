//! Gathers consecutive whole transactions into one run, which becomes one target commit.
//!
//! A run takes what is at hand and waits for nothing: one transaction when caught up, so that latency
//! is low at rest, and many in a backlog, so that throughput is high. A transaction too large for that
//! is a run of its own that is never in memory as a whole.

use std::{collections::BTreeSet, sync::Arc};

use pontoon_core::{Fragment, LogEvent, Origin, Position, Result, change::Obstacle};

use super::{
    plan::Place,
    queue::{Limits, Queue},
};
use crate::event::Rows;

/// A fragment and the position at which its transaction ends.
#[derive(Clone)]
pub(crate) struct Piece {
    event: Arc<LogEvent>,
    pub(crate) position: Position,
}

impl Piece {
    /// A fragment of a transaction that ends there.
    pub(crate) fn new(event: Arc<LogEvent>, position: Position) -> Self {
        Piece { event, position }
    }

    /// The fragment.
    pub(crate) fn fragment(&self) -> Option<&Fragment> {
        match &*self.event {
            LogEvent::Fragment(fragment) => Some(fragment),
            LogEvent::Progress(_) | LogEvent::Obstacle(_) | LogEvent::Held(_) => None,
        }
    }
}

/// The bridge's own write of a key in the source's log.
#[derive(Debug, Clone)]
pub(crate) struct OwnWrite {
    pub(crate) place: Place,
    pub(crate) position: Position,
    pub(crate) transaction: Arc<str>,
    pub(crate) commit_time: i64,
}

/// The keys that a fragment's changes touch.
type PlacesOf<'a> = &'a dyn Fn(&Fragment) -> Result<Vec<Place>>;

/// Neighbouring transactions that are applied in one target transaction.
#[derive(Clone)]
pub(crate) struct Run {
    /// The numbers of its events: from, and the one after the last.
    pub(crate) events: (u64, u64),
    /// Where it ends in the source's log.
    pub(crate) position: Position,
    /// The latest commit time among its local transactions.
    pub(crate) commit_time: i64,
    /// The source's clock when all of it had been written, where the log says so.
    pub(crate) time: Option<i64>,
    /// Somebody waits for its end to be durable.
    pub(crate) barrier: bool,
    /// Local transactions in it, and echoes.
    pub(crate) transactions: u64,
    pub(crate) echoes: u64,
    /// Changes of its local transactions.
    pub(crate) changes: usize,
    /// The same by what they do.
    pub(crate) rows: Rows,
    /// Changes of transactions that the operator said to pass over.
    pub(crate) passed_over: u64,
    /// Their size in memory.
    pub(crate) bytes: u64,
    content: Content,
    /// Of a part of a run: the bridge's own writes up to its end, which are not among its events.
    own: Option<Vec<OwnWrite>>,
}

#[derive(Clone)]
enum Content {
    Pieces(Vec<Piece>),
    Large,
}

impl Run {
    fn new(from: u64, position: Position) -> Self {
        Run {
            events: (from, from),
            position,
            commit_time: 0,
            time: None,
            barrier: false,
            transactions: 0,
            echoes: 0,
            changes: 0,
            rows: Rows::default(),
            passed_over: 0,
            bytes: 0,
            content: Content::Pieces(Vec::new()),
            own: None,
        }
    }

    fn count(&mut self, fragment: &Fragment) {
        self.changes += fragment.changes.len();
        for change in &fragment.changes {
            self.bytes += change.memory_bytes() as u64;
            self.rows.count(change);
        }
    }

    /// Whether it is about as much as a run may be, so that more of a backlog is likely to follow.
    pub(super) fn is_full(&self, limits: Limits) -> bool {
        self.is_large() || self.changes >= limits.run_changes / 2 || self.bytes >= limits.run_bytes as u64 / 2
    }

    /// Whether it is one transaction too large for memory.
    pub(crate) fn is_large(&self) -> bool {
        matches!(self.content, Content::Large)
    }

    /// The pieces of local transactions from event number `at` on, a memory's worth, and the number to go
    /// on from. An empty run has none.
    pub(crate) fn chunk(&self, queue: &Queue, at: u64) -> Result<(Vec<Piece>, u64)> {
        match &self.content {
            Content::Pieces(pieces) => Ok((pieces.clone(), self.events.1)),
            Content::Large => {
                let events = queue.events(at, queue.limits().run_bytes)?;
                let next = (at + events.len() as u64).min(self.events.1);
                let own = events.into_iter().take((next - at) as usize);
                Ok((own.map(|event| Piece::new(event, self.position.clone())).collect(), next))
            }
        }
    }

    /// The bridge's own writes in it, of the keys that are wanted: each key once a transaction, however large that is.
    pub(crate) fn own(
        &self,
        queue: &Queue,
        of: PlacesOf<'_>,
        wanted: &dyn Fn(&Place) -> bool,
    ) -> Result<Vec<OwnWrite>> {
        if let Some(own) = &self.own {
            return Ok(own.iter().filter(|write| wanted(&write.place)).cloned().collect());
        }
        let (mut open, mut own, mut at) = (BTreeSet::new(), Vec::new(), self.events.0);
        while self.echoes > 0 && at < self.events.1 {
            let events = queue.events(at, queue.limits().run_bytes)?;
            if events.is_empty() {
                break;
            }
            for event in events.into_iter().take((self.events.1 - at) as usize) {
                at += 1;
                let LogEvent::Fragment(fragment) = &*event else { continue };
                if fragment.origin == Origin::Own {
                    open.extend(of(fragment)?.into_iter().filter(wanted));
                }
                let Some(position) = &fragment.position else { continue };
                own.extend(std::mem::take(&mut open).into_iter().map(|place| OwnWrite {
                    place,
                    position: position.clone(),
                    transaction: fragment.transaction.clone(),
                    commit_time: fragment.commit_time,
                }));
            }
        }
        Ok(own)
    }

    /// The run cut into runs of one transaction each, to find out which of them cannot be applied. What is the
    /// bridge's own goes with the transaction after it.
    pub(crate) fn split(&self, queue: &Queue, of: PlacesOf<'_>) -> Result<Vec<Run>> {
        let Content::Pieces(pieces) = &self.content else { return Ok(vec![self.clone()]) };
        let mut own = self.own(queue, of, &|_| true)?;
        let mut runs = Vec::new();
        for pieces in pieces.chunk_by(|a, b| a.position == b.position) {
            let Some(first) = pieces.first() else { continue };
            let mut run = Run::new(self.events.0, first.position.clone());
            let fragments = pieces.iter().map(|piece| piece.event.clone()).collect();
            run.take(fragments, &first.position, true, false);
            let before = own.iter().take_while(|write| first.position.covers(&write.position)).count();
            run.own = Some(own.drain(..before).collect());
            runs.push(run);
        }
        let mut rest = Run::new(self.events.0, self.position.clone());
        rest.own = Some(own);
        runs.push(rest);
        Ok(runs)
    }
}

/// What comes next in a queue.
pub(crate) enum Gathered {
    /// Nothing is at hand.
    Nothing,
    /// Transactions, or only progress.
    Run(Run),
    /// The next transaction cannot be passed on.
    Obstacle(Obstacle),
}

/// How to gather.
#[derive(Clone, Copy)]
pub(crate) struct Gathering<'a> {
    /// Other bridges read what is written: transactions of different commit times are kept apart, since
    /// a target transaction has one.
    pub(crate) by_time: bool,
    /// Echoes are recognised (rule `Echo`).
    pub(crate) echoes: bool,
    /// After so many rows no further transaction is taken.
    pub(crate) rows_max: usize,
    /// Transactions to pass over, by the position at which they end.
    pub(crate) skips: &'a [Position],
}

/// Gathers from event number `from` on.
pub(crate) fn gather(queue: &Queue, from: u64, how: Gathering<'_>) -> Result<Gathered> {
    let read = queue.read_up_to().get();
    let events = queue.events(from, queue.limits().run_bytes)?;
    let mut run = Run::new(from, read.position.clone());
    let mut open: Vec<Arc<LogEvent>> = Vec::new();
    for (event, number) in events.iter().zip(from..) {
        match &**event {
            LogEvent::Fragment(fragment) => {
                let local = fragment.origin != Origin::Own || !how.echoes;
                let apart = how.by_time && local && run.transactions > 0 && fragment.commit_time != run.commit_time;
                if fragment.first && (apart || run.changes >= queue.limits().run_changes.min(how.rows_max)) {
                    break;
                }
                open.push(event.clone());
                // Only the end of a transaction moves the end of the run.
                let Some(position) = &fragment.position else { continue };
                let (whole, skipped) = (std::mem::take(&mut open), local && how.skips.contains(position));
                if skipped {
                    run.pass_over(&whole);
                }
                run.take(whole, position, local && !skipped, !local);
            }
            LogEvent::Progress(progress) => {
                run.position = progress.position.clone();
                run.time = progress.time.or(run.time);
                run.barrier |= progress.barrier;
            }
            LogEvent::Obstacle(obstacle) if run.events.1 == from => return Ok(Gathered::Obstacle(obstacle.clone())),
            LogEvent::Obstacle(_) => break,
            LogEvent::Held(_) => {}
        }
        run.events.1 = number + 1;
    }
    if run.events.1 > from {
        return Ok(Gathered::Run(run));
    }
    if open.is_empty() { Ok(Gathered::Nothing) } else { large(queue, from, how) }
}

impl Run {
    fn pass_over(&mut self, events: &[Arc<LogEvent>]) {
        for event in events {
            if let LogEvent::Fragment(fragment) = &**event {
                self.passed_over += fragment.changes.len() as u64;
            }
        }
    }

    fn take(&mut self, fragments: Vec<Arc<LogEvent>>, position: &Position, wanted: bool, echo: bool) {
        self.position = position.clone();
        self.echoes += u64::from(echo);
        if !wanted {
            return;
        }
        self.transactions += 1;
        let mut pieces = Vec::new();
        for event in fragments {
            let piece = Piece::new(event, position.clone());
            if let Some(fragment) = piece.fragment() {
                self.count(fragment);
                self.commit_time = self.commit_time.max(fragment.commit_time);
            }
            pieces.push(piece);
        }
        if let Content::Pieces(own) = &mut self.content {
            own.extend(pieces);
        }
    }
}

/// A transaction that does not fit into a run: found to its end, without keeping it.
fn large(queue: &Queue, from: u64, how: Gathering<'_>) -> Result<Gathered> {
    let mut run = Run::new(from, queue.read_up_to().get().position);
    run.content = Content::Large;
    let mut at = from;
    loop {
        let events = queue.events(at, queue.limits().run_bytes)?;
        if events.is_empty() {
            // Only whole transactions are visible, but for the one that an obstacle cut off.
            return Ok(Gathered::Nothing);
        }
        for event in &events {
            at += 1;
            match &**event {
                LogEvent::Fragment(fragment) => {
                    run.count(fragment);
                    run.commit_time = fragment.commit_time;
                    let Some(position) = &fragment.position else { continue };
                    run.position = position.clone();
                    run.events.1 = at;
                    let echo = fragment.origin == Origin::Own && how.echoes;
                    if echo || how.skips.contains(position) {
                        run.echoes = u64::from(echo);
                        run.passed_over = if echo { 0 } else { run.changes as u64 };
                        run.changes = 0;
                        run.content = Content::Pieces(Vec::new());
                    } else {
                        run.transactions = 1;
                    }
                    return Ok(Gathered::Run(run));
                }
                LogEvent::Obstacle(obstacle) => return Ok(Gathered::Obstacle(obstacle.clone())),
                LogEvent::Progress(_) | LogEvent::Held(_) => {}
            }
        }
    }
}
