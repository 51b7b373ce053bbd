//! What is wrong with a connection is said in one line, each cause in words of its own, with the remedy and the exit
//! code; nothing goes on in the clear, and no secret is told.

use std::path::{Path, PathBuf};

use pontoon_servers::{Authority, Encryption, Issued, Kind, Options, Request};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Bridge, Database, Link, LinkOptions,
    bridge::{Ended, pontoon},
    eventually,
};

const PASSWORD: &str = "correct horse battery";
const WRONG: &str = "incorrect horse";

/// One server with an authority of its own, and a configuration whose node `a` it is. The other node is never reached.
struct Bench {
    node: Database,
    folder: tempfile::TempDir,
    /// What was said so far.
    said: Vec<String>,
}

/// The options of a URL by what they are for.
struct Words {
    mode: &'static str,
    full: &'static str,
    authority: &'static str,
    certificate: &'static str,
    key: &'static str,
}

impl Bench {
    async fn start(kind: Kind) -> Bench {
        let node = Database::start(kind, Options::default().encryption(Encryption::Private)).await;
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("right", PASSWORD), ("wrong", WRONG)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let users = match kind {
            Kind::Postgres => {
                let rules = "hostssl all certified all cert\nhost all all all scram-sha-256\n";
                std::fs::write(node.server.data().join("pg_hba.conf"), rules).unwrap();
                format!(
                    "CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE certified LOGIN; SELECT pg_reload_conf()"
                )
            }
            _ => format!(
                "CREATE USER plain IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON shop.* TO plain; \
                 CREATE USER certified IDENTIFIED BY '{PASSWORD}' REQUIRE SUBJECT '/CN=certified'; GRANT ALL ON shop.* TO certified"
            ),
        };
        for statement in users.split("; ") {
            node.run(statement).await;
        }
        let bench = Bench { node, folder, said: Vec::new() };
        std::fs::write(bench.file("authority.pem"), bench.authority().pem()).unwrap();
        bench
    }

    fn words(&self) -> Words {
        match self.node.kind {
            Kind::Postgres => Words {
                mode: "sslmode",
                full: "verify-full",
                authority: "sslrootcert",
                certificate: "sslcert",
                key: "sslkey",
            },
            _ => Words {
                mode: "ssl-mode",
                full: "verify_identity",
                authority: "ssl-ca",
                certificate: "ssl-cert",
                key: "ssl-key",
            },
        }
    }

