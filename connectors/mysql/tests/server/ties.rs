//! Unique constraints and foreign keys: what is told of them, who is found, and who waits for whom.

use mysql_async::{Conn, prelude::Queryable};
use pontoon_core::{
    Key, MappedTable, Row, TableId, TableName, Tag, Value,
    node::{Applied, Applier, LeaseAttempt, Node, Session, TableBatch, Tables},
    schema::{ForeignKey, Reference, Unique, UniqueKey},
};
use pontoon_servers::{Kind, Server};

use crate::support::{map, node, root, run, set_up, start};

const TABLES: [&str; 3] = [
    "CREATE DATABASE d",
    "CREATE TABLE d.parents (id int PRIMARY KEY, code varchar(20) COLLATE utf8mb4_general_ci, low varchar(20), part int, plain int, \
     CONSTRAINT parents_code UNIQUE (code), CONSTRAINT parents_two UNIQUE (part, code), \
     UNIQUE KEY parents_some (low(5))) DEFAULT CHARSET utf8mb4",
    "CREATE TABLE d.children (id int PRIMARY KEY, parent int, \
     CONSTRAINT children_parent FOREIGN KEY (parent) REFERENCES d.parents (id) ON DELETE CASCADE)",
];

const PARENTS: TableId = TableId(0);
const CHILDREN: TableId = TableId(1);

fn names() -> [TableName; 2] {
    ["parents", "children"].map(|name| TableName::new("d", name))
}

fn key(n: i128) -> Key {
    Key(vec![Value::Integer(n)])
}

fn parent(id: i128, code: Value) -> Row {
    Row(vec![Value::Integer(id), code, Value::Null, Value::Null, Value::Null])
}

fn child(id: i128, parent: Value) -> Row {
    Row(vec![Value::Integer(id), parent])
}

/// The tables with what ties them.
fn tied(tables: &Tables) -> Tables {
    let tie = |table: &MappedTable| {
        let mut table = table.clone();
        if table.id == PARENTS {
            table.uniques = vec![Unique { name: "parents_code".into(), columns: vec![1] }];
        } else {
            let (columns, parent_columns) = (vec![1], vec![0]);
            table.references =
                vec![Reference { name: "children_parent".into(), columns, parent: PARENTS, parent_columns }];
        }
        table
    };
    tables.iter().map(tie).collect()
}

struct Bench {
    _server: Server,
    root: Conn,
    session: Box<dyn Session>,
}

impl Bench {
    async fn start(kind: Kind) -> Bench {
        let server = start(kind).await;
        let mut root = root(&server).await;
        run(&mut root, &TABLES).await;
        let node = node(&server, "d", "d");
        let tables = map(&node, &names()).await;
        set_up(&node, &tables).await;
        let LeaseAttempt::Ours(mut lease) = node.try_lease().await.unwrap() else { panic!("held") };
        let token = lease.take_over("one").await.unwrap();
        let session = node.open_session(Applier::Direction, token, &tied(&tables)).await.unwrap();
        Bench { _server: server, root, session }
    }

    async fn run(&mut self, sql: &str) {
        run(&mut self.root, &[sql]).await;
    }

    async fn begin(&mut self) {
        self.session.begin(Some(&Tag { position: None, commit_time: 1 })).await.unwrap();
    }
}

#[tokio::test]
async fn mariadb() {
    all(Kind::Mariadb).await;
}

#[tokio::test]
async fn mysql() {
    all(Kind::Mysql).await;
}

async fn all(kind: Kind) {
    what_ties_rows_is_told(kind).await;
    let mut bench = Bench::start(kind).await;
    who_has_a_value_is_found(&mut bench).await;
    what_is_referred_to_stays_until_the_commit(&mut bench).await;
    who_refers_to_what_goes_is_found_and_stays(&mut bench).await;
}

