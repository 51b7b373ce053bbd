//! Additive columns: what is added counts, whatever there is; and what does not fit is refused by the server.

use pontoon_core::{
    Code, Key, Row, Value,
    node::{Applied, Session, Sum, TableBatch, UpdateGroup},
};

use crate::support::{Bench, tag};

const ITEMS: &str =
    "CREATE TABLE items (id int PRIMARY KEY, note text, small smallint, big bigint, exact numeric(10,2));
    ALTER TABLE items REPLICA IDENTITY FULL";

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
async fn apply(session: &mut Box<dyn Session>, bench: &Bench, batch: TableBatch) -> Result<Option<Row>, Code> {
    let table = bench.tables()[0].id;
    session.begin(Some(&tag(1, 1))).await.unwrap();
    let applied = session.apply(table, &batch).await;
    let row = match applied {
        Ok(Applied::All) => {
            let row = session.read(table, &[Key(vec![Value::Integer(1)])]).await.unwrap().remove(0);
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
async fn what_is_added_counts_whatever_there_is() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let mut session = bench.session().await;
    bench.run("INSERT INTO items VALUES (1, 'a', 5, 9223372036854775806, 1.50)").await;
    let all = [Some(Value::Integer(-7)), Some(Value::Integer(1)), Some(Value::Decimal("0.01".into()))];
    let now = apply(&mut session, &bench, adding("b", all, None)).await;
    assert_eq!(now, Ok(Some(row("b", -2, 9_223_372_036_854_775_807, "1.51"))));
    // The rest is compared, and the key.
    assert_eq!(apply(&mut session, &bench, adding("a", small(1), None)).await, Ok(None));
    bench.run("UPDATE items SET note = 'a', small = 32767").await;
    // More than the column holds is refused, not clipped; also of the type with most room.
    assert_eq!(apply(&mut session, &bench, adding("a", small(1), None)).await, Err(Code::RowRefused));
    let big = [None, Some(Value::Integer(1)), None];
    assert_eq!(apply(&mut session, &bench, adding("a", big, None)).await, Err(Code::RowRefused));
    // A null has no sum.
    bench.run("UPDATE items SET small = NULL").await;
    assert_eq!(apply(&mut session, &bench, adding("a", small(1), None)).await, Ok(None));
    let nothing = apply(&mut session, &bench, adding("b", [None, None, None], None)).await;
    assert_eq!(nothing.unwrap().unwrap().0[2], Value::Null);
    // Beyond the floor it is not as expected, but for a row that is there already.
    bench.run("UPDATE items SET note = 'a', small = 2").await;
    assert_eq!(apply(&mut session, &bench, adding("a", small(-3), Some(0))).await, Ok(None));
    assert!(apply(&mut session, &bench, adding("a", small(-2), Some(0))).await.unwrap().is_some());
    bench.run("UPDATE items SET small = -1").await;
    let below = apply(&mut session, &bench, adding("a", small(-3), Some(0))).await;
    assert_eq!(below.unwrap().unwrap().0[2], Value::Integer(-4));
}
