//! What tables there are, and what their columns can hold.
//!
//! All from `information_schema` (both manuals, "The INFORMATION_SCHEMA COLUMNS Table"), where a user
//! sees what it has any privilege on. What `COLUMN_TYPE` does not say is added to the native type as
//! the server writes it in a definition: `varchar(60) collate latin1_swedish_ci`.
//!
//! MariaDB's JSON is `longtext` with the column check `json_valid(name)`; the check is what makes it one.
//! A primary key over a part of a text (`name(10)`) is none here: two rows of another server may agree
//! on that part.

use std::collections::{BTreeMap, HashMap, HashSet};

use pontoon_core::{
    Column, Kind, Result, TableName, TableSchema,
    calendar::{self, MICROS_PER_DAY},
    schema::{Generator, TextEquality, Ties},
};

use crate::{
    charset,
    connect::{Client, Field, Flavour, number, text},
    encode,
};

/// Databases of the server and of the bridge.
const OWN_DATABASES: &str = "('mysql', 'information_schema', 'performance_schema', 'sys', 'pontoon')";

/// Tables asked for in one statement. MariaDB goes through the list of all tables that there are for each (10.11 with 10,000 of them: their columns take 1.8 s
/// in ten statements, and 0.3 s in two), and what comes of so many is in memory for as long.
const TABLES_PER_QUERY: usize = 5_000;

/// Of a statement's list of names: well below a `max_allowed_packet` of 1 MiB, though every byte were escaped.
const NAMES_BYTES_MAX: usize = 400 << 10;

/// What a name takes in a list beside its characters, where each table is in a database of its own.
const BESIDE_NAME_BYTES: usize = 64;

/// A column with what a statement needs to know beyond [`Column`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NativeColumn {
    /// As the engine sees it.
    pub(crate) column: Column,
    /// Of a text.
    pub(crate) charset: Option<Box<str>>,
    /// Of a text.
    pub(crate) collation: Option<Box<str>>,
    /// `data_type`, in lower case.
    pub(crate) data_type: Box<str>,
    /// The server sets it when another column is written.
    pub(crate) on_update: bool,
}

/// A table with what a statement needs to know beyond [`TableSchema`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NativeTable {
    /// With the database.
    pub(crate) name: TableName,
    /// In the server's order.
    pub(crate) columns: Vec<NativeColumn>,
    /// The primary key, by place.
    pub(crate) key: Vec<usize>,
}

impl NativeTable {
    /// As the engine sees it, but for its ties ([`crate::ties`]).
    pub(crate) fn schema(&self) -> TableSchema {
        TableSchema {
            name: self.name.clone(),
            columns: self.columns.iter().map(|native| native.column.clone()).collect(),
            key: self.key.clone(),
            ties: Ties::default(),
        }
    }

    /// The column of this name.
    pub(crate) fn column(&self, name: &str) -> Option<&NativeColumn> {
        self.columns.iter().find(|native| &*native.column.name == name)
    }
}

/// All user tables in name order; views, sequences and versioned tables are none.
pub(crate) async fn list_tables(client: &mut Client) -> Result<Vec<TableName>> {
    let rows = client
        .rows(format!(
            "SELECT table_schema, table_name FROM information_schema.tables \
             WHERE table_type = 'BASE TABLE' AND table_schema NOT IN {OWN_DATABASES}"
        ))
        .await?;
    let mut names: Vec<TableName> =
        rows.iter().filter_map(|row| Some(TableName::new(text(row, 0)?, text(row, 1)?))).collect();
    names.sort();
    Ok(names)
}

/// The tables of these names, each with its database; `None` where there is none.
pub(crate) async fn load(client: &mut Client, names: &[TableName]) -> Result<Vec<Option<NativeTable>>> {
    let facts = Facts::load(client).await?;
    let mut tables = Vec::with_capacity(names.len());
    for names in portions(names) {
        let mut found = load_portion(client, &facts, names).await?;
        tables.extend(names.iter().map(|name| found.remove(&facts.folded(name))));
    }
    Ok(tables)
}

