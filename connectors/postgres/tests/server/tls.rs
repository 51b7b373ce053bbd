//! TLS as it is meant to be: every mode, authority, kind of key and version, for SQL and for the log. What is refused,
//! and how it is said, is tested end to end.

use std::{path::Path, time::Duration};

use pontoon_core::{
    Code, LogEvent,
    node::{Admin, Node, NodeOptions, PassedOver, Secret},
};
use pontoon_servers::{Authority, Encryption, Kind, Options, Request, Server};
use tokio_postgres::Client;

use crate::support::{PATIENCE, connect, map, names, next, plan_of};

async fn start() -> (Server, Client) {
    let server = Server::start(Kind::Postgres, Options::default().encryption(Encryption::Private)).await.unwrap();
    let sql = connect(&server, "postgres").await;
    (server, sql)
}

/// Without a password, that of the superuser; certificates do without one.
fn options(server: &Server, user: &str, parameters: &str) -> NodeOptions {
    NodeOptions {
        name: "shop".into(),
        bridge: "b".into(),
        url: format!("{}?{parameters}", server.url(user, "postgres")),
        password: (user == "postgres").then(|| Secret::new(server.password())),
    }
}

async fn code(options: NodeOptions) -> Code {
    pontoon_postgres::node(options).unwrap().connect().await.unwrap_err().code()
}

