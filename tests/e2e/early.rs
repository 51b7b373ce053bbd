//! A large transaction of PostgreSQL is applied while it is read, in a transaction of the target that is committed when its own is: where something else is to be
//! done, or it comes to nothing, that is rolled back.

use std::time::{Duration, Instant};

use pontoon_servers::{Kind, Options};
use tokio::time::sleep;

use crate::support::{Bridge, DEADLINE, Database, Link, LinkOptions, database::Client, eventually};

/// Of one statement of the open transaction: several are a run's worth.
const ROWS: u64 = 10_000;

/// Rows of the bridge's transaction from which on it is under way for certain.
const ROWS_MIN: u64 = 2 * ROWS;

async fn start(target: Kind) -> (Link, Bridge) {
    let servers = [Kind::Postgres, target].map(|kind| match kind {
        Kind::Postgres => Options::default().setting("logical_decoding_work_mem", "64kB"),
        Kind::Mysql | Kind::Mariadb => Options::default(),
    });
    let link = Link::start([Kind::Postgres, target], LinkOptions { servers, ..LinkOptions::default() }).await;
    link.configure("[[tables]]\nname = \"items\"\n");
    link.create("items", "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL").await;
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    (link, bridge)
}

/// A transaction of node A that goes on.
struct Open {
    client: Client,
    rows: u64,
}

impl Open {
    async fn begin(link: &Link) -> Open {
        let mut client = link.a.client().await;
        client.run("BEGIN").await;
        Open { client, rows: 0 }
    }

    async fn more(&mut self) {
        let (from, to) = (self.rows + 1, self.rows + ROWS);
        let sql =
            format!("INSERT INTO items SELECT n, concat('row number ', n), 0 FROM generate_series({from}, {to}) AS n");
        self.client.run(&sql).await;
        self.rows = to;
    }

    /// Goes on until the bridge writes it on node B, where nothing of it is to be seen.
    async fn until_written(&mut self, link: &Link) {
        let there: u64 = link.b.value("SELECT count(*) FROM items").await.parse().unwrap();
        let mut looks = link.b.client().await;
        let began = Instant::now();
        while written(&link.b, &mut looks, there).await < ROWS_MIN {
            assert!(began.elapsed() < DEADLINE, "nothing of it is applied while it is open");
            self.more().await;
        }
        assert_eq!(link.b.value("SELECT count(*) FROM items").await, there.to_string());
    }
}

/// Rows that somebody has written on a node and not committed, about, where so many are there.
async fn written(node: &Database, client: &mut Client, there: u64) -> u64 {
    let sql = match node.kind {
        // Some 60 bytes a row; what was rolled back takes its place for a while.
        Kind::Postgres => format!(
            "SELECT CASE WHEN EXISTS (SELECT FROM pg_locks WHERE relation = 'items'::regclass AND mode = 'RowExclusiveLock' AND granted) \
             THEN greatest(pg_relation_size('items') / 60 - {there}, 0) ELSE 0 END"
        ),
        Kind::Mariadb | Kind::Mysql => {
            "SELECT coalesce(max(trx_rows_modified), 0) FROM information_schema.innodb_trx".to_owned()
        }
    };
    // InnoDB shows those who ask again within 100 ms what it had shown them before.
    sleep(Duration::from_millis(110)).await;
    client.rows(&sql).await[0][0].as_deref().unwrap().parse().unwrap()
}

async fn nothing_is_written(link: &Link) {
    let mut looks = link.b.client().await;
    eventually("it is rolled back", async || written(&link.b, &mut looks, 0).await == 0).await;
}

async fn is_the_same(link: &Link, rows: u64) {
    link.settle().await;
    let sums = link.same("SELECT count(*), sum(id), sum(length(name)), max(id) FROM items WHERE id > 0").await;
    assert_eq!(sums[0][0].as_deref().unwrap(), rows.to_string());
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "0");
}

async fn while_it_is_read(target: Kind) {
    let (link, bridge) = start(target).await;
    let mut open = Open::begin(&link).await;
    open.until_written(&link).await;
    open.more().await;
    open.client.run("COMMIT").await;
    is_the_same(&link, open.rows).await;

    // Killed in the middle: what was written is gone, and it crosses once.
    let mut open = Open { rows: open.rows, ..Open::begin(&link).await };
    open.until_written(&link).await;
    bridge.kill();
    nothing_is_written(&link).await;
    let bridge = link.run();
    bridge.works().await;
    open.more().await;
    open.client.run("COMMIT").await;
    is_the_same(&link, open.rows).await;
    assert_eq!(bridge.stop().await, 0);
}

async fn and_given_up(target: Kind) {
    let (link, bridge) = start(target).await;
    // Rolled back.
    let mut open = Open::begin(&link).await;
    open.until_written(&link).await;
    open.client.run("ROLLBACK").await;
    nothing_is_written(&link).await;

    // Something else comes first, and is not held up by it; nor is the other way.
    let mut open = Open::begin(&link).await;
    open.until_written(&link).await;
    link.a.run("INSERT INTO items VALUES (-1, 'in between', 1)").await;
    link.b.run("INSERT INTO items VALUES (-2, 'the other way', 1)").await;
    let crossed = async || link.b.value("SELECT count(*) FROM items WHERE id = -1").await == "1";
    eventually("what was committed first crosses first", crossed).await;
    let crossed = async || link.a.value("SELECT count(*) FROM items WHERE id = -2").await == "1";
    eventually("the other way goes on", crossed).await;
    nothing_is_written(&link).await;
    open.client.run("COMMIT").await;
    is_the_same(&link, open.rows).await;

    // It pauses, and no lock is held for it.
    let mut open = Open { rows: open.rows, ..Open::begin(&link).await };
    open.until_written(&link).await;
    nothing_is_written(&link).await;
    open.client.run("COMMIT").await;
    is_the_same(&link, open.rows).await;
    assert_eq!(bridge.stop().await, 0);
}

mod applied {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn to_mariadb() {
        while_it_is_read(Kind::Mariadb).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn to_postgres() {
        while_it_is_read(Kind::Postgres).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "full: the other server"]
    async fn to_mysql() {
        while_it_is_read(Kind::Mysql).await;
    }
}

mod given_up {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn on_mariadb() {
        and_given_up(Kind::Mariadb).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn on_postgres() {
        and_given_up(Kind::Postgres).await;
    }
}