/// Server-wide facts that columns depend on.
struct Facts {
    /// Names are compared without case (`lower_case_table_names` other than 0).
    fold: bool,
    increment: i128,
    offset: i128,
    bytes_per_char: HashMap<String, u32>,
    instant_max: i64,
    flavour: Flavour,
}

impl Facts {
    async fn load(client: &mut Client) -> Result<Facts> {
        let sets = client.rows("SELECT character_set_name, maxlen FROM information_schema.character_sets").await?;
        let rows = client
            .rows("SELECT @@lower_case_table_names, @@global.auto_increment_increment, @@global.auto_increment_offset")
            .await?;
        let of = |at| rows.first().and_then(|row| number::<i128>(row, at)).unwrap_or(1);
        Ok(Facts {
            fold: of(0) != 0,
            increment: of(1),
            offset: of(2),
            bytes_per_char: sets.iter().filter_map(|row| Some((text(row, 0)?, number(row, 1)?))).collect(),
            instant_max: client.server.instant_max(),
            flavour: client.server.flavour,
        })
    }

    fn folded(&self, name: &TableName) -> TableName {
        if self.fold { folded(name) } else { name.clone() }
    }
}

async fn load_portion(
    client: &mut Client,
    facts: &Facts,
    names: &[TableName],
) -> Result<HashMap<TableName, NativeTable>> {
    let wanted = among("table_schema", "table_name", names);
    // Views have columns too. (Joined, either list is read for each row of the other.)
    let base = client
        .rows(format!(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND {wanted}"
        ))
        .await?;
    let base: HashSet<TableName> = base.iter().filter_map(|row| table_name(row)).collect();
    let columns = client
        .rows(format!(
            "SELECT table_schema, table_name, column_name, column_type, data_type, is_nullable, extra, \
             character_set_name, collation_name, character_maximum_length, numeric_precision, numeric_scale, \
             datetime_precision, character_octet_length, column_default IS NOT NULL FROM information_schema.columns \
             WHERE {wanted} ORDER BY table_schema, table_name, ordinal_position"
        ))
        .await?;
    let keys = client
        .rows(format!(
            "SELECT table_schema, table_name, column_name, sub_part FROM information_schema.statistics \
             WHERE index_name = 'PRIMARY' AND {wanted} ORDER BY table_schema, table_name, seq_in_index"
        ))
        .await?;
    // MariaDB's documents are texts with a check, of which there is no list by table: each look opens them all.
    let texts: HashSet<TableName> = columns
        .iter()
        .filter(|row| text(row, 4).as_deref() == Some("longtext"))
        .filter_map(|row| table_name(row))
        .collect();
    let checks = match facts.flavour {
        Flavour::Mariadb if !texts.is_empty() => {
            let texts: Vec<TableName> = texts.into_iter().collect();
            client
                .rows(format!(
                    "SELECT constraint_schema, table_name, check_clause FROM information_schema.check_constraints \
                     WHERE level = 'Column' AND {}",
                    among("constraint_schema", "table_name", &texts)
                ))
                .await?
        }
        Flavour::Mysql | Flavour::Mariadb => Vec::new(),
    };
    let (keys, checks) = (by_table(&keys), by_table(&checks));
    let mut tables: HashMap<TableName, NativeTable> = HashMap::new();
    for row in &columns {
        let Some(name) = table_name(row).filter(|name| base.contains(name)) else { continue };
        let clause = format!("json_valid({})", crate::quote::Ident(&text(row, 2).unwrap_or_default()));
        let is_json = text(row, 4).as_deref() == Some("longtext")
            && checks
                .get(&name)
                .into_iter()
                .flatten()
                .any(|check| text(check, 2).is_some_and(|text| text.eq_ignore_ascii_case(&clause)));
        if let Some(column) = column(facts, row, is_json) {
            let empty = NativeTable { name: name.clone(), columns: Vec::new(), key: Vec::new() };
            tables.entry(facts.folded(&name)).or_insert(empty).columns.push(column);
        }
    }
    for (_, table) in tables.iter_mut() {
        let of = keys.get(&table.name).map_or(&[][..], Vec::as_slice);
        if of.iter().all(|row| text(row, 3).is_none()) {
            let place = |row: &&Vec<Field>| {
                let name = text(row, 2)?;
                table.columns.iter().position(|native| *native.column.name == *name)
            };
            table.key = of.iter().filter_map(place).collect();
        }
    }
    Ok(tables)
}

