//! What is done about a run that the target refuses: its transactions one by one, and of one that is refused the changes
//! one by one, as they came.
//!
//! Where rows only take unique values from each other (two that swap them), it is enough to have them given up first, or
//! to write the changes in their own order. Of two rows that truly cannot both live the table's rule may decide: then
//! both keys are settled.
//!
//! Each is written behind a savepoint. One that the target refuses is taken back alone, and its key is in quarantine
//! with it: the change is stored, and so is all that follows of the key. The rest of the transaction is applied as it
//! came, in the same target transaction.

use std::{collections::BTreeSet, time::Duration};

use pontoon_core::{Change, Class, Error, Result, TableId, node::Applied};

use super::{
    apply::Direction,
    attempt::{Way, Written},
    gather::{Piece, Run},
    plan::{Hold, InLog, Place, Plan},
    stored::Holding,
    unexpected::close_over,
};
use crate::{
    bridge::Shared,
    conflict::{
        holders,
        policy::{Policy, RowRule, UniqueRule},
        quarantine::OnError,
    },
    side::Side,
};

/// How long what follows a refused change is waited for: it may be its mend.
const READ_ON_WAIT: Duration = Duration::from_secs(5);

impl Direction {
    /// Applies a run as one transaction. Where the data is refused, its transactions are applied one by
    /// one, and the changes of the one that cannot be too, to find those that are refused.
    ///
    /// Before that, what else there is in the log is read: a row that has been mended since, or taken away, comes
    /// out well together with its mend. `false`: it is to be gathered again.
    pub(super) async fn apply(&mut self, run: &Run) -> Result<bool> {
        let Some(refused) = self.applied(run, Way::Collapsed).await? else { return Ok(true) };
        if self.read_on != Some(self.at) {
            self.read_on = Some(self.at);
            read_to_the_end(&self.shared.clone(), self.source).await?;
            return Ok(false);
        }
        tracing::debug!(error = %refused, "applied in other ways, to get by or to find the change");
        if self.is_unique(&refused) && self.applied(run, Way::Vacated).await?.is_none() {
            return Ok(true);
        }
        let parts = run.split(&self.shared.queues[self.source], &|fragment| self.told_of(fragment))?;
        for part in parts {
            if part.changes == 0 && self.held_own_writes(&part)?.is_empty() {
                continue;
            }
            let Some(refused) = self.applied(&part, Way::Collapsed).await? else { continue };
            if self.is_unique(&refused) && self.applied(&part, Way::Vacated).await?.is_none() {
                continue;
            }
            self.apply_way(&part, Way::OneByOne).await?;
        }
        Ok(true)
    }

    /// Applies a run; or says why the data is refused.
    async fn applied(&mut self, run: &Run, way: Way) -> Result<Option<Error>> {
        match self.apply_way(run, way).await {
            Err(error) if error.class() == Class::Definite => Ok(Some(error)),
            done => done.map(|()| None),
        }
    }

    pub(super) async fn write_one_by_one(&mut self, pieces: &[Piece], holding: &mut Holding<'_>) -> Result<Written> {
        for piece in pieces {
            for change in piece.fragment().into_iter().flat_map(|fragment| &fragment.changes) {
                match self.write_one(piece, change, holding).await? {
                    Written::All => {}
                    other => return Ok(other),
                }
            }
        }
        Ok(Written::All)
    }

    async fn write_one(&mut self, piece: &Piece, change: &Change, holding: &mut Holding<'_>) -> Result<Written> {
        let plan = self.planned(|planner| planner.plan_one(change, piece, holding))?;
        holding.leaves_out(&plan);
        let Some(stage) = plan.stages.first() else { return Ok(Written::All) };
        let places: BTreeSet<Place> = stage.keys().cloned().collect();
        if !plan.incomparable.is_empty() {
            let mut keys = plan.incomparable;
            close_over(&mut keys, &plan.links);
            return Ok(Written::Conflicts(keys));
        }
        if let Some(misfit) = &plan.misfit {
            self.refuse(piece, change, &plan, misfit.clone(), holding)?;
            return Ok(Written::All);
        }
        self.session()?.savepoint().await?;
        match self.write(&plan, &[]).await {
            Ok(Applied::All) => self.written(&plan).await,
            Ok(Applied::Missed) => Ok(Written::Missed(places)),
            Err(error) if error.is_of_a_row() => {
                self.session()?.rollback_to_savepoint().await?;
                if self.is_decided(&error, change.table) {
                    let mut keys = places;
                    close_over(&mut keys, &plan.links);
                    return Ok(Written::Conflicts(keys));
                }
                let error = self.named(error, piece, &places);
                self.refuse(piece, change, &plan, error, holding)?;
                Ok(Written::All)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a unique constraint is why.
    fn is_unique(&self, error: &Error) -> bool {
        holders::is_unique(&self.shared.tables[self.target()], error)
    }

    /// Whether the rule of the table decides between a row that is refused and the one that has its unique values.
    fn is_decided(&self, error: &Error, table: TableId) -> bool {
        let policy = self.shared.policies.get(table.index());
        let by_rule = |policy: &Policy| policy.unique == UniqueRule::Rule && policy.row != RowRule::Quarantine;
        policy.is_some_and(by_rule) && self.is_unique(error)
    }

    /// Puts what the change does to its keys into quarantine. Errors: the table's rows stop the bridge.
    fn refuse(
        &self,
        piece: &Piece,
        change: &Change,
        plan: &Plan,
        error: Error,
        holding: &mut Holding<'_>,
    ) -> Result<()> {
        if self.shared.on_error[change.table.index()] == OnError::Stop {
            return Err(error);
        }
        let Some(fragment) = piece.fragment() else { return Err(error) };
        let parts = plan.stages.iter().flatten().map(|(place, net)| (place.clone(), net.clone())).collect();
        holding.store(change, parts, InLog { fragment, position: &piece.position }, Some(&error))
    }

    /// The error with what was refused before it, and a remedy.
    fn named(&self, error: Error, piece: &Piece, places: &BTreeSet<Place>) -> Error {
        let keys = places.iter().map(|(table, key)| {
            let name = self.shared.tables[self.target()].get(table.index()).map_or("?", |table| &*table.label);
            format!("{name} key ({key})")
        });
        let error = error.at(format!("{} at {}", keys.collect::<Vec<_>>().join(", "), piece.position));
        if error.remedy().is_some() {
            return error;
        }
        error.hint("mend the obstacle on the target and start again; or pass over the transaction with pontoon skip")
    }
}

/// Waits until the reader is where the log ends now, but not for long.
async fn read_to_the_end(shared: &Shared, source: Side) -> Result<()> {
    let end = shared.nodes[source].log_status(None).await?.end;
    let mut stopping = shared.stopping.clone();
    tokio::select! {
        biased;
        _ = stopping.wait_for(|stop| *stop) => {}
        _ = tokio::time::timeout(READ_ON_WAIT, shared.has_read(source, &end)) => {}
    }
    Ok(())
}
