//! Columns with the names that break an SQL text best, whatever `sql_mode` says to those who do not pin it.

use pontoon_core::{
    TableName, Tag,
    node::{Applier, LeaseAttempt, Node},
};
use pontoon_servers::Kind;

use crate::support::{map, node, root, run, set_up, start};

const MODES: [&str; 4] = ["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"];

/// Tables for each mode.
const TABLES: usize = 10;

/// Columns of a table; in all there are ten thousand.
const COLUMNS: usize = 250;

#[tokio::test]
async fn mariadb() {
    names_stay_what_they_are(Kind::Mariadb).await;
}

#[tokio::test]
async fn mysql() {
    names_stay_what_they_are(Kind::Mysql).await;
}

async fn names_stay_what_they_are(kind: Kind) {
    let server = start(kind).await;
    let mut root = root(&server).await;
    let mut hostile = pontoon_corpus::hostile_names((MODES.len() * TABLES * COLUMNS) as u32, 64);
    for (at, mode) in MODES.iter().enumerate() {
        let database = format!("names{at}");
        run(&mut root, &[&format!("CREATE DATABASE {database}"), &format!("SET GLOBAL sql_mode = '{mode}'")]).await;
        let mut names = Vec::new();
        let mut columns = Vec::new();
        for table in 0..TABLES {
            let of: Vec<String> = hostile.by_ref().take(COLUMNS).collect();
            let quoted: Vec<String> = of.iter().map(|name| format!("`{}`", name.replace('`', "``"))).collect();
            let sql = format!(
                "CREATE TABLE {database}.t{table} ({} int, PRIMARY KEY ({}))",
                quoted.join(" int, "),
                quoted[0]
            );
            run(&mut root, &[&sql]).await;
            names.push(TableName::new(database.as_str(), format!("t{table}")));
            columns.push(of);
        }
        let node = node(&server, &database, &database);
        let tables = map(&node, &names).await;
        let described = tables.iter().map(|table| table.columns.iter().map(|column| column.column.name.to_string()));
        assert_eq!(described.map(Iterator::collect::<Vec<_>>).collect::<Vec<_>>(), columns);
        set_up(&node, &tables).await;
        let LeaseAttempt::Ours(mut lease) = node.try_lease().await.unwrap() else { panic!("held") };
        let token = lease.take_over("names").await.unwrap();
        let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();
        session.begin(Some(&Tag { position: None, commit_time: 1 })).await.unwrap();
        pontoon_corpus::every_column_is_written(&mut *session, &tables).await;
        session.commit().await.unwrap();
    }
    assert_eq!(hostile.next(), None);
}
