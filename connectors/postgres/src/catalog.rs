//! What the catalogs say of tables, and what of it the bridge understands.
//!
//! A domain is looked through to its base type, whose modifier the domain gives (manual, `pg_type`:
//! `typbasetype`, `typtypmod`). Of a domain over an enum the enum is named, since a domain has not its
//! operators. A type that is not in [`kind_of`] has no kind, and `check` refuses it by
//! name.

use std::{collections::HashMap, sync::Arc};

use pontoon_core::{
    Column, Kind, Result, TableName, TableSchema,
    schema::{Generator, TextEquality, Ties},
};
use tokio_postgres::{Client, Row, types::ToSql};

use crate::{error, quote::Table};

/// The schema that a name without one is in.
const DEFAULT_SCHEMA: &str = "public";

/// Days from -4713-11-24, PostgreSQL's first, to 9999-12-31, the calendar's last.
const DAYS: (i32, i32) = (-2_440_588, 2_932_896);

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The same range in microseconds.
const MICROS: (i64, i64) = (DAYS.0 as i64 * MICROS_PER_DAY, (DAYS.1 as i64 + 1) * MICROS_PER_DAY - 1);

/// Types that are known by their text ([`Kind::Spelled`]), which the output function writes in one way for each value: `inet`,
/// `cidr`, `macaddr`, `macaddr8`, `interval`, `timetz`, `varbit`, `xml`, `point`, `lseg`, `path`, `box`, `polygon`, `line`,
/// `circle` (`pg_type.dat`). With them ranges, and arrays of such and of all that has a kind. Not `money`, whose text is the
/// locale's, nor `tsvector`, which takes any text.
const SPELLED: [u32; 15] = [869, 650, 829, 774, 1186, 1266, 1562, 142, 600, 601, 602, 603, 604, 628, 718];

/// The same of types that extensions define.
const SPELLED_OF_EXTENSIONS: [&str; 4] = ["hstore", "ltree", "vector", "halfvec"];

