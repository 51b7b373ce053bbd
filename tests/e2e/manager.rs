//! What a service manager is told by `pontoon run`, by the protocol of `sd_notify(3)`.

use pontoon_servers::Kind;
use tokio::{net::UnixDatagram, time::timeout};

use crate::support::{Bridge, DEADLINE, Link, LinkOptions, first_pairing};

first_pairing!(a_manager_is_told);

/// Where the manager listens, and what has come that nobody has looked at.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// Waits for a datagram of which one line is as wanted; all up to it.
    async fn hears(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut heard: Vec<String> = Vec::new();
        let mut buffer = [0; 4096];
        let listening = async {
            while !heard.last().is_some_and(|told| told.lines().any(&wanted)) {
                let length = self.socket.recv(&mut buffer).await.unwrap();
                heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
            }
        };
        assert!(timeout(DEADLINE, listening).await.is_ok(), "not heard: {what}; but {heard:?}");
        heard
    }
}

async fn a_manager_is_told(kinds: [Kind; 2]) {
    let mut link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60)").await;
    link.succeed(&["setup"]).await;
    let path = link.folder.path().join("notify");
    let manager = Manager { socket: UnixDatagram::bind(&path).unwrap() };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")];
    let bridge = Bridge::start_with(&link.config(), link.folder.path(), &variables);
    let before = manager.hears("it is ready", |line| line == "READY=1").await;
    assert!(!before.iter().any(|told| told.contains("STOPPING")), "{before:?}");
    assert!(bridge.log().contains("active: this process holds the lease"), "ready before it works: {before:?}");
    manager.hears("both stream", |line| line.contains("a -> b streaming") && line.contains("b -> a streaming")).await;
    link.a.run("INSERT INTO items VALUES (1, 'across')").await;
    link.settle().await;

    // A database that is away is told, and is no reason to kill the bridge.
    link.b.server.kill().await.unwrap();
    manager.hears("b is away", |line| line.starts_with("STATUS=") && line.contains("node b is down")).await;
    for _ in 0..4 {
        manager.hears("it lives", |line| line == "WATCHDOG=1").await;
    }
    link.b.server.restart().await.unwrap();
    let meanwhile = manager.hears("both stream", |line| line.contains("b -> a streaming")).await;
    assert!(!meanwhile.contains(&"READY=1".to_owned()), "once: {meanwhile:?}");
    bridge.signal("TERM");
    manager.hears("it stops", |line| line == "STOPPING=1").await;
    assert_eq!(bridge.ended().await, 0);
}
