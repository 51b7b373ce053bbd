//! Every type that is supported, in one table: boundary values arrive as they are, from each side, and no
//! spelling of a value is ever taken for a conflict.

use pontoon_servers::{Kind, Options, Release};

use crate::support::{Database, Link, LinkOptions, database::Client, pairings};

pairings!(every_type);

/// A pair of columns.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) postgres: &'static str,
    pub(crate) mysql: &'static str,
    /// The same values as each side writes them.
    pub(crate) values: Vec<[String; 2]>,
    /// How each side's text of a value is read: `§` stands for the column.
    text: [&'static str; 2],
    compared: Compared,
}

/// How the two texts are the same.
#[derive(Clone, Copy, PartialEq)]
enum Compared {
    /// Letter by letter.
    Text,
    /// The same number.
    Number,
    /// The same document.
    Json,
}

impl Column {
    fn new(name: &'static str, postgres: &'static str, mysql: &'static str, values: &[&str]) -> Column {
        let values = values.iter().map(|value| [(*value).to_owned(), (*value).to_owned()]).collect();
        Column { name, postgres, mysql, values, text: ["§::text", "§"], compared: Compared::Text }
    }

    fn pairs(mut self, values: &[[&str; 2]]) -> Column {
        self.values.extend(values.iter().map(|pair| pair.map(str::to_owned)));
        self
    }

    fn text(mut self, postgres: &'static str, mysql: &'static str) -> Column {
        self.text = [postgres, mysql];
        self
    }

    fn compared(mut self, compared: Compared) -> Column {
        self.compared = compared;
        self
    }

    fn bytes(name: &'static str, mysql: &'static str, values: &[Vec<u8>]) -> Column {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let values = values.iter().map(|bytes| [format!("'\\x{}'", hex(bytes)), format!("x'{}'", hex(bytes))]);
        Column {
            name,
            postgres: "bytea",
            mysql,
            values: values.collect(),
            text: ["encode(§, 'hex')", "lower(hex(§))"],
            compared: Compared::Text,
        }
    }
}

impl Column {
    /// A type that PostgreSQL writes as a text, and is that text on the other side.
    fn spelled(name: &'static str, postgres: &'static str, values: &[&str]) -> Column {
        Column::new(name, postgres, "varchar(200)", values).text("CASE WHEN § IS NOT NULL THEN concat(§) END", "§")
    }
}

const DATES: [&str; 5] = ["'1000-01-01'", "'1582-10-15'", "'1970-01-01'", "'2024-02-29'", "'9999-12-31'"];
/// 24 hours of day and both sides of an hour that summer time leaves out and doubles somewhere.
const TIMES: [&str; 7] = [
    "'1000-01-01 00:00:00.000000'",
    "'1969-12-31 23:59:59.999999'",
    "'2024-02-29 12:34:56.000001'",
    "'2026-03-29 02:30:00.500000'",
    "'2026-10-25 02:30:00.100000'",
    "'2026-11-24 10:00:00'",
    "'9999-12-31 23:59:59.999999'",
];
const SECONDS: [&str; 3] = ["'1000-01-01 00:00:00'", "'2026-03-29 02:30:00'", "'9999-12-31 23:59:59'"];
const TEXTS: [&str; 8] = [
    "''",
    "' '",
    "'trailing   '",
    "'o''clock \"quoted\" `tick`'",
    "'emoji 🙂 👩‍👩‍👧 中文 ünï'",
    "'e\u{301} is not é'",
    "'100% _ ? $1 :x {} --'",
    "'line\nbreak\ttab\r\n'",
];