/// All ordinary and partitioned tables but partitions, temporary tables, the server's own and ours.
pub(crate) async fn list_tables(client: &Client) -> Result<Vec<TableName>> {
    const SQL: &str = "SELECT n.nspname::text, c.relname::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
            AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pontoon')
            AND NOT EXISTS (SELECT FROM pg_depend d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
        ORDER BY 1, 2";
    let rows = client.query_typed(SQL, &[]).await.map_err(|error| error::of_statement(&error))?;
    rows.iter().map(|row| Ok(TableName::new(text(row, 0)?, text(row, 1)?))).collect()
}

const COLUMNS: &str = "SELECT n.nspname::text, c.relname::text, a.attname::text,
        CASE base.typtype WHEN 'e' THEN format_type(base.oid, -1) ELSE format_type(a.atttypid, a.atttypmod) END,
        base.oid, base.typmod, base.typtype::text, a.attnotnull, a.attgenerated <> '', coll.collname::text,
        (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = base.oid),
        format_type(base.oid, base.typmod), base.extension,
        base.oid = ANY($3) OR base.typtype IN ('r', 'm') AND base.oid < 16384
            OR base.typcategory = 'A' AND base.typelem NOT IN (790, 3614, 2287) AND (base.typelem < 16384 OR base.of_enum),
        (SELECT k.place::int4 FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
            WHERE i.indrelid = c.oid AND i.indisprimary AND k.attnum = a.attnum AND k.place <= i.indnkeyatts),
        a.atthasdef OR a.attidentity <> '' OR declared.typdefault IS NOT NULL OR NOT (a.attnotnull OR declared.typnotnull)
    FROM unnest($1::text[], $2::text[]) AS want(nspname, relname)
    JOIN pg_namespace n ON n.nspname = want.nspname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname AND c.relkind IN ('r', 'p')
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type declared ON declared.oid = a.atttypid
    JOIN LATERAL (
        WITH RECURSIVE chain AS (
            SELECT t.oid, t.typtype, t.typbasetype, t.typtypmod, a.atttypmod AS typmod FROM pg_type t
                WHERE t.oid = a.atttypid
            UNION ALL
            SELECT t.oid, t.typtype, t.typbasetype, t.typtypmod, chain.typtypmod FROM chain
                JOIN pg_type t ON t.oid = chain.typbasetype
        )
        SELECT chain.oid, chain.typtype, chain.typmod, own.typcategory, own.typelem,
            (SELECT element.typtype = 'e' FROM pg_type element WHERE element.oid = own.typelem) AS of_enum,
            (SELECT own.typname::text FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = own.oid
                AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') AS extension
        FROM chain JOIN pg_type own ON own.oid = chain.oid WHERE chain.typtype <> 'd'
    ) base ON true
    LEFT JOIN pg_collation coll ON coll.oid = a.attcollation AND NOT coll.collisdeterministic
    ORDER BY c.oid, a.attnum";

/// The tables' descriptions in the order asked for, but for their ties ([`crate::ties`]).
pub(crate) async fn describe(client: &Client, names: &[TableName]) -> Result<Vec<Option<TableSchema>>> {
    let failed = |error| error::of_statement(&error);
    let names: Vec<_> = names.iter().map(with_schema).collect();
    let (schemas, tables) = split(&names);
    let rows = client.query(COLUMNS, &[&schemas, &tables, &SPELLED.as_slice()]).await.map_err(failed)?;
    let generators = generators(client, &schemas, &tables).await?;
    let mut found: HashMap<TableName, (TableSchema, Vec<(i32, usize)>)> = HashMap::new();
    for row in &rows {
        let name = TableName::new(text(row, 0)?, text(row, 1)?);
        let empty = || {
            (
                TableSchema { name: name.clone(), columns: Vec::new(), key: Vec::new(), ties: Ties::default() },
                Vec::new(),
            )
        };
        let (schema, key) = found.entry(name.clone()).or_insert_with(empty);
        let mut column = column_of(row)?;
        column.generator = generators.get(&(name, column.name.clone())).copied();
        if let Some(place) = get::<Option<i32>>(row, 14)? {
            key.push((place, schema.columns.len()));
        }
        schema.columns.push(column);
    }
    Ok(names
        .iter()
        .map(|name| {
            found.remove(name).map(|(mut schema, mut key)| {
                key.sort_unstable();
                schema.key = key.into_iter().map(|(_, at)| at).collect();
                schema
            })
        })
        .collect())
}

/// The name with its schema.
pub(crate) fn with_schema(name: &TableName) -> TableName {
    TableName::new(name.schema.as_deref().unwrap_or(DEFAULT_SCHEMA), &*name.name)
}

/// Two lists of parameters.
pub(crate) fn split(names: &[TableName]) -> (Vec<&str>, Vec<&str>) {
    names.iter().map(|name| (name.schema.as_deref().unwrap_or(DEFAULT_SCHEMA), &*name.name)).unzip()
}

fn column_of(row: &Row) -> Result<Column> {
    let labels = get::<Option<Vec<String>>>(row, 10)?;
    let kind = match (get::<String>(row, 6)?.as_str(), labels) {
        ("e", Some(labels)) => {
            Some(Kind::Enum { labels: labels.into_iter().map(String::into_boxed_str).collect::<Arc<[_]>>() })
        }
        _ => kind_of(get(row, 4)?, get(row, 5)?),
    };
    // What extensions define is known by its name, since its number is another one everywhere.
    let extension = get::<Option<String>>(row, 12)?;
    let is_citext = extension.as_deref() == Some("citext");
    let is_spelled = get::<bool>(row, 13)? || extension.is_some_and(|name| SPELLED_OF_EXTENSIONS.contains(&&*name));
    let kind = match kind {
        None if is_citext => Some(Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: false }),
        None if is_spelled => Some(Kind::Spelled { native: text(row, 11)?.into() }),
        kind => kind,
    };
    let text_equality = match get::<Option<String>>(row, 9)? {
        Some(collation) => TextEquality::Folding(collation.into()),
        None if is_citext => TextEquality::Folding("citext".into()),
        None => TextEquality::Exact,
    };
    Ok(Column {
        name: text(row, 2)?.into(),
        native: text(row, 3)?.into(),
        kind,
        nullable: !get::<bool>(row, 7)?,
        generated: get(row, 8)?,
        generator: None,
        optional: get(row, 15)?,
        text_equality,
    })
}

/// The kind of a base type by its fixed oid (`pg_type.dat`) and its modifier.
pub(crate) fn kind_of(oid: u32, typmod: i32) -> Option<Kind> {
    let integer = |min: i64, max: i64| Kind::Integer { min: min.into(), max: max.into() };
    // A character type's modifier is its length with the length of the header.
    let chars_max = u32::try_from(typmod - 4).ok();
    let text = |padded| Kind::Text { chars_max, bytes_max: None, padded, nul: false };
    let precision = if typmod < 0 { 6 } else { u8::try_from(typmod).unwrap_or(6).min(6) };
    Some(match oid {
        16 => Kind::Boolean,
        21 => integer(i16::MIN.into(), i16::MAX.into()),
        23 => integer(i32::MIN.into(), i32::MAX.into()),
        20 => integer(i64::MIN, i64::MAX),
        1700 => Kind::Decimal { digits: if typmod < 4 { None } else { Some(numeric_digits(typmod)?) } },
        700 => Kind::Float32 { special: true },
        701 => Kind::Float64 { special: true },
        25 => Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: false },
        // `name`, whose 64 bytes end with a NUL.
        19 => Kind::Text { chars_max: None, bytes_max: Some(63), padded: false, nul: false },
        1043 => text(false),
        1042 => text(true),
        17 => Kind::Bytes { bytes_max: None, fixed: false },
        1082 => Kind::Date { days: DAYS },
        1083 => Kind::Time { precision, span: false },
        1114 => Kind::DateTime { precision, micros: MICROS },
        1184 => Kind::Instant { precision, micros: MICROS },
        // A document with a NUL character can lie in a json column, but not be compared there.
        114 | 3802 => Kind::Json { exact_numbers: true, nul: false },
        2950 => Kind::Uuid,
        // The modifier is the length, and a bare `bit` is one of 1.
        1560 => Kind::Bits { length: u32::try_from(typmod).ok()? },
        _ => return None,
    })
}

