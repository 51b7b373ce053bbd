//! The main way of every pairing: one table, both directions, a conflict, and nothing written at rest.

use pontoon_servers::{Kind, Release};

use crate::support::{Link, LinkOptions, a_second_later};

const TABLE: &str = "CREATE TABLE items (id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL)";
const ALL: &str = "SELECT id, name, quantity FROM items ORDER BY id";

pub(crate) async fn main_way(kinds: [impl Into<Release>; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.both(TABLE).await;
    for node in [&link.a, &link.b].into_iter().filter(|node| node.is_postgres()) {
        node.run("ALTER TABLE items REPLICA IDENTITY FULL").await;
    }
    link.both("INSERT INTO items VALUES (1, 'anvil', 4), (2, 'bolt', 9)").await;
    let check = link.command(&["check"]).await;
    assert_eq!(check.code, 0, "{check:?}");
    link.succeed(&["setup"]).await;
    let bridge = link.run();

    link.a.run("INSERT INTO items VALUES (3, 'chisel', 1)").await;
    link.b.run("INSERT INTO items VALUES (4, 'drill', 2)").await;
    link.a.run("UPDATE items SET quantity = 3 WHERE id = 1").await;
    link.b.run("DELETE FROM items WHERE id = 2").await;
    link.settle().await;
    let rows = link.same(ALL).await;
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0][2].as_deref(), Some("3"));

    assert_eq!(bridge.stop().await, 0);
    link.a.run("UPDATE items SET quantity = 10, name = 'from a' WHERE id = 1").await;
    a_second_later().await;
    link.b.run("UPDATE items SET quantity = 20, name = 'from b' WHERE id = 1").await;
    let bridge = link.run();
    link.settle().await;
    let rows = link.same(ALL).await;
    assert_eq!(rows[0][1].as_deref(), Some("from b"), "the later write wins");
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "1");
    assert_eq!(link.b.value("SELECT count(*) FROM pontoon.resolution").await, "1");
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);
    link.succeed(&["teardown", "--execute"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_mariadb() {
    main_way([Kind::Postgres, Kind::Mariadb]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_and_postgres() {
    main_way([Kind::Mysql, Kind::Postgres]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_postgres() {
    main_way([Kind::Postgres, Kind::Postgres]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_and_mysql() {
    main_way([Kind::Mariadb, Kind::Mysql]).await;
}
