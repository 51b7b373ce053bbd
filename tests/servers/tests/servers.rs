//! Every kind of server is started, killed, started again and dropped; nothing of it is left.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use pontoon_servers::{Durability, Encryption, Kind, Options, Release, Server, ServerError};

/// No wait of a test is longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// Executes statements as the superuser, and returns the first column of the last result, as text.
async fn execute(server: &Server, database: &str, statements: &[&str]) -> Vec<String> {
    match server.kind() {
        Kind::Postgres => {
            let (client, connection) =
                tokio_postgres::connect(&server.superuser_url(database), tokio_postgres::NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            let mut column = Vec::new();
            for statement in statements {
                let rows = client.simple_query(statement).await.unwrap();
                column = rows
                    .iter()
                    .filter_map(|message| match message {
                        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0)?.to_owned()),
                        _ => None,
                    })
                    .collect();
            }
            drop(client);
            connection.await.unwrap().unwrap();
            column
        }
        Kind::Mariadb | Kind::Mysql => {
            let mut connection = mysql_async::Conn::from_url(server.superuser_url(database)).await.unwrap();
            let mut column = Vec::new();
            for statement in statements {
                column = connection.query(*statement).await.unwrap();
            }
            connection.disconnect().await.unwrap();
            column
        }
    }
}

fn home_database(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "postgres",
        Kind::Mariadb | Kind::Mysql => "mysql",
    }
}

/// The processes, this one left out, that name the folder in their arguments or work in it.
fn processes_of(folder: &Path) -> Vec<u32> {
    let uses = |pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        let works_in = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        arguments.contains(&*folder.to_string_lossy()) || works_in.starts_with(folder)
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(uses)
        .collect()
}

/// Waits until a condition holds.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn life(release: impl Into<Release>) {
    let started = Instant::now();
    let mut server = Server::start(release, Options::default()).await.unwrap();
    let (start, port, folder) = (started.elapsed(), server.port(), server.folder().to_owned());

    let kind = server.kind();
    let database = home_database(kind);
    execute(&server, database, &["CREATE DATABASE shop"]).await;
    let rows = ["CREATE TABLE item (id int PRIMARY KEY)", "INSERT INTO item VALUES (1), (2)"];
    execute(&server, "shop", &rows).await;

    let killed = Instant::now();
    server.kill().await.unwrap();
    let kill = killed.elapsed();
    assert_eq!(processes_of(&folder), [0; 0]);
    assert_eq!(server.process_id(), None);
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    server.kill().await.unwrap();

    let restarted = Instant::now();
    server.restart().await.unwrap();
    let restart = restarted.elapsed();
    assert_eq!(server.port(), port);
    assert_eq!(execute(&server, "shop", &["SELECT id FROM item ORDER BY id"]).await, ["1", "2"]);

    let stopped = Instant::now();
    server.stop().await.unwrap();
    let stop = stopped.elapsed();
    assert_eq!(processes_of(&folder), [0; 0]);
    server.restart().await.unwrap();
    // Also one that runs.
    server.restart().await.unwrap();
    assert_eq!(execute(&server, "shop", &["SELECT count(*) FROM item"]).await, ["2"]);

    assert!(folder.exists());
    drop(server);
    assert_eq!(processes_of(&folder), [0; 0]);
    assert!(!folder.exists());
    println!("{kind}: start {start:?}, kill {kill:?}, restart after it {restart:?}, stop {stop:?}");
}

#[tokio::test]
async fn postgres_lives_dies_and_comes_back() {
    life(Kind::Postgres).await;
}

/// The kernel has some thousands of its kind, and a run of the tests kills hundreds of servers.
#[tokio::test]
async fn a_killed_postgres_leaves_no_shared_memory() {
    let is_there = |id: &str| {
        let all = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        all.lines().any(|line| line.split_whitespace().nth(1) == Some(id))
    };
    let server = Server::start(Kind::Postgres, Options::default()).await.unwrap();
    let note = std::fs::read_to_string(server.data().join("postmaster.pid")).unwrap();
    let id = note.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    assert!(is_there(&id));
    drop(server);
    assert!(!is_there(&id));
}