pub(crate) fn columns(mysql: Kind) -> Vec<Column> {
    let all: Vec<u8> = (0..=255).collect();
    let blobs = [vec![], vec![0], all.clone(), b"'\\\"\n%".to_vec(), vec![0xff; 200]];
    let long = format!("'{}'", "long ünï 🙂 ".repeat(8_000));
    let micros = ["to_char(§, 'YYYY-MM-DD HH24:MI:SS.US')", "date_format(§, '%Y-%m-%d %H:%i:%s.%f')"];
    let instant =
        ["to_char(§ AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')", "date_format(§, '%Y-%m-%d %H:%i:%s.%f')"];
    let moments = [
        ["'1970-01-01 00:00:01+00'", "'1970-01-01 00:00:01'"],
        ["'2001-09-09 01:46:40.123456+00'", "'2001-09-09 01:46:40.123456'"],
        ["'2026-03-29 01:30:00.999999+00'", "'2026-03-29 01:30:00.999999'"],
        ["'2026-10-25 00:30:00+00'", "'2026-10-25 00:30:00'"],
        ["'2026-10-25 01:30:00.000001+00'", "'2026-10-25 01:30:00.000001'"],
        ["'2038-01-19 03:14:07.999999+00'", "'2038-01-19 03:14:07.999999'"],
    ];
    let documents: [[&str; 2]; 8] = [
        ["'null'", "'null'"],
        ["'[]'", "'[]'"],
        ["'{\"b\": 1, \"a\": {\"z\": [1, 2, null], \"y\": true}}'", "'{\"a\":{\"y\":true,\"z\":[1,2,null]},\"b\":1}'"],
        ["'\"text 🙂 ünï\"'", "'\"text 🙂 ünï\"'"],
        ["'[0, -1, 9223372036854775807, 1.5, 1e3]'", "'[0, -1, 9223372036854775807, 1.5, 1000]'"],
        ["'{\"\": \"\", \"a.b\": \"c\\\"d\"}'", "'{\"\": \"\", \"a.b\": \"c\\\"d\"}'"],
        ["'{\"nested\": {\"deep\": {\"deeper\": [[[{}]]]}}}'", "'{\"nested\": {\"deep\": {\"deeper\": [[[{}]]]}}}'"],
        ["'\"tab\\tline\\nslash\\\\\"'", "'\"tab\\tline\\nslash\\\\\"'"],
    ];
    let uuids = [
        "'00000000-0000-0000-0000-000000000000'",
        "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        "'123e4567-e89b-12d3-a456-426614174000'",
    ];
    let binary = [
        ["'00000000-0000-0000-0000-000000000000'", "x'00000000000000000000000000000000'"],
        ["'123e4567-e89b-12d3-a456-426614174000'", "x'123e4567e89b12d3a456426614174000'"],
    ];
    let truth = [["true", "1"], ["false", "0"]];
    let mut columns = vec![
        Column::new("tiny", "smallint", "tinyint", &["-128", "0", "127"]),
        Column::new("tiny_u", "smallint", "tinyint unsigned", &["0", "128", "255"]),
        Column::new("small", "smallint", "smallint", &["-32768", "32767"]),
        Column::new("small_u", "integer", "smallint unsigned", &["0", "65535"]),
        Column::new("medium", "integer", "mediumint", &["-8388608", "8388607"]),
        Column::new("medium_u", "integer", "mediumint unsigned", &["0", "16777215"]),
        Column::new("four", "integer", "int", &["-2147483648", "-1", "2147483647"]),
        Column::new("four_u", "bigint", "int unsigned", &["0", "2147483648", "4294967295"]),
        Column::new("eight", "bigint", "bigint", &["-9223372036854775808", "9007199254740993", "9223372036854775807"]),
        Column::new(
            "eight_u",
            "numeric(20,0)",
            "bigint unsigned",
            &["0", "9223372036854775808", "18446744073709551615"],
        ),
        Column::new(
            "money",
            "numeric(10,2)",
            "decimal(10,2)",
            &["0", "-0.01", "1.5", "1.50", "99999999.99", "-99999999.99"],
        ),
        Column::new(
            "wide",
            "numeric(65,30)",
            "decimal(65,30)",
            &[
                "0.000000000000000000000000000001",
                "99999999999999999999999999999999999.999999999999999999999999999999",
                "-1",
            ],
        ),
        Column::new(
            "free",
            "numeric",
            "decimal(38,10)",
            &["1", "1.0", "1.10", "1.1000000000", "-1234567890123456789012345678.0123456789", "0.00"],
        )
        .compared(Compared::Number),
        Column::new("single", "real", "float", &["0", "1.5", "-1.17549e-38", "3.40282e38", "0.1", "16777216", "1e-40"])
            .text("§::float8::text", "§ + 0e0")
            .compared(Compared::Number),
        Column::new(
            "twofold",
            "double precision",
            "double",
            &[
                "0",
                "-0.0",
                "0.1",
                "1.7976931348623157e308",
                "-2.2250738585072014e-308",
                "4.9e-324",
                "9007199254740993",
                "123456789.123456789",
            ],
        )
        .compared(Compared::Number),
        Column::new("mixed", "real", "double", &["0.5", "-1e10"]).compared(Compared::Number),
        Column::new("fixed", "char(10)", "char(10)", &["''", "'a'", "'a b'", "'üüüüüüüüüü'", "'1234567890'"])
            .text("rtrim(§::text)", "rtrim(§)"),
        Column::new("words", "varchar(60)", "varchar(60)", &TEXTS),
        Column::new("any_text", "text", "longtext", &TEXTS).pairs(&[[&long, &long]]),
        Column::new("medium_text", "text", "mediumtext", &["''", "'x'"]),
        Column::new("short_text", "text", "tinytext", &["'short'"]),
        Column::new("in_latin1", "varchar(60)", "varchar(60) CHARACTER SET latin1", &["''", "'äöü ÿ €'", "'plain'"]),
        Column::new("in_utf8mb3", "varchar(60)", "varchar(60) CHARACTER SET utf8mb3", &["'中文 ünï'", "'plain'"]),
        Column::new("in_utf16", "varchar(60)", "varchar(60) CHARACTER SET utf16", &["'中文 🙂'", "'plain'"]),
        Column::new("in_binary_order", "varchar(60)", "varchar(60) COLLATE utf8mb4_bin", &["'A'", "'a'", "'a '"]),
        Column::bytes("some_bytes", "varbinary(300)", &blobs),
        Column::bytes("many_bytes", "longblob", &[vec![], all.repeat(300), vec![0; 70_000]]),
        Column::bytes("few_bytes", "tinyblob", &[vec![1, 0, 2]]),
        Column::bytes("sixteen", "binary(16)", &[vec![0; 16], (0..16).collect(), vec![255; 16]]),
        Column::new("truth", "boolean", "tinyint(1)", &[]).pairs(&truth).text("§::int::text", "§"),
        Column::new("one_bit", "boolean", "bit(1)", &[]).pairs(&truth).text("§::int::text", "§ + 0"),
        Column::new("day", "date", "date", &DATES),
        Column::new("at_micros", "timestamp", "datetime(6)", &TIMES).text(micros[0], micros[1]),
        Column::new(
            "at_millis",
            "timestamp(3)",
            "datetime(3)",
            &["'2026-11-24 10:00:00.123'", "'1000-01-01 00:00:00.001'"],
        )
        .text(micros[0], micros[1]),
        Column::new("at_seconds", "timestamp(0)", "datetime", &SECONDS).text(micros[0], micros[1]),
        Column::new("moment", "timestamptz", "timestamp(6) NULL", &[]).pairs(&moments).text(instant[0], instant[1]),
        Column::new("moment_s", "timestamptz(0)", "timestamp NULL", &[])
            .pairs(&[moments[0], moments[3]])
            .text(instant[0], instant[1]),
        Column::new("clock", "time", "time(6)", &["'00:00:00'", "'12:34:56.789012'", "'23:59:59.999999'"])
            .text("to_char(§, 'HH24:MI:SS.US')", "time_format(§, '%H:%i:%s.%f')"),
        Column::new("clock_s", "time(0)", "time", &["'00:00:00'", "'23:59:59'"]),
        Column::new("doc", "json", "json", &[]).pairs(&documents).compared(Compared::Json),
        Column::new("docb", "jsonb", "json", &[]).pairs(&documents).compared(Compared::Json),
        Column::new("uuid_text", "uuid", "char(36)", &uuids).text("§::text", "lower(§)"),
        Column::new("uuid_bytes", "uuid", "binary(16)", &[])
            .pairs(&binary)
            .text("replace(§::text, '-', '')", "lower(hex(§))"),
        Column::new(
            "mood",
            "mood",
            "enum('happy','so so','it''s \"bad\"','ünï')",
            &["'happy'", "'so so'", "'it''s \"bad\"'", "'ünï'"],
        ),
        Column::new("mood_text", "varchar(20)", "enum('one','two')", &["'one'", "'two'"]),
        Column::new(
            "days",
            "text",
            "set('mon','tue','it''s wed','mi–do')",
            &["''", "'mon'", "'tue,it''s wed'", "'mon,mi–do'"],
        ),
        Column::new("in_year", "smallint", "year", &["0", "1901", "2026", "2155"]).text("§::text", "§ + 0"),
        Column::new("three_bits", "bit(3)", "bit(3)", &[])
            .pairs(&[["B'000'", "b'000'"], ["B'101'", "b'101'"], ["B'011'", "b'011'"]])
            .text("§::text", "lpad(bin(§ + 0), 3, '0')"),
        Column::new("many_bits", "bit(64)", "bit(64)", &[])
            .pairs(&[["0::bit(64)", "0"], ["1::bit(64)", "1"], ["(-1)::bit(64)", "18446744073709551615"]])
            .text("§::text", "lpad(bin(§ + 0), 64, '0')"),
        Column::new("own_name", "name", "varchar(63)", &["''", "'ünï'", "'a b'"]),
        Column::spelled("bits", "bit varying(9)", &["''", "'0'", "'000110'"]),
        Column::spelled("address", "inet", &["'10.0.0.1'", "'10.0.0.0/8'", "'2001:db8::1'", "'::/0'"]),
        Column::spelled("network", "cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"]),
        Column::spelled("card", "macaddr", &["'08:00:2b:01:02:03'", "'ff:ff:ff:ff:ff:ff'"]),
        Column::spelled("span", "interval", &["'00:00:00'", "'1 year 2 mons -3 days +04:05:06.789'", "'-838:59:59'"]),
        Column::spelled("zoned", "timetz", &["'12:34:56.5+05:45'", "'00:00:00+00'"]),
        Column::spelled("numbers", "integer[]", &["'{}'", "'{1,NULL,-3}'", "'{{1,2},{3,4}}'", "'[0:1]={1,2}'"]),
        Column::spelled("strings", "text[]", &["'{\"a b\",\"NULL\",NULL,\"\",ünï}'", "'{plain}'"]),
        Column::spelled("moods", "mood[]", &["'{happy,\"so so\"}'", "'{}'"]),
        Column::spelled("instants", "timestamptz[]", &["'{\"2026-03-29 01:30:00.999999+00\",infinity}'"]),
        Column::spelled("doubles", "double precision[]", &["'{0.1,-0,NaN,1e+300}'"]),
        Column::spelled("reach", "int4range", &["'empty'", "'[1,5)'", "'(,)'"]),
        Column::spelled("reaches", "datemultirange", &["'{[2026-01-01,2026-02-01),[2026-11-28,)}'", "'{}'"]),
        Column::spelled("markup", "xml", &["'<a b=\"c\">ünï</a>'", "'text alone'"]),
        Column::spelled("place", "point", &["'(0.1,-2)'", "'(1e+300,0)'"]),
        Column::spelled("pairs", "hstore", &["'\"a\"=>\"1\", \"ünï\"=>NULL'", "''"]),
    ];
    if mysql == Kind::Mariadb {
        columns.push(Column::new("uuid_native", "uuid", "uuid", &uuids));
    }
    columns
}

