//! What the tests on real servers share.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::Duration;

use mysql_async::{Conn, prelude::Queryable};
use pontoon_core::{
    Change, Fragment, LogEvent, LogIdentity, MappedColumn, MappedTable, Position, TableId, TableName, Value,
    change::Obstacle,
    form::Form,
    node::{Admin, LogReader, Node, NodeOptions, PassedOver, Secret, SetupPlan, Tables},
};
use pontoon_mysql::MysqlNode;
use pontoon_servers::{Kind, Options, Server};
use std::sync::Arc;

/// No wait of a test is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A server as a bridge wants it.
pub(crate) async fn start(kind: Kind) -> Server {
    start_with(kind, &[]).await
}

/// The same, with settings of the test's own.
pub(crate) async fn start_with(kind: Kind, settings: &[(&str, &str)]) -> Server {
    let options = Options::default()
        .setting("log_bin", "bin.log")
        .setting("binlog_format", "ROW")
        .setting("binlog_row_image", "FULL")
        .setting("binlog_row_metadata", "FULL")
        .setting("server_id", "7");
    let options = settings.iter().fold(options, |options, (name, value)| options.setting(*name, *value));
    Server::start(kind, options).await.unwrap()
}

/// An administrator's connection.
pub(crate) async fn root(server: &Server) -> Conn {
    Conn::from_url(format!("{}?prefer_socket=false", server.superuser_url(""))).await.unwrap()
}

pub(crate) async fn run(conn: &mut Conn, statements: &[&str]) {
    for statement in statements {
        if let Err(error) = conn.query_drop(*statement).await {
            panic!("{statement}: {error}");
        }
    }
}

/// A node for a user.
pub(crate) fn node_as(server: &Server, bridge: &str, user: &str, password: &str, database: &str) -> Arc<MysqlNode> {
    pontoon_mysql::node(NodeOptions {
        name: "stock".into(),
        bridge: bridge.into(),
        url: server.url(user, database),
        password: Some(Secret::new(password)),
    })
    .unwrap()
}

pub(crate) fn node(server: &Server, bridge: &str, database: &str) -> Arc<MysqlNode> {
    node_as(server, bridge, server.superuser(), server.password(), database)
}

/// All columns of tables, each paired with one of its own kind.
pub(crate) async fn map(node: &MysqlNode, names: &[TableName]) -> Tables {
    let found = node.describe(names).await.unwrap();
    let tables = names.iter().zip(found).enumerate().map(|(index, (name, schema))| {
        let schema = schema.unwrap_or_else(|| panic!("{name} is not there"));
        let kept: Vec<usize> = (0..schema.columns.len()).filter(|&at| !schema.columns[at].generated).collect();
        let columns = kept.iter().map(|&at| {
            let column = schema.columns[at].clone();
            let kind = column.kind.clone().unwrap_or_else(|| panic!("{} {}", column.name, column.native));
            let form = Form::of_pair(&kind, &kind).unwrap();
            MappedColumn::new(column, kind, form)
        });
        MappedTable {
            id: TableId(index as u32),
            label: name.name.to_string().into(),
            name: schema.name.clone(),
            columns: columns.collect(),
            key: schema.key.iter().map(|at| kept.iter().position(|kept| kept == at).unwrap()).collect(),
            left: schema.columns.iter().filter(|c| c.generated).map(|c| c.name.clone()).collect(),
            followed: true,
            uniques: Vec::new(),
            references: Vec::new(),
            // What the tests write themselves they read back whole.
            by_columns: true,
        }
    });
    tables.collect()
}

/// The same without rules for columns.
pub(crate) fn without_rules(tables: &Tables) -> Tables {
    tables.iter().map(|table| MappedTable { by_columns: false, ..table.clone() }).collect()
}

pub(crate) fn plan(tables: &Tables) -> SetupPlan {
    SetupPlan {
        tables: tables.clone(),
        other_tables: tables.iter().map(|table| table.name.clone()).collect(),
        arrives: tables.iter().map(|_| true).collect(),
        anew: Vec::new(),
        followed: true,
        written: true,
        database: "shop".into(),
        other_name: "shop".into(),
        other_database: "stock".into(),
        other_log: LogIdentity("postgres:1/1".into()),
    }
}

/// Sets a bridge up, and opens its log from then on.
pub(crate) async fn set_up(node: &MysqlNode, tables: &Tables) -> Box<dyn LogReader> {
    let here = node.setup(&plan(tables)).await.unwrap();
    let other = pontoon_core::Checkpoint { position: Position::Lsn(1), log: plan(tables).other_log };
    node.install_checkpoint(&plan(tables), &other).await.unwrap();
    node.open_reader(&here, tables, &PassedOver::default()).await.unwrap()
}

pub(crate) async fn next(reader: &mut Box<dyn LogReader>) -> LogEvent {
    tokio::time::timeout(DEADLINE, reader.next()).await.expect("no event in time").unwrap()
}

/// The next transaction, whole; what lies between is passed over.
pub(crate) async fn transaction(reader: &mut Box<dyn LogReader>) -> Fragment {
    let mut whole: Option<Fragment> = None;
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        assert!(std::time::Instant::now() < deadline, "no transaction in time");
        match next(reader).await {
            LogEvent::Fragment(fragment) => {
                assert_eq!(fragment.first, whole.is_none());
                let done = fragment.position.is_some();
                match &mut whole {
                    Some(whole) => {
                        whole.changes.extend(fragment.changes);
                        whole.position = fragment.position;
                    }
                    None => whole = Some(fragment),
                }
                if done {
                    return whole.unwrap();
                }
            }
            LogEvent::Progress(_) | LogEvent::Held(_) => {}
            LogEvent::Obstacle(obstacle) => panic!("{obstacle:?}"),
        }
    }
}

/// The next obstacle; a transaction that comes before it is an error.
pub(crate) async fn obstacle(reader: &mut Box<dyn LogReader>) -> Obstacle {
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        assert!(std::time::Instant::now() < deadline, "no obstacle in time");
        match next(reader).await {
            LogEvent::Fragment(fragment) => assert_eq!(fragment.position, None, "{fragment:?}"),
            LogEvent::Progress(_) | LogEvent::Held(_) => {}
            LogEvent::Obstacle(obstacle) => return obstacle,
        }
    }
}

/// Reads on to a position, and returns the changes met.
pub(crate) async fn read_to(reader: &mut Box<dyn LogReader>, fence: &Position) -> Vec<Change> {
    let mut changes = Vec::new();
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        assert!(std::time::Instant::now() < deadline, "the fence {fence} was not passed in time");
        let reached = match next(reader).await {
            LogEvent::Fragment(fragment) => {
                changes.extend(fragment.changes);
                fragment.position
            }
            LogEvent::Progress(progress) => Some(progress.position),
            LogEvent::Held(_) => None,
            LogEvent::Obstacle(obstacle) => panic!("{obstacle:?}"),
        };
        if reached.is_some_and(|position| position.covers(fence)) {
            return changes;
        }
    }
}

pub(crate) fn text(value: &str) -> Value {
    Value::Text(value.into())
}

pub(crate) fn int(value: i128) -> Value {
    Value::Integer(value)
}
