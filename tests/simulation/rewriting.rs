//! An application on each node that rewrites what the bridge brings of one row, in a transaction of its own: each answers the
//! other for ever, unless the watchdog stops the row.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use pontoon_core::{Row, Value, quarantine::Ask};
use pontoon_memory::{
    Database, Dice,
    database::{Entry, Kept, Place},
};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    checkers,
    schedule::Workload,
    world::{HEAL_MAX, REST_MAX, World, or_ended, place},
};

/// Virtual time in which what goes round is stopped: many times what it takes.
const STOPPED_MAX: Duration = Duration::from_secs(300);

/// Virtual time in which a row that goes round would be written many times.
const IDLE: Duration = Duration::from_secs(30);

/// The row that is rewritten.
fn rewritten() -> Place {
    place(0)
}

/// Starts the applications.
pub(crate) fn jobs(world: &World, dice: &Dice) -> JoinSet<()> {
    let mut jobs = JoinSet::new();
    if world.schedule.workload == Workload::Rewritten {
        world.nodes.iter().for_each(|node| {
            jobs.spawn(job(node.clone(), dice.clone()));
        });
    }
    jobs
}

async fn job(node: Arc<Database>, dice: Dice) {
    let (mut read, mut answers) = (0, 0);
    loop {
        let arrived =
            |entry: &Entry| entry.origin.is_some() && entry.changes.iter().any(|change| change.place == rewritten());
        let more = node.log_from(read);
        let due = more.iter().any(arrived);
        read += more.len();
        while due && node.rows().contains_key(&rewritten()) {
            sleep(dice.duration(Duration::from_millis(50))).await;
            answers += 1;
            if write(&node, &format!("{} answers {answers}", node.name)).await {
                break;
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Writes the row, if it is there. `false`: it gave up, as applications do now and then.
async fn write(node: &Arc<Database>, value: &str) -> bool {
    let changed = |row: &Row| {
        let mut row = row.clone();
        row.0[2] = Value::Text(value.into());
        row
    };
    let written = node.transact(&[rewritten()], |rows| vec![rows[0].as_ref().map(changed)]).await;
    written.is_ok_and(|changes| !changes.is_empty())
}

/// What goes round is stopped, everything else goes on, and an operator ends it.
pub(crate) async fn runs_its_course(
    world: &World,
    mut ended: impl Future<Output = String> + Unpin,
    jobs: &mut JoinSet<()>,
) -> Result<(), String> {
    or_ended(&mut ended, STOPPED_MAX, "what goes round is never stopped", is_stopped(world)).await??;
    or_ended(&mut ended, REST_MAX, "it never came to rest when it was stopped", world.rest()).await?;
    it_rests(world).await?;
    or_ended(&mut ended, REST_MAX, "other rows do not go on", world.rest()).await?;
    checkers::every_other_key_went_on(world)?;
    goes_on(world, jobs);
    or_ended(&mut ended, HEAL_MAX, "what an operator has go on is not out of quarantine", world.healed()).await
}

/// Sets the row going round once more.
async fn set_going(world: &World) {
    let node = &world.nodes[0];
    while !write(node, "once more").await {
        if !node.rows().contains_key(&rewritten()) {
            let _ = node.transact(&[rewritten()], |_| vec![Some(world.first_row(0))]).await;
        }
    }
}

/// Waits until the row is stopped and nothing else is. It is set going again where a write that was yet to cross removed it.
async fn is_stopped(world: &World) -> Result<(), String> {
    set_going(world).await;
    loop {
        if world.nodes.iter().all(|node| !node.rows().contains_key(&rewritten())) {
            set_going(world).await;
        }
        let held: BTreeSet<Place> = world.links.iter().flat_map(checkers::quarantined).collect();
        if held == BTreeSet::from([rewritten()]) {
            return Ok(());
        }
        if let Some(other) = held.into_iter().find(|place| *place != rewritten()) {
            return Err(format!("{other:?} is in quarantine"));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The row is at rest, and every other one goes on.
async fn it_rests(world: &World) -> Result<(), String> {
    let answers = || world.nodes.iter().map(|node| node.log().len()).sum::<usize>();
    let before = answers();
    sleep(IDLE).await;
    if answers() != before {
        return Err("it goes round although it is in quarantine".into());
    }
    let mut row = world.first_row(1);
    row.0[1] = Value::Text("goes on".into());
    loop {
        let written = world.nodes[1].transact(&[place(1)], |_| vec![Some(row.clone())]).await;
        if written.is_ok_and(|changes| !changes.is_empty()) {
            return Ok(());
        }
    }
}

/// Who rewrote it is stopped, and an operator has it go on.
fn goes_on(world: &World, jobs: &mut JoinSet<()>) {
    jobs.abort_all();
    for link in &world.links {
        for node in link.nodes.iter() {
            let ids: Vec<i64> = node.quarantine(&link.name).iter().map(|kept: &Kept| kept.stored.id).collect();
            node.ask(&link.name, &ids, Ask::Retry);
        }
    }
}