#[tokio::test]
async fn mariadb_lives_dies_and_comes_back() {
    life(Kind::Mariadb).await;
}

#[tokio::test]
async fn mysql_lives_dies_and_comes_back() {
    life(Kind::Mysql).await;
}

/// Inserts 1, 2, 3, ... each in a transaction of its own, and tells the last that was committed.
/// They are what they are said to be.
async fn newer_life(kind: Kind, version: &str) {
    let server = Server::start(Release::newer(kind), Options::default()).await.unwrap();
    let told = execute(&server, home_database(kind), &["SELECT version()"]).await;
    assert!(told[0].contains(version), "{told:?}");
    life(Release::newer(kind)).await;
}

#[tokio::test]
#[ignore = "full: the newer servers"]
async fn newer_postgres_lives_dies_and_comes_back() {
    newer_life(Kind::Postgres, "PostgreSQL 18.").await;
}

#[tokio::test]
#[ignore = "full: the newer servers"]
async fn newer_mariadb_lives_dies_and_comes_back() {
    newer_life(Kind::Mariadb, "11.8.").await;
}

async fn insert_until_it_fails(url: String, kind: Kind, first: u64, committed: Arc<AtomicU64>) {
    match kind {
        Kind::Postgres => {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            for id in first.. {
                if client.batch_execute(&format!("INSERT INTO item VALUES ({id})")).await.is_err() {
                    return;
                }
                committed.store(id, Ordering::SeqCst);
            }
        }
        Kind::Mariadb | Kind::Mysql => {
            let mut connection = mysql_async::Conn::from_url(url).await.unwrap();
            for id in first.. {
                if connection.query_drop(format!("INSERT INTO item VALUES ({id})")).await.is_err() {
                    return;
                }
                committed.store(id, Ordering::SeqCst);
            }
        }
    }
}

/// What was committed when the server was killed is there when it is back: with [`Durability::Process`] too.
async fn keeps_what_was_committed(kind: Kind) {
    let mut server = Server::start(kind, Options::default()).await.unwrap();
    execute(&server, home_database(kind), &["CREATE DATABASE shop"]).await;
    execute(&server, "shop", &["CREATE TABLE item (id int PRIMARY KEY)"]).await;
    let committed = Arc::new(AtomicU64::new(0));
    for _ in 0..3 {
        let before = committed.load(Ordering::SeqCst);
        let next = execute(&server, "shop", &["SELECT COALESCE(MAX(id), 0) + 1 FROM item"]).await;
        let first = next[0].parse().unwrap();
        let inserts = insert_until_it_fails(server.superuser_url("shop"), kind, first, Arc::clone(&committed));
        let inserts = tokio::spawn(inserts);
        eventually("some rows are committed", || committed.load(Ordering::SeqCst) > before + 50).await;
        server.kill().await.unwrap();
        tokio::time::timeout(DEADLINE, inserts).await.unwrap().unwrap();

        server.restart().await.unwrap();
        let rows = execute(&server, "shop", &["SELECT COUNT(*) FROM item"]).await;
        let (rows, committed) = (rows[0].parse::<u64>().unwrap(), committed.load(Ordering::SeqCst));
        // The last may have been committed without its answer.
        assert!(rows == committed || rows == committed + 1, "{rows} rows of {committed}");
    }
}

#[tokio::test]
async fn postgres_keeps_what_was_committed() {
    keeps_what_was_committed(Kind::Postgres).await;
}

#[tokio::test]
async fn mariadb_keeps_what_was_committed() {
    keeps_what_was_committed(Kind::Mariadb).await;
}

#[tokio::test]
async fn mysql_keeps_what_was_committed() {
    keeps_what_was_committed(Kind::Mysql).await;
}

