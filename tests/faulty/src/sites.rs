//! Which calls were made, and which of them fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The connection is gone before anything has happened.
    Before,
    /// It has happened, and the answer is lost with the connection.
    After,
    /// The connection is lost, and it happens a while later: of commits.
    Later,
    /// It does not: it only takes longer than a session may be idle, as on a server whose disk is full for a while. Only where time passes by itself.
    Slow,
    /// Something cannot be had in time. The connection stays, and the transaction, if there is one, has to be rolled back.
    Contention,
}

impl Fault {
    /// How a call of this method can fail.
    pub fn of(method: &str) -> &'static [Fault] {
        match method {
            "commit" => &[Fault::Before, Fault::After, Fault::Later, Fault::Contention],
            // It only ends what a server would end by itself: there is nothing to wait for.
            "rollback" => &[Fault::Before, Fault::After],
            // A reader that failed is of no more use, however it did, and all is read again from what is durable.
            "next" => &[Fault::Before],
            _ => &[Fault::Before, Fault::After, Fault::Contention],
        }
    }
}

/// A call: which method of which node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// The node's name.
    pub node: String,
    /// The method's name.
    pub method: &'static str,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.method, self.node)
    }
}

/// The calls of a run, in their order, and those that fail.
#[derive(Default)]
pub struct Sites {
    calls: Mutex<Calls>,
    closed: AtomicBool,
    /// Nodes to which directions write nothing for now.
    held: Mutex<BTreeSet<String>>,
    stop: Mutex<Stop>,
}

#[derive(Default)]
struct Calls {
    met: Vec<Site>,
    /// By the number of the call.
    failing: BTreeMap<usize, Fault>,
    armed: Vec<Arming>,
}

/// A call to come that fails.
struct Arming {
    site: Site,
    /// Calls up to the one that fails.
    left: usize,
    fault: Fault,
    hit: watch::Sender<bool>,
}

/// A call that is to fail now. When this is dropped it has, with all that comes of it, and who waits for it is told.
pub(crate) struct Due {
    pub(crate) fault: Fault,
    hit: Option<watch::Sender<bool>>,
}

impl Drop for Due {
    fn drop(&mut self) {
        if let Some(hit) = &self.hit {
            hit.send_replace(true);
        }
    }
}

/// Tells whether a call that was to fail has failed. When dropped before, it no longer is to.
pub struct Armed(watch::Receiver<bool>);

impl Armed {
    /// Waits until the call has been made and has failed; a commit that goes on without its connection, until that is
    /// over.
    pub async fn hit(&mut self) {
        if self.0.wait_for(|hit| *hit).await.is_err() {
            // It never will.
            std::future::pending().await
        }
    }

    /// Whether it has.
    pub fn is_hit(&self) -> bool {
        *self.0.borrow()
    }
}

/// Where a process is to stop for good.
#[derive(Default, PartialEq, Eq)]
enum Stop {
    #[default]
    Never,
    /// Before a settlement is committed on this node.
    At(String),
    /// There it has.
    Stopped,
}

impl Sites {
    /// The calls with these numbers fail.
    pub fn failing(calls: impl IntoIterator<Item = (usize, Fault)>) -> Arc<Sites> {
        let calls = Calls { failing: calls.into_iter().collect(), ..Calls::default() };
        Arc::new(Sites { calls: Mutex::new(calls), ..Sites::default() })
    }

    /// The call of this site that comes as number `occurrence`, the next one being the first, fails. Of several that
    /// are due at one call the first armed has it, and the others the calls after.
    pub fn arm(&self, site: Site, occurrence: usize, fault: Fault) -> Armed {
        let (hit, is_hit) = watch::channel(false);
        self.calls().armed.push(Arming { site, left: occurrence, fault, hit });
        Armed(is_hit)
    }

    /// From here on no call is counted, and none fails.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// From here on a direction that writes to this node gets no lock there.
    pub fn hold(&self, node: &str) {
        locked(&self.held).insert(node.to_owned());
    }

    /// From here on it does.
    pub fn let_go(&self, node: &str) {
        locked(&self.held).remove(node);
    }

    pub(crate) fn holds(&self, node: &str) -> bool {
        locked(&self.held).contains(node)
    }

    /// The process stops for good before the next settlement is committed on this node; or on none.
    pub fn stop_at(&self, node: Option<&str>) {
        *locked(&self.stop) = node.map_or(Stop::Never, |node| Stop::At(node.to_owned()));
    }

    /// Whether it has stopped.
    pub fn has_stopped(&self) -> bool {
        *locked(&self.stop) == Stop::Stopped
    }

    pub(crate) fn stops_at(&self, node: &str) -> bool {
        let mut stop = locked(&self.stop);
        let stops = matches!(&*stop, Stop::At(at) if at == node);
        if stops {
            *stop = Stop::Stopped;
        }
        stops
    }

    /// The calls so far.
    pub fn met(&self) -> Vec<Site> {
        self.calls().met.clone()
    }

    /// Counts a call, and says how it is to fail.
    pub(crate) fn call(&self, node: &str, method: &'static str) -> Option<Due> {
        if self.closed.load(Ordering::Relaxed) {
            return None;
        }
        let mut calls = self.calls();
        let number = calls.met.len();
        let site = Site { node: node.to_owned(), method };
        let armed = calls.armed_for(&site);
        calls.met.push(site);
        let failing = calls.failing.get(&number).copied();
        failing.map(|fault| Due { fault, hit: None }).or(armed)
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        locked(&self.calls)
    }
}

impl Calls {
    fn armed_for(&mut self, site: &Site) -> Option<Due> {
        self.armed.retain(|arming| !arming.hit.is_closed());
        let mut due = None;
        for (at, arming) in self.armed.iter_mut().enumerate().filter(|(_, arming)| arming.site == *site) {
            arming.left = arming.left.saturating_sub(1);
            if arming.left == 0 && due.is_none() {
                due = Some(at);
            }
        }
        let Arming { fault, hit, .. } = self.armed.remove(due?);
        Some(Due { fault, hit: Some(hit) })
    }
}

/// What a test that failed leaves is of use to the others.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
