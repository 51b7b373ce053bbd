//! The disk of a server is full, on either side, while the bridge works: it waits, says so, and goes on by itself once there is room; nothing is lost
//! and nothing is there twice.
//!
//! PostgreSQL refuses a row that there is no room for (53100), InnoDB too (1114). Where a binary log has no room, a commit is refused by neither server: it
//! waits, and whoever asks for the log's end with it, until MariaDB or MySQL looks again, which it does once a minute (`my_write` with `MY_WAIT_IF_FULL`
//! in `mysys/errors.c`).

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::support::{DEADLINE, Database, Link, LinkOptions, eventually, pairings};
use pontoon_servers::{Kind, Options};

/// Of a server's tables or log; what is written does not fit in what is left of it.
const DISK_BYTES: u64 = 24 << 20;
const ROWS: u64 = 1_000;
const ROW_BYTES: usize = 1_000;

/// Room enough for what the server itself does meanwhile, and not for a hundredth of the rows.
const LEFT_BYTES: u64 = 8 << 10;

/// A server looks once a minute whether there is room again.
const LOOKS_AGAIN: Duration = Duration::from_secs(60);

/// What a full disk is of.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    Tables,
    Log,
}

/// Takes what room is left on a server's disk, until it is dropped.
struct Taken(PathBuf);

impl Taken {
    fn of(node: &Database) -> Taken {
        let path = node.server.disk_from_outside().unwrap().join("taken");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let bytes = file.metadata().unwrap().len();
        file.set_len(bytes - LEFT_BYTES).unwrap();
        Taken(path)
    }

    fn give_back(self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn inserted(from: u64) -> String {
    let text = "x".repeat(ROW_BYTES);
    let rows: Vec<String> = (from..from + ROWS).map(|id| format!("({id}, '{text}')")).collect();
    format!("INSERT INTO items VALUES {}", rows.join(", "))
}

/// What is logged of a server whose disk is full: its refusal, or that it does not answer.
const REFUSED: [&str; 2] = ["server-busy", "no answer within"];

async fn is_full(link: Link, of: Of) {
    for node in link.nodes() {
        node.run(&created(node, of)).await;
    }
    link.succeed(&["setup"]).await;
    let mut bridge = link.run();
    for (turn, [full, other]) in [[&link.b, &link.a], [&link.a, &link.b]].into_iter().enumerate() {
        let first = 10_000 * (turn as u64 + 1);
        other.run(&format!("INSERT INTO items VALUES ({first}, 'before')")).await;
        link.settle().await;
        let said = bridge.log().len();
        let taken = Taken::of(full);
        // An application on each side: one transaction, and one row of its own.
        other.run(&inserted(first + 1)).await;
        other.run(&format!("INSERT INTO items VALUES ({}, 'behind')", first + ROWS + 1)).await;
        let mut application = full.client().await;
        let own = inserted(first + 5_000);
        let own = tokio::spawn(async move { application.try_run(&own).await });
        let named = |log: &str| REFUSED.iter().any(|what| log[said..].contains(what));
        eventually("the bridge says what it waits for", async || named(&bridge.log())).await;
        assert!(bridge.is_running());
        let began = Instant::now();
        taken.give_back();
        link.settle_within(LOOKS_AGAIN * 2 + DEADLINE).await;
        let own = own.await.unwrap();
        println!("{} has room again: all has crossed after {:?}; its application: {own:?}", full.kind, began.elapsed());
        link.settle_within(DEADLINE).await;
        let ids = format!("SELECT count(*), sum(id), sum(length(body)) FROM items WHERE id >= {first}");
        let rows = link.same(&ids).await;
        let expected = ROWS + 2 + if own.is_ok() { ROWS } else { 0 };
        assert_eq!(rows[0][0], Some(expected.to_string()), "each row once");
    }
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "0");
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);
}

/// The table, of which the rows or the log are on the disk.
fn created(node: &Database, of: Of) -> String {
    let disk = node.server.disk();
    let columns = "id bigint PRIMARY KEY, body text";
    match node.kind {
        Kind::Postgres => format!("CREATE TABLE items ({columns}) TABLESPACE disk"),
        Kind::Mariadb | Kind::Mysql if of == Of::Log => format!("CREATE TABLE items ({columns})"),
        Kind::Mariadb | Kind::Mysql => format!("CREATE TABLE items ({columns}) DATA DIRECTORY = '{}'", disk.display()),
    }
}

async fn between(kinds: [Kind; 2], of: Of) -> Link {
    let options = |kind| match kind {
        Kind::Mariadb | Kind::Mysql if of == Of::Log => {
            Options::default().disk(DISK_BYTES).setting("log-bin", "../disk/binlog")
        }
        _ => Options::default().disk(DISK_BYTES),
    };
    let configuration = "[[tables]]\nname = \"items\"\n".into();
    let link = Link::start(kinds, LinkOptions { servers: kinds.map(options), configuration }).await;
    let postgres = link.postgres().0;
    postgres.run(&format!("CREATE TABLESPACE disk LOCATION '{}'", postgres.server.disk().display())).await;
    link
}

async fn of_the_log(kinds: [Kind; 2]) {
    is_full(between(kinds, Of::Log).await, Of::Log).await;
}

/// (MySQL has tables in folders alone that it is told of when it starts.)
#[tokio::test(flavor = "multi_thread")]
#[ignore = "full: takes half a minute"]
async fn of_tables() {
    is_full(between([Kind::Postgres, Kind::Mariadb], Of::Tables).await, Of::Tables).await;
}

pairings!(
    #[ignore = "full: a server looks once a minute whether there is room again"]
    of_the_log
);