async fn what_ties_rows_is_told(kind: Kind) {
    let server = start(kind).await;
    run(&mut root(&server).await, &TABLES).await;
    let found = node(&server, "d", "d").describe(&names()).await.unwrap();
    let [parents, children] = <[_; 2]>::try_from(found).unwrap().map(|table| table.unwrap().ties);
    let unique = |name: &str, columns: &[&str]| UniqueKey {
        name: name.into(),
        columns: columns.iter().map(|column| (*column).into()).collect(),
    };
    let whole = [unique("parents_code", &["code"]), unique("parents_two", &["part", "code"])];
    assert_eq!(parents.uniques, whole, "not those over a part of a value");
    assert_eq!(parents.referrers, [(names()[1].clone(), "children_parent".into())]);
    let (columns, parent_columns) = (vec!["parent".into()], vec!["id".into()]);
    let foreign = ForeignKey {
        name: "children_parent".into(),
        columns,
        parent: names()[0].clone(),
        parent_columns,
        over_period: false,
    };
    assert_eq!((children.references, children.uniques), (vec![foreign], Vec::new()));
}

async fn who_has_a_value_is_found(bench: &mut Bench) {
    bench.run("INSERT INTO d.parents VALUES (1, 'one', NULL, NULL, NULL), (2, NULL, NULL, NULL, NULL)").await;
    bench.begin().await;
    let text = |text: &str| Value::Text(text.into());
    let rows = [parent(9, text("one")), parent(8, Value::Null), parent(7, text("ONE")), parent(1, text("one"))];
    let found = bench.session.holders(PARENTS, 0, &rows).await.unwrap();
    assert_eq!(found, [Some(key(1)), None, Some(key(1)), Some(key(1))], "as the column's collation has it");
    bench.session.rollback().await.unwrap();
    bench.run("DELETE FROM d.parents").await;
}

async fn what_is_referred_to_stays_until_the_commit(bench: &mut Bench) {
    bench.run("INSERT INTO d.parents VALUES (1, 'one', NULL, NULL, NULL)").await;
    bench.begin().await;
    let inserts = vec![child(1, Value::Integer(7)), child(2, Value::Integer(1)), child(3, Value::Null)];
    let batch = TableBatch { inserts, ..TableBatch::default() };
    let applied = bench.session.apply(CHILDREN, &batch).await.unwrap();
    assert_eq!(applied, Applied::All, "no foreign key is checked");
    let keys = [1, 2, 3].map(key);
    assert_eq!(bench.session.orphans(CHILDREN, 0, &keys).await.unwrap(), [key(1)]);
    bench.run("SET SESSION innodb_lock_wait_timeout = 1").await;
    let refused = bench.root.query_drop("DELETE FROM d.parents WHERE id = 1").await.unwrap_err();
    let mysql_async::Error::Server(refused) = refused else { panic!("{refused}") };
    assert_eq!(refused.code, 1205, "who removes it waits: {refused}");
    bench.session.rollback().await.unwrap();
    bench.run("DELETE FROM d.parents").await;
}

async fn who_refers_to_what_goes_is_found_and_stays(bench: &mut Bench) {
    bench.run("INSERT INTO d.parents VALUES (1, 'one', NULL, NULL, NULL), (2, 'two', NULL, NULL, NULL)").await;
    bench.run("INSERT INTO d.children VALUES (5, 2), (6, 2), (7, 1)").await;
    bench.begin().await;
    let gone = [parent(2, Value::Text("two".into()))];
    assert_eq!(bench.session.children(CHILDREN, 0, &gone, 9).await.unwrap(), [], "it is there yet");
    let batch = TableBatch { deletes: gone.to_vec(), ..TableBatch::default() };
    assert_eq!(bench.session.apply(PARENTS, &batch).await.unwrap(), Applied::All);
    let mut found = bench.session.children(CHILDREN, 0, &gone, 9).await.unwrap();
    found.sort();
    assert_eq!(found, [key(5), key(6)], "no cascade has taken them");
    assert_eq!(bench.session.children(CHILDREN, 0, &gone, 1).await.unwrap().len(), 1);
    bench.session.rollback().await.unwrap();
}
