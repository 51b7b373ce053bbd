//! Unique constraints and foreign keys: what is told of them, who is found, and who waits for whom.

use pontoon_core::{
    Key, MappedTable, Row, TableId, TableName, Value,
    node::{Applied, Applier, Node as _, Session, TableBatch, Tables},
    schema::{ForeignKey, Reference, Unique, UniqueKey},
};

use crate::support::{Bench, tag};

const TABLES: &str = "CREATE TABLE parents (id int PRIMARY KEY, code text, low text, part int, plain int,
        CONSTRAINT parents_code UNIQUE (code), CONSTRAINT parents_two UNIQUE (part, code));
    CREATE UNIQUE INDEX parents_expression ON parents (lower(low));
    CREATE UNIQUE INDEX parents_some ON parents (part) WHERE part > 5;
    CREATE UNIQUE INDEX parents_index ON parents (low) INCLUDE (part);
    CREATE TABLE children (id int PRIMARY KEY, parent int,
        CONSTRAINT children_parent FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE);
    ALTER TABLE parents REPLICA IDENTITY FULL; ALTER TABLE children REPLICA IDENTITY FULL";

const PARENTS: TableId = TableId(0);
const CHILDREN: TableId = TableId(1);

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

async fn session(bench: &Bench) -> Box<dyn Session> {
    let token = bench.token().await;
    bench.node.open_session(Applier::Direction, token, &tied(bench.tables())).await.unwrap()
}

async fn begin(session: &mut Box<dyn Session>) {
    session.begin(Some(&tag(1, 1))).await.unwrap();
}

#[tokio::test]
async fn what_ties_rows_is_told() {
    let bench = Bench::start(TABLES, &["parents", "children"]).await;
    let names = ["parents", "children"].map(|name| TableName::new("public", name));
    let found = bench.node.describe(&names).await.unwrap();
    let [parents, children] = <[_; 2]>::try_from(found).unwrap().map(|table| table.unwrap().ties);
    let unique = |name: &str, columns: &[&str]| UniqueKey {
        name: name.into(),
        columns: columns.iter().map(|column| (*column).into()).collect(),
    };
    let whole = [
        unique("parents_code", &["code"]),
        unique("parents_index", &["low"]),
        unique("parents_two", &["part", "code"]),
    ];
    assert_eq!(parents.uniques, whole, "not those over expressions or some of the rows");
    assert_eq!(parents.referrers, [(names[1].clone(), "children_parent".into())]);
    let (columns, parent_columns) = (vec!["parent".into()], vec!["id".into()]);
    let foreign = ForeignKey {
        name: "children_parent".into(),
        columns,
        parent: names[0].clone(),
        parent_columns,
        over_period: false,
    };
    assert_eq!((children.references, children.uniques), (vec![foreign], Vec::new()));
}

#[tokio::test]
async fn who_has_a_value_is_found() {
    let bench = Bench::start(TABLES, &["parents", "children"]).await;
    bench.run("INSERT INTO parents VALUES (1, 'one', NULL, NULL, NULL), (2, NULL, NULL, NULL, NULL)").await;
    let mut session = session(&bench).await;
    begin(&mut session).await;
    let text = |text: &str| Value::Text(text.into());
    let rows = [parent(9, text("one")), parent(8, Value::Null), parent(7, text("ONE")), parent(1, text("one"))];
    assert_eq!(session.holders(PARENTS, 0, &rows).await.unwrap(), [Some(key(1)), None, None, Some(key(1))]);
    session.rollback().await.unwrap();
}

#[tokio::test]
async fn what_is_referred_to_stays_until_the_commit() {
    let bench = Bench::start(TABLES, &["parents", "children"]).await;
    bench.run("INSERT INTO parents VALUES (1, 'one', NULL, NULL, NULL)").await;
    let mut session = session(&bench).await;
    begin(&mut session).await;
    let inserts = vec![child(1, Value::Integer(7)), child(2, Value::Integer(1)), child(3, Value::Null)];
    let batch = TableBatch { inserts, ..TableBatch::default() };
    assert_eq!(session.apply(CHILDREN, &batch).await.unwrap(), Applied::All, "no foreign key is checked");
    let keys = [1, 2, 3].map(key);
    assert_eq!(session.orphans(CHILDREN, 0, &keys).await.unwrap(), [key(1)]);
    bench.run("SET lock_timeout = '200ms'").await;
    let refused = bench.sql.batch_execute("DELETE FROM parents WHERE id = 1").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "55P03", "who removes it waits");
    bench.run("UPDATE parents SET plain = 1 WHERE id = 1").await;
    session.rollback().await.unwrap();
    bench.run("DELETE FROM parents WHERE id = 1").await;
}

#[tokio::test]
async fn who_refers_to_what_goes_is_found_and_stays() {
    let bench = Bench::start(TABLES, &["parents", "children"]).await;
    bench.run("INSERT INTO parents VALUES (1, 'one', NULL, NULL, NULL), (2, 'two', NULL, NULL, NULL)").await;
    bench.run("INSERT INTO children VALUES (5, 2), (6, 2), (7, 1)").await;
    let mut session = session(&bench).await;
    begin(&mut session).await;
    let gone = [parent(2, Value::Text("two".into()))];
    assert_eq!(session.children(CHILDREN, 0, &gone, 9).await.unwrap(), [], "it is there yet");
    let batch = TableBatch { deletes: gone.to_vec(), ..TableBatch::default() };
    assert_eq!(session.apply(PARENTS, &batch).await.unwrap(), Applied::All);
    let mut found = session.children(CHILDREN, 0, &gone, 9).await.unwrap();
    found.sort();
    assert_eq!(found, [key(5), key(6)], "no cascade has taken them");
    assert_eq!(session.children(CHILDREN, 0, &gone, 1).await.unwrap().len(), 1);
    session.rollback().await.unwrap();
}