/// One side of the table.
pub(crate) struct Side {
    pub(crate) client: Client,
    pub(crate) at: usize,
}

impl Side {
    pub(crate) async fn new(node: &Database) -> Side {
        let mut client = node.client().await;
        if node.is_postgres() {
            client.run("SET datestyle = 'ISO'; SET extra_float_digits = 1; SET timezone = 'UTC'; SET intervalstyle = 'postgres'").await;
        } else {
            client.run("SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES'").await;
        }
        Side { client, at: usize::from(!node.is_postgres()) }
    }

    fn literal(&self, column: &Column, index: usize) -> String {
        column.values[index % column.values.len()][self.at].clone()
    }

    async fn insert(&mut self, columns: &[Column], id: usize, index: usize) {
        let names: String = columns.iter().map(|column| format!(", {}", column.name)).collect();
        let values: String = columns.iter().map(|column| format!(", {}", self.literal(column, index))).collect();
        self.client.run(&format!("INSERT INTO kinds (id{names}) VALUES ({id}{values})")).await;
    }

    async fn update(&mut self, column: &Column, id: usize, value: &str) {
        self.client.run(&format!("UPDATE kinds SET {} = {value} WHERE id = {id}", column.name)).await;
    }

    /// Every row's texts, by id.
    async fn texts(&mut self, columns: &[Column]) -> Vec<Vec<Option<String>>> {
        let texts: String =
            columns.iter().map(|column| format!(", {}", column.text[self.at].replace('§', column.name))).collect();
        self.client.rows(&format!("SELECT id{texts} FROM kinds ORDER BY id")).await
    }
}

