//! Which process works: it has the lease of both nodes, shows that it lives, and has shut out whoever had it before.

use std::{sync::Arc, time::Duration};

use pontoon_core::{
    Error, Result,
    node::{Lease, LeaseAttempt},
    state::NodeState,
};
use tokio::time::{Instant, sleep};

use super::{Plan, Shared, states};
use crate::{
    epoch,
    event::EngineEvent,
    rules::Rule,
    side::{Pair, Side},
};

/// How often a process that stands by looks whether the lease is free: a take-over within seconds, at
/// the cost of one statement.
const STAND_BY: Duration = Duration::from_secs(1);

/// How often the holder shows that it lives; a third of the shortest of the servers' idle time-outs.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// Waits until this process is the one that works, on A and then on B.
pub(crate) async fn take(plan: &Plan) -> Result<Vec<Box<dyn Lease>>> {
    let mut leases = Vec::new();
    for side in Side::BOTH {
        let mut told = false;
        loop {
            match plan.nodes[side].try_lease().await.map_err(|error| error.at(plan.nodes[side].name()))? {
                LeaseAttempt::Ours(lease) => {
                    leases.push(lease);
                    break;
                }
                LeaseAttempt::HeldBy(holder) => {
                    if !told {
                        plan.observer.observe(&EngineEvent::StandingBy { holder: &holder });
                        told = true;
                    }
                    renew(&mut leases).await?;
                    sleep(STAND_BY).await;
                }
            }
        }
    }
    Ok(leases)
}

async fn renew(leases: &mut [Box<dyn Lease>]) -> Result<()> {
    for lease in leases {
        lease.renew().await?;
    }
    Ok(())
}

/// Renews leases until that fails.
pub(crate) async fn renewing(leases: &mut [Box<dyn Lease>]) -> Error {
    loop {
        sleep(RENEW_EVERY).await;
        if let Err(error) = renew(leases).await {
            return error;
        }
    }
}

/// Shuts earlier processes out of both nodes, and only then reads what they left (rule `TakeOver`).
pub(crate) async fn take_over(plan: &Plan, leases: &mut [Box<dyn Lease>]) -> Result<(Pair<i64>, Pair<NodeState>)> {
    let mut found = Pair::default();
    if !plan.rules.has(Rule::TakeOver) {
        found = states::read(&plan.nodes, &plan.tables).await?;
    }
    let mut tokens = Pair::default();
    for (side, lease) in Side::BOTH.into_iter().zip(leases) {
        let token = lease.take_over(&plan.holder).await;
        tokens[side] = token.map_err(|error| error.at(plan.nodes[side].name()))?;
    }
    if plan.rules.has(Rule::TakeOver) {
        found = states::read(&plan.nodes, &plan.tables).await?;
    }
    Ok((tokens, found))
}

/// Renews the leases of a session as long as it lasts, and has each node's epoch raised now and then.
pub(crate) async fn keep(shared: Arc<Shared>, mut leases: Vec<Box<dyn Lease>>) -> Result<()> {
    let (mut raised, mut durable) = (Instant::now(), shared.durable());
    loop {
        sleep(RENEW_EVERY).await;
        renew(&mut leases).await?;
        let now = shared.durable();
        if now != durable && raised.elapsed() >= epoch::RAISE_EVERY {
            epoch::raise(&shared.nodes, &mut leases).await?;
            (raised, durable) = (Instant::now(), now);
        }
    }
}