/// Two of a kind run beside each other, and can be told apart by what a bridge goes by.
async fn two(kind: Kind, identity: &str) {
    let (one, other) = tokio::join!(Server::start(kind, Options::default()), Server::start(kind, Options::default()));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_ne!(one.port(), other.port());
    assert_ne!(one.folder(), other.folder());
    let database = home_database(kind);
    let identities = (execute(&one, database, &[identity]).await, execute(&other, database, &[identity]).await);
    assert_eq!(identities.0.len(), 1);
    assert_ne!(identities.0, identities.1);

    drop(one);
    assert_eq!(execute(&other, database, &["SELECT 1"]).await, ["1"]);
}

#[tokio::test]
async fn two_postgres_are_two() {
    two(Kind::Postgres, "SELECT system_identifier FROM pg_control_system()").await;
}

#[tokio::test]
async fn two_mariadb_are_two() {
    two(Kind::Mariadb, "SELECT CONCAT(@@server_uid, @@server_id)").await;
}

#[tokio::test]
async fn two_mysql_are_two() {
    two(Kind::Mysql, "SELECT @@server_uuid").await;
}

/// The settings that a bridge demands, then a setting of the caller.
async fn settings(kind: Kind, expected: &[(&str, &str)], changed: (&str, &str)) {
    let options = Options::default().durability(Durability::Machine);
    let mut server = Server::start(kind, options).await.unwrap();
    let database = home_database(kind);
    let setting = |name: &str| match kind {
        Kind::Postgres => format!("SHOW {name}"),
        // A switch is a word on one of them, and a number on the other.
        Kind::Mariadb | Kind::Mysql => {
            format!("SELECT REPLACE(REPLACE(CAST(@@global.{name} AS CHAR), 'ON', '1'), 'OFF', '0')")
        }
    };
    for (name, value) in expected {
        assert_eq!(execute(&server, database, &[&setting(name)]).await, [*value], "{name}");
    }
    server.set(changed.0, changed.1).unwrap();
    server.restart().await.unwrap();
    assert_eq!(execute(&server, database, &[&setting(changed.0)]).await, [changed.1]);
}

#[tokio::test]
async fn postgres_has_its_settings() {
    let expected = [
        ("wal_level", "logical"),
        ("track_commit_timestamp", "on"),
        ("max_replication_slots", "20"),
        ("max_wal_senders", "20"),
        ("fsync", "on"),
        ("listen_addresses", "127.0.0.1"),
    ];
    settings(Kind::Postgres, &expected, ("wal_level", "replica")).await;
}

const BINLOG: [(&str, &str); 7] = [
    ("log_bin", "1"),
    ("binlog_format", "ROW"),
    ("binlog_row_image", "FULL"),
    ("binlog_row_metadata", "FULL"),
    ("sync_binlog", "1"),
    ("innodb_flush_log_at_trx_commit", "1"),
    ("performance_schema", "0"),
];

#[tokio::test]
async fn mariadb_has_its_settings() {
    settings(Kind::Mariadb, &BINLOG, ("binlog_row_image", "MINIMAL")).await;
}

#[tokio::test]
async fn mysql_has_its_settings() {
    let gtid = [("gtid_mode", "1"), ("enforce_gtid_consistency", "1")];
    let expected: Vec<_> = BINLOG.into_iter().chain(gtid).collect();
    settings(Kind::Mysql, &expected, ("binlog_row_image", "MINIMAL")).await;
}