    fn authority(&self) -> &Authority {
        self.node.server.private_authority().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a client certificate, and gives the options that name it.
    fn identity(&self, name: &str, issued: &Issued) -> String {
        let words = self.words();
        std::fs::write(self.file(&format!("{name}.pem")), &issued.chain).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), &issued.key).unwrap();
        format!("&{}={name}.pem&{}={name}.key", words.certificate, words.key)
    }

    /// The options that verify everything, by a file of authorities.
    fn verified(&self, authority: &str) -> String {
        let words = self.words();
        format!("{}={}&{}={authority}", words.mode, words.full, words.authority)
    }

    /// Has the server show another certificate.
    async fn show(&mut self, issued: &Issued) {
        self.node.server.replace_certificate(issued).unwrap();
        match self.node.kind {
            Kind::Postgres => self.node.run("SELECT pg_reload_conf()").await,
            Kind::Mariadb => self.node.run("FLUSH SSL").await,
            // Told to read it again, it looks at it first, and keeps the old one; at the start it takes what there is.
            Kind::Mysql => self.node.server.restart().await.unwrap(),
        }
    }

    async fn command(&self, arguments: &[&str], url: &str, password: &str) -> Ended {
        let text = format!(
            "bridge = \"e2e\"\n[nodes.a]\nurl = \"{url}\"\npassword_file = \"{password}\"\n[nodes.b]\nurl = \"mysql://u@127.0.0.1:1/d\"\n\
             [server]\nlisten = \"off\"\n[limits]\nspill_dir = \"spill\"\n[[tables]]\nname = \"items\"\n"
        );
        std::fs::write(self.file("pontoon.toml"), text).unwrap();
        let ended = pontoon(&self.file("pontoon.toml"), arguments).await;
        let all = format!("{}{}", ended.out, ended.err);
        assert!(!all.contains(PASSWORD) && !all.contains(WRONG) && !all.contains("hunter2"), "a secret is told: {all}");
        ended
    }

    fn url(&self, user: &str, options: &str) -> String {
        format!("{}?{options}", self.node.server.url(user, "shop"))
    }

    /// The refusal has its words, which no other has, at the right place, with a remedy; by `run` too.
    async fn refused(&mut self, exit: i32, code: &str, url: &str, password: &str, says: &str, remedy: &str) {
        let mut ended = self.command(&["check"], url, password).await;
        // PostgreSQL takes a signal to read its files again, some time after.
        eventually(says, async || {
            let there = ended.err.contains(says);
            if !there {
                ended = self.command(&["check"], url, password).await;
            }
            there
        })
        .await;
        let refusal = ended.refused(exit, code);
        assert!(refusal.message.starts_with("a: ") || exit == 2, "the node is not named: {refusal:?}");
        let place = url.split_once('@').unwrap().1.split_once('/').unwrap().0;
        assert!(refusal.message.contains(place) || exit == 2, "{place} is not named: {refusal:?}");
        assert!(refusal.hint.contains(remedy), "no {remedy:?}: {refusal:?}");
        let cause = refusal.message.replace(place, "").replace(&*self.folder.path().to_string_lossy(), "");
        assert!(!self.said.contains(&cause), "{cause:?} was said of something else too");
        self.said.push(cause);
        let run = self.command(&["run"], url, password).await;
        assert_eq!(run.refused(exit, code).message, refusal.message);
    }
}

/// The certificate that the server shows.
async fn certificates(bench: &mut Bench) {
    let good = Request::default();
    let whole = bench.url("plain", &bench.verified("authority.pem"));
    let issue = |bench: &Bench, request: Request| bench.authority().issue(&request).unwrap();

    let expired = issue(bench, Request { hours: (-48, -24), ..good.clone() });
    bench.show(&expired).await;
    bench.refused(3, "tls-failed", &whole, "right", "the server's certificate expired on 20", "renew it").await;

    let early = issue(bench, Request { hours: (24, 48), ..good.clone() });
    bench.show(&early).await;
    bench.refused(3, "tls-failed", &whole, "right", "is not valid before 20", "clock").await;

    let elsewhere = issue(bench, Request { hosts: vec!["db.example".into(), "10.0.0.1".into()], ..good.clone() });
    bench.show(&elsewhere).await;
    let says = "is for db.example, 10.0.0.1, not for 127.0.0.1";
    bench.refused(3, "tls-failed", &whole, "right", says, "write a host in the url that the certificate names").await;

    bench.show(&good.self_signed().unwrap()).await;
    bench.refused(3, "tls-failed", &whole, "right", "self-signed (localhost)", "issued by an authority").await;

    let other = Authority::new("another authority").unwrap();
    bench.show(&other.issue(&good).unwrap()).await;
    let says = "of the authority \"another authority\", which is not trusted here";
    bench.refused(3, "tls-failed", &whole, "right", says, bench.words().authority).await;

    let client = issue(bench, Request::client("server"));
    bench.show(&client).await;
    let name_too =
        format!("{}={}", bench.words().mode, if bench.node.is_postgres() { "verify-ca" } else { "verify_ca" });
    let whoever = bench.url("plain", &format!("{name_too}&{}=authority.pem", bench.words().authority));
    bench.refused(3, "tls-failed", &whoever, "right", "is not one for servers", "serverAuth").await;

    let well = issue(bench, good);
    bench.show(&well).await;
    let found = bench.command(&["check"], &whole, "right").await;
    assert!(found.err.contains("b: 127.0.0.1:1: "), "a is reached, and b is not: {found:?}");
}