/// Precision and scale; the scale is a signed field of eleven bits since 15. A negative one rounds
/// before the point, for which there is no rule.
fn numeric_digits(typmod: i32) -> Option<(u16, u16)> {
    let precision = ((typmod - 4) >> 16) & 0xffff;
    let scale = (((typmod - 4) & 0x7ff) ^ 1024) - 1024;
    Some((u16::try_from(precision).ok()?, u16::try_from(scale).ok()?))
}

/// From a column, `a` of the table `c`, to the sequence that an identity or a default of it takes values from: `s`, `sc`, and its
/// schema `sn`.
pub(crate) const ITS_SEQUENCE: &str = "JOIN LATERAL (
        SELECT d.objid AS seq FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                AND d.refobjsubid = a.attnum AND d.deptype = 'i' AND a.attidentity <> ''
        UNION
        SELECT d.refobjid FROM pg_attrdef def JOIN pg_depend d
            ON d.classid = 'pg_attrdef'::regclass AND d.objid = def.oid AND d.refclassid = 'pg_class'::regclass
            WHERE def.adrelid = c.oid AND def.adnum = a.attnum
    ) dep ON true
    JOIN pg_sequence s ON s.seqrelid = dep.seq
    JOIN pg_class sc ON sc.oid = s.seqrelid
    JOIN pg_namespace sn ON sn.oid = sc.relnamespace";

const SEQUENCES: &str = "SELECT n.nspname::text, c.relname::text, a.attname::text, sn.nspname::text, sc.relname::text,
        s.seqstart, s.seqincrement, s.seqmin, s.seqmax, has_sequence_privilege(sc.oid, 'SELECT')
    FROM unnest($1::text[], $2::text[]) AS want(nspname, relname)
    JOIN pg_namespace n ON n.nspname = want.nspname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped";