/// A server that cannot start says why, with its own words.
async fn refuses(kind: Kind) {
    let options = Options::default().setting("no_such_setting", "1");
    let error = Server::start(kind, options).await.unwrap_err();
    assert!(matches!(error, ServerError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn postgres_tells_why_it_does_not_start() {
    refuses(Kind::Postgres).await;
}

#[tokio::test]
async fn mariadb_tells_why_it_does_not_start() {
    refuses(Kind::Mariadb).await;
}

#[tokio::test]
async fn mysql_tells_why_it_does_not_start() {
    refuses(Kind::Mysql).await;
}

/// An encrypted server shows a certificate that its authority has signed, and that names the address.
async fn encrypted(kind: Kind) {
    let server = Server::start(kind, Options::default().encryption(Encryption::Private)).await.unwrap();
    let database = home_database(kind);
    let question = match kind {
        Kind::Postgres => "SHOW ssl",
        Kind::Mariadb | Kind::Mysql => "SELECT @@global.ssl_ca",
    };
    let answer = execute(&server, database, &[question]).await;
    let authority = server.authority().unwrap().to_string_lossy().into_owned();
    assert_eq!(answer, [if kind == Kind::Postgres { "on" } else { &authority }]);

    let protocol = if kind == Kind::Postgres { "postgres" } else { "mysql" };
    let client = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", server.port()), "-starttls", protocol])
        .args(["-CAfile", &authority, "-verify_ip", "127.0.0.1", "-verify_return_error"])
        .stdin(Stdio::null())
        .output();
    match client {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("Verify return code: 0 (ok)"), "{text}\n{output:?}");
        }
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "openssl can only be absent"),
    }
}

#[tokio::test]
async fn postgres_can_be_encrypted() {
    encrypted(Kind::Postgres).await;
}

#[tokio::test]
async fn mariadb_can_be_encrypted() {
    encrypted(Kind::Mariadb).await;
}

#[tokio::test]
async fn mysql_can_be_encrypted() {
    encrypted(Kind::Mysql).await;
}

#[tokio::test]
async fn a_panic_leaves_nothing() {
    let (tell, told) = std::sync::mpsc::channel();
    let panicked = tokio::spawn(async move {
        let server = Server::start(Kind::Postgres, Options::default()).await.unwrap();
        tell.send(server.folder().to_owned()).unwrap();
        panic!("as a test that fails");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    let folder = told.recv().unwrap();
    assert!(!folder.exists());
    assert_eq!(processes_of(&folder), [0; 0]);
}

/// What the tests below start in a process of its own: a server, and a long wait. By itself it does nothing.
#[tokio::test]
async fn holds_a_server_until_it_is_killed() {
    let Some(told) = std::env::var_os("PONTOON_SERVERS_TEST_TOLD") else { return };
    let kind: Kind = std::env::var("PONTOON_SERVERS_TEST_KIND").unwrap().parse().unwrap();
    let server = Server::start(kind, Options::default()).await.unwrap();
    fs::write(&told, server.folder().to_string_lossy().as_bytes()).unwrap();
    tokio::time::sleep(DEADLINE).await;
}

async fn dies_with_its_holder(kind: Kind) {
    let told = tempfile::tempdir().unwrap();
    let told = told.path().join("folder");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_a_server_until_it_is_killed"])
        .env("PONTOON_SERVERS_TEST_TOLD", &told)
        .env("PONTOON_SERVERS_TEST_KIND", kind.name())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the other process has a server", || fs::read(&told).is_ok_and(|told| !told.is_empty())).await;
    let folder = std::path::PathBuf::from(fs::read_to_string(&told).unwrap());
    assert!(!processes_of(&folder).is_empty());

    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("the server is gone", || processes_of(&folder).is_empty()).await;
    // Nobody was there to remove the folder; the next to start a server does, here or in another test.
    drop(Server::start(kind, Options::default()).await.unwrap());
    assert!(!folder.exists());
}

#[tokio::test]
async fn postgres_dies_with_its_holder() {
    dies_with_its_holder(Kind::Postgres).await;
}

#[tokio::test]
async fn mysql_dies_with_its_holder() {
    dies_with_its_holder(Kind::Mysql).await;
}

#[tokio::test]
async fn urls_are_what_drivers_read() {
    let server = Server::start(Kind::Postgres, Options::default()).await.unwrap();
    let port = server.port();
    assert_eq!(server.url("app", "shop"), format!("postgresql://app@127.0.0.1:{port}/shop"));
    let url = server.url_with_password("app", "p@ss/word", "shop");
    assert_eq!(url, format!("postgresql://app:p%40ss%2Fword@127.0.0.1:{port}/shop"));
}
