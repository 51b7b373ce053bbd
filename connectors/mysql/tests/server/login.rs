//! Ways to log in, on real servers: of the driver's connections, and of the one that reads the log.

use std::{path::PathBuf, sync::Arc};

use pontoon_core::{
    Code, Error, LogEvent, TableName,
    node::{Node, NodeOptions, PassedOver, Secret, Tables},
};
use pontoon_mysql::MysqlNode;
use pontoon_servers::{Encryption, Kind, Options, Server};

use crate::support::{map, next, node, node_as, root, run};

const PASSWORD: &str = "pass 'wörd'";

fn options() -> Options {
    ["log_bin", "binlog_row_metadata"]
        .into_iter()
        .zip(["bin", "FULL"])
        .fold(Options::default().setting("binlog_format", "ROW").setting("server_id", "7"), |options, (name, value)| {
            options.setting(name, value)
        })
}

/// Logs in by every connection that there is, and reads a row from the log.
async fn works(server: &Server, node: &Arc<MysqlNode>) -> Result<(), Error> {
    node.connect().await?;
    let name = TableName::new("login", "t");
    let tables: Tables = map(node, &[name]).await;
    let mut reader = node.open_tail(None, &tables, &PassedOver::default()).await?;
    let mut conn = root(server).await;
    run(&mut conn, &["INSERT INTO login.t VALUES ()"]).await;
    loop {
        match next(&mut reader).await {
            LogEvent::Fragment(fragment) => {
                assert_eq!(fragment.changes.len(), 1);
                return Ok(());
            }
            LogEvent::Progress(_) | LogEvent::Held(_) => {}
            LogEvent::Obstacle(obstacle) => panic!("{obstacle:?}"),
        }
    }
}

async fn create(server: &Server) {
    let mut conn = root(server).await;
    run(&mut conn, &["CREATE DATABASE login", "CREATE TABLE login.t (id int AUTO_INCREMENT PRIMARY KEY)"]).await;
}

/// Creates a user by this clause; it may not be allowed everything that reading needs, so it gets all.
async fn user(server: &Server, name: &str, identified: &str) -> Arc<MysqlNode> {
    let mut conn = root(server).await;
    run(
        &mut conn,
        &[&format!("CREATE USER {name}@'%' IDENTIFIED {identified}"), &format!("GRANT ALL ON *.* TO {name}@'%'")],
    )
    .await;
    node_as(server, "login", name, PASSWORD, "login")
}

#[tokio::test]
async fn mysql() {
    let server = Server::start(Kind::Mysql, options()).await.unwrap();
    create(&server).await;
    let quoted = PASSWORD.replace('\'', "''");
    // MySQL 9 has no mysql_native_password any more.
    let node = user(&server, "sha2", &format!("WITH caching_sha2_password BY '{quoted}'")).await;
    works(&server, &node).await.unwrap();
    // The server has forgotten the hash: the driver finds it again, and the reader with it.
    run(&mut root(&server).await, &["FLUSH PRIVILEGES"]).await;
    works(&server, &node).await.unwrap();
    let wrong = node_as(&server, "login", "sha2", "wrong", "login").connect().await.unwrap_err();
    assert_eq!(wrong.code(), Code::LoginRefused, "{wrong}");
}

#[tokio::test]
async fn mariadb() {
    // The plugins are in the distribution's whole package, not in the one of the server's program alone.
    let plugins = std::env::var_os("PONTOON_MARIADB_PLUGINS").map_or("/usr/lib/mysql/plugin".into(), PathBuf::from);
    let server =
        Server::start(Kind::Mariadb, options().setting("plugin_dir", plugins.display().to_string())).await.unwrap();
    create(&server).await;
    let quoted = PASSWORD.replace('\'', "''");
    let mut conn = root(&server).await;
    let mut ways = vec![("native", format!("VIA mysql_native_password USING PASSWORD('{quoted}')"))];
    match plugins.join("auth_ed25519.so").exists() {
        true => {
            run(&mut conn, &["INSTALL SONAME 'auth_ed25519'"]).await;
            ways.push(("curve", format!("VIA ed25519 USING PASSWORD('{quoted}')")));
        }
        false => eprintln!("ed25519 is not tried: {} has no auth_ed25519.so", plugins.display()),
    }
    for (name, identified) in ways {
        let node = user(&server, name, &identified).await;
        works(&server, &node).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let wrong = node_as(&server, "login", name, "wrong", "login").connect().await.unwrap_err();
        assert_eq!(wrong.code(), Code::LoginRefused, "{wrong}");
    }
    // Of before 4.1: a method that both servers have given up, or want to.
    run(&mut conn, &["SET GLOBAL secure_auth = OFF"]).await;
    let node = user(&server, "old", "VIA mysql_old_password USING '0123456789abcdef'").await;
    let refused = node.connect().await.unwrap_err();
    assert_eq!(refused.code(), Code::LoginRefused, "{refused}");
    assert!(refused.message().contains("mysql_old_password"), "{refused}");
    if plugins.join("auth_pam.so").exists() {
        run(&mut conn, &["INSTALL SONAME 'auth_pam'"]).await;
        let refused = user(&server, "pam", "VIA pam USING 'other'").await.connect().await.unwrap_err();
        assert_eq!(refused.code(), Code::LoginRefused, "{refused}");
        assert!(refused.message().contains("dialog"), "{refused}");
    }
}

/// What is demanded of the certificate holds for the connection that reads the log as for all others.
#[tokio::test]
async fn the_log_comes_by_tls() {
    for kind in [Kind::Mariadb, Kind::Mysql] {
        let server = Server::start(kind, options().encryption(Encryption::Private)).await.unwrap();
        create(&server).await;
        let of = |query: &str| {
            pontoon_mysql::node(NodeOptions {
                name: "n".into(),
                bridge: "b".into(),
                url: format!("{}?{query}", server.url(server.superuser(), "login")),
                password: Some(Secret::new(server.password())),
            })
            .unwrap()
        };
        let authority = format!("ssl-ca={}", server.authority().unwrap().display());
        for query in [
            "ssl-mode=disabled",
            "ssl-mode=preferred",
            "ssl-mode=required",
            &format!("ssl-mode=verify_ca&{authority}"),
            &format!("ssl-mode=verify_identity&{authority}"),
        ] {
            let node = of(query);
            works(&server, &node).await.unwrap_or_else(|error| panic!("{kind} {query}: {error}"));
        }
        let mut conn = root(&server).await;
        run(&mut conn, &["CREATE USER safe@'%' IDENTIFIED BY 'x' REQUIRE SSL", "GRANT ALL ON *.* TO safe@'%'"]).await;
        let safe = |query: &str| {
            let url = format!("{}?{query}", server.url("safe", "login"));
            let options = NodeOptions { name: "n".into(), bridge: "b".into(), url, password: Some(Secret::new("x")) };
            pontoon_mysql::node(options).unwrap()
        };
        works(&server, &safe("ssl-mode=required")).await.unwrap();
        assert_eq!(works(&server, &safe("ssl-mode=disabled")).await.unwrap_err().code(), Code::LoginRefused);
        // A node of the same server by its plain name for the last word: it reads as before.
        works(&server, &node(&server, "login", "login")).await.unwrap();
    }
}
