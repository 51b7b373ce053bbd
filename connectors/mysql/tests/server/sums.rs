//! Additive columns: what is added counts, whatever there is; and what does not fit is refused by the server.

use pontoon_core::{
    Code, Key, Row, TableId, TableName, Tag, Value,
    node::{Applied, Applier, LeaseAttempt, Node, Session, Sum, TableBatch, UpdateGroup},
};
use pontoon_servers::Kind;

use crate::support::{map, node, root, run, set_up, start};

/// An update that adds to columns 2 to 4, or leaves them alone where nothing is added.
fn adding(note: &str, added: [Option<Value>; 3], floor: Option<i128>) -> TableBatch {
    let before = row("a", 999, 999, "999.99");
    let mut after = row(note, 0, 0, "0");
    let mut sums = Vec::new();
    for (at, value) in (2..).zip(added) {
        let floor = floor.filter(|_| at == 2).map(Value::Integer);
        sums.push(Sum { at, added: value.is_some(), floor });
        after.0[at] = value.unwrap_or(Value::Null);
    }
    let changed = if note == "a" { Vec::new() } else { vec![1] };
    TableBatch { updates: vec![UpdateGroup { changed, sums, rows: vec![(before, after)] }], ..TableBatch::default() }
}

fn row(note: &str, small: i128, big: i128, exact: &str) -> Row {
    let (small, big) = (Value::Integer(small), Value::Integer(big));
    Row(vec![Value::Integer(1), Value::Text(note.into()), small, big, Value::Decimal(exact.into())])
}

fn small(n: i128) -> [Option<Value>; 3] {
    [Some(Value::Integer(n)), None, None]
}

/// One transaction, and the row after it.
async fn apply(session: &mut Box<dyn Session>, batch: TableBatch) -> Result<Option<Row>, Code> {
    session.begin(Some(&Tag { position: None, commit_time: 1 })).await.unwrap();
    let applied = session.apply(TableId(0), &batch).await;
    let row = match applied {
        Ok(Applied::All) => {
            let row = session.read(TableId(0), &[Key(vec![Value::Integer(1)])]).await.unwrap().remove(0);
            session.commit().await.unwrap();
            Ok(row)
        }
        Ok(Applied::Missed) => Ok(None),
        Err(error) => Err(error.code()),
    };
    if row.as_ref().is_ok_and(Option::is_none) || row.is_err() {
        session.rollback().await.unwrap();
    }
    row
}

#[tokio::test]
async fn mariadb() {
    what_is_added_counts_whatever_there_is(Kind::Mariadb).await;
}

#[tokio::test]
async fn mysql() {
    what_is_added_counts_whatever_there_is(Kind::Mysql).await;
}

async fn what_is_added_counts_whatever_there_is(kind: Kind) {
    let server = start(kind).await;
    let mut root = root(&server).await;
    let table = "CREATE TABLE d.items (id int PRIMARY KEY, note varchar(20), small smallint, big bigint unsigned, \
                 exact decimal(10,2))";
    run(&mut root, &["CREATE DATABASE d", table]).await;
    let node = node(&server, "d", "d");
    let tables = map(&node, &[TableName::new("d", "items")]).await;
    set_up(&node, &tables).await;
    let LeaseAttempt::Ours(mut lease) = node.try_lease().await.unwrap() else { panic!("held") };
    let token = lease.take_over("one").await.unwrap();
    let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();

    run(&mut root, &["INSERT INTO d.items VALUES (1, 'a', 5, 18446744073709551614, 1.50)"]).await;
    let all = [Some(Value::Integer(-7)), Some(Value::Integer(1)), Some(Value::Decimal("0.01".into()))];
    let now = apply(&mut session, adding("b", all, None)).await;
    assert_eq!(now, Ok(Some(row("b", -2, 18_446_744_073_709_551_615, "1.51"))));
    // The rest is compared, and the key.
    assert_eq!(apply(&mut session, adding("a", small(1), None)).await, Ok(None));
    run(&mut root, &["UPDATE d.items SET note = 'a', small = 32767"]).await;
    // More than the column holds is refused, not clipped; also of the type with most room, and below nought.
    assert_eq!(apply(&mut session, adding("a", small(1), None)).await, Err(Code::RowRefused));
    let big = |n| [None, Some(Value::Integer(n)), None];
    assert_eq!(apply(&mut session, adding("a", big(1), None)).await, Err(Code::RowRefused));
    run(&mut root, &["UPDATE d.items SET big = 3"]).await;
    assert_eq!(apply(&mut session, adding("a", big(-4), None)).await, Err(Code::RowRefused));
    assert_eq!(apply(&mut session, adding("a", big(-3), None)).await.unwrap().unwrap().0[3], Value::Integer(0));
    // A null has no sum.
    run(&mut root, &["UPDATE d.items SET small = NULL"]).await;
    assert_eq!(apply(&mut session, adding("a", small(1), None)).await, Ok(None));
    let nothing = apply(&mut session, adding("b", [None, None, None], None)).await;
    assert_eq!(nothing.unwrap().unwrap().0[2], Value::Null);
    // Beyond the floor it is not as expected, but for a row that is there already.
    run(&mut root, &["UPDATE d.items SET note = 'a', small = 2"]).await;
    assert_eq!(apply(&mut session, adding("a", small(-3), Some(0))).await, Ok(None));
    assert!(apply(&mut session, adding("a", small(-2), Some(0))).await.unwrap().is_some());
    run(&mut root, &["UPDATE d.items SET small = -1"]).await;
    let below = apply(&mut session, adding("a", small(-3), Some(0))).await;
    assert_eq!(below.unwrap().unwrap().0[2], Value::Integer(-4));
}
