//! A server with a shop in it, set up for a bridge.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pontoon_core::{
    Change, Checkpoint, Form, Fragment, Held, Key, LogEvent, LogIdentity, MappedColumn, MappedTable, Position,
    Resolution, TableId, TableName, Tag, Value,
    node::{
        Admin, Applier, LeaseAttempt, LogReader, Mark, Node, NodeOptions, PassedOver, Secret, Session, SetupPlan,
        Tables,
    },
};
use pontoon_postgres::PostgresNode;
use pontoon_servers::{Kind, Options, Server};
use tokio_postgres::{Client, NoTls};

pub(crate) const USER: &str = "bridge \"user";
pub(crate) const PASSWORD: &str = "it's a secret";
pub(crate) const DATABASE: &str = "shop \"db'";
pub(crate) const BRIDGE: &str = "shop-stock";

/// Long enough for a server on a busy machine; a test that waits for so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) sql: Client,
    pub(crate) node: Arc<PostgresNode>,
    pub(crate) plan: SetupPlan,
    pub(crate) start: Checkpoint,
}

pub(crate) async fn connect(server: &Server, database: &str) -> Client {
    let mut config: tokio_postgres::Config = server.superuser_url("postgres").parse().unwrap();
    config.dbname(database);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) fn options(server: &Server, bridge: &str) -> NodeOptions {
    NodeOptions {
        name: "shop".into(),
        bridge: bridge.into(),
        url: server.url(USER, DATABASE),
        password: Some(Secret::new(PASSWORD)),
    }
}

/// A server with a database, its superuser's session there, and a plain user.
pub(crate) async fn server(ddl: &str) -> (Server, Client) {
    let options = Options::default().setting("wal_level", "logical").setting("max_slot_wal_keep_size", "64MB");
    let options = options.setting("max_prepared_transactions", "4");
    let server = Server::start(Kind::Postgres, options).await.unwrap();
    let root = connect(&server, "postgres").await;
    root.batch_execute("CREATE DATABASE \"shop \"\"db'\"").await.unwrap();
    root.batch_execute(&format!("CREATE ROLE \"bridge \"\"user\" LOGIN PASSWORD '{}'", PASSWORD.replace('\'', "''")))
        .await
        .unwrap();
    let sql = connect(&server, DATABASE).await;
    sql.batch_execute(ddl).await.unwrap();
    (server, sql)
}

/// The tables as a pair with their like, or with a poorer form for some columns.
pub(crate) async fn map(node: &PostgresNode, names: &[TableName], poorer: &[(&str, Form)]) -> Tables {
    let described = node.describe(names).await.unwrap();
    let tables = described.into_iter().enumerate().map(|(id, schema)| {
        let schema = schema.expect("the table is there");
        let wanted: Vec<_> = schema
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| !column.generated && column.kind.is_some())
            .collect();
        let key = schema.key.iter().map(|at| wanted.iter().position(|(place, _)| place == at).unwrap()).collect();
        let columns = wanted.iter().map(|(_, column)| {
            let kind = column.kind.clone().unwrap();
            let poor = poorer.iter().find(|(name, _)| *name == &*column.name).map(|(_, form)| *form);
            let form = poor.or_else(|| Form::of_pair(&kind, &kind)).unwrap();
            MappedColumn::new((*column).clone(), kind, form)
        });
        let left = schema.columns.iter().filter(|column| column.generated || column.kind.is_none());
        MappedTable {
            left: left.map(|column| column.name.clone()).collect(),
            id: TableId(id as u32),
            label: schema.name.to_string().into(),
            columns: columns.collect(),
            name: schema.name,
            key,
            followed: true,
            uniques: Vec::new(),
            references: Vec::new(),
            // What the tests write themselves they read back whole.
            by_columns: true,
        }
    });
    tables.collect::<Vec<_>>().into()
}

/// The same without rules for columns.
pub(crate) fn without_rules(tables: &Tables) -> Tables {
    tables.iter().map(|table| MappedTable { by_columns: false, ..table.clone() }).collect()
}

pub(crate) fn other() -> Checkpoint {
    Checkpoint { position: "binlog.000001:4".parse().unwrap(), log: LogIdentity("mysql:x".into()) }
}

pub(crate) fn plan_of(tables: Tables) -> SetupPlan {
    SetupPlan {
        other_tables: tables.iter().map(|table| table.name.clone()).collect(),
        arrives: tables.iter().map(|_| true).collect(),
        anew: Vec::new(),
        tables,
        followed: true,
        written: true,
        database: "shop".into(),
        other_name: "stock".into(),
        other_database: "stock".into(),
        other_log: other().log,
    }
}

pub(crate) fn names(names: &[&str]) -> Vec<TableName> {
    names.iter().map(|name| TableName::new("public", *name)).collect()
}

impl Bench {
    pub(crate) async fn start(ddl: &str, tables: &[&str]) -> Bench {
        Bench::start_with(ddl, &names(tables), &[]).await
    }

