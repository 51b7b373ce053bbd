//! Who gets in, and how.

use pontoon_core::{
    Code,
    node::{Node, NodeOptions, PassedOver, Secret},
};

use crate::support::{Bench, options};

async fn code(options: NodeOptions) -> Code {
    let node = pontoon_postgres::node(options).unwrap();
    node.connect().await.unwrap_err().code()
}

#[tokio::test]
async fn wrong_logins_are_told_apart() {
    let bench =
        Bench::start("CREATE TABLE items (id int PRIMARY KEY); ALTER TABLE items REPLICA IDENTITY FULL", &["items"])
            .await;
    let peer = bench.node.connect().await.unwrap();
    assert!(peer.server.starts_with("PostgreSQL 1"));
    assert_eq!(peer.certificate_expiry, None);
    let good = options(&bench.server, "b");
    let wrong = NodeOptions { password: Some(Secret::new("wrong secret")), ..good.clone() };
    let node = pontoon_postgres::node(wrong.clone()).unwrap();
    let error = node.connect().await.unwrap_err();
    assert_eq!(error.code(), Code::LoginRefused);
    assert!(!format!("{error:?}").contains("wrong secret"));
    assert_eq!(code(NodeOptions { password: None, ..good.clone() }).await, Code::LoginRefused);
    let port = bench.server.port();
    let elsewhere = NodeOptions { url: format!("postgresql://u@127.0.0.1:{port}/nowhere"), ..wrong };
    assert_eq!(code(elsewhere).await, Code::LoginRefused);
    let database = NodeOptions { url: good.url.replace("shop", "none"), ..good.clone() };
    assert_eq!(code(database).await, Code::LoginRefused);
    assert_eq!(
        code(NodeOptions { url: "postgresql://u@127.0.0.1:1/d".into(), ..good.clone() }).await,
        Code::Unreachable
    );
    let encrypted = NodeOptions { url: format!("{}?sslmode=require", good.url), ..good };
    assert_eq!(code(encrypted).await, Code::TlsFailed);
}

#[tokio::test]
async fn a_silent_server_is_unreachable_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = NodeOptions {
        name: "shop".into(),
        bridge: "b".into(),
        url: format!("postgresql://u@127.0.0.1:{port}/d?connect_timeout=1"),
        password: None,
    };
    let started = std::time::Instant::now();
    assert_eq!(code(options).await, Code::Unreachable);
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
}

/// The reader's own login and the driver's, by each method that a server may ask for.
#[tokio::test]
async fn connections_log_in_by_every_method_that_does_not_tell_the_password() {
    let mut bench =
        Bench::start("CREATE TABLE items (id int PRIMARY KEY); ALTER TABLE items REPLICA IDENTITY FULL", &["items"])
            .await;
    let hba = bench.server.data().join("pg_hba.conf");
    for method in ["scram-sha-256", "md5", "password", "trust"] {
        // The superuser stays as it was, and md5 needs a password that is stored so.
        let rules = format!("host all postgres 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 {method}\n");
        std::fs::write(&hba, rules).unwrap();
        let stored = if method == "md5" { "md5" } else { "scram-sha-256" };
        bench.run(&format!("SET password_encryption = '{stored}'; ALTER ROLE \"bridge \"\"user\" PASSWORD 'it''s a secret'; SELECT pg_reload_conf()")).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let node = pontoon_postgres::node(options(&bench.server, crate::support::BRIDGE)).unwrap();
        let opened = node.open_reader(&bench.start, bench.tables(), &PassedOver::default()).await;
        if method == "password" {
            // In clear text over a connection that anybody can read: not by us.
            assert_eq!(opened.err().unwrap().code(), Code::LoginRefused);
            let refused = node.connect().await.unwrap_err();
            assert_eq!(refused.code(), Code::LoginRefused);
            assert!(refused.message().contains("clear text"), "{refused}");
        } else {
            opened.unwrap_or_else(|error| panic!("{method}: {error}"));
            node.connect().await.unwrap_or_else(|error| panic!("{method}: {error}"));
        }
    }
    bench.server.stop().await.unwrap();
}