/// The certificate that we show.
async fn identities(bench: &mut Bench) {
    let url = |bench: &Bench, identity: &str| {
        bench.url("certified", &format!("{}{identity}", bench.verified("authority.pem")))
    };
    let good = bench.identity("good", &bench.authority().issue(&Request::client("certified")).unwrap());
    let well = url(bench, &good);
    let found = bench.command(&["check"], &well, "right").await;
    assert!(found.err.contains("b: 127.0.0.1:1: "), "a is reached, and b is not: {found:?}");

    let none = url(bench, "");
    let (says, remedy) = match bench.node.kind {
        Kind::Postgres => ("requires a valid client certificate", "sslcert and sslkey"),
        _ => ("Access denied for user 'certified'", "REQUIREs X509 wants ssl-cert and ssl-key"),
    };
    bench.refused(3, "login-refused", &none, "right", says, remedy).await;

    let stranger = Authority::new("another authority").unwrap().issue(&Request::client("certified")).unwrap();
    let stranger = url(bench, &bench.identity("stranger", &stranger));
    let words = bench.words();
    bench
        .refused(
            3,
            "tls-failed",
            &stranger,
            "right",
            "does not know the authority of our client certificate",
            words.certificate,
        )
        .await;

    let expired = bench.authority().issue(&Request { hours: (-48, -24), ..Request::client("certified") }).unwrap();
    let expired = url(bench, &bench.identity("expired", &expired));
    bench.refused(3, "tls-failed", &expired, "right", "our client certificate has expired", words.certificate).await;

    let other = bench.authority().issue(&Request::client("somebody")).unwrap();
    let other = url(bench, &bench.identity("other", &other));
    match bench.node.kind {
        Kind::Postgres => {
            let says = "certificate authentication failed for user \"certified\"";
            bench.refused(3, "login-refused", &other, "right", says, "pg_ident.conf").await;
        }
        // The server says just what it says where there is none.
        _ => {
            let refusal = bench.command(&["check"], &other, "right").await.refused(3, "login-refused");
            assert!(refusal.hint.contains("REQUIREs a SUBJECT"), "{refusal:?}");
        }
    }
}

/// Files that cannot be used, told before anything is connected.
async fn files(bench: &mut Bench) {
    let words = bench.words();
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../connectors/tls/tests/keys");
    std::fs::write(bench.file("empty.pem"), "").unwrap();
    std::fs::write(bench.file("text.pem"), "hunter2, no certificate").unwrap();
    for (authority, says) in [
        ("missing.pem", "missing.pem cannot be read: No such file"),
        ("empty.pem", "empty.pem is empty"),
        ("text.pem", "text.pem holds no certificate in PEM form"),
    ] {
        let url = bench.url("plain", &bench.verified(authority));
        bench.refused(2, "config-invalid", &url, "right", says, "PEM form").await;
    }
    let both = format!("{}&{}=good.pem", bench.verified("authority.pem"), words.certificate);
    for (key, says, remedy) in [
        ("stranger.key".to_owned(), "is not the key of the certificate", "belong together"),
        (keys.join("encrypted-pkcs8.pem").display().to_string(), "is encrypted", "openssl pkey -in"),
        ("good.pem".to_owned(), "holds no private key", "PKCS#8"),
    ] {
        let url = bench.url("plain", &format!("{both}&{}={key}", words.key));
        bench.refused(2, "config-invalid", &url, "right", says, remedy).await;
    }
    let off = if bench.node.is_postgres() { "sslmode=disable" } else { "ssl-mode=disabled" };
    let contradiction = bench.url("plain", &format!("{off}&{}=authority.pem", words.authority));
    let says = format!("{off} contradicts {}", words.authority);
    bench.refused(2, "config-invalid", &contradiction, "right", &says, words.full).await;
}

