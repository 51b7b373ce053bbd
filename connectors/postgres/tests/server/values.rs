//! Every supported type: through a session into the table, out of the log, by a scan, and as the
//! condition of a write. The server's own text of each value is what it is held against.

use pontoon_core::{
    Form, Key, Kind, Row, Span, Value,
    node::{Applied, Node, Settled, TableBatch, UpdateGroup},
    schema::{Generator, TextEquality},
};

use crate::support::{Bench, DATABASE, PATIENCE, connect, names, tag};

/// One column of each type, and values of it as the server reads them. `NULL` is tried for all.
const TYPES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768", "32767", "0"]),
    ("integer", &["-2147483648", "2147483647"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("numeric(20)", &["18446744073709551615", "-1"]),
    ("numeric(10,2)", &["12345678.90", "-0.01", "1.50"]),
    ("numeric", &["123456789012345678901234567890.123456789", "0.000000000000000000001", "1e40", "0.00"]),
    ("real", &["0.1", "1e-45", "3.4028235e38", "NaN", "Infinity", "-Infinity", "-0"]),
    ("double precision", &["0.1", "5e-324", "1.7976931348623157e308", "NaN", "-Infinity", "-0"]),
    ("text", &["", "  blanks  ", "quote ' and \\ back", "nö \u{1F600}", "line\nbreak", "NULL"]),
    ("varchar(20)", &["Abc", "abc", "trailing "]),
    ("varchar", &["x"]),
    ("char(8)", &["ab", "", "Ab"]),
    ("bytea", &["\\x", "\\x00ff5c27", "\\xdeadbeef"]),
    ("date", &["2026-11-23", "0001-01-01", "9999-12-31", "4713-01-01 BC", "1969-12-31"]),
    ("time", &["00:00:00", "23:59:59.999999", "24:00:00"]),
    ("time(3)", &["12:34:56.789"]),
    (
        "timestamp",
        &["1970-01-01 00:00:00", "2026-03-29 02:30:00.123456", "9999-12-31 23:59:59.999999", "0044-03-15 12:00:00 BC"],
    ),
    ("timestamp(0)", &["2026-11-23 10:00:00"]),
    (
        "timestamptz",
        &[
            "1970-01-01 00:00:00+00",
            "2026-10-25 02:30:00+02",
            "9999-12-31 23:59:59.999999+00",
            "1969-12-31 23:59:59.5+00",
        ],
    ),
    ("json", &["{\"b\": 1, \"a\": [1.50, null, \"\\u00e9\"]}", "null", "1e3", "\"x\""]),
    ("jsonb", &["{\"b\": 1, \"a\": {\"x\": 0.12345678901234567890123}}", "[]", "null"]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"]),
    ("\"My \"\"mood\"", &["so so", "it's \"good\""]),
    ("\"my.number\"", &["7"]),
    ("mood_domain", &["so so"]),
];

const EXTRA: &str = "CREATE TYPE \"My \"\"mood\" AS ENUM ('so so', 'it''s \"good\"');
    CREATE DOMAIN base AS numeric(12,3) CHECK (value > 0); CREATE DOMAIN \"my.number\" AS base;
    CREATE DOMAIN mood_domain AS \"My \"\"mood\"";

fn ddl() -> String {
    let columns: Vec<_> = TYPES.iter().enumerate().map(|(at, (native, _))| format!("c{at} {native}")).collect();
    format!(
        "{EXTRA}; CREATE TABLE all_types (id int PRIMARY KEY, {}); ALTER TABLE all_types REPLICA IDENTITY FULL;
         CREATE TABLE twin (LIKE all_types INCLUDING ALL); ALTER TABLE twin REPLICA IDENTITY FULL",
        columns.join(", ")
    )
}

/// One row per value: column `at` holds it, the others their first value or null.
async fn fill(bench: &Bench) -> i32 {
    let mut id = 0;
    for (at, (native, values)) in TYPES.iter().enumerate() {
        for value in values.iter() {
            id += 1;
            let literal = value.replace('\'', "''");
            bench.run(&format!("INSERT INTO all_types (id, c{at}) VALUES ({id}, '{literal}'::text::{native})")).await;
        }
    }
    id
}

/// The twin holds the same values, by the server's own text.
async fn twins_are_equal(bench: &Bench) {
    for (at, (native, _)) in TYPES.iter().enumerate() {
        // Documents keep their meaning, not their spelling; numbers their value, not their scale; a float
        // has one zero in common form.
        let same = match *native {
            "json" | "jsonb" => format!("a.c{at}::jsonb IS NOT DISTINCT FROM b.c{at}::jsonb"),
            native if native.starts_with("numeric") || native == "real" || native == "double precision" => {
                format!("a.c{at} IS NOT DISTINCT FROM b.c{at}")
            }
            _ => format!("a.c{at}::text IS NOT DISTINCT FROM b.c{at}::text"),
        };
        let sql = format!("SELECT count(*) FROM all_types a JOIN twin b USING (id) WHERE NOT ({same})");
        let different: i64 = bench.sql.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(different, 0, "{native}");
    }
}

#[tokio::test]
async fn every_value_goes_around() {
    let bench = Bench::start(&ddl(), &["all_types", "twin"]).await;
    let mut reader = bench.reader().await;
    let count = fill(&bench).await;
    let rows: Vec<Row> = bench
        .fragments(&mut reader)
        .await
        .into_iter()
        .flat_map(|fragment| fragment.changes)
        .map(|change| change.after().unwrap().clone())
        .collect();
    assert_eq!(rows.len(), count as usize);
    let table = &bench.tables()[1];
    for row in &rows {
        for (value, column) in row.0.iter().zip(&table.columns) {
            assert!(!matches!(value, Value::Unmapped(_)), "{} {value:?}", column.column.native);
            let fits = column.kind.fits(value);
            assert!(
                fits.is_ok() || *value == Value::Time(86_400_000_000),
                "{} {value:?} {fits:?}",
                column.column.native
            );
        }
    }
    // Into the twin, and compared by the server's own text.
    let mut session = bench.session().await;
    session.begin(Some(&tag(10, 1))).await.unwrap();
    let inserts = TableBatch { inserts: rows.clone(), ..TableBatch::default() };
    assert_eq!(session.apply(table.id, &inserts).await.unwrap(), Applied::All);
    let keys: Vec<Key> = rows.iter().map(|row| table.key_of(row)).collect();
    let read: Vec<Row> = session.read(table.id, &keys).await.unwrap().into_iter().flatten().collect();
    assert_eq!(read, rows);
    let locked: Vec<Row> = session.lock(table.id, &keys).await.unwrap().into_iter().flatten().collect();
    assert_eq!(locked, rows);
    session.commit().await.unwrap();
    twins_are_equal(&bench).await;
    // The scan, in chunks.
    let mut scan = bench.node.open_scan(bench.tables()).await.unwrap();
    let mut scanned: Vec<Row> = Vec::new();
    loop {
        let after = scanned.last().map(|row| table.key_of(row));
        let chunk = scan.chunk(table.id, Span::behind(after.as_ref()), 7).await.unwrap();
        if chunk.is_empty() {
            break;
        }
        scanned.extend(chunk);
    }
    assert_eq!(scanned, rows);
    let missing = Key(vec![Value::Integer(1_000_000)]);
    let impossible = Key(vec![Value::Integer(i128::MAX)]);
    let found = scan.rows(table.id, &[keys[1].clone(), missing, impossible, keys[0].clone()]).await.unwrap();
    assert_eq!(found, [Some(rows[1].clone()), None, None, Some(rows[0].clone())]);
    // Our own writes come back the same.
    let echo: Vec<Row> = bench
        .fragments(&mut reader)
        .await
        .into_iter()
        .flat_map(|fragment| fragment.changes)
        .map(|change| change.after().unwrap().clone())
        .collect();
    assert_eq!(echo, rows);
}

/// The form that COPY takes of every type is another one than a statement's.
#[tokio::test]
async fn every_value_is_loaded_as_it_is() {
    let bench = Bench::start(&ddl(), &["all_types", "twin"]).await;
    let count = fill(&bench).await;
    let table = &bench.tables()[1];
    let rows = bench
        .node
        .open_scan(bench.tables())
        .await
        .unwrap()
        .chunk(bench.tables()[0].id, Span::default(), 10_000)
        .await
        .unwrap();
    assert_eq!(rows.len(), count as usize);
    let mut session = bench.session().await;
    session.begin(Some(&tag(10, 1))).await.unwrap();
    let loaded = session.load(table.id, &rows.iter().collect::<Vec<_>>()).await.unwrap();
    assert_eq!(loaded, Applied::All, "none goes another way");
    session.commit().await.unwrap();
    let there: i64 = bench.sql.query_one("SELECT count(*) FROM twin", &[]).await.unwrap().get(0);
    assert_eq!(there, i64::from(count));
    twins_are_equal(&bench).await;
    // A key that is there is one that was not expected, and then nothing of the rest is there either.
    session.begin(Some(&tag(11, 1))).await.unwrap();
    assert_eq!(session.load(table.id, &[&rows[0]]).await.unwrap(), Applied::Missed);
    session.rollback().await.unwrap();
}

/// For each row: an update and a delete find it as it is, and miss it where one value is another.
#[tokio::test]
async fn a_write_is_conditional_on_every_value() {
    let bench = Bench::start(&ddl(), &["all_types", "twin"]).await;
    fill(&bench).await;
    let table = &bench.tables()[0];
    let mut scan = bench.node.open_scan(bench.tables()).await.unwrap();
    let rows = scan.chunk(table.id, Span::default(), 10_000).await.unwrap();
    let mut session = bench.session().await;
    let all: Vec<usize> = (1..table.columns.len()).collect();
    session.begin(Some(&tag(10, 1))).await.unwrap();
    // As they are, all in one batch each.
    let same = rows.iter().map(|row| (row.clone(), row.clone())).collect();
    let updates = TableBatch {
        updates: vec![UpdateGroup { changed: all, rows: same, ..UpdateGroup::default() }],
        ..TableBatch::default()
    };
    assert_eq!(session.apply(table.id, &updates).await.unwrap(), Applied::All);
    let deletes = TableBatch { deletes: rows.clone(), ..TableBatch::default() };
    assert_eq!(session.apply(table.id, &deletes).await.unwrap(), Applied::All);
    session.rollback().await.unwrap();
    // Each with another value of the same column, and with none.
    for (row, other) in rows.iter().zip(rows.iter().cycle().skip(1)) {
        for at in 1..row.0.len() {
            let mut wrong = row.clone();
            wrong.0[at] = match (&row.0[at], &other.0[at]) {
                (Value::Null, Value::Null) => continue,
                (_, value) => value.clone(),
            };
            assert_ne!(wrong, *row);
            session.begin(Some(&tag(11, 1))).await.unwrap();
            let batch = TableBatch { deletes: vec![wrong], ..TableBatch::default() };
            let column = &table.columns[at].column.native;
            assert_eq!(
                session.apply(table.id, &batch).await.unwrap(),
                Applied::Missed,
                "{column} {:?} {:?}",
                row.0[at],
                other.0[at]
            );
            session.rollback().await.unwrap();
        }
    }
}

/// The other side holds less: a value that differs only beyond the common form is the same, and what was
/// cut stays as it is here.
#[tokio::test]
async fn a_richer_value_compares_in_the_common_form() {
    let poorer = [
        ("t", Form::Time { precision: 0 }),
        ("dt", Form::DateTime { precision: 0 }),
        ("ts", Form::Instant { precision: 3 }),
        ("f", Form::Float32),
        ("v", Form::Text { padded: true }),
        ("u", Form::Uuid),
        ("n", Form::Integer),
        ("i", Form::Decimal),
    ];
    let bench = Bench::start_with(
        "CREATE TABLE rich (id int PRIMARY KEY, t time, dt timestamp, ts timestamptz, f float8, v varchar(10), u varchar(36),
            n numeric(20), i int, note text);
         ALTER TABLE rich REPLICA IDENTITY FULL;
         INSERT INTO rich VALUES
            (1, '23:59:59.9', '2026-01-01 00:00:00.999999', '1969-12-31 23:59:59.123456Z', 0.1, 'ab  ',
                'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11', 18446744073709551615, 5),
            (2, '24:00:00', '-infinity', 'infinity', 1e300, '', NULL, NULL, NULL),
            (3, NULL, NULL, NULL, -1e-300, NULL, 'no uuid', 1, 1),
            (4, NULL, NULL, NULL, 3.4028235677973366e38, NULL, NULL, NULL, NULL),
            (5, NULL, NULL, NULL, 7.006492321624085e-46, NULL, NULL, NULL, NULL),
            (6, NULL, NULL, NULL, 'NaN', NULL, NULL, NULL, NULL)",
        &names(&["rich"]),
        &poorer,
    )
    .await;
    let table = &bench.tables()[0];
    let mut scan = bench.node.open_scan(bench.tables()).await.unwrap();
    let rows = scan.chunk(table.id, Span::default(), 10).await.unwrap();
    assert_eq!(rows[0].0[1], Value::Time(86_399_000_000));
    assert_eq!(rows[0].0[4], Value::Float32(0.1));
    assert_eq!(rows[0].0[5], Value::Text("ab".into()));
    assert_eq!(rows[0].0[7], Value::Integer(u64::MAX.into()));
    assert_eq!(rows[0].0[8], Value::Decimal("5".into()));
    assert_eq!(rows[1].0[2], Value::Unmapped("-infinity".into()));
    assert_eq!(rows[1].0[4], Value::Float32(f32::INFINITY));
    assert_eq!(rows[3].0[4], Value::Float32(f32::INFINITY));
    assert_eq!(rows[4].0[4], Value::Float32(0.0));
    let mut session = bench.session().await;
    for (at, row) in rows.iter().enumerate() {
        let mut after = row.clone();
        after.0[9] = Value::Text("changed".into());
        let group = UpdateGroup { changed: vec![9], rows: vec![(row.clone(), after)], ..UpdateGroup::default() };
        session.begin(Some(&tag(10, 1))).await.unwrap();
        let applied =
            session.apply(table.id, &TableBatch { updates: vec![group], ..TableBatch::default() }).await.unwrap();
        // A value that has no form is equal to nothing.
        let expected =
            if row.0.iter().any(|value| matches!(value, Value::Unmapped(_))) { Applied::Missed } else { Applied::All };
        assert_eq!(applied, expected, "row {}", at + 1);
        match applied {
            Applied::All => session.commit().await.unwrap(),
            Applied::Missed => session.rollback().await.unwrap(),
        }
    }
    let kept: String = bench
        .sql
        .query_one("SELECT t::text || dt || f || v || u || note FROM rich WHERE id = 1", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(kept, "23:59:59.92026-01-01 00:00:00.9999990.1ab  A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11changed");
    // One digit less, and it is another value.
    let mut wrong = rows[0].clone();
    wrong.0[9] = Value::Text("changed".into());
    wrong.0[1] = Value::Time(86_398_000_000);
    session.begin(Some(&tag(10, 1))).await.unwrap();
    let batch = TableBatch { deletes: vec![wrong], ..TableBatch::default() };
    assert_eq!(session.apply(table.id, &batch).await.unwrap(), Applied::Missed);
    session.rollback().await.unwrap();
}

/// Keys of many types are found by their index, in batches.
#[tokio::test]
async fn keys_are_looked_up_by_their_index() {
    let natives = [
        "text",
        "varchar(10)",
        "char(10)",
        "numeric(10)",
        "smallint",
        "uuid",
        "timestamptz",
        "date",
        "bytea",
        "boolean",
        "\"My \"\"mood\"",
    ];
    let values = [
        "'a'",
        "'a'",
        "'a'",
        "1",
        "1",
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        "'2026-01-01Z'",
        "'2026-01-01'",
        "'\\x01'",
        "true",
        "'so so'",
    ];
    let mut ddl = EXTRA.to_string();
    let mut tables = Vec::new();
    for (at, (native, value)) in natives.iter().zip(values).enumerate() {
        ddl.push_str(&format!("; CREATE TABLE k{at} (k {native}, note int, PRIMARY KEY (k, note)); INSERT INTO k{at} VALUES ({value}, 1), ({value}, 2);
            ALTER TABLE k{at} REPLICA IDENTITY FULL"));
        tables.push(format!("k{at}"));
    }
    let tables: Vec<_> = tables.iter().map(String::as_str).collect();
    let bench = Bench::start(&ddl, &tables).await;
    let mut scan = bench.node.open_scan(bench.tables()).await.unwrap();
    let mut session = bench.session().await;
    for table in bench.tables().iter() {
        let rows = scan.chunk(table.id, Span::default(), 10).await.unwrap();
        assert_eq!(
            scan.chunk(table.id, Span::behind(Some(&table.key_of(&rows[0]))), 10).await.unwrap(),
            rows[1..],
            "{}",
            table.name
        );
        session.begin(Some(&tag(1, 1))).await.unwrap();
        let keys: Vec<_> = rows.iter().map(|row| table.key_of(row)).collect();
        assert_eq!(session.lock(table.id, &keys).await.unwrap(), rows.iter().cloned().map(Some).collect::<Vec<_>>());
        let batch = TableBatch { deletes: rows.clone(), inserts: rows.clone(), ..TableBatch::default() };
        assert_eq!(session.apply(table.id, &batch).await.unwrap(), Applied::All, "{}", table.name);
        let batch = TableBatch { inserts: rows, ..TableBatch::default() };
        assert_eq!(session.apply(table.id, &batch).await.unwrap(), Applied::Missed, "{}", table.name);
        session.rollback().await.unwrap();
    }
    // What the server makes of such a key look-up.
    for (at, (native, cast)) in
        natives.iter().zip(["", "", "::bpchar", "::numeric", "", "", "", "", "", "", "::\"My \"\"mood\""]).enumerate()
    {
        let element = match *native {
            "smallint" => "int8",
            "uuid" | "timestamptz" | "date" | "bytea" | "boolean" => *native,
            _ => "text",
        };
        let sql = format!(
            "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off;
             INSERT INTO k{at} SELECT k, n FROM k{at}, generate_series(3, 3000) n WHERE note = 1; ANALYZE k{at};
             EXPLAIN SELECT * FROM unnest(ARRAY[NULL, NULL]::{element}[], ARRAY[NULL, NULL]::int8[]) AS s(k, n)
                JOIN k{at} AS t ON t.k = s.k{cast} AND t.note = s.n"
        );
        let plan: Vec<String> = bench
            .sql
            .simple_query(&sql)
            .await
            .unwrap()
            .into_iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(Into::into),
                _ => None,
            })
            .collect();
        assert!(plan.iter().any(|line| line.contains("Index Cond: ((k = ")), "{native}: {plan:#?}");
    }
}

#[tokio::test]
async fn many_rows_are_written_in_few_statements() {
    let bench = Bench::start("CREATE TABLE items (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text); ALTER TABLE items REPLICA IDENTITY FULL", &["items"]).await;
    let table = bench.tables()[0].id;
    let row = |id: i128, note: &str| Row(vec![Value::Integer(id), Value::Text(note.into())]);
    let big = "z".repeat(300_000);
    let inserts: Vec<_> = (0..2500).map(|id| row(id, if id < 40 { &big } else { "a" })).collect();
    let mut session = bench.session().await;
    session.begin(Some(&tag(1, 1))).await.unwrap();
    assert_eq!(
        session.apply(table, &TableBatch { inserts: inserts.clone(), ..TableBatch::default() }).await.unwrap(),
        Applied::All
    );
    let rows = inserts.iter().enumerate().map(|(id, before)| (before.clone(), row(id as i128, "b"))).collect();
    let updates = vec![UpdateGroup { changed: vec![1], rows, ..UpdateGroup::default() }];
    assert_eq!(session.apply(table, &TableBatch { updates, ..TableBatch::default() }).await.unwrap(), Applied::All);
    let mut deletes: Vec<_> = (0..2500).map(|id| row(id, "b")).collect();
    assert_eq!(
        session.apply(table, &TableBatch { deletes: deletes.clone(), ..TableBatch::default() }).await.unwrap(),
        Applied::All
    );
    deletes.truncate(1);
    assert_eq!(session.apply(table, &TableBatch { deletes, ..TableBatch::default() }).await.unwrap(), Applied::Missed);
    session.rollback().await.unwrap();
}

#[tokio::test]
async fn refusals_name_table_and_constraint_and_no_value() {
    let bench = Bench::start(
        "CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, age int CHECK (age > 0), name varchar(3) NOT NULL);
         ALTER TABLE people REPLICA IDENTITY FULL; INSERT INTO people VALUES (1, 'secret@x', 5, 'a');
         CREATE TABLE children (id int PRIMARY KEY REFERENCES people); ALTER TABLE children REPLICA IDENTITY FULL;
         CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;
         CREATE TRIGGER t BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION fail()",
        &["people", "children"],
    )
    .await;
    let row = |id, email: &str, age, name: Value| {
        Row(vec![Value::Integer(id), Value::Text(email.into()), Value::Integer(age), name])
    };
    let name = || Value::Text("b".into());
    let mut session = bench.session().await;
    let people = bench.tables()[0].id;
    for (row, constraint) in [
        (row(2, "secret@x", 5, name()), "people_email_key"),
        (row(2, "secret@y", 0, name()), "people_age_check"),
        (row(2, "secret@y", 5, Value::Null), "23502"),
        (row(2, "secret@y", 5, Value::Text("secret".into())), "22001"),
    ] {
        session.begin(Some(&tag(1, 1))).await.unwrap();
        let batch = TableBatch { inserts: vec![row], ..TableBatch::default() };
        let error = session.apply(people, &batch).await.unwrap_err();
        assert_eq!(error.code(), pontoon_core::Code::RowRefused, "{error}");
        assert!(error.message().contains("public.people") && error.message().contains(constraint), "{error}");
        assert!(!error.message().contains("secret"), "{error}");
        session.rollback().await.unwrap();
    }
    // Triggers and foreign keys are off.
    session.begin(Some(&tag(1, 1))).await.unwrap();
    let batch = TableBatch { inserts: vec![row(2, "secret@y", 5, name())], ..TableBatch::default() };
    assert_eq!(session.apply(people, &batch).await.unwrap(), Applied::All);
    let orphan = TableBatch { inserts: vec![Row(vec![Value::Integer(99)])], ..TableBatch::default() };
    assert_eq!(session.apply(bench.tables()[1].id, &orphan).await.unwrap(), Applied::All);
    session.commit().await.unwrap();
}

#[tokio::test]
async fn tables_are_described() {
    let bench = Bench::start(
        "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE odd (b text NOT NULL COLLATE nocase, a bigint GENERATED BY DEFAULT AS IDENTITY (INCREMENT 2 START 1), PRIMARY KEY (a, b),
            s serial, twice int GENERATED ALWAYS AS (1) STORED, tags text[], money money, span interval, v citext_like);
         CREATE TABLE plain (id int)"
            .replace("v citext_like", "p point")
            .as_str(),
        &[],
    )
    .await;
    bench
        .run("ALTER SEQUENCE odd_a_seq RESTART WITH 2; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO public")
        .await;
    let schemas = bench
        .node
        .describe(&[names(&["odd"])[0].clone(), names(&["absent"])[0].clone(), "plain".parse().unwrap()])
        .await
        .unwrap();
    assert!(schemas[1].is_none());
    let plain = schemas[2].as_ref().unwrap();
    assert_eq!(plain.name.to_string(), "public.plain");
    assert!(plain.key.is_empty());
    let odd = schemas[0].as_ref().unwrap();
    assert_eq!(odd.key, [1, 0]);
    let column = |name: &str| odd.column(name).unwrap();
    assert_eq!(column("b").text_equality, TextEquality::Folding("nocase".into()));
    assert_eq!(column("a").generator, Some(Generator { start: 2, step: 2, max: i64::MAX.into() }));
    assert_eq!(column("s").generator, Some(Generator { start: 1, step: 1, max: i32::MAX.into() }));
    assert_eq!(column("s").kind, Some(Kind::Integer { min: i32::MIN.into(), max: i32::MAX.into() }));
    assert!(column("twice").generated && !column("a").nullable);
    assert_eq!(column("money").kind, None);
    for (name, native) in [("tags", "text[]"), ("span", "interval"), ("p", "point")] {
        assert_eq!(column(name).kind, Some(Kind::Spelled { native: native.into() }), "{name}");
    }
    assert_eq!(column("tags").native.as_ref(), "text[]");
}

/// A chunk that is read while a transaction on its rows ends: it waits for it, what was removed is left out, and that there are
/// fewer rows than were asked for is not the table's end.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_waits_for_what_is_in_the_log() {
    let bench = Bench::start(
        "CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL); ALTER TABLE items REPLICA IDENTITY FULL; \
         INSERT INTO items SELECT i, 0 FROM generate_series(1, 5) AS i",
        &["items"],
    )
    .await;
    let table = bench.tables()[0].id;
    let mut scan = bench.node.open_scan(bench.tables()).await.unwrap();
    let writer = connect(&bench.server, DATABASE).await;
    writer.batch_execute("BEGIN; UPDATE items SET n = 1 WHERE id = 1; DELETE FROM items WHERE id = 3").await.unwrap();
    let reading = tokio::spawn(async move { (scan.settled_chunk(table, None, 3).await, scan) });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%items%'";
    let began = std::time::Instant::now();
    while bench.sql.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(began.elapsed() < PATIENCE && !reading.is_finished(), "it waits for the writer");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    writer.batch_execute("COMMIT").await.unwrap();
    let (chunk, mut scan) = reading.await.unwrap();
    let integers = |values: &[i128]| values.iter().map(|n| Value::Integer(*n)).collect::<Vec<_>>();
    let row = |id, n| Row(integers(&[id, n]));
    let key = Key(integers(&[3]));
    assert_eq!(chunk.unwrap(), Settled { rows: vec![row(1, 1), row(2, 0)], up_to: Some(key.clone()) });
    let rest = scan.settled_chunk(table, Some(&key), 3).await.unwrap();
    assert_eq!(rest, Settled { rows: vec![row(4, 0), row(5, 0)], up_to: None });
    let exactly = scan.settled_chunk(table, Some(&key), 2).await.unwrap();
    assert_eq!(exactly.up_to, Some(Key(integers(&[5]))), "whether there are more is not known");
}
