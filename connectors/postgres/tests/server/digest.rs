//! Checksums and spans of keys: what the server says of a row is what the canonical text of the row says that is read
//! from it.

use pontoon_core::{
    Code, Digest, Form, Key, MappedTable, Span, Value,
    digest::is_digestible,
    node::{Node, Scan},
};

use crate::support::Bench;

/// A type, the form of its pair where that is not its own, and values.
const COLUMNS: &[(&str, Option<Form>, &[&str])] = &[
    ("boolean", None, &["true", "false"]),
    ("bigint", None, &["-9223372036854775808", "9223372036854775807", "0"]),
    ("integer", Some(Form::Decimal), &["-7", "100"]),
    ("numeric(10,2)", None, &["0", "-0.01", "1.50", "100", "99999999.99"]),
    ("numeric(20,0)", Some(Form::Integer), &["18446744073709551615", "-10"]),
    ("numeric", None, &["1e40", "0.00", "1.10", "0.000000000000000000001", "-120"]),
    ("text", None, &["", "~", "|", "1|x", "ä€😀 ", "it's \\"]),
    ("varchar(60)", Some(Form::Text { padded: true }), &["ab  ", "  ", "~ "]),
    ("char(8)", None, &["ab", "", " |"]),
    ("bytea", None, &["\\x", "\\x00ff5c27", "\\x7c7e"]),
    ("date", None, &["0001-01-01", "9999-12-31"]),
    ("time", None, &["00:00:00", "23:59:59.5", "24:00:00"]),
    ("time(3)", None, &["12:34:56.789"]),
    ("timestamp", None, &["1970-01-01 00:00:00", "1969-12-31 23:59:59.999999", "9999-12-31 23:59:59.12"]),
    ("timestamp", Some(Form::DateTime { precision: 0 }), &["1969-12-31 23:59:59.999999", "2026-11-23 10:00:10"]),
    ("timestamp", Some(Form::DateTime { precision: 3 }), &["1969-12-31 23:59:59.999999", "2026-11-23 10:00:00.1"]),
    ("timestamptz", None, &["1970-01-01 00:00:00+00", "2026-10-25 02:30:00.5+02"]),
    ("timestamptz", Some(Form::Instant { precision: 0 }), &["1969-12-31 23:59:59.5+00"]),
    ("uuid", None, &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("varchar(36)", Some(Form::Uuid), &["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
    ("char(36)", Some(Form::Uuid), &["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
    ("mood", None, &["so so", "a|b"]),
    ("my_number", None, &["7", "7.100"]),
];

#[tokio::test]
async fn every_kind_has_the_text_that_is_told() {
    let mut ddl = "CREATE TYPE mood AS ENUM ('so so', 'a|b'); CREATE DOMAIN my_number AS numeric(12,3)".to_owned();
    let names: Vec<String> = (0..COLUMNS.len()).map(|at| format!("c{at}")).collect();
    for (name, (native, _, values)) in names.iter().zip(COLUMNS) {
        ddl += &format!("; CREATE TABLE {name} (id int PRIMARY KEY, v {native}, after varchar(9))");
        ddl += &format!("; ALTER TABLE {name} REPLICA IDENTITY FULL; INSERT INTO {name} VALUES (-1, NULL, '|')");
        for (id, value) in values.iter().enumerate() {
            ddl += &format!("; INSERT INTO {name} VALUES ({id}, '{}', '|')", value.replace('\'', "''"));
        }
    }
    let bench = Bench::start(&ddl, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut tables: Vec<MappedTable> = bench.tables().to_vec();
    for (table, (_, form, _)) in tables.iter_mut().zip(COLUMNS) {
        let column = &mut table.columns[1];
        column.form = form.unwrap_or(column.form);
    }
    let mut scan = bench.node.open_scan(&tables.clone().into()).await.unwrap();
    for (table, (native, form, values)) in tables.iter().zip(COLUMNS) {
        assert!(is_digestible(table), "{native} {form:?}");
        let rows = scan.chunk(table.id, Span::default(), 100).await.unwrap();
        assert_eq!(rows.len(), values.len() + 1, "{native}");
        for row in rows {
            let key = table.key_of(&row);
            let Value::Integer(id) = key.0[0] else { panic!() };
            let before = Key(vec![Value::Integer(id - 1)]);
            let span = Span { after: Some(&before), up_to: Some(&key) };
            let mut expected = Digest::default();
            assert!(expected.add(&row), "{native} {form:?} {row:?}");
            assert_eq!(scan.digest(table.id, span).await.unwrap(), expected, "{native} {form:?} {row:?}");
        }
    }
}

/// Spans of a key of one column and of three divide the rows: none is in two of them, and none in none.
#[tokio::test]
async fn spans_divide_a_table() {
    let bench = Bench::start(
        "CREATE TABLE one (id bigint PRIMARY KEY, v int); ALTER TABLE one REPLICA IDENTITY FULL;
         CREATE TABLE three (a int, b numeric(5,2), c bytea, v int, PRIMARY KEY (a, b, c));
         ALTER TABLE three REPLICA IDENTITY FULL;
         INSERT INTO one SELECT n * 3 - 100, n FROM generate_series(0, 199) n;
         INSERT INTO three SELECT n / 50, n % 7 + 0.5, decode(lpad(to_hex(n), 4, '0'), 'hex'), n FROM generate_series(0, 199) n",
        &["one", "three"],
    )
    .await;
    let mut scan = bench.node.open_scan(bench.tables()).await.unwrap();
    for table in bench.tables().iter() {
        assert!(scan.keeps_common_order(table.id));
        divided(&mut scan, table, 200).await;
    }
}

async fn divided(scan: &mut Box<dyn Scan>, table: &MappedTable, count: usize) {
    let all = scan.chunk(table.id, Span::default(), 1_000).await.unwrap();
    assert_eq!(all.len(), count);
    for length in [1, 7, 50, count, count + 1] {
        let (mut after, mut rows, mut sum): (Option<Key>, Vec<_>, _) = (None, Vec::new(), Digest::default());
        loop {
            let up_to = scan.nth_key(table.id, Span::behind(after.as_ref()), length).await.unwrap();
            let span = Span { after: after.as_ref(), up_to: up_to.as_ref() };
            let digest = scan.digest(table.id, span).await.unwrap();
            sum = Digest { rows: sum.rows + digest.rows, sum: sum.sum ^ digest.sum };
            rows.extend(scan.chunk(table.id, span, 1_000).await.unwrap());
            assert_eq!(digest.rows == length as u64, up_to.is_some(), "{span:?}");
            if up_to.is_none() {
                break;
            }
            after = up_to;
        }
        assert_eq!(rows, all, "{length}");
        assert_eq!(sum, scan.digest(table.id, Span::default()).await.unwrap(), "{length}");
    }
}

/// Before, such a key was taken for the end of the table.
#[tokio::test]
async fn what_has_no_form_bounds_nothing() {
    let ddl = "CREATE TABLE days (day date PRIMARY KEY); ALTER TABLE days REPLICA IDENTITY FULL;
               INSERT INTO days VALUES ('-infinity'), ('2026-11-28')";
    let bench = Bench::start(ddl, &["days"]).await;
    let table = &bench.tables()[0];
    let mut scan = bench.node.open_scan(bench.tables()).await.unwrap();
    let first = scan.chunk(table.id, Span::default(), 1).await.unwrap();
    let key = table.key_of(&first[0]);
    assert_eq!(key, Key(vec![Value::Unmapped("-infinity".into())]));
    let error = scan.chunk(table.id, Span::behind(Some(&key)), 1).await.unwrap_err();
    assert_eq!(error.code(), Code::ValueMisfit, "{error}");
    let error = scan.digest(table.id, Span { after: None, up_to: Some(&key) }).await.unwrap_err();
    assert_eq!(error.code(), Code::ValueMisfit, "{error}");
}
