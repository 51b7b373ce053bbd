//! How often the bridge goes to a server and waits for its answer to bring one transaction over: what latency at rest is made of, and the
//! same on a slow machine as on a fast one. Its own session alone counts, by a proxy before the server.
//!
//! A trip too many is a failure, and so is one too few: then the number here is to be lowered, so that it is not lost again.

use pontoon_servers::Kind;

use crate::support::{
    Database, Link, LinkOptions, eventually, pairings,
    proxy::{Line, Proxy},
};

/// So many transactions, of which the cheapest counts: where the processor is busy, what is meant to be on its way at once may leave in two pieces, and
/// now and then something is done beside the transaction.
const TIMES: i64 = 20;

/// Rows of a transaction of many: as many as one statement takes.
const MANY: i64 = 500;

/// The beginning with lease, origin and checkpoint goes with the rows; then the commit.
const TRIPS: u64 = 2;

pairings!(a_transaction_takes_as_many_round_trips_as_it_must);

async fn a_transaction_takes_as_many_round_trips_as_it_must(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", "id bigint PRIMARY KEY, note varchar(100)").await;
    let ways = link.by_proxies().await;
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    for (source, target, way) in [(&link.a, &link.b, &ways[1]), (&link.b, &link.a, &ways[0])] {
        let one = cheapest(source, target, way, 1).await;
        let many = cheapest(source, target, way, MANY).await;
        assert_eq!((one, many), (TRIPS, TRIPS), "round trips to {} for one row, and for {MANY}", target.kind);
    }
    assert_eq!(bridge.stop().await, 0);
}

/// The least that a transaction of so many new rows takes.
async fn cheapest(source: &Database, target: &Database, way: &Proxy, rows: i64) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..TIMES {
        let first: i64 = source.value("SELECT coalesce(max(id), 0) + 1 FROM items").await.parse().unwrap();
        let values: Vec<String> = (first..first + rows).map(|id| format!("({id}, 'one of {rows}')")).collect();
        let before = way.trips(Line::Direction);
        source.run(&format!("INSERT INTO items VALUES {}", values.join(", "))).await;
        let last = format!("SELECT count(*) FROM items WHERE id = {}", first + rows - 1);
        eventually("the row is there", async || target.value(&last).await == "1").await;
        least = least.min(way.trips(Line::Direction) - before);
    }
    least
}
