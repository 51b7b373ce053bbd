//! TLS as it is meant to be: every mode, authority, kind of key and version, for SQL and for the log. What is refused,
//! and how it is said, is tested end to end.

use std::sync::Arc;

use mysql_async::prelude::Queryable;
use pontoon_core::{
    Code, TableName,
    node::{Node, NodeOptions, Secret},
};
use pontoon_mysql::MysqlNode;
use pontoon_servers::{Authority, Encryption, Kind, Options, Request, Server};

use crate::support::{map, root, run, set_up, transaction};

async fn start(kind: Kind, version: &str) -> Server {
    let options = Options::default().encryption(Encryption::Private).setting("tls-version", version);
    Server::start(kind, options).await.unwrap()
}

fn node(server: &Server, user: &str, parameters: &str) -> Arc<MysqlNode> {
    let password = if user == server.superuser() { server.password() } else { "secret" };
    pontoon_mysql::node(NodeOptions {
        name: "n".into(),
        bridge: "b".into(),
        url: format!("{}?{parameters}", server.url(user, "shop")),
        password: Some(Secret::new(password)),
    })
    .unwrap()
}

fn tempfile(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

/// Has the server show another certificate.
async fn show(server: &Server, request: &Request) {
    server.replace_certificate(&server.private_authority().unwrap().issue(request).unwrap()).unwrap();
    let reload = if server.kind() == Kind::Mysql { "ALTER INSTANCE RELOAD TLS" } else { "FLUSH SSL" };
    run(&mut root(server).await, &[reload]).await;
}

async fn each_mode_verifies_what_it_says(kind: Kind) {
    let server = start(kind, "TLSv1.2,TLSv1.3").await;
    run(&mut root(&server).await, &["CREATE DATABASE shop"]).await;
    let authority = server.authority().unwrap().display();
    let stranger = tempfile(Authority::new("another").unwrap().pem());
    let stranger = stranger.path().display();
    let elsewhere = Request { hosts: vec!["db.example".into()], ..Request::default() };
    for (host, request) in [("own", Request::default()), ("other", elsewhere)] {
        show(&server, &request).await;
        for (parameters, own_host, other_host) in [
            ("ssl-mode=disabled".to_owned(), true, true),
            ("ssl-mode=preferred".into(), true, true),
            ("ssl-mode=required".into(), true, true),
            ("ssl-mode=REQUIRED".into(), true, true),
            (format!("ssl-mode=required&ssl-ca={authority}"), true, true),
            (format!("ssl-mode=verify_ca&ssl-ca={authority}"), true, true),
            (format!("ssl-mode=verify_identity&ssl-ca={authority}"), true, false),
            // On a loopback address too, since an authority is named.
            (format!("ssl-ca={authority}"), true, false),
            (format!("ssl-mode=required&ssl-ca={stranger}"), false, false),
            (format!("ssl-mode=verify_ca&ssl-ca={stranger}"), false, false),
            (format!("ssl-mode=verify_identity&ssl-ca={stranger}"), false, false),
            ("ssl-mode=verify_ca".into(), false, false),
            ("ssl-mode=verify_identity".into(), false, false),
        ] {
            let good = if host == "own" { own_host } else { other_host };
            match node(&server, server.superuser(), &parameters).connect().await {
                Ok(peer) => {
                    assert!(good, "{kind}: {parameters} accepts the certificate of {host}");
                    let shown = peer.certificate_expiry.is_some();
                    assert_eq!(shown, !parameters.contains("disabled"), "{kind}: {parameters}");
                }
                Err(error) => assert!(!good && error.code() == Code::TlsFailed, "{kind}: {parameters} {host}: {error}"),
            }
        }
    }
}

/// The forms of private keys that there are.
const KEYS: [(&str, &str, &str); 4] = [
    (
        "RSA in PKCS#8",
        include_str!("../../../tls/tests/keys/rsa-pkcs8.pem"),
        include_str!("../../../tls/tests/keys/rsa-pkcs8.pem"),
    ),
    (
        "RSA in PKCS#1",
        include_str!("../../../tls/tests/keys/rsa-pkcs8.pem"),
        include_str!("../../../tls/tests/keys/rsa-pkcs1.pem"),
    ),
    (
        "EC in PKCS#8",
        include_str!("../../../tls/tests/keys/ec-pkcs8.pem"),
        include_str!("../../../tls/tests/keys/ec-pkcs8.pem"),
    ),
    (
        "EC in SEC1",
        include_str!("../../../tls/tests/keys/ec-pkcs8.pem"),
        include_str!("../../../tls/tests/keys/ec-sec1.pem"),
    ),
];

/// A user who has to show a certificate, on every kind of connection; by an authority in between, with a file that
/// holds more than the one that is needed.
async fn a_client_certificate_opens_the_log_as_well(kind: Kind, version: &str) {
    let mut server = start(kind, version).await;
    let between = server.private_authority().unwrap().intermediate("in between").unwrap();
    let ends = 24 * 50;
    server.replace_certificate(&between.issue(&Request { hours: (-1, ends), ..Request::default() }).unwrap()).unwrap();
    // Told to read it again, MySQL looks at the first certificate alone, and misses the one in between.
    server.restart().await.unwrap();
    let mut conn = root(&server).await;
    run(
        &mut conn,
        &[
            "CREATE DATABASE shop",
            "CREATE TABLE shop.items (id int PRIMARY KEY)",
            "CREATE USER by_any IDENTIFIED BY 'secret' REQUIRE X509",
            "CREATE USER by_subject IDENTIFIED BY 'secret' REQUIRE SUBJECT '/CN=by_subject' AND ISSUER '/CN=in between'",
            "GRANT ALL ON *.* TO by_any",
            "GRANT ALL ON *.* TO by_subject",
        ],
    )
    .await;
    let authorities = tempfile(&format!(
        "{}\n# ours\n{}",
        Authority::new("another").unwrap().pem(),
        server.private_authority().unwrap().pem()
    ));
    for (at, (what, key, key_file)) in KEYS.into_iter().enumerate() {
        let user = ["by_any", "by_subject"][at % 2];
        let issued = between.issue(&Request { key: Some(key.to_owned()), ..Request::client(user) }).unwrap();
        let (certificate, key) = (tempfile(&issued.chain), tempfile(key_file));
        let path = |file: &tempfile::NamedTempFile| file.path().display().to_string();
        let verified = format!("ssl-mode=verify_identity&ssl-ca={}", path(&authorities));
        let refused = node(&server, user, &verified).connect().await.unwrap_err();
        assert_eq!(refused.code(), Code::LoginRefused, "{refused}");
        let node = node(&server, user, &format!("{verified}&ssl-cert={}&ssl-key={}", path(&certificate), path(&key)));
        let peer = node.connect().await.unwrap_or_else(|error| panic!("{kind} {version} {what}: {error}"));
        assert!((peer.certificate_expiry.unwrap() - now_seconds() - ends * 3600).abs() < 120, "{peer:?}");
        let tables = map(&node, &[TableName::new("shop", "items")]).await;
        let mut reader = set_up(&node, &tables).await;
        run(&mut conn, &[&format!("INSERT INTO shop.items VALUES ({at})")]).await;
        assert_eq!(transaction(&mut reader).await.changes.len(), 1);
        let dumps: Vec<String> = conn
            .query("SELECT user FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
            .await
            .unwrap();
        assert!(dumps.contains(&user.to_owned()), "{what}: {dumps:?}");
    }
}

fn now_seconds() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

#[tokio::test]
async fn mariadb() {
    each_mode_verifies_what_it_says(Kind::Mariadb).await;
    a_client_certificate_opens_the_log_as_well(Kind::Mariadb, "TLSv1.2").await;
    a_client_certificate_opens_the_log_as_well(Kind::Mariadb, "TLSv1.3").await;
}

#[tokio::test]
async fn mysql() {
    each_mode_verifies_what_it_says(Kind::Mysql).await;
    a_client_certificate_opens_the_log_as_well(Kind::Mysql, "TLSv1.2").await;
    a_client_certificate_opens_the_log_as_well(Kind::Mysql, "TLSv1.3").await;
}

/// What MySQL makes itself at its first start names no host, and is good for all that `verify_ca` asks.
#[tokio::test]
async fn the_certificate_of_mysqls_own_making() {
    let server = Server::start(Kind::Mysql, Options::default()).await.unwrap();
    run(&mut root(&server).await, &["CREATE DATABASE shop"]).await;
    let authority = server.data().join("ca.pem");
    let authority = authority.display();
    let at = |mode: &str| node(&server, "root", &format!("ssl-mode={mode}&ssl-ca={authority}"));
    at("verify_ca").connect().await.unwrap();
    let refused = at("verify_identity").connect().await.unwrap_err();
    assert!(refused.message().contains("names no host"), "{refused}");
}
