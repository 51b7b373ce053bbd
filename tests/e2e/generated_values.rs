//! Generated values of every type, there and back: from A to B by the log or by a copy, and from B to A again by a write
//! upon the row that came, whose image there has to be what A holds. The databases are the oracle: what either would not take
//! for the same is a miss, and so a conflict, and there must be none.
//!
//! `PONTOON_SEED` repeats the values of a run.

use std::fmt::Write as _;

use pontoon_core::calendar;
use pontoon_servers::Kind;
use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};

use crate::{
    quarantine::entries,
    support::{Link, LinkOptions, pairings, workload::dice},
    types::{Column, Side, columns, compare, create, no_conflict},
};

pairings!(through_the_log, through_a_copy);

/// Rows of generated values from each side.
const ROWS: usize = 120;

/// What a generated text is made of: of every width in UTF-8, what is special to SQL, combining marks and controls.
const LETTERS: [&str; 20] = [
    "a",
    "Z",
    " ",
    "'",
    "\"",
    "\\",
    "%",
    "\n",
    "\t",
    "\u{1}",
    "é",
    "ÿ",
    "€",
    "ß",
    "中",
    "\u{301}",
    "\u{feff}",
    "🙂",
    "\u{10ffff}",
    "\u{200d}",
];

/// Literals of one value, for PostgreSQL and for the other.
type Literals = [String; 2];

fn both(text: String) -> Literals {
    [text.clone(), text]
}

fn quoted(text: &str) -> Literals {
    both(format!("'{}'", text.replace('\'', "''")))
}

/// A number of so many bits at most, or near to an end of the range.
fn integer(dice: &mut SmallRng, min: i128, max: i128) -> i128 {
    match dice.random_range(0..4) {
        0 => min + dice.random_range(0..3),
        1 => max - dice.random_range(0..3),
        2 => (dice.random::<i128>() >> dice.random_range(64..128)).clamp(min, max),
        _ => dice.random_range(min..=max),
    }
}

/// The range of an integer type of MySQL.
fn range(mysql: &str) -> Option<(i128, i128)> {
    let bits = match mysql.split([' ', '(']).next()? {
        "tinyint" => 8,
        "smallint" => 16,
        "mediumint" => 24,
        "int" => 32,
        "bigint" => 64,
        _ => return None,
    };
    Some(match mysql.ends_with("unsigned") {
        true => (0, (1 << bits) - 1),
        false => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
    })
}

/// An exact number with so many digits before and after the point.
fn decimal(dice: &mut SmallRng, whole: usize, scale: usize) -> Literals {
    let digits = |dice: &mut SmallRng, most: usize| -> String {
        let count = dice.random_range(1..=most);
        (0..count).map(|_| char::from(b"0019"[dice.random_range(0..4)])).collect()
    };
    let sign = if dice.random_bool(0.5) { "-" } else { "" };
    both(format!("{sign}{}.{}", digits(dice, whole), digits(dice, scale)))
}

fn text(dice: &mut SmallRng, length: usize, allowed: impl Fn(char) -> bool) -> String {
    let letters: Vec<&str> = LETTERS.into_iter().filter(|letter| letter.chars().all(&allowed)).collect();
    let count = dice.random_range(0..=length);
    (0..count).filter_map(|_| letters.choose(dice).copied()).collect()
}

