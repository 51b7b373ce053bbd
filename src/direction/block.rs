//! Blocks of events, in memory or in the spill file, and the room that they take.

use std::{path::Path, sync::Arc};

use pontoon_core::{Change, Held, LogEvent, Result};

use super::{
    hold::Decision,
    queue::Limits,
    spill::{self, Spill, Spilled},
};

/// What an event costs beyond its changes: its slot, its reference counts, its strings.
pub(super) const EVENT_BYTES: usize = 256;

/// Neighbouring events.
pub(super) struct Block {
    /// The number of the first.
    pub(super) first: u64,
    pub(super) count: u64,
    /// In memory.
    pub(super) bytes: usize,
    content: Content,
}

enum Content {
    Memory(Vec<Arc<LogEvent>>),
    Spilled(Spilled),
    /// Pieces as they were held, and what became of their transaction since.
    Decided(Spilled, Arc<Decision>),
}

impl Block {
    /// An empty one in memory, from that number on.
    pub(super) fn new(first: u64) -> Self {
        Block { first, count: 0, bytes: 0, content: Content::Memory(Vec::new()) }
    }

    /// Adds an event, unless the block is on disk or has so many bytes.
    pub(super) fn add(&mut self, event: Arc<LogEvent>, bytes: usize, bytes_max: usize) -> Result<(), Arc<LogEvent>> {
        match &mut self.content {
            Content::Memory(events) if self.bytes < bytes_max => {
                events.push(event);
                self.count += 1;
                self.bytes += bytes;
                Ok(())
            }
            _ => Err(event),
        }
    }

    /// The events.
    pub(super) fn events(&self) -> Result<Vec<Arc<LogEvent>>> {
        match &self.content {
            Content::Memory(events) => Ok(events.clone()),
            Content::Spilled(spilled) => Ok(spilled.read()?.into_iter().map(Arc::new).collect()),
            Content::Decided(spilled, decision) => {
                Ok(spilled.read()?.into_iter().map(|event| Arc::new(decision.fragment(event))).collect())
            }
        }
    }

    pub(super) fn is_spilled(&self) -> bool {
        !matches!(self.content, Content::Memory(_))
    }

    /// The pieces in it are of a transaction that is decided now.
    pub(super) fn decide(&mut self, decision: &Arc<Decision>) {
        if let Content::Spilled(spilled) = &self.content {
            self.content = Content::Decided(spilled.clone(), decision.clone());
        }
    }
}

/// What one direction may keep, in memory and on disk, and what it keeps.
pub(super) struct Room {
    pub(super) limits: Limits,
    pub(super) memory_bytes: usize,
    pub(super) spill_bytes: u64,
    spill: Spill,
    /// The last block that was to be moved to disk found no room there.
    disk_full: bool,
}

/// So many times the memory's limit is kept at the most while the disk has no room: a reader goes on for as long as a
/// rendezvous waits for it, which is seconds.
const MEMORY_FACTOR: usize = 8;

impl Room {
    pub(super) fn new(limits: Limits, folder: &Path) -> Self {
        Room { limits, memory_bytes: 0, spill_bytes: 0, spill: Spill::new(folder), disk_full: false }
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.memory_bytes >= self.limits.memory_max
    }

    /// Whether there is none left: the spill has reached its limit, or its disk is full and so is the memory.
    pub(super) fn is_full(&self) -> bool {
        self.spill_bytes >= self.limits.spill_max || self.disk_full && self.is_used_up()
    }

    /// Moves a block to disk. `false`: there is no room, and it stays in memory.
    pub(super) fn spill(&mut self, block: &mut Block) -> Result<bool> {
        if let Content::Memory(events) = &block.content {
            let spilled = self.spill.write(events)?;
            self.disk_full = spilled.is_none();
            let Some(spilled) = spilled else {
                let too_much = self.memory_bytes > self.limits.memory_max.saturating_mul(MEMORY_FACTOR);
                return if too_much { Err(spill::disk_full()) } else { Ok(false) };
            };
            self.memory_bytes -= block.bytes;
            self.spill_bytes += spilled.bytes();
            block.content = Content::Spilled(spilled);
        }
        Ok(true)
    }

    /// A block is gone.
    pub(super) fn give_back(&mut self, block: &Block) {
        match &block.content {
            Content::Memory(_) => self.memory_bytes -= block.bytes,
            Content::Spilled(spilled) | Content::Decided(spilled, _) => {
                self.spill_bytes -= spilled.bytes();
                if self.spill_bytes == 0 {
                    self.spill.close_segment();
                }
            }
        }
    }
}

/// Bytes of memory that an event takes.
pub(super) fn event_bytes(event: &LogEvent) -> usize {
    let changes: &[Change] = match event {
        LogEvent::Fragment(fragment) => &fragment.changes,
        LogEvent::Held(Held::Piece { changes, .. }) => changes,
        LogEvent::Progress(_) | LogEvent::Obstacle(_) | LogEvent::Held(_) => &[],
    };
    EVENT_BYTES + changes.iter().map(Change::memory_bytes).sum::<usize>()
}
