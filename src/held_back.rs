//! What holds a direction back although nobody has paused it: the hours in which it may apply, and a target that is busy.
//!
//! Nothing is lost by it, since it decides about nothing but when. An applier that is held back finishes the transaction in hand, gives up what it has
//! begun ahead and not committed, so that no transaction stays open on the target, and goes on where it was ([`crate::direction`]); the log goes on being read
//! within the limits of the queue. Pauses are another thing: an operator's word, kept in the database, after which nothing is applied.
//!
//! A server that does not say how busy it is ends no session, and is left alone: the limit is there for a server that has enough to do, and one that
//! does not answer may be that one. It is told why, and shows wherever a limit that is exceeded does. (gh-ost throttles likewise where it cannot read the lag.)

use std::{fmt, sync::Arc, time::Duration};

use pontoon_core::{
    Code, Error, Result, calendar,
    node::Node,
    pressure::{Exceeded, Pressure, PressureLimits},
};
use tokio::time::{sleep, timeout};

use crate::{
    bridge::Shared,
    event::EngineEvent,
    side::{Pair, Side},
    windows::Windows,
};

/// How often it is looked. The question costs a server little, and what can be applied in between is what a busy server has to bear.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A server that takes longer to say how busy it is, is.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A wall clock, in microseconds since 1970 UTC.
pub type WallClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// When a bridge is to apply nothing.
#[derive(Clone)]
pub struct Restraints {
    /// The hours in which it may.
    pub windows: Windows,
    /// What each node may bear to be written to.
    pub pressure: Pair<PressureLimits>,
    /// What the windows go by.
    pub clock: WallClock,
}

/// Why a direction applies nothing for now.
#[derive(Debug, Clone, PartialEq)]
pub enum HeldBack {
    /// It may not at this hour.
    Window {
        /// When it may, in microseconds since 1970 UTC.
        opens: i64,
    },
    /// The node that it goes to is busy.
    Pressure(String, Exceeded),
    /// That node does not say how busy it is.
    NotKnown(Error),
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeldBack::Window { opens } => write!(f, "the next window opens at {}", calendar::format_instant(*opens)),
            HeldBack::Pressure(node, exceeded) => write!(f, "{node}: {exceeded}"),
            HeldBack::NotKnown(error) => write!(f, "it is not known how busy the target is: {error}"),
        }
    }
}

impl Restraints {
    fn are_none(&self) -> bool {
        self.windows.is_none() && self.pressure.iter().all(PressureLimits::is_none)
    }
}

/// Looks at the beginning of a session, before anything is applied.
pub(crate) async fn look(shared: &Shared) {
    let of = |source: Side| async move {
        let why = match shared.reads[source] {
            true => why(shared, source).await,
            false => None,
        };
        let held = &shared.held_back[source];
        if held.get() != why.is_some() {
            held.set(why.is_some());
        }
        shared.observe(&EngineEvent::HeldBack { source, why: why.as_ref() });
    };
    // One that does not answer does not hold up the other direction.
    tokio::join!(of(Side::A), of(Side::B));
}

/// And from then on.
pub(crate) async fn watch(shared: Arc<Shared>) -> Result<()> {
    if shared.restraints.are_none() {
        return std::future::pending().await;
    }
    loop {
        look(&shared).await;
        sleep(LOOK_EVERY).await;
    }
}

/// How busy a node is. Errors: among others, it takes too long to say so, or the user may not ask it.
pub(crate) async fn ask(node: &dyn Node, limits: &PressureLimits) -> Result<Pressure> {
    let late = |_| Err(Error::new(Code::ServerBusy, format!("no answer within {} s", ANSWER_WITHIN.as_secs())));
    timeout(ANSWER_WITHIN, node.pressure(limits)).await.unwrap_or_else(late)
}

/// What holds back what comes from a side.
async fn why(shared: &Shared, source: Side) -> Option<HeldBack> {
    let Restraints { windows, pressure, clock } = &shared.restraints;
    if let Some(opens) = windows.opens(clock()) {
        return Some(HeldBack::Window { opens });
    }
    let (target, limits) = (source.other(), &pressure[source.other()]);
    if limits.is_none() {
        return None;
    }
    match ask(&*shared.nodes[target], limits).await {
        Ok(pressure) => {
            let exceeded = limits.exceeded(&pressure)?;
            Some(HeldBack::Pressure(shared.names[target].clone(), exceeded))
        }
        Err(error) => Some(HeldBack::NotKnown(error.at(&shared.names[target]))),
    }
}
