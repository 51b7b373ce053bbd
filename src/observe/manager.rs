//! What a service manager is told: that the bridge is ready, what it does, that it lives, and that it stops.
//!
//! The protocol is that of `sd_notify(3)`: lines of `NAME=value` in datagrams to the socket that `$NOTIFY_SOCKET` names. Ready is
//! the first moment at which every direction that is used streams; it is told once, since a manager knows no way back from it, and
//! `/readyz` tells how it is now.
//!
//! `WATCHDOG=1` goes out from a task beside the one that answers `/livez`, and as that one does: for as long as the program's tasks go on, and
//! whether databases answer or not. A manager that misses it kills the program, which a database that is away is no reason for.

use std::{
    ffi::{OsStr, OsString},
    future::Future,
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::{DirectionMetrics, DirectionState, Metrics};
use crate::side::Side;

/// How often it is looked what is to be told: a person who asks the manager sees no older words.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest text of a status. Managers take a few kilobytes; errors of a server may be longer.
const STATUS_MAX: usize = 1000;

/// A service manager that wants to be told.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// After how long without a sign of life it takes the program for dead.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that started this process, if it wants to be told anything.
    pub fn of_this_process() -> Option<Manager> {
        Manager::by(|name| std::env::var_os(name))
    }

    fn by(variable: impl Fn(&str) -> Option<OsString>) -> Option<Manager> {
        let name = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let opened = || {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>((socket, address(&name)?))
        };
        match opened() {
            Ok((socket, address)) => Some(Manager { socket, address, watchdog: watchdog(variable) }),
            Err(error) => {
                warn!(socket = %name.to_string_lossy(), %error, "the service manager cannot be told anything");
                None
            }
        }
    }

    /// Tells something. Where that cannot be done now, the next time may do.
    fn tell(&self, lines: &str) -> bool {
        match self.socket.send_to_addr(lines.as_bytes(), &self.address) {
            Ok(_) => true,
            Err(error) => {
                debug!(%error, lines, "the service manager was not told");
                false
            }
        }
    }
}

/// Where the manager listens: a path, or on Linux a name of no file, with `@` for its first byte.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
    }
}

/// After how long a sign of life is missed, if this process is the one that it is expected of.
fn watchdog(variable: impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
    let process = u64::from(std::process::id());
    if variable("WATCHDOG_PID").is_some() && number("WATCHDOG_PID") != Some(process) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|micros| *micros > 0).map(Duration::from_micros)
}

/// Tells the manager until `ended` completes; that the bridge stops, from when `stopping` does.
pub async fn tell(
    manager: &Manager,
    metrics: &Metrics,
    stopping: impl Future<Output = ()>,
    ended: impl Future<Output = ()>,
) {
    tokio::select! {
        () = ended => {}
        () = tell_state(manager, metrics, stopping) => {}
        () = tell_alive(manager) => {}
    }
    // By itself, or since it failed: then it has not been told to.
    manager.tell("STOPPING=1\nSTATUS=ended");
}

async fn tell_state(manager: &Manager, metrics: &Metrics, stopping: impl Future<Output = ()>) {
    let (mut ready, mut told) = (false, String::new());
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(stopping);
    loop {
        tokio::select! {
            biased;
            () = &mut stopping => {
                manager.tell("STOPPING=1\nSTATUS=stopping: what is in hand is finished first");
                return std::future::pending().await;
            }
            _ = ticks.tick() => {}
        }
        if !ready && all_stream(metrics) {
            ready = manager.tell("READY=1");
        }
        let status = status(metrics);
        if status != told && manager.tell(&format!("STATUS={status}")) {
            told = status;
        }
    }
}

/// Twice in the time after which it would be missed.
async fn tell_alive(manager: &Manager) {
    let Some(missed_after) = manager.watchdog else { return std::future::pending().await };
    let mut ticks = interval(missed_after / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        manager.tell("WATCHDOG=1");
    }
}

/// What is held back is as far as it may be: nobody is to wait with a start for an hour that is far away.
fn all_stream(metrics: &Metrics) -> bool {
    let streams = |direction: &DirectionMetrics| {
        direction.state() == DirectionState::Streaming || direction.held_back_in_words().is_some()
    };
    metrics.is_active() && metrics.directions_of(None).all(streams)
}

