//! Reads the log of one slot: the connection's part. What becomes of the messages is `log::assemble`'s.
//!
//! Only what `confirm` was given is reported as flushed, so the slot never lets go of more. What it needs of
//! transactions that are undecided it keeps of itself: its restart position is that of the oldest one under way
//! (`SnapBuildProcessRunningXacts` of snapbuild.c).

use std::time::Duration;

use async_trait::async_trait;
use pontoon_core::{Code, Error, LogEvent, Position, Result, node::LogReader};
use tokio::time::{Instant, sleep_until};

use crate::{
    connect::{Role, Target},
    log::{
        assemble::{Assembler, Reading},
        pgoutput::Malformed,
        stream::{self, Status},
        wire::Wire,
    },
    watch,
};

/// How often the server is told what is durable, and asked how far it is. Once a second costs nothing,
/// and an idle link shows progress well within the few seconds that the engine counts on.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Questions in a row that a server may leave unanswered; they are a second apart. More than anything
/// takes that keeps a server from answering, such as reading a large transaction back from its disk.
const UNANSWERED_MAX: u32 = 60;

/// After so many it is asked after them on another connection ([`crate::watch`]).
const UNANSWERED_LATE: u32 = 10;

/// A reader of one slot.
pub(crate) struct Reader {
    wire: Wire,
    log: Assembler,
    /// All before is durable on the other side; until that is told 0, which the server heeds not (`ProcessStandbyReplyMessage` of walsender.c):
    /// reading may begin behind what is still needed.
    durable: u64,
    next_status: Instant,
    /// Questions since the server was last heard of.
    unanswered: u32,
    /// Where the server is, to ask after its answers, and as whom.
    target: Target,
    role: Role,
}

impl Reader {
    pub(crate) fn new(wire: Wire, reading: Reading, target: &Target, role: Role) -> Reader {
        let target = target.clone();
        Reader {
            wire,
            log: Assembler::new(reading),
            durable: 0,
            next_status: Instant::now(),
            unanswered: 0,
            target,
            role,
        }
    }

    async fn queue_status(&mut self) -> Result<()> {
        let late = self.unanswered > 0 && self.unanswered.is_multiple_of(UNANSWERED_LATE);
        if self.unanswered >= UNANSWERED_MAX
            || late && watch::waits_for_us(&self.target, &self.role, self.wire.backend).await
        {
            let text = format!("the server has answered none of {} questions, a second apart", self.unanswered);
            return Err(Error::new(Code::ConnectionLost, text));
        }
        self.next_status = Instant::now() + STATUS_INTERVAL;
        self.unanswered += 1;
        let status = Status { received: self.log.received(), durable: self.durable, reply_wanted: true };
        self.wire.send(&status.encode())
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self) -> Result<LogEvent> {
        loop {
            if let Some(event) = self.log.take() {
                return Ok(event);
            }
            if self.log.has_ended() {
                return Err(Error::new(Code::Internal, "the log was read on after an obstacle"));
            }
            if Instant::now() >= self.next_status {
                self.queue_status().await?;
            }
            self.wire.flush().await?;
            let frame = tokio::select! {
                biased;
                frame = self.wire.receive() => frame?,
                () = sleep_until(self.next_status) => continue,
            };
            self.unanswered = 0;
            let frame = stream::decode(&frame).map_err(Malformed::into_error)?;
            if self.log.frame(&frame)? {
                self.next_status = Instant::now();
            }
        }
    }

    fn confirm(&mut self, durable: &Position) {
        if let Position::Lsn(lsn) = durable {
            self.durable = self.durable.max(*lsn);
        }
    }
}
