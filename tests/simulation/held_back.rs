//! A bridge that is held back, by the hour, by a busy target and by logs that take long to open: nothing is applied meanwhile, all of it afterwards, and nobody
//! has to start it again.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pontoon::{
    bridge,
    conflict::policy::{Policy, RowRule},
    event::{EngineEvent, Observer},
    held_back::Restraints,
    rules::Rules,
    side::{Pair, Side},
    windows::Windows,
};
use pontoon_core::{
    Code, Error,
    pressure::{Pressure, PressureLimits},
};
use pontoon_faulty::Sites;
use pontoon_memory::{Database, Dice, Faults, database::Clock};
use tokio::time::{Instant, sleep};

use crate::{columns, link::Link, schedule::Workload, world::place};

/// What is told of each direction, and how often a session began.
#[derive(Default)]
struct Told(Mutex<(Pair<Option<String>>, u32)>);

impl Observer for Told {
    fn observe(&self, event: &EngineEvent<'_>) {
        let mut told = self.0.lock().unwrap();
        match event {
            EngineEvent::HeldBack { source, why } => told.0[*source] = why.map(ToString::to_string),
            EngineEvent::Active => told.1 += 1,
            _ => {}
        }
    }
}

struct Held {
    nodes: Pair<Arc<Database>>,
    told: Arc<Told>,
}

impl Held {
    fn begin(restraints: impl FnOnce() -> Restraints) -> Held {
        Held::begin_with(Faults::default(), restraints)
    }

    fn begin_with(faults: Faults, restraints: impl FnOnce() -> Restraints) -> Held {
        let dice = Dice::new(7, faults);
        let node = |side: Side| Database::new(["a", "b"][side as usize], dice.clone(), Clock::Skewed(0));
        let nodes = Pair::from_fn(node);
        let link = Link::new(nodes.clone());
        let told = Arc::new(Told::default());
        let policy = Policy::of_rows(RowRule::LastWriterWins);
        let plan = link.plan(&Arc::new(Sites::default()), Workload::Register, policy, Rules::ALL, told.clone());
        tokio::spawn(bridge::run(bridge::Plan { restraints: restraints(), ..plan }, std::future::pending()));
        Held { nodes, told }
    }

    fn write(&self, side: Side, key: i64) {
        let row = columns::row(Workload::Register, key, "written", "written");
        self.nodes[side].write_at(key, [(place(key), Some(row))]);
    }

    /// Which of some keys a node has.
    fn has(&self, side: Side, keys: &[i64]) -> Vec<bool> {
        let rows = self.nodes[side].rows();
        keys.iter().map(|key| rows.contains_key(&place(*key))).collect()
    }

    fn why(&self, source: Side) -> Option<String> {
        self.told.0.lock().unwrap().0[source].clone()
    }

    fn sessions(&self) -> u32 {
        self.told.0.lock().unwrap().1
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// 2026-11-30 11:00 UTC, a Monday, in microseconds.
const MONDAY_AT_11: i64 = 1_796_036_400_000_000;

#[tokio::test(start_paused = true)]
async fn nothing_is_applied_at_other_hours() {
    let held = Held::begin(|| {
        let began = Instant::now();
        let mut windows = Windows::default();
        assert!(windows.add("Mon 12:00-12:30"));
        let clock = Arc::new(move || MONDAY_AT_11 + i64::try_from(began.elapsed().as_micros()).unwrap());
        Restraints { windows, pressure: Pair::default(), clock }
    });
    sleep(MINUTE).await;
    held.write(Side::A, 1);
    held.write(Side::B, 2);
    sleep(58 * MINUTE).await;
    assert_eq!((held.has(Side::B, &[1]), held.has(Side::A, &[2])), (vec![false], vec![false]), "11:59");
    assert_eq!(held.why(Side::A).as_deref(), Some("the next window opens at 2026-11-30T12:00:00Z"));
    sleep(2 * MINUTE).await;
    assert_eq!((held.has(Side::B, &[1]), held.has(Side::A, &[2])), (vec![true], vec![true]), "12:01");
    assert_eq!(held.why(Side::A), None);
    sleep(30 * MINUTE).await;
    held.write(Side::A, 3);
    sleep(60 * MINUTE).await;
    assert_eq!(held.has(Side::B, &[3]), [false], "13:31");
    assert_eq!(held.why(Side::B).as_deref(), Some("the next window opens at 2026-12-07T12:00:00Z"));
    assert_eq!(held.sessions(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_applied_to_who_is_busy() {
    let held = Held::begin(|| {
        let limits = PressureLimits { load: Some(25), ..PressureLimits::default() };
        Restraints { windows: Windows::default(), pressure: Pair::from_fn(|_| limits.clone()), clock: Arc::new(|| 0) }
    });
    let busy = |load| held.nodes[Side::B].is_busy(Ok(Pressure { replica_lag: None, load: Some(load) }));
    let mut key = 0;
    let mut write = || {
        key += 2;
        held.write(Side::A, key);
        held.write(Side::B, key + 1);
        key
    };
    for (change, why) in [
        (Box::new(|| busy(26)) as Box<dyn Fn()>, "b: it carries out 26 statements, more than 25"),
        (
            Box::new(|| held.nodes[Side::B].is_busy(Err(Error::new(Code::ServerBusy, "too many connections")))),
            "it is not known how busy the target is: b: too many connections [server-busy]",
        ),
    ] {
        change();
        sleep(MINUTE / 10).await;
        let key = write();
        sleep(MINUTE).await;
        assert_eq!((held.has(Side::B, &[key]), held.has(Side::A, &[key + 1])), (vec![false], vec![true]), "{why}");
        assert_eq!((held.why(Side::A).as_deref(), held.why(Side::B)), (Some(why), None));
        busy(25);
        sleep(MINUTE).await;
        assert_eq!((held.has(Side::B, &[key]), held.why(Side::A)), (vec![true], None));
    }
    assert_eq!(held.sessions(), 1, "a question that fails ends nothing");
}

#[tokio::test(start_paused = true)]
async fn leases_last_while_logs_are_opened() {
    let unrestrained = || Restraints { windows: Windows::default(), pressure: Pair::default(), clock: Arc::new(|| 0) };
    let held = Held::begin_with(Faults { open: MINUTE, ..Faults::default() }, unrestrained);
    held.write(Side::A, 1);
    sleep(6 * MINUTE).await;
    assert_eq!((held.sessions(), held.has(Side::B, &[1])), (1, vec![true]));
}