/// Rows whose first two fields name a table, by it, in their order.
fn by_table(rows: &[Vec<Field>]) -> HashMap<TableName, Vec<&Vec<Field>>> {
    let mut tables: HashMap<TableName, Vec<&Vec<Field>>> = HashMap::new();
    for row in rows {
        if let Some(name) = table_name(row) {
            tables.entry(name).or_default().push(row);
        }
    }
    tables
}

/// A name in lower case.
pub(crate) fn folded(name: &TableName) -> TableName {
    let folded = |text: &str| text.to_lowercase().into();
    TableName { schema: name.schema.as_deref().map(folded), name: folded(&name.name) }
}

/// Names by as many as are asked for in one statement.
pub(crate) fn portions(names: &[TableName]) -> Vec<&[TableName]> {
    let (mut portions, mut rest) = (Vec::new(), names);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |name: &&TableName| {
            bytes += name.schema.as_deref().map_or(0, str::len) + name.name.len() + BESIDE_NAME_BYTES;
            bytes <= NAMES_BYTES_MAX
        };
        let count = rest.iter().take(TABLES_PER_QUERY).take_while(fits).count();
        let (portion, others) = rest.split_at(count.max(1));
        portions.push(portion);
        rest = others;
    }
    portions
}

/// The condition that columns with a database and a table's name are one of these names.
///
/// Database by database, and names as a list of single values, which both servers sort and search. A list of pairs is compared one by one with every table
/// that there is: tried on MariaDB 10.11 with 10,000 tables, a look at all of them took 200 s, and takes 2.
pub(crate) fn among(schema: &str, table: &str, names: &[TableName]) -> String {
    let mut databases: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in names {
        databases.entry(name.schema.as_deref().unwrap_or_default()).or_default().push(encode::text(&name.name));
    }
    let of = |(database, tables): (&str, Vec<String>)| match &*tables {
        // Of one table alone MariaDB goes through no list of them all.
        [name] => format!("({schema} = {} AND {table} = {name})", encode::text(database)),
        names => format!("({schema} = {} AND {table} IN ({}))", encode::text(database), names.join(", ")),
    };
    let conditions: Vec<String> = databases.into_iter().map(of).collect();
    if conditions.is_empty() { "FALSE".into() } else { format!("({})", conditions.join(" OR ")) }
}

/// A table's name from the first two fields.
pub(crate) fn table_name(row: &[Field]) -> Option<TableName> {
    Some(TableName::new(text(row, 0)?, text(row, 1)?))
}

fn column(facts: &Facts, row: &[Field], is_json: bool) -> Option<NativeColumn> {
    let column_type = text(row, 3)?;
    let data_type = text(row, 4)?.to_lowercase();
    let extra = text(row, 6).unwrap_or_default().to_lowercase();
    let charset = text(row, 7);
    let collation = text(row, 8);
    let kind = kind(facts, row, &data_type, &column_type, is_json);
    let auto = extra.contains("auto_increment");
    let generator = match (&kind, auto) {
        (Some(Kind::Integer { max, .. }), true) => {
            Some(Generator { start: facts.offset, step: facts.increment, max: *max })
        }
        _ => None,
    };
    let native = match &collation {
        Some(collation) if !is_json => format!("{column_type} collate {collation}"),
        Some(_) => "json".into(),
        None => column_type,
    };
    let text_equality = match (&kind, &collation) {
        (Some(Kind::Text { .. }), Some(name)) if !is_exact(facts.flavour, name) => {
            TextEquality::Folding(name.as_str().into())
        }
        _ => TextEquality::Exact,
    };
    let nullable = text(row, 5)? == "YES";
    // MySQL calls a column with an expression for its default DEFAULT_GENERATED, which is another thing.
    let generated = ["virtual generated", "stored generated", "persistent"].iter().any(|word| extra.contains(word));
    Some(NativeColumn {
        column: Column {
            name: text(row, 2)?.into(),
            native: native.into(),
            kind,
            nullable,
            generated,
            generator,
            optional: nullable || generated || generator.is_some() || number::<i64>(row, 14)? != 0,
            text_equality,
        },
        charset: charset.map(Into::into),
        collation: collation.map(Into::into),
        data_type: data_type.into(),
        on_update: extra.contains("on update"),
    })
}

