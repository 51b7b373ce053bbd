//! The README's way from two databases to one bridge: each of its commands is run, and says what is printed there.

use pontoon_servers::Kind;

use crate::support::{Link, LinkOptions, documented::Reader};

#[tokio::test(flavor = "multi_thread")]
async fn two_databases_are_joined() {
    let link = Link::start([Kind::Postgres, Kind::Mariadb], LinkOptions::default()).await;
    link.a
        .run(
            "CREATE TABLE customers (id bigint PRIMARY KEY, name varchar(60) NOT NULL, city varchar(60)); \
              ALTER TABLE customers REPLICA IDENTITY FULL; \
              INSERT INTO customers VALUES (1, 'Ada', 'Brno'), (2, 'Kofi', 'Malmö'), (3, 'Lin', NULL)",
        )
        .await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60) NOT NULL, quantity int NOT NULL").await;
    link.a.run("INSERT INTO items VALUES (1, 'kettle', 4), (2, 'lamp', 9), (3, 'chair', 2)").await;
    link.b.run("INSERT INTO items VALUES (2, 'lamp', 9), (3, 'chair', 7)").await;
    let mut reader = Reader::new(link, ["shop", "stock"]);
    reader.follow_the_first_session(include_str!("../../README.md")).await;
    assert!(reader.is_running(), "the bridge is among the commands");
    let link = &reader.link;
    link.same("SELECT id, name, quantity FROM items ORDER BY id").await;
    assert_eq!(link.same("SELECT id, name, city FROM customers ORDER BY id").await.len(), 3);
}
