//! A log that is read only to be looked at.

use std::{collections::VecDeque, sync::Arc};

use pontoon_core::{LogEvent, Position, Result, node::LogReader};

use super::queue::{Limits, Queue};
use crate::config;

/// Bytes of memory that a look takes at the most: a block in hand, and as much again for what is undecided.
const MEMORY_MAX: usize = 1 << 20;

/// A reader whose events come out of a queue of its own: whole transactions, each at its commit.
pub(crate) struct Look {
    reader: Box<dyn LogReader>,
    queue: Queue,
    /// The number after the last event that was taken out.
    at: u64,
    ready: VecDeque<Arc<LogEvent>>,
}

impl Look {
    pub(crate) fn new(reader: Box<dyn LogReader>, limits: &config::Limits) -> Self {
        let folder = &limits.spill_dir;
        let limits = Limits::new(MEMORY_MAX, limits.spill_bytes);
        // Nobody asks how far it has read.
        let queue = Queue::new(Position::Index(0), limits, folder);
        Look { reader, queue, at: 0, ready: VecDeque::new() }
    }

    /// The next event, never one of an undecided transaction. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Arc<LogEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            self.queue.release(self.at);
            let events = self.queue.events(self.at, self.queue.limits().run_bytes)?;
            if !events.is_empty() {
                self.at += events.len() as u64;
                self.ready.extend(events);
                continue;
            }
            let event = self.reader.next().await?;
            self.queue.push(event)?;
            if self.queue.is_full() {
                self.queue.stuck_check()?;
            }
        }
    }
}
