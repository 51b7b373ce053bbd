//! What no log can reach any more is taken out of force, and forgotten in its time.
//!
//! A record is in force until the checkpoints on both nodes have passed its fences: until then a change that it covers
//! may come out of a log. It goes out of force on A first and then on B, so that a record on B alone never looks half done
//! (rule `Prune`). After that it is history: it is kept as long as the operator wants, but for the last one, whose number
//! is not to be given again.

use std::time::Duration;

use pontoon_core::{Code, Result, Tag, history::Retention, node::Session};
use tokio::time::Instant;

use super::settle::{Settler, outcome_unknown};
use crate::{rules::Rule, side::Side};

/// Often enough that the table of records in force stays small, seldom enough to cost nothing.
pub(super) const PRUNE_EVERY: Duration = Duration::from_secs(5);

/// Records that one transaction takes out of force, or removes.
const PRUNE_MAX: usize = 1_000;

/// How often it is looked whether a record has become too old, while none is added: nobody minds an hour.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

impl Settler {
    /// Takes out of force what no log can reach any more: on A first, then on B; and forgets what need not be kept.
    pub(super) async fn prune(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let prunable = shared.resolutions.prunable(&shared.durable(), shared.rules.has(Rule::Prune));
        let is_due = self.forgot.is_none_or(|at| at.elapsed() > FORGET_EVERY);
        let forgets = is_due || !prunable.a.is_empty() || !prunable.b.is_empty();
        for (side, ids) in [(Side::A, prunable.a), (Side::B, prunable.b)] {
            for ids in ids.chunks(PRUNE_MAX) {
                self.open().await?;
                let done = retire(self.session(side)?, ids).await;
                if self.unless_contended(side, done).await?.is_some() {
                    shared.resolutions.retired(side, ids);
                }
            }
        }
        if forgets && shared.retention != Retention::default() {
            self.forget().await?;
        }
        Ok(())
    }

    /// Removes records that need not be kept, some at a time.
    async fn forget(&mut self) -> Result<()> {
        let keep = self.shared.retention;
        for side in Side::BOTH {
            loop {
                self.open().await?;
                let done = forget(self.session(side)?, &keep).await;
                if self.unless_contended(side, done).await?.is_none_or(|removed| removed < PRUNE_MAX as u64) {
                    break;
                }
            }
        }
        self.forgot = Some(Instant::now());
        Ok(())
    }

    /// What a transaction of pruning came to; `None`: something was in its way, and it has time.
    pub(super) async fn unless_contended<T>(&mut self, side: Side, done: Result<T>) -> Result<Option<T>> {
        self.used = Instant::now();
        match done {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.code() == Code::Contention => {
                tracing::debug!(%error, "pruning waits");
                self.session(side)?.rollback().await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

async fn retire(session: &mut Box<dyn Session>, ids: &[i64]) -> Result<()> {
    session.begin(Some(&Tag::ALONE)).await?;
    session.retire(ids).await?;
    session.commit().await.map_err(outcome_unknown)
}

async fn forget(session: &mut Box<dyn Session>, keep: &Retention) -> Result<u64> {
    session.begin(Some(&Tag::ALONE)).await?;
    let removed = session.forget(keep, PRUNE_MAX).await?;
    session.commit().await.map_err(outcome_unknown)?;
    Ok(removed)
}