async fn logins(bench: &mut Bench) {
    let url = bench.url("plain", &bench.verified("authority.pem"));
    let (says, remedy) = match bench.node.kind {
        Kind::Postgres => ("password authentication failed for user \"plain\"", "check the user and the password"),
        _ => ("Access denied for user 'plain'", "check the user, the password"),
    };
    bench.refused(3, "login-refused", &url, "wrong", says, remedy).await;
    let (lock, says, remedy) = match bench.node.kind {
        Kind::Postgres => ("ALTER ROLE plain NOLOGIN", "is not permitted to log in", "ALTER ROLE"),
        _ => ("ALTER USER plain ACCOUNT LOCK", "ccount is locked", "ACCOUNT UNLOCK"),
    };
    bench.node.run(lock).await;
    bench.refused(3, "login-refused", &url, "right", says, remedy).await;
}

/// What answers on the port, or does not.
async fn strangers(bench: &mut Bench) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = format!(":{}/", bench.node.server.port());
    let url = bench
        .url("plain", &(bench.verified("authority.pem") + "&connect_timeout=2"))
        .replace(&own, &format!(":{port}/"));
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    bench.refused(3, "unreachable", &url, "right", "no answer within", "firewall").await;
    silent.abort();
    let _ = silent.await;

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let garbage = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // To PostgreSQL's client no answer to its request; to MySQL's a packet that is no greeting.
            let _ = stream.write_all(b"\x04\0\0\0nope").await;
        }
    });
    bench.refused(3, "unreachable", &url, "right", "what answers there is no", "port").await;
    garbage.abort();
    let _ = garbage.await;
    bench.refused(3, "unreachable", &url, "right", "onnection refused", "does the server run").await;
}

/// A server that has no TLS, or none that is fit.
async fn without(bench: &mut Bench) {
    let url = bench.url("certified", &bench.verified("authority.pem"));
    match bench.node.kind {
        Kind::Postgres => {
            for setting in ["min", "max"] {
                bench.node.run(&format!("ALTER SYSTEM SET ssl_{setting}_protocol_version = 'TLSv1.1'")).await;
            }
            bench.node.run("ALTER SYSTEM SET ssl_ciphers = 'ALL:@SECLEVEL=0'").await;
            bench.node.run("SELECT pg_reload_conf()").await;
        }
        Kind::Mariadb => {
            bench.node.server.set("tls-version", "TLSv1.1").unwrap();
            bench.node.server.set("ssl-cipher", "ALL:@SECLEVEL=0").unwrap();
            bench.node.server.restart().await.unwrap();
        }
        // It has no older version than 1.2.
        Kind::Mysql => {}
    }
    if bench.node.kind != Kind::Mysql {
        bench.refused(3, "tls-failed", &url, "right", "no TLS of version 1.2 or 1.3", "permit one of them").await;
    }
    match bench.node.kind {
        Kind::Postgres => {
            bench.node.run("ALTER SYSTEM SET ssl = off").await;
            bench.node.run("SELECT pg_reload_conf()").await;
        }
        Kind::Mariadb => {
            bench.node.server.set("skip-ssl", "").unwrap();
            bench.node.server.restart().await.unwrap();
        }
        Kind::Mysql => {
            // Without a certificate that it can use, and told not to keep the old one, it has none.
            let none = Issued { chain: "none".into(), key: "none".into() };
            bench.node.server.replace_certificate(&none).unwrap();
            bench.node.run("ALTER INSTANCE RELOAD TLS NO ROLLBACK ON ERROR").await;
        }
    }
    bench.refused(3, "tls-failed", &url, "right", "the server has no TLS", "of a link that nobody can listen to").await;
}