/// A value's text, so that the same value has the same.
fn same_form(column: &Column, text: &str) -> String {
    match column.compared {
        Compared::Text => text.to_owned(),
        Compared::Number if text.contains(['e', 'E']) || column.mysql.contains("double") || column.mysql == "float" => {
            let number = text.parse::<f64>().unwrap() + 0.0;
            if column.mysql == "float" || column.postgres == "real" {
                format!("{:?}", number as f32)
            } else {
                format!("{number:?}")
            }
        }
        Compared::Number if text.contains('.') => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        Compared::Number => text.to_owned(),
        Compared::Json => {
            let document: serde_json::Value = serde_json::from_str(text).unwrap();
            by_value(document).to_string()
        }
    }
}

/// A document whose numbers are written in one way: 1000.0 and 1e3 are 1000.
fn by_value(document: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match document {
        Value::Number(number) => match number.as_f64() {
            Some(double) if !number.is_i64() && double.fract() == 0.0 => (double as i64).into(),
            _ => Value::Number(number),
        },
        Value::Array(all) => all.into_iter().map(by_value).collect(),
        Value::Object(all) => {
            all.into_iter().map(|(name, value)| (name, by_value(value))).collect::<serde_json::Map<_, _>>().into()
        }
        other => other,
    }
}