/// Collations in which equal means the same characters, trailing blanks included. `_bin` alone pads.
fn is_exact(flavour: Flavour, collation: &str) -> bool {
    match flavour {
        Flavour::Mysql => matches!(collation, "utf8mb4_0900_bin" | "binary"),
        Flavour::Mariadb => collation.ends_with("_nopad_bin"),
    }
}

fn kind(facts: &Facts, row: &[Field], data_type: &str, column_type: &str, is_json: bool) -> Option<Kind> {
    let unsigned = column_type.contains("unsigned");
    let precision = || number(row, 12).unwrap_or(0);
    // MariaDB compresses within the column and stores some times in formats of its own: both say so in a comment.
    if column_type.contains("/*") {
        return None;
    }
    Some(match data_type {
        "tinyint" => integer(8, unsigned),
        "smallint" => integer(16, unsigned),
        "mediumint" => integer(24, unsigned),
        "int" | "integer" => integer(32, unsigned),
        "bigint" => integer(64, unsigned),
        "decimal" => Kind::Decimal { digits: Some((number(row, 10)?, number(row, 11)?)) },
        // With declared digits the server rounds what it stores.
        "float" if !column_type.contains('(') => Kind::Float32 { special: false },
        "double" if !column_type.contains('(') => Kind::Float64 { special: false },
        "bit" if column_type == "bit(1)" => Kind::Boolean,
        "bit" => Kind::Bits { length: number(row, 10)? },
        "year" => Kind::Year,
        "longtext" if is_json => Kind::Json { exact_numbers: true, nul: true },
        "json" => Kind::Json { exact_numbers: false, nul: true },
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => text_kind(facts, row, data_type)?,
        "binary" => Kind::Bytes { bytes_max: number(row, 13), fixed: true },
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            Kind::Bytes { bytes_max: number(row, 13), fixed: false }
        }
        "date" => date()?,
        "time" => Kind::Time { precision: precision(), span: true },
        "datetime" => datetime(precision())?,
        "timestamp" => instant(precision(), facts.instant_max),
        "enum" => {
            supported(facts, row)?;
            Kind::Enum { labels: labels(column_type.strip_prefix("enum(")?)?.into() }
        }
        "set" => {
            supported(facts, row)?;
            Kind::Set { labels: labels(column_type.strip_prefix("set(")?)?.into() }
        }
        "uuid" => Kind::Uuid,
        _ => return None,
    })
}

pub(crate) fn integer(bits: u32, unsigned: bool) -> Kind {
    if unsigned {
        Kind::Integer { min: 0, max: (1 << bits) - 1 }
    } else {
        Kind::Integer { min: -(1 << (bits - 1)), max: (1 << (bits - 1)) - 1 }
    }
}

/// What `date` holds.
pub(crate) fn date() -> Option<Kind> {
    Some(Kind::Date { days: (calendar::days(1000, 1, 1)?, calendar::days(9999, 12, 31)?) })
}

/// What `datetime` holds.
pub(crate) fn datetime(precision: u8) -> Option<Kind> {
    let first = calendar::micros(calendar::days(1000, 1, 1)?, 0);
    let last = calendar::micros(calendar::days(9999, 12, 31)?, MICROS_PER_DAY - 1);
    Some(Kind::DateTime { precision, micros: (first, last) })
}