/// One line: what keeps the bridge from being relied on, or what each direction does.
fn status(metrics: &Metrics) -> String {
    let mut words = metrics.not_ready();
    if words.is_empty() {
        let used =
            Side::BOTH.into_iter().map(|source| metrics.direction(source)).filter(|direction| direction.is_used());
        let state = |direction: &DirectionMetrics| {
            let (source, target, lag) = (&direction.source, &direction.target, direction.lag_seconds());
            format!("{source} -> {target} {}, {lag:.0} s behind", direction.state())
        };
        words.extend(used.map(state));
    }
    words.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pontoon_core::{Code, Error, node::Peer};

    use super::*;
    use crate::{
        held_back,
        observe::events::{Active, Connected, Disconnected, HeldBack, StateChanged},
    };

    fn manager(variables: &[(&str, String)]) -> Option<Manager> {
        Manager::by(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    fn at(path: &Path) -> (&'static str, String) {
        ("NOTIFY_SOCKET", path.to_str().unwrap().to_owned())
    }

    /// What has come.
    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut datagrams = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            datagrams.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        datagrams
    }

    fn listening(socket: UnixDatagram) -> UnixDatagram {
        socket.set_nonblocking(true).unwrap();
        socket
    }

    #[test]
    fn who_wants_to_be_told_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        assert!(manager(&[]).is_none() && manager(&[("NOTIFY_SOCKET", String::new())]).is_none());
        assert!(manager(&[("NOTIFY_SOCKET", "vsock:2:1".to_owned())]).is_none());
        let socket = listening(UnixDatagram::bind(&path).unwrap());
        let found = manager(&[at(&path)]).unwrap();
        assert!(found.watchdog.is_none() && found.tell("READY=1"));
        assert_eq!(received(&socket), ["READY=1"]);
        drop((socket, folder));
        assert!(!found.tell("READY=1"), "nobody is there any more");
        let micros = ("WATCHDOG_USEC", "3000000".to_owned());
        let of = |process: u32| manager(&[at(&path), micros.clone(), ("WATCHDOG_PID", process.to_string())]).unwrap();
        assert_eq!(of(std::process::id()).watchdog, Some(Duration::from_secs(3)));
        assert_eq!(of(std::process::id() + 1).watchdog, None, "it is expected of another process");
        assert_eq!(manager(&[at(&path), micros]).unwrap().watchdog, Some(Duration::from_secs(3)));
    }

    #[test]
    fn what_is_held_back_is_started_and_what_is_paused_is_not() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        Active.emit(&metrics);
        StateChanged { source: Side::A, state: DirectionState::Streaming }.emit(&metrics);
        StateChanged { source: Side::B, state: DirectionState::CatchingUp }.emit(&metrics);
        assert!(!all_stream(&metrics));
        let window = held_back::HeldBack::Window { opens: 0 };
        HeldBack { source: Side::B, why: Some(&window) }.emit(&metrics);
        assert!(all_stream(&metrics));
        StateChanged { source: Side::B, state: DirectionState::Paused }.emit(&metrics);
        assert!(!all_stream(&metrics));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_of_no_file_is_told() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("pontoon-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = listening(UnixDatagram::bind_addr(&address).unwrap());
        assert!(manager(&[("NOTIFY_SOCKET", format!("@{name}"))]).unwrap().tell("READY=1"));
        assert_eq!(received(&socket), ["READY=1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn ready_is_told_once_and_life_whatever_becomes_of_the_databases() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = listening(UnixDatagram::bind(&path).unwrap());
        let manager = manager(&[at(&path), ("WATCHDOG_USEC", "10000000".to_owned())]).unwrap();
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let telling = tell(&manager, &metrics, async { stopping.await.unwrap() }, async { ended.await.unwrap() });
        let acting = async {
            let pass = async |seconds| {
                // Not on the beat of what is told.
                tokio::time::sleep(Duration::from_secs(seconds) + Duration::from_millis(10)).await;
                received(&socket)
            };
            let first = pass(0).await;
            assert_eq!(first.len(), 2, "{first:?}");
            assert!(first.contains(&"WATCHDOG=1".to_owned()), "{first:?}");
            assert!(first.iter().any(|told| told.starts_with("STATUS=not active: ")), "{first:?}");
            Active.emit(&metrics);
            let peer = Peer { server: "a server".into(), certificate_expiry: None, statement_bytes_max: None };
            for side in Side::BOTH {
                Connected { node: side, peer: &peer }.emit(&metrics);
                metrics.direction(side).set_lag_seconds(0.2);
            }
            StateChanged { source: Side::A, state: DirectionState::Streaming }.emit(&metrics);
            assert!(!pass(1).await.contains(&"READY=1".to_owned()), "one of two");
            StateChanged { source: Side::B, state: DirectionState::Streaming }.emit(&metrics);
            let told = pass(1).await;
            assert_eq!(
                told,
                ["READY=1", "STATUS=shop -> stock streaming, 0 s behind; stock -> shop streaming, 0 s behind"]
            );

            let error = Error::new(Code::Unreachable, "no\nanswer");
            Disconnected { node: Side::A, error: &error, pause: None }.emit(&metrics);
            StateChanged { source: Side::B, state: DirectionState::Stopped }.emit(&metrics);
            let told = pass(20).await;
            assert!(told[0].starts_with("STATUS=node shop is down: no answer [unreachable]; "), "{told:?}");
            let alive = |told: &[String]| told.iter().filter(|told| *told == "WATCHDOG=1").count();
            assert_eq!(alive(&told), 4, "each five seconds: {told:?}");
            StateChanged { source: Side::B, state: DirectionState::Streaming }.emit(&metrics);
            assert!(!pass(2).await.contains(&"READY=1".to_owned()), "once");

            stop.send(()).unwrap();
            let told = pass(9).await;
            assert!(told[0].starts_with("STOPPING=1\nSTATUS=stopping"), "{told:?}");
            assert!(alive(&told) >= 1, "it lives until it ends: {told:?}");
            end.send(()).unwrap();
        };
        tokio::join!(telling, acting);
        assert_eq!(received(&socket).last().map(String::as_str), Some("STOPPING=1\nSTATUS=ended"));
    }
}