    pub(crate) async fn start_with(ddl: &str, tables: &[TableName], poorer: &[(&str, Form)]) -> Bench {
        let (server, sql) = server(ddl).await;
        let node = pontoon_postgres::node(options(&server, BRIDGE)).unwrap();
        let plan = plan_of(map(&node, tables, poorer).await);
        for statement in node.setup_sql(&plan).await.unwrap() {
            sql.batch_execute(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
        let start = node.setup(&plan).await.unwrap();
        node.install_checkpoint(&plan, &other()).await.unwrap();
        Bench { server, sql, node, plan, start }
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.plan.tables
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub(crate) async fn reader(&self) -> Box<dyn LogReader> {
        self.node.open_reader(&self.start, self.tables(), &PassedOver::default()).await.unwrap()
    }

    /// The token of a fresh lease, whose connection is dropped again.
    pub(crate) async fn token(&self) -> i64 {
        match self.node.try_lease().await.unwrap() {
            LeaseAttempt::Ours(mut lease) => lease.take_over("test").await.unwrap(),
            LeaseAttempt::HeldBy(who) => panic!("held by {who}"),
        }
    }

    pub(crate) async fn session(&self) -> Box<dyn Session> {
        let token = self.token().await;
        self.node.open_session(Applier::Direction, token, self.tables()).await.unwrap()
    }

    /// What the reader yields up to the log's present end.
    pub(crate) async fn read(&self, reader: &mut Box<dyn LogReader>) -> Vec<LogEvent> {
        let end = self.node.log_status(None).await.unwrap().end;
        self.node.mark(Mark::Heartbeat).await.unwrap();
        let mut events = Vec::new();
        loop {
            let event = next(reader).await;
            let position = position_of(&event);
            let obstacle = matches!(event, LogEvent::Obstacle(_));
            events.push(event);
            if obstacle || position.is_some_and(|position| position.covers(&end)) {
                return events;
            }
        }
    }

    /// The fragments up to the log's present end.
    pub(crate) async fn fragments(&self, reader: &mut Box<dyn LogReader>) -> Vec<Fragment> {
        let events = self.read(reader).await.into_iter();
        events
            .filter_map(|event| match event {
                LogEvent::Fragment(fragment) => Some(fragment),
                LogEvent::Progress(_) => None,
                LogEvent::Obstacle(obstacle) => panic!("{obstacle:?}"),
                LogEvent::Held(held) => panic!("{held:?}"),
            })
            .collect()
    }
}

/// A transaction with all its changes, and in how many pieces they came before its decision.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) fragment: Fragment,
    pub(crate) pieces: usize,
}

/// Puts together what a reader yielded, as the engine would: whole transactions, each at its commit.
#[derive(Default)]
pub(crate) struct Putting {
    held: HashMap<Arc<str>, Vec<(u32, Vec<Change>)>>,
    open: Vec<Change>,
}

impl Putting {
    pub(crate) fn take(&mut self, event: LogEvent) -> Option<Whole> {
        match event {
            LogEvent::Progress(_) => None,
            LogEvent::Obstacle(obstacle) => panic!("{obstacle:?}"),
            LogEvent::Fragment(mut fragment) => {
                self.open.append(&mut fragment.changes);
                fragment.position.as_ref()?;
                Some(Whole { fragment: Fragment { changes: std::mem::take(&mut self.open), ..fragment }, pieces: 0 })
            }
            LogEvent::Held(Held::Piece { id, part, changes }) => {
                self.held.entry(id).or_default().push((part, changes));
                None
            }
            LogEvent::Held(Held::Undone { id, part: None }) => {
                self.held.remove(&id);
                None
            }
            LogEvent::Held(Held::Undone { id, part: Some(part) }) => {
                self.held.entry(id).or_default().retain(|(of, _)| *of != part);
                None
            }
            LogEvent::Held(Held::Decided { id, fragment }) => {
                let pieces = self.held.remove(&id).expect("a decision follows pieces");
                let (count, changes) = (pieces.len(), pieces.into_iter().flat_map(|(_, changes)| changes));
                Some(Whole { fragment: Fragment { changes: changes.collect(), ..fragment }, pieces: count })
            }
        }
    }

    /// What is undecided.
    pub(crate) fn undecided(&self) -> usize {
        self.held.len()
    }
}

pub(crate) async fn next(reader: &mut Box<dyn LogReader>) -> LogEvent {
    tokio::time::timeout(PATIENCE, reader.next()).await.expect("an event in time").unwrap()
}

pub(crate) fn position_of(event: &LogEvent) -> Option<Position> {
    match event {
        LogEvent::Fragment(fragment) => fragment.position.clone(),
        LogEvent::Progress(progress) => Some(progress.position.clone()),
        LogEvent::Held(Held::Decided { fragment, .. }) => fragment.position.clone(),
        LogEvent::Held(_) | LogEvent::Obstacle(_) => None,
    }
}

pub(crate) fn tag(offset: u64, commit_time: i64) -> Tag {
    Tag { position: Some(format!("binlog.000001:{offset}").parse().unwrap()), commit_time }
}

/// The record of a key whose rows were found equal, without fences.
pub(crate) fn record_of(table: TableId, id: i64, key: i64) -> Resolution {
    Resolution {
        id,
        group: id,
        table,
        key: Key(vec![Value::Integer(key.into())]),
        other_fence: None,
        own_fence: None,
        own_row: None,
        other_row: None,
        verdict: None,
        ancestor: None,
        columns: None,
        commit_time: 123,
        rule: "equal".into(),
    }
}
