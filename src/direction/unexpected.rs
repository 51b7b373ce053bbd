//! The keys of a run that are not as it expects: which these are, and having them settled.

use std::collections::BTreeSet;

use pontoon_core::Result;
use tokio::{sync::oneshot, time::Instant};

use super::{
    apply::Direction,
    attempt::{Attempt, Written},
    gather::Run,
    plan::{Net, Place, Plan},
    stored::Holding,
};
use crate::{
    conflict::settle::{self, Request},
    rules::Rule,
};

/// Conflicting keys that are looked for at a time.
const CONFLICTS_MAX: usize = 10_000;

impl Direction {
    /// Which of the run's keys are not as it expects, in a transaction of its own that writes nothing.
    pub(super) async fn conflicts(
        &mut self,
        run: &Run,
        tried: BTreeSet<Place>,
        holding: &mut Holding<'_>,
    ) -> Result<Attempt> {
        let shared = self.shared.clone();
        let (mut found, mut links, mut met) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        self.begin(None).await?;
        let mut at = run.events.0;
        while found.len() < CONFLICTS_MAX {
            let (pieces, next) = run.chunk(&shared.queues[self.source], at)?;
            let plan = self.planned(|planner| planner.plan(&pieces, holding))?;
            holding.forget();
            let expected = plan.expected();
            let first = expected.into_iter().filter(|(place, _)| !met.contains(*place)).collect::<Vec<_>>();
            found.extend(self.differing(&first).await?);
            found.extend(plan.unlinked.iter().cloned());
            if !run.is_large() || next >= run.events.1 {
                links.extend(plan.links.iter().cloned());
                break;
            }
            met.extend(first.into_iter().map(|(place, _)| place.clone()));
            links.extend(plan.links.iter().cloned());
            at = next;
        }
        self.roll_back().await?;
        if found.is_empty() {
            return Ok(Attempt::Fruitless(tried));
        }
        close_over(&mut found, &links);
        Ok(Attempt::Conflicts(found))
    }

    /// The places whose row is not the expected one, looked at under their locks.
    pub(super) async fn differing(&mut self, expected: &[(&Place, &Net)]) -> Result<Vec<Place>> {
        let shared = self.shared.clone();
        let session = self.session()?;
        let mut differing = Vec::new();
        for same_table in expected.chunk_by(|(a, _), (b, _)| a.0 == b.0) {
            let Some((first, _)) = same_table.first() else { continue };
            let keys: Vec<_> = same_table.iter().map(|(place, _)| place.1.clone()).collect();
            let rows = session.lock(first.0, &keys).await?;
            let policy = shared.policies.get(first.0.index());
            let pairs = same_table.iter().zip(rows).filter(|((_, net), row)| !net.takes(row.as_ref(), policy));
            differing.extend(pairs.map(|((place, _), _)| (*place).clone()));
        }
        Ok(differing)
    }

    /// What of the plan left a row that refers to nothing. Who else is part of that, the settlement finds.
    pub(super) async fn references(&mut self, plan: &Plan) -> Result<Written> {
        let shared = self.shared.clone();
        let looking = shared.looking(self.target());
        if looking.at_nothing() || !shared.rules.has(Rule::References) {
            return Ok(Written::All);
        }
        let written = plan.in_all();
        let written = written.iter().map(|(place, (before, after))| (*place, *before, *after));
        let broken = looking.broken(self.session()?.as_mut(), written).await?;
        if broken.is_empty() {
            return Ok(Written::All);
        }
        let mut keys: BTreeSet<Place> = broken.into_iter().flat_map(|broken| broken.by).collect();
        close_over(&mut keys, &plan.links);
        Ok(Written::Conflicts(keys))
    }

    /// Has keys settled; they are those of rows that a copy brings, or of a run that met them after the record of this number.
    pub(crate) async fn settle(&mut self, keys: BTreeSet<Place>, met_after: Option<i64>) {
        let keys: Vec<Place> = keys.into_iter().collect();
        for keys in keys.chunks(settle::KEYS_MAX) {
            let (settled, answer) = oneshot::channel();
            let request = Request { keys: keys.iter().cloned().collect(), source: self.source, met_after, settled };
            or_never(self.settler.send(request).await).await;
            or_never(answer.await).await;
        }
        self.used = Instant::now();
    }
}

/// Adds the keys that a change joined to one of the conflicting ones: they stand or fall together.
pub(crate) fn close_over(keys: &mut BTreeSet<Place>, links: &[(Place, Place)]) {
    loop {
        let before = keys.len();
        for (from, to) in links {
            if keys.contains(from) || keys.contains(to) {
                keys.extend([from.clone(), to.clone()]);
            }
        }
        if keys.len() == before {
            return;
        }
    }
}

/// What the settler said. Where it is gone, it has failed, and it is its own error that ends the bridge's session: an
/// error from here might come first, and one that needs a person would be taken for one that passes.
async fn or_never<T, E>(said: std::result::Result<T, E>) -> T {
    match said {
        Ok(said) => said,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use pontoon_core::Error;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_settler_that_is_gone_says_nothing() {
        let (settled, answer) = oneshot::channel::<()>();
        drop(settled);
        let waited = tokio::time::timeout(std::time::Duration::from_secs(3_600), or_never(answer.await));
        assert!(waited.await.is_err());
        assert_eq!(or_never::<_, Error>(Ok(1)).await, 1);
    }
}