/// Whether the newest connection of the bridge is encrypted, as the server says.
async fn versions(sql: &Client) -> Vec<String> {
    let rows = sql
        .query("SELECT version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name LIKE 'pontoon%'", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn each_mode_verifies_what_it_says() {
    let (server, sql) = start().await;
    let authority = server.authority().unwrap().display();
    let stranger = tempfile(Authority::new("another").unwrap().pem());
    let stranger = stranger.path().display();
    let elsewhere = Request { hosts: vec!["db.example".into()], ..Request::default() };
    let elsewhere = server.private_authority().unwrap().issue(&elsewhere).unwrap();
    for (parameters, own_host, other_host) in [
        ("sslmode=disable".to_owned(), true, true),
        ("sslmode=allow".into(), true, true),
        ("sslmode=prefer".into(), true, true),
        ("sslmode=require".into(), true, true),
        (format!("sslmode=require&sslrootcert={authority}"), true, true),
        (format!("sslmode=verify-ca&sslrootcert={authority}"), true, true),
        (format!("sslmode=verify-full&sslrootcert={authority}"), true, false),
        // On a loopback address too, since an authority is named.
        (format!("sslrootcert={authority}"), true, false),
        (format!("sslmode=require&sslrootcert={stranger}"), false, false),
        (format!("sslmode=verify-ca&sslrootcert={stranger}"), false, false),
        (format!("sslmode=verify-full&sslrootcert={stranger}"), false, false),
        ("sslmode=verify-ca".into(), false, false),
    ] {
        for (host, good) in [("own", own_host), ("other", other_host)] {
            // The server is asked by name where its certificate is for 127.0.0.1 and localhost alone.
            if host == "other" {
                server.replace_certificate(&elsewhere).unwrap();
            } else {
                server
                    .replace_certificate(&server.private_authority().unwrap().issue(&Request::default()).unwrap())
                    .unwrap();
            }
            reload(&sql).await;
            let node = pontoon_postgres::node(options(&server, "postgres", &parameters)).unwrap();
            match node.connect().await {
                Ok(peer) => {
                    assert!(good, "{parameters} accepts the certificate of {host}");
                    let shown = peer.certificate_expiry.is_some();
                    assert_eq!(shown, !parameters.contains("disable"), "{parameters}");
                }
                Err(error) => assert!(!good && error.code() == Code::TlsFailed, "{parameters} {host}: {error}"),
            }
        }
    }
    // The system's authorities are asked where none is named; the server has no certificate of one.
    assert_eq!(code(options(&server, "postgres", "sslmode=verify-full")).await, Code::TlsFailed);
}

/// Has the server read its certificate again, and waits until it has.
async fn reload(sql: &Client) {
    let loaded = "SELECT pg_conf_load_time()::text";
    let before: String = sql.query_one(loaded, &[]).await.unwrap().get(0);
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    // Each process of the server is told by itself: one that begins after this session was told has the new one.
    while sql.query_one(loaded, &[]).await.unwrap().get::<_, String>(0) == before {
        assert!(std::time::Instant::now() < deadline, "it does not read its files again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn tempfile(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
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

/// A user who has no password at all, and for whom both kinds of connection need a certificate; in both versions of TLS;
/// by an authority in between, with a file that holds more than the one that is needed.
#[tokio::test]
async fn a_client_certificate_opens_the_log_as_well() {
    let (server, sql) = start().await;
    let rules = "host all postgres all scram-sha-256\nhostssl all certified all cert clientcert=verify-full\n";
    std::fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
    sql.batch_execute("CREATE ROLE certified SUPERUSER LOGIN; CREATE TABLE items (id int PRIMARY KEY); ALTER TABLE items REPLICA IDENTITY FULL").await.unwrap();
    let root = server.private_authority().unwrap();
    let between = root.intermediate("in between").unwrap();
    let ends = 24 * 50;
    server.replace_certificate(&between.issue(&Request { hours: (-1, ends), ..Request::default() }).unwrap()).unwrap();
    reload(&sql).await;
    let authorities = tempfile(&format!("{}\n# ours\n{}", Authority::new("another").unwrap().pem(), root.pem()));
    for (at, (what, key, key_file)) in KEYS.into_iter().enumerate() {
        let version = ["TLSv1.2", "TLSv1.3"][at % 2];
        for setting in ["min", "max"] {
            sql.batch_execute(&format!("ALTER SYSTEM SET ssl_{setting}_protocol_version = '{version}'")).await.unwrap();
        }
        reload(&sql).await;
        let issued = between.issue(&Request { key: Some(key.to_owned()), ..Request::client("certified") }).unwrap();
        let (certificate, key) = (tempfile(&issued.chain), tempfile(key_file));
        let path = |file: &tempfile::NamedTempFile| file.path().display().to_string();
        let parameters = format!(
            "sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
            path(&authorities),
            path(&certificate),
            path(&key)
        );
        let node = pontoon_postgres::node(options(&server, "certified", &parameters)).unwrap();
        let peer = node.connect().await.unwrap_or_else(|error| panic!("{what}, {version}: {error}"));
        let expected = now_seconds() + ends * 3600;
        assert!((peer.certificate_expiry.unwrap() - expected).abs() < 120, "{peer:?}");

        let plan = plan_of(map(&node, &names(&["items"]), &[]).await);
        let start = node.setup(&plan).await.unwrap();
        let mut reader = node.open_reader(&start, &plan.tables, &PassedOver::default()).await.unwrap();
        sql.batch_execute("DELETE FROM items; INSERT INTO items SELECT generate_series(1, 20000)").await.unwrap();
        let mut count = 0;
        while count < 20_000 {
            if let LogEvent::Fragment(fragment) = next(&mut reader).await {
                let inserts =
                    |change: &&pontoon_core::Change| matches!(change.operation, pontoon_core::Operation::Insert { .. });
                count += fragment.changes.iter().filter(inserts).count();
            }
        }
        let seen = versions(&sql).await;
        assert!(!seen.is_empty() && seen.iter().all(|seen| seen == version), "{what}: {seen:?}");
        let encrypted: i64 = sql
            .query_one("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid) WHERE client_dn = '/CN=certified'", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(encrypted, 1, "{what}");
    }
}

fn now_seconds() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// A certificate that is renewed is used by the next connection.
#[tokio::test]
async fn files_are_read_for_every_connection() {
    let (server, _sql) = start().await;
    let stranger = Authority::new("another").unwrap();
    let file = tempfile(server.private_authority().unwrap().pem());
    let parameters = format!("sslmode=verify-full&sslrootcert={}", file.path().display());
    let node = pontoon_postgres::node(options(&server, "postgres", &parameters)).unwrap();
    node.connect().await.unwrap();
    let refused = async |content: Option<&str>, path: &Path| {
        match content {
            Some(content) => std::fs::write(path, content).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        let error = node.connect().await.unwrap_err();
        // While it runs this goes away by itself: somebody is at work on the file.
        assert_eq!(error.code(), Code::TlsFailed);
        error.message().to_owned()
    };
    assert!(refused(Some(stranger.pem()), file.path()).await.contains("not trusted here"));
    assert!(refused(Some(""), file.path()).await.contains("is empty"));
    assert!(refused(None, file.path()).await.contains("cannot be read"));
    std::fs::write(file.path(), server.private_authority().unwrap().pem()).unwrap();
    node.connect().await.unwrap();
}