fn bytes(dice: &mut SmallRng, length: std::ops::RangeInclusive<usize>) -> Literals {
    let count = dice.random_range(length);
    let hex = (0..count).fold(String::new(), |mut hex, _| {
        let byte = match dice.random_range(0..4) {
            0 => 0,
            1 => 0xff,
            2 => b'\'',
            _ => dice.random::<u8>(),
        };
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    [format!("'\\x{hex}'"), format!("x'{hex}'")]
}

/// A moment of a range, with so many digits of the second's fraction.
fn moment(dice: &mut SmallRng, (from, to): (i64, i64), digits: u32) -> String {
    let unit = 10_i64.pow(6 - digits);
    let micros = dice.random_range(from..to) / unit * unit;
    calendar::format_datetime(micros.max(from)).replace('T', " ")
}

fn document(dice: &mut SmallRng, depth: usize) -> serde_json::Value {
    use serde_json::{Value, json};
    match dice.random_range(0..if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => json!(dice.random_bool(0.5)),
        2 => json!(dice.random::<i64>() >> dice.random_range(0..60)),
        // Of few digits: a double there, and exact here.
        3 => json!(f64::from(dice.random_range(-9_999..9_999)) / 16.0),
        4 => json!(text(dice, 8, |letter| letter > '\u{1f}')),
        5 => (0..dice.random_range(0..4)).map(|_| document(dice, depth - 1)).collect(),
        _ => (0..dice.random_range(0..4))
            .map(|n| (format!("k{n} é"), document(dice, depth - 1)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// A value of the column: one of its chosen ones now and then, and where nothing else is known of the type.
fn value(dice: &mut SmallRng, column: &Column) -> Literals {
    const YEARS: (i64, i64) = (-30_610_224_000_000_000, 253_402_300_800_000_000);
    // What every version of timestamp holds.
    const MOMENTS: (i64, i64) = (1_000_000, 2_147_483_647_000_000);
    if dice.random_bool(0.1) {
        return both("NULL".into());
    }
    let chosen = column.values.choose(dice).cloned().unwrap_or_else(|| both("NULL".into()));
    if dice.random_bool(0.2) {
        return chosen;
    }
    match (column.postgres, column.mysql) {
        ("boolean" | "smallint" | "integer" | "bigint" | "numeric(20,0)", mysql) if !mysql.contains("(1)") => {
            match range(mysql) {
                Some((min, max)) => both(integer(dice, min, max).to_string()),
                None => chosen,
            }
        }
        ("numeric(10,2)", _) => decimal(dice, 8, 2),
        ("numeric(65,30)", _) => decimal(dice, 35, 30),
        ("numeric", _) => decimal(dice, 28, 10),
        ("real", _) => both(format!("{:e}", (dice.random::<f32>() - 0.5) * 10_f32.powi(dice.random_range(-30..30)))),
        ("double precision", _) => {
            both(format!("{:e}", (dice.random::<f64>() - 0.5) * 10_f64.powi(dice.random_range(-290..290))))
        }
        ("char(10)", _) => quoted(text(dice, 10, |letter| letter != '\u{1}').trim_end()),
        ("varchar(60)", mysql) if mysql.contains("latin1") => {
            quoted(&text(dice, 60, |letter| letter < '\u{100}' || letter == '€'))
        }
        ("varchar(60)", mysql) if mysql.contains("utf8mb3") => quoted(&text(dice, 60, |letter| letter < '\u{10000}')),
        ("varchar(60)", _) => quoted(&text(dice, 60, |_| true)),
        ("text", "longtext" | "mediumtext") => quoted(&text(dice, 3_000, |_| true)),
        ("text", "tinytext") => quoted(&text(dice, 60, |_| true)),
        ("bytea", "binary(16)") => bytes(dice, 16..=16),
        ("bytea", "longblob") => bytes(dice, 0..=3_000),
        ("bytea", _) => bytes(dice, 0..=255),
        ("date", _) => quoted(moment(dice, YEARS, 0).split(' ').next().unwrap_or_default()),
        ("timestamp", _) => quoted(&moment(dice, YEARS, 6)),
        ("timestamp(3)", _) => quoted(&moment(dice, YEARS, 3)),
        ("timestamp(0)", _) => quoted(&moment(dice, YEARS, 0)),
        ("timestamptz" | "timestamptz(0)", _) => {
            let at = moment(dice, MOMENTS, if column.postgres == "timestamptz" { 6 } else { 0 });
            [format!("'{at}+00'"), format!("'{at}'")]
        }
        ("time", _) => quoted(&calendar::format_time(dice.random_range(0..calendar::MICROS_PER_DAY))),
        ("json" | "jsonb", _) => quoted(&document(dice, 3).to_string()),
        ("uuid", "char(36)" | "uuid") => {
            // Of the variant and the versions below 8: MariaDB's own type refuses some of the others.
            let bits = dice.random::<u128>() & !(0xf << 76 | 0x3 << 62)
                | u128::from(dice.random_range(1..=7_u8)) << 76
                | 0x2 << 62;
            let hex = format!("{bits:032x}");
            quoted(&[&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
        }
        ("uuid", _) => {
            let hex = format!("{:032x}", dice.random::<u128>());
            [format!("'{hex}'"), format!("x'{hex}'")]
        }
        ("bit(64)", _) => {
            let bits = dice.random::<u64>();
            [format!("B'{bits:064b}'"), bits.to_string()]
        }
        ("inet", _) => quoted(&format!("10.{}.{}.1", dice.random::<u8>(), dice.random::<u8>())),
        ("integer[]", _) => {
            let all: Vec<String> = (0..dice.random_range(0..6))
                .map(|_| (dice.random::<i32>() >> dice.random_range(0..30)).to_string())
                .collect();
            quoted(&format!("{{{}}}", all.join(",")))
        }
        _ => chosen,
    }
}

async fn insert(side: &mut Side, columns: &[Column], first: usize, dice: &mut SmallRng) {
    let names: String = columns.iter().map(|column| format!(", {}", column.name)).collect();
    for id in first..first + ROWS {
        let values: String = columns.iter().map(|column| format!(", {}", value(dice, column)[side.at])).collect();
        side.client.run(&format!("INSERT INTO kinds (id{names}) VALUES ({id}{values})")).await;
    }
}

async fn ready(kinds: [Kind; 2]) -> (Link, Vec<Column>, Side, Side) {
    let configuration = "[[tables]]\nname = \"kinds\"\n".into();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    let columns = columns(link.mysql().0.kind);
    create(&link, &columns).await;
    link.both("ALTER TABLE kinds ADD touched int").await;
    let (a, b) = (Side::new(&link.a).await, Side::new(&link.b).await);
    (link, columns, a, b)
}

async fn nothing_is_refused(link: &Link) {
    let entries = entries(link).await;
    assert!(entries.is_empty(), "{entries:#?}");
}

async fn through_the_log(kinds: [Kind; 2]) {
    let mut dice = dice();
    let (link, columns, mut a, mut b) = ready(kinds).await;
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    insert(&mut a, &columns, 1_000, &mut dice).await;
    insert(&mut b, &columns, 2_000, &mut dice).await;
    link.settle().await;
    nothing_is_refused(&link).await;
    no_conflict(&link, "an insert").await;
    // Each row from the side that it came to.
    b.client.run("UPDATE kinds SET touched = 1 WHERE id < 2000").await;
    a.client.run("UPDATE kinds SET touched = 1 WHERE id >= 2000").await;
    link.settle().await;
    no_conflict(&link, "a write upon a row that came").await;
    assert_eq!(compare(&columns, &mut a, &mut b).await.len(), 2 * ROWS);
    link.succeed(&["verify"]).await;
    b.client.run("DELETE FROM kinds WHERE id < 2000").await;
    a.client.run("DELETE FROM kinds WHERE id >= 2000").await;
    link.settle().await;
    no_conflict(&link, "a delete of a row that came").await;
    assert_eq!(link.same("SELECT count(*) FROM kinds").await[0][0].as_deref(), Some("0"));
    assert_eq!(bridge.stop().await, 0);
}

async fn through_a_copy(kinds: [Kind; 2]) {
    let mut dice = dice();
    let (link, columns, mut a, mut b) = ready(kinds).await;
    insert(&mut a, &columns, 1_000, &mut dice).await;
    link.succeed(&["setup"]).await;
    link.succeed(&["copy", "--from", "a"]).await;
    nothing_is_refused(&link).await;
    let bridge = link.run();
    bridge.works().await;
    b.client.run("UPDATE kinds SET touched = 1").await;
    link.settle().await;
    no_conflict(&link, "a write upon a row that was copied").await;
    assert_eq!(compare(&columns, &mut a, &mut b).await.len(), ROWS);
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);
}
