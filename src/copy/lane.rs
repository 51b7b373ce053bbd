//! A second session that writes half of a chunk beside the first.
//!
//! The rows of a chunk are in two transactions then, which are committed at the same time. Only when that is known of
//! both the chunk may be noted as arrived: with the rows of the next one, or by itself if it was the last. After a crash in
//! between it comes again, and finds its rows there, just as they are: these need nothing (see the head of
//! [`super`], number 4).
//!
//! Neither waits for the target's disk, where that target can leave it out and its log is not followed: what says that a chunk has arrived is committed behind its
//! rows, and so is not there after a crash of the target unless they are. The last of a table waits, and with it all.

use pontoon_core::{
    Result, Tag,
    node::{Applier, Session},
};
use tokio::time::Instant;

use crate::{
    bridge::{Shared, is_at_hand},
    side::Side,
};

/// Rows of a chunk below which one session does it alone: a transaction more costs as much as some hundred rows.
const ROWS_MIN: usize = 1_000;

pub(crate) struct Lane {
    session: Box<dyn Session>,
    used: Instant,
    is_open: bool,
}

impl Lane {
    /// Whether a chunk is shared out. In a simulation, whose chunks are small, all are.
    pub(super) fn is_worth(shared: &Shared, rows: usize) -> bool {
        rows >= if shared.chunk_rows.is_some() { 2 } else { ROWS_MIN }
    }

    /// Begins a transaction, in a session that was used a moment ago or in a new one.
    pub(super) async fn begin(lane: Option<Lane>, shared: &Shared, target: Side) -> Result<Lane> {
        let mut lane = match lane.filter(|lane| is_at_hand(lane.used)) {
            Some(lane) => lane,
            None => {
                let session = shared.open_session(target, Applier::Beside).await?;
                Lane { session, used: Instant::now(), is_open: false }
            }
        };
        lane.used = Instant::now();
        lane.is_open = true;
        // How far the log is applied, the other session says.
        lane.session.begin(Some(&Tag::ALONE)).await?;
        Ok(lane)
    }

    pub(super) fn session(&mut self) -> &mut dyn Session {
        &mut *self.session
    }

    /// Commits, where something was begun.
    pub(super) async fn commit(&mut self, in_order: bool) -> Result<()> {
        if self.is_open {
            let commit = if in_order { self.session.commit_in_order() } else { self.session.commit() };
            commit.await?;
            self.is_open = false;
        }
        Ok(())
    }

    /// Undoes what is not committed; `None` where the connection is gone, and that with it.
    pub(crate) async fn rolled_back(mut self) -> Option<Lane> {
        if self.is_open && self.session.rollback().await.is_err() {
            return None;
        }
        self.is_open = false;
        Some(self)
    }
}