/// What `timestamp` holds, up to the server's last moment.
pub(crate) fn instant(precision: u8, instant_max: i64) -> Kind {
    Kind::Instant { precision, micros: (1_000_000, instant_max) }
}

/// The character set and its bytes for one character, where it can be decoded.
fn supported(facts: &Facts, row: &[Field]) -> Option<(String, u32)> {
    let charset = text(row, 7)?;
    let bytes = *facts.bytes_per_char.get(&charset)?;
    charset::is_supported(&charset, bytes).then_some((charset, bytes))
}

fn text_kind(facts: &Facts, row: &[Field], data_type: &str) -> Option<Kind> {
    let (charset, bytes_per_char) = supported(facts, row)?;
    let (mut chars_max, mut bytes_max) = (None, None);
    if matches!(data_type, "char" | "varchar") {
        chars_max = number(row, 9);
    } else if charset::is_utf8(&charset) {
        bytes_max = number(row, 13);
    } else if bytes_per_char == 1 {
        chars_max = number::<u64>(row, 13).map(|most| u32::try_from(most).unwrap_or(u32::MAX));
    }
    // Of the other sets the server itself refuses what is too long, as it does characters that the set has not.
    Some(Kind::Text { chars_max, bytes_max, padded: data_type == "char", nul: true })
}

/// The labels of `enum('a','it''s')`, from behind the bracket on. A quote within one is doubled; MariaDB and MySQL write a backslash as it is.
fn labels(column_type: &str) -> Option<Vec<Box<str>>> {
    let mut rest = column_type.strip_suffix(')')?;
    let mut labels = Vec::new();
    loop {
        rest = rest.strip_prefix('\'')?;
        let mut label = String::new();
        loop {
            let at = rest.find('\'')?;
            label.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            match rest.strip_prefix('\'') {
                Some(more) => {
                    label.push('\'');
                    rest = more;
                }
                None => break,
            }
        }
        labels.push(label.into());
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return rest.is_empty().then_some(labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn labels_round_trip(words in proptest::collection::vec("[',)a-cä(]{0,6}", 1..5)) {
            let list: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "''"))).collect();
            let read = labels(&format!("{})", list.join(","))).unwrap();
            prop_assert_eq!(read.iter().map(|label| &**label).collect::<Vec<_>>(), words);
        }

        #[test]
        fn any_type_is_read_or_refused(text in ".{0,30}") {
            let _ = labels(&text);
        }
    }

    #[test]
    fn names_are_asked_for_in_portions_that_fit_a_statement() {
        let long = |number: usize| TableName::new("ä".repeat(64), format!("{number:064}"));
        for names in [
            (0..12_001).map(|number| TableName::new("shop", format!("t{number}"))).collect(),
            (0..3_000).map(long).collect::<Vec<_>>(),
        ] {
            let portions = portions(&names);
            assert_eq!(portions.concat(), names);
            assert!((2..20).contains(&portions.len()), "{}", portions.len());
            for portion in portions {
                assert!(portion.len() <= TABLES_PER_QUERY);
                assert!(among("table_schema", "table_name", portion).len() <= NAMES_BYTES_MAX);
            }
        }
        assert!(portions(&[]).is_empty());
        assert_eq!(portions(&[TableName::new("s", "x".repeat(NAMES_BYTES_MAX))]).len(), 1);
    }

    #[test]
    fn integers_have_their_ranges() {
        assert_eq!(integer(8, false), Kind::Integer { min: -128, max: 127 });
        assert_eq!(integer(24, true), Kind::Integer { min: 0, max: 16_777_215 });
        assert_eq!(integer(64, true), Kind::Integer { min: 0, max: u64::MAX.into() });
    }

    #[test]
    fn binary_collations_that_pad_fold() {
        assert!(is_exact(Flavour::Mysql, "utf8mb4_0900_bin"));
        assert!(!is_exact(Flavour::Mysql, "utf8mb4_bin"));
        assert!(is_exact(Flavour::Mariadb, "utf8mb4_nopad_bin"));
        assert!(!is_exact(Flavour::Mariadb, "utf8mb4_bin"));
    }
}