pub(crate) async fn compare(columns: &[Column], a: &mut Side, b: &mut Side) -> Vec<Vec<Option<String>>> {
    let (on_a, on_b) = (a.texts(columns).await, b.texts(columns).await);
    assert_eq!(on_a.len(), on_b.len());
    let mut rows = Vec::new();
    for (x, y) in on_a.iter().zip(&on_b) {
        assert_eq!(x[0], y[0]);
        let mut row = vec![x[0].clone()];
        for (at, column) in columns.iter().enumerate() {
            let form = |text: &Option<String>| text.as_deref().map(|text| same_form(column, text));
            let (x, y) = (form(&x[at + 1]), form(&y[at + 1]));
            assert_eq!(x, y, "column {} of row {:?}", column.name, row[0]);
            row.push(x);
        }
        rows.push(row);
    }
    rows
}

pub(crate) async fn no_conflict(link: &Link, after: &str) {
    for node in link.nodes() {
        let rows = node.rows("SELECT row_key, own_row, other_row FROM pontoon.resolution").await;
        assert!(rows.is_empty(), "{after} was taken for a conflict: {rows:#?}");
    }
}

/// The table on both sides.
pub(crate) async fn create(link: &Link, columns: &[Column]) {
    let definition = |at: usize| -> String {
        columns.iter().map(|column| format!(", {} {}", column.name, [column.postgres, column.mysql][at])).collect()
    };
    let (postgres, mysql) = (link.postgres().0, link.mysql().0);
    postgres.run("CREATE EXTENSION hstore").await;
    postgres.run("CREATE TYPE mood AS ENUM ('happy', 'so so', 'it''s \"bad\"', 'ünï')").await;
    postgres.run(&format!("CREATE TABLE kinds (id int PRIMARY KEY{})", definition(0))).await;
    postgres.run("ALTER TABLE kinds REPLICA IDENTITY FULL").await;
    mysql.run(&format!("CREATE TABLE kinds (id int PRIMARY KEY{}) CHARACTER SET utf8mb4", definition(1))).await;
}