type Generators = HashMap<(TableName, Box<str>), Generator>;

/// Where identity and serial columns take their values from. A restarted sequence goes on from
/// another number than the one that it was made with, so the sequence itself is read where that is
/// allowed.
async fn generators(client: &Client, schemas: &[&str], tables: &[&str]) -> Result<Generators> {
    let failed = |error| error::of_statement(&error);
    let mut found = HashMap::new();
    for row in client.query(&format!("{SEQUENCES} {ITS_SEQUENCE}"), &[&schemas, &tables]).await.map_err(failed)? {
        let table = TableName::new(text(&row, 0)?, text(&row, 1)?);
        let sequence = TableName::new(text(&row, 3)?, text(&row, 4)?);
        let (mut at, step): (i64, i64) = (get(&row, 5)?, get(&row, 6)?);
        if get(&row, 9)? {
            let sql = format!("SELECT last_value FROM {}", Table(&sequence));
            at = get(&client.query_one(&sql, &[]).await.map_err(failed)?, 0)?;
        }
        let generator = generator(at, step, get(&row, 7)?, get(&row, 8)?);
        found.insert((table, text(&row, 2)?.into()), generator);
    }
    Ok(found)
}

/// A descending sequence gives what the ascending one from its other end gives.
fn generator(at: i64, step: i64, min: i64, max: i64) -> Generator {
    let (at, step, min, max) = (i128::from(at), i128::from(step), i128::from(min), i128::from(max));
    if step > 0 {
        Generator { start: at, step, max }
    } else {
        Generator { start: min + (at - min).rem_euclid(-step), step: -step, max: at }
    }
}

/// The one row of a query.
pub(crate) async fn one(client: &Client, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row> {
    client.query_one(sql, parameters).await.map_err(|error| error::of_statement(&error))
}

/// A column of a catalog's row, as text.
pub(crate) fn text(row: &Row, at: usize) -> Result<String> {
    get(row, at)
}

/// A column of a catalog's row. An error is one of this crate: the types are those of the statement.
pub(crate) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: usize) -> Result<T> {
    row.try_get(at).map_err(|error| error::protocol(error.to_string()))
}

#[cfg(test)]
mod tests {
    use pontoon_core::calendar;

    use super::*;

    #[test]
    fn modifiers_are_read() {
        let numeric = |p: i32, s: i32| kind_of(1700, (p << 16 | s & 0x7ff) + 4);
        assert_eq!(numeric(20, 0), Some(Kind::Decimal { digits: Some((20, 0)) }));
        assert_eq!(numeric(10, 2), Some(Kind::Decimal { digits: Some((10, 2)) }));
        assert_eq!(numeric(5, -2), None);
        assert_eq!(kind_of(1700, -1), Some(Kind::Decimal { digits: None }));
        assert_eq!(
            kind_of(1043, 14),
            Some(Kind::Text { chars_max: Some(10), bytes_max: None, padded: false, nul: false })
        );
        assert_eq!(kind_of(1043, -1), kind_of(25, -1));
        assert_eq!(kind_of(1083, 3), Some(Kind::Time { precision: 3, span: false }));
        assert_eq!(kind_of(790, -1), None);
    }

    #[test]
    fn the_range_is_the_calendars() {
        assert_eq!(calendar::days(-4713, 11, 24), Some(DAYS.0));
        assert_eq!(calendar::days(9999, 12, 31), Some(DAYS.1));
    }

    #[test]
    fn descending_sequences_are_ascending_ones() {
        assert_eq!(generator(-1, -1, -100, -1), Generator { start: -100, step: 1, max: -1 });
        assert_eq!(generator(-2, -2, -101, -1), Generator { start: -100, step: 2, max: -2 });
        assert_eq!(generator(2, 2, 1, 1000), Generator { start: 2, step: 2, max: 1000 });
    }
}