async fn each_bad_set_up_has_its_own_words(kind: Kind) {
    let mut bench = Bench::start(kind).await;
    certificates(&mut bench).await;
    identities(&mut bench).await;
    files(&mut bench).await;
    logins(&mut bench).await;
    strangers(&mut bench).await;
    without(&mut bench).await;
    assert!(bench.said.len() >= 20, "{}", bench.said.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    each_bad_set_up_has_its_own_words(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb() {
    each_bad_set_up_has_its_own_words(Kind::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql() {
    each_bad_set_up_has_its_own_words(Kind::Mysql).await;
}

/// The user of the bridge below: one who may do everything, and can be locked out.
const USER: &str = "keeper";

/// Locks the bridge's user out of a node, and ends what it has there.
async fn lock_out(node: &Database) {
    match node.kind {
        Kind::Postgres => {
            node.run(&format!("ALTER ROLE {USER} NOLOGIN")).await;
            node.run(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'")).await;
        }
        _ => {
            node.run(&format!("ALTER USER {USER} ACCOUNT LOCK")).await;
            end_sessions(node, "TRUE").await;
        }
    }
}

async fn let_in(node: &Database) {
    node.run(&match node.kind {
        Kind::Postgres => format!("ALTER ROLE {USER} LOGIN"),
        _ => format!("ALTER USER {USER} ACCOUNT UNLOCK"),
    })
    .await;
}

/// Ends the sessions of the bridge on MySQL or MariaDB that a condition picks.
async fn end_sessions(node: &Database, which: &str) {
    let list = format!("SELECT id FROM information_schema.processlist WHERE user = '{USER}' AND {which}");
    for session in node.rows(&list).await {
        // It may have ended by itself.
        let _ = node.client().await.try_run(&format!("KILL {}", session[0].as_ref().unwrap())).await;
    }
}

/// How many logins a node has refused.
async fn refused_logins(node: &Database) -> usize {
    match node.kind {
        Kind::Postgres => {
            let log = std::fs::read_to_string(node.server.log()).unwrap();
            log.matches("is not permitted to log in").count()
        }
        _ => node.rows("SHOW GLOBAL STATUS LIKE 'Aborted_connects'").await[0][1].as_ref().unwrap().parse().unwrap(),
    }
}

/// The sum of the samples of a metric that have all these labels.
async fn metric(bridge: &Bridge, name: &str, labels: &[&str]) -> f64 {
    let log = bridge.log();
    let address = log.split("address=").nth(1).expect("the log tells the address").split_whitespace().next().unwrap();
    let mut stream = tokio::net::TcpStream::connect(address.trim_matches('"')).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    let is_of = |line: &&str| line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label));
    page.lines().filter(is_of).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// A bridge between two encrypted servers, of which `b` locks it out for a while.
async fn a_login_that_is_revoked_is_tried_seldom(kinds: [Kind; 2]) {
    let encrypted = || Options::default().encryption(Encryption::Private);
    let rest = "[server]\nlisten = \"127.0.0.1:0\"\n[[tables]]\nname = \"items\"\n";
    let options = LinkOptions { servers: [encrypted(), encrypted()], configuration: rest.into() };
    let link = Link::start(kinds, options).await;
    for node in link.nodes() {
        match node.kind {
            Kind::Postgres => node.run(&format!("CREATE ROLE {USER} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")).await,
            _ => {
                node.run(&format!("CREATE USER {USER} IDENTIFIED BY '{PASSWORD}' REQUIRE SSL")).await;
                node.run(&format!("GRANT ALL ON *.* TO {USER}")).await;
            }
        }
    }
    link.configure_for([(USER, PASSWORD); 2], rest);
    for node in link.nodes() {
        let url = node.server.url(USER, "shop");
        let option = if node.is_postgres() { "sslrootcert" } else { "ssl-ca" };
        let authority = node.server.authority().unwrap().display();
        link.edit(&format!("{url}\""), &format!("{url}?{option}={authority}\""));
    }
    link.create("items", "id int PRIMARY KEY").await;
    link.succeed(&["setup"]).await;
    let (_, findings) = link.check().await;
    let lasting = |finding: &&serde_json::Value| finding["code"] == "tls-certificate" && finding["severity"] == "ok";
    assert_eq!(findings.iter().filter(lasting).count(), 2, "{findings:#?}");

    let mut bridge = link.run();
    bridge.works().await;
    eventually("both certificates' ends are shown", async || {
        let ends = metric(&bridge, "pontoon_tls_certificate_expiry_timestamp_seconds", &[]).await / 2.0;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        (ends - now - 365.0 * 86_400.0).abs() < 3600.0
    })
    .await;
    errors_are_counted_where_they_happen(&link, &bridge).await;

    let before = refused_logins(&link.b).await;
    let began = std::time::Instant::now();
    lock_out(&link.b).await;
    // (Its look at the log may be refused before.)
    eventually("the bridge itself is refused", async || {
        bridge.log().lines().any(|line| line.contains("interrupted") && line.contains("[login-refused]"))
    })
    .await;
    let_in(&link.b).await;
    link.a.run("INSERT INTO items VALUES (77)").await;
    eventually("what was written meanwhile has crossed", async || {
        link.b.rows("SELECT id FROM items WHERE id = 77").await.len() == 1
    })
    .await;
    let refused = refused_logins(&link.b).await - before;
    let seconds = began.elapsed().as_secs();
    println!("{refused} logins were refused in {seconds} s");
    // The bridge once, and its look at the log at most once.
    assert!((1..=2).contains(&refused) && seconds >= 30, "{refused} logins were refused in {seconds} s");
    assert!(!bridge.log().contains(PASSWORD));
    assert!(bridge.is_running());
    assert_eq!(bridge.stop().await, 0);
}

/// Ends the reader's session of a node, then the one that writes there.
async fn errors_are_counted_where_they_happen(link: &Link, bridge: &Bridge) {
    for (at, (name, other, node)) in [("a", "b", &link.a), ("b", "a", &link.b)].into_iter().enumerate() {
        let from = format!("source=\"{name}\"");
        let to = format!("source=\"{other}\"");
        let count = async |stage: &str, source: &str| {
            metric(bridge, "pontoon_errors_total", &[&format!("stage=\"{stage}\""), source, "class=\"transient\""])
                .await
        };
        let works = async || {
            eventually("it works", async || metric(bridge, "pontoon_active", &[]).await == 1.0).await;
            link.settle().await;
        };
        works().await;
        let before = (count("read", &from).await, count("apply", &to).await);
        match node.kind {
            Kind::Postgres => node.run("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await,
            _ => end_sessions(node, "command LIKE 'Binlog Dump%'").await,
        }
        eventually("the reader's error is counted", async || count("read", &from).await > before.0).await;

        // The applier waits for a row that somebody else is about to insert, and so it is the one session at work.
        let (writer, key) = (if name == "a" { &link.b } else { &link.a }, at + 1);
        works().await;
        let mut holder = node.client().await;
        holder.run("BEGIN").await;
        holder.run(&format!("INSERT INTO items VALUES ({key})")).await;
        writer.run(&format!("INSERT INTO items VALUES ({key})")).await;
        let waiting = match node.kind {
            Kind::Postgres => "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
            _ => {
                "SELECT id FROM information_schema.processlist WHERE info LIKE '%items%' AND user = 'keeper' AND command = 'Query'"
            }
        };
        eventually("the applier waits", async || !node.rows(waiting).await.is_empty()).await;
        match node.kind {
            Kind::Postgres => node.run(&waiting.replace("pid", "pg_terminate_backend(pid)")).await,
            _ => end_sessions(node, "info LIKE '%items%' AND command = 'Query'").await,
        }
        eventually("the applier's error is counted", async || count("apply", &to).await > before.1).await;
        holder.run("ROLLBACK").await;
        link.settle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_by_postgres() {
    a_login_that_is_revoked_is_tried_seldom([Kind::Mariadb, Kind::Postgres]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full: a minute that the other engine's takes already"]
async fn revoked_by_mysql() {
    a_login_that_is_revoked_is_tried_seldom([Kind::Postgres, Kind::Mysql]).await;
}