pub(crate) async fn every_type(kinds: [impl Into<Release>; 2]) {
    let odd = |kind: Kind| match kind {
        Kind::Postgres => {
            let odd = [("timezone", "Asia/Kathmandu"), ("datestyle", "SQL, DMY"), ("intervalstyle", "sql_standard")];
            let odd = odd.into_iter().chain([("extra_float_digits", "-15"), ("bytea_output", "escape")]);
            odd.fold(Options::default(), |options, (name, value)| options.setting(name, value))
        }
        _ => Options::default()
            .setting("default_time_zone", "-03:30")
            .setting("sql_mode", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH"),
    };
    let kinds = kinds.map(Into::<Release>::into);
    let servers = kinds.map(|release| odd(release.kind()));
    let options = LinkOptions { servers, configuration: "[[tables]]\nname = \"kinds\"\n".into() };
    let link = Link::start(kinds, options).await;
    let columns = columns(link.mysql().0.kind);
    create(&link, &columns).await;
    let (exit, found) = link.check().await;
    assert_eq!(exit, 0, "{found:#?}");
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    let (mut a, mut b) = (Side::new(&link.a).await, Side::new(&link.b).await);

    // The same values from each side.
    let rounds = columns.iter().map(|column| column.values.len()).max().unwrap();
    for index in 0..rounds {
        a.insert(&columns, 100 + index, index).await;
        b.insert(&columns, 200 + index, index).await;
    }
    a.client.run("INSERT INTO kinds (id) VALUES (300)").await;
    b.client.run("INSERT INTO kinds (id) VALUES (301)").await;
    link.settle().await;
    no_conflict(&link, "an insert").await;
    let rows = compare(&columns, &mut a, &mut b).await;
    assert_eq!(rows.len(), 2 * rounds + 2);
    for index in 0..rounds {
        assert_eq!(rows[index][1..], rows[rounds + index][1..], "values {index} from a and from b");
    }
    assert!(rows[2 * rounds..].iter().all(|row| row[1..].iter().all(Option::is_none)), "nulls stay nulls");

    // Each column by itself, to each of its values, from null and to null.
    for column in &columns {
        for index in 0..column.values.len() {
            let (on_a, on_b) = (a.literal(column, index), b.literal(column, index));
            a.update(column, 300, &on_a).await;
            b.update(column, 301, &on_b).await;
        }
        a.update(column, 100, "NULL").await;
        b.update(column, 200, "NULL").await;
        // A row that came from the other side: its image here is compared with what that side logged.
        let (on_a, on_b) = (a.literal(column, 1), b.literal(column, 1));
        a.update(column, 202, &on_a).await;
        b.update(column, 102, &on_b).await;
    }
    link.settle().await;
    no_conflict(&link, "a one-sided update").await;
    let rows = compare(&columns, &mut a, &mut b).await;
    assert_eq!(rows[2 * rounds][1..], rows[2 * rounds + 1][1..]);
    assert!(rows[0][1..].iter().all(Option::is_none) && rows[rounds][1..].iter().all(Option::is_none));
    link.succeed(&["verify"]).await;

    // Rows of all values go, from the side that they did not come from.
    a.client.run("DELETE FROM kinds WHERE id BETWEEN 205 AND 299").await;
    b.client.run("DELETE FROM kinds WHERE id BETWEEN 105 AND 199").await;
    link.settle().await;
    no_conflict(&link, "a delete").await;
    assert_eq!(compare(&columns, &mut a, &mut b).await.len(), 12);
    assert_eq!(bridge.stop().await, 0);

    // Conflicts: every column, with all values of the row in both images and records.
    for (at, column) in columns.iter().enumerate() {
        let (on_a, on_b) = (a.literal(column, 0), b.literal(column, 1));
        a.update(column, 103 + at % 2, &on_a).await;
        b.update(column, 103 + at % 2, &on_b).await;
    }
    a.client.run("DELETE FROM kinds WHERE id = 203").await;
    let first = &columns[0];
    b.update(first, 203, "7").await;
    link.catch_up().await;
    compare(&columns, &mut a, &mut b).await;
    assert_eq!(link.a.value("SELECT count(DISTINCT row_key) FROM pontoon.resolution").await, "3");
    link.succeed(&["verify"]).await;
    let settled = link.a.value("SELECT count(*) FROM pontoon.resolution").await;
    link.catch_up().await;
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, settled, "settled is settled");
    compared_in_the_databases(&link, &columns).await;
}

/// The same rows without the columns of which no server makes a text that the other one makes too.
async fn compared_in_the_databases(link: &Link, columns: &[Column]) {
    let without = ["single", "twofold", "mixed", "doc", "docb"];
    let columns: Vec<&Column> = columns.iter().filter(|column| !without.contains(&column.name)).collect();
    let definition = |at: usize| -> String {
        columns.iter().map(|column| format!(", {} {}", column.name, [column.postgres, column.mysql][at])).collect()
    };
    let names: String = columns.iter().map(|column| format!(", {}", column.name)).collect();
    for (node, at, charset) in [(link.postgres().0, 0, ""), (link.mysql().0, 1, " CHARACTER SET utf8mb4")] {
        node.run(&format!("CREATE TABLE exact (id int PRIMARY KEY{}){charset}", definition(at))).await;
        node.run(&format!("INSERT INTO exact SELECT id{names} FROM kinds")).await;
    }
    link.edit("name = \"kinds\"\n", "name = \"kinds\"\n[[tables]]\nname = \"exact\"\n");
    let document: serde_json::Value = serde_json::from_str(&link.succeed(&["verify", "--json"]).await).unwrap();
    let [exact, all] = &document["tables"].as_array().unwrap()[..] else { panic!("{document:#}") };
    assert_eq!((&exact["table"], &exact["compared"]), (&"exact".into(), &"in the databases".into()), "{document:#}");
    assert_eq!((&all["table"], &all["compared"]), (&"kinds".into(), &"in the bridge".into()), "{document:#}");
    assert_eq!(exact["rows"], all["rows"]);
}
