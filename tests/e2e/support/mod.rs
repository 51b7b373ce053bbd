//! Two servers, a configuration between them, and the bridge as a process.

pub(crate) mod bridge;
pub(crate) mod browser;
pub(crate) mod database;
pub(crate) mod documented;
pub(crate) mod link;
pub(crate) mod proxy;
pub(crate) mod rounds;
pub(crate) mod schema;
pub(crate) mod tree;
pub(crate) mod workload;

pub(crate) use bridge::{Bridge, Ended, Tail, pontoon_with};
pub(crate) use database::{DEADLINE, Database, eventually};
pub(crate) use link::{Link, LinkOptions};
pub(crate) use tree::Tree;

use std::time::Duration;

/// A test of a body for each of the two pairings that are tested in full; `#[ignore = "full: ..."]` before a body is for
/// both.
macro_rules! pairings {
    ($($(#[$attribute:meta])* $body:ident),+ $(,)?) => {
        $( crate::support::pairing_tests!($body, [$(#[$attribute])*], [$(#[$attribute])*]); )+
    };
}
pub(crate) use pairings;

/// The same where what is tested is the engine's, whichever servers it is between: `make test` has the first pairing alone, `make test-full` both.
macro_rules! first_pairing {
    ($($body:ident),+ $(,)?) => {
        $( crate::support::pairing_tests!($body, [], [#[ignore = "full: the other pairing"]]); )+
    };
}
pub(crate) use first_pairing;

/// The two tests of a body, each with attributes of its own.
macro_rules! pairing_tests {
    ($body:ident, [$(#[$first:meta])*], [$(#[$second:meta])*]) => {
        mod $body {
            use pontoon_servers::Kind;

            #[tokio::test(flavor = "multi_thread")]
            $(#[$first])*
            async fn postgres_and_mariadb() {
                super::$body([Kind::Postgres, Kind::Mariadb]).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            $(#[$second])*
            async fn mysql_and_postgres() {
                super::$body([Kind::Mysql, Kind::Postgres]).await;
            }
        }
    };
}
pub(crate) use pairing_tests;

/// A test of a body, in another module, for each of the two pairings of newer servers, of what only `make test-full` runs.
macro_rules! newer_pairings {
    ($($name:ident: $body:path),+ $(,)?) => { $(
        mod $name {
            use pontoon_servers::{Kind, Release};

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "full: the newer servers"]
            async fn postgres_18_and_mariadb_11_8() {
                $body([Kind::Postgres, Kind::Mariadb].map(Release::newer)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "full: the newer servers"]
            async fn mysql_9_7_and_postgres_18() {
                $body([Kind::Mysql, Kind::Postgres].map(Release::newer)).await;
            }
        }
    )+ };
}
pub(crate) use newer_pairings;

/// The same from each of them to the other, of what only `make test-full` runs.
macro_rules! each_way {
    ($reason:literal: $body:ident) => {
        mod $body {
            use pontoon_servers::Kind::{Mariadb, Mysql, Postgres};

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = $reason]
            async fn postgres_to_mariadb() {
                super::$body([Postgres, Mariadb]).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = $reason]
            async fn mariadb_to_postgres() {
                super::$body([Mariadb, Postgres]).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = $reason]
            async fn postgres_to_mysql() {
                super::$body([Postgres, Mysql]).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = $reason]
            async fn mysql_to_postgres() {
                super::$body([Mysql, Postgres]).await;
            }
        }
    };
}
pub(crate) use each_way;

/// Until what is written is later than what was: MariaDB's log tells the second of a commit, and no more.
pub(crate) async fn a_second_later() {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
}

/// Waits until a bridge with a status page says that it is ready, or that it is not.
pub(crate) async fn is_ready(bridge: &Bridge, wanted: bool) {
    let page = bridge.page().await;
    let (began, mut said) = (std::time::Instant::now(), None);
    while said.as_ref().is_none_or(|(code, _)| (*code == 200) != wanted) {
        assert!(began.elapsed() < DEADLINE, "ready was to be {wanted}, but: {said:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        said = crate::commands::get(&page, "/readyz").await;
    }
}
