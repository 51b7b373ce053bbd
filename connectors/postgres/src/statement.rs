//! The text of every statement on user tables. Pure: a mapped table in, SQL out; values are always
//! parameters.
//!
//! Parameters are arrays ([`crate::encode`]); `unnest` makes rows `s` of them, `b0, b1, ...` what a row
//! was before, by the column's place, `a0, a1, ...` what it shall be, and `k0, k1, ...` a key.
//!
//! * A key is looked up by the plain `=` of the column's own type, which the primary key's index serves.
//! * A value is compared in the pair's common form: exactly, never by collation, and cut to the poorer
//!   side's precision as [`pontoon_core::Form::convert`] cuts.
//! * A value is written by the cast that an assignment makes, never by one with a modifier, which would
//!   cut in silence.

use pontoon_core::{Form, Kind, MappedColumn, MappedTable, Span, Value, node::Sum};

use crate::{
    encode::element_type,
    leeway,
    quote::{Ident, List, Table},
};

/// The least and the greatest double that a `real` takes without overflow or underflow: half way to the
/// next number beyond. A cast outside of them is an error in the server, not infinity or zero.
const REAL_LEAST: &str = "7.006492321624085e-46";
pub(crate) const REAL_GREATEST: &str = "3.4028235677973366e38";

/// A transaction is open in which the lease's row was locked: a lock gives it a number, and no statement has one that the server is about to
/// commit by itself. Looked at once, before the first row.
pub(crate) const IN_TRANSACTION: &str = "pg_current_xact_id_if_assigned() IS NOT NULL";

/// Changes `changed` columns of rows that are as before, and adds to others. The parameters are the columns that
/// are [`compared`], those that are changed, and what is added, as text.
pub(crate) fn update(table: &MappedTable, changed: &[usize], sums: &[Sum]) -> String {
    let compared = compared(table, sums);
    let set = changed.iter().map(|&at| {
        let column = &table.columns[at];
        format!("{} = {}", Ident(&column.column.name), assigned(column, &format!("s.a{at}")))
    });
    let (mut parameters, mut names) = listed(table, &[('b', &compared), ('a', changed)]);
    let (mut added, mut conditions) = (Vec::new(), vec![as_before(table, &compared), IN_TRANSACTION.into()]);
    for sum in sums.iter().filter(|sum| sum.added) {
        let name = Ident(&table.columns[sum.at].column.name);
        // As numeric, which has room for every sum; the assignment looks whether the column has.
        let total = format!("t.{name} + s.d{}::numeric", sum.at);
        parameters.push(format!("${}::text[]", parameters.len() + 1));
        names.push(format!("d{}", sum.at));
        conditions.push(format!("t.{name} IS NOT NULL"));
        if let Some(floor) = sum.floor.as_ref().and_then(Value::exact_text) {
            conditions.push(format!("(t.{name} < '{floor}'::numeric OR {total} >= '{floor}'::numeric)"));
        }
        added.push(format!("{name} = {total}"));
    }
    format!(
        "UPDATE {} AS t SET {} FROM unnest({}) AS s({}) WHERE {}",
        Table(&table.name),
        set.chain(added).collect::<Vec<_>>().join(", "),
        parameters.join(", "),
        names.join(", "),
        conditions.join(" AND ")
    )
}

/// The columns that have to be as before, the key's among them.
pub(crate) fn compared(table: &MappedTable, sums: &[Sum]) -> Vec<usize> {
    let is_compared = |at: &usize| table.key.contains(at) || Sum::spare(sums, *at);
    (0..table.columns.len()).filter(is_compared).collect()
}

/// Removes rows that are exactly as before.
pub(crate) fn delete(table: &MappedTable) -> String {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    format!(
        "DELETE FROM {} AS t USING {} WHERE {} AND {IN_TRANSACTION}",
        Table(&table.name),
        rows(table, &[('b', &all)], ""),
        as_before(table, &all)
    )
}

/// Adds rows whose key is absent; a row whose key is there is left out and so missing in the count.
pub(crate) fn insert(table: &MappedTable) -> String {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let names: Vec<_> = table.columns.iter().map(|column| Ident(&column.column.name)).collect();
    let key: Vec<_> = table.key.iter().map(|&at| names[at]).collect();
    let values: Vec<_> =
        table.columns.iter().enumerate().map(|(at, column)| assigned(column, &format!("s.a{at}"))).collect();
    format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} WHERE {IN_TRANSACTION} ON CONFLICT ({}) DO NOTHING",
        Table(&table.name),
        List(&names),
        values.join(", "),
        rows(table, &[('a', &all)], ""),
        List(&key)
    )
}

/// Whether rows are only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Locking {
    /// Read as they are.
    No,
    /// Locked in the order of the keys. Not against inserts of children, which take a weaker lock.
    ForUpdate,
    /// Held against being overwritten, once whoever overwrites them is through.
    ForShare,
}

/// The rows of keys: first the key's number, from 1 on, then each column as text.
pub(crate) fn by_key(table: &MappedTable, locking: Locking) -> String {
    by_columns(table, &table.key, locking)
}

/// The rows that have values in these columns, of which no two can have the same.
pub(crate) fn by_columns(table: &MappedTable, columns: &[usize], locking: Locking) -> String {
    format!(
        "SELECT s.n, {} FROM {} JOIN {} AS t ON {} ORDER BY s.n{}",
        texts(table),
        listed_columns(table, columns),
        Table(&table.name),
        found_by(table, columns),
        match locking {
            Locking::No => "",
            Locking::ForUpdate => " FOR NO KEY UPDATE OF t",
            Locking::ForShare => " FOR SHARE OF t",
        }
    )
}

/// Values of these columns as rows `s`, each with its number `n`.
pub(crate) fn listed_columns(table: &MappedTable, columns: &[usize]) -> String {
    rows(table, &[('k', columns)], " WITH ORDINALITY")
}

/// The row `t` has the values of a row of [`listed_columns`].
pub(crate) fn found_by(table: &MappedTable, columns: &[usize]) -> String {
    let matches = columns.iter().map(|&at| key_equals(&table.columns[at], &format!("s.k{at}")));
    matches.collect::<Vec<_>>().join(" AND ")
}

/// Which bounds a span of keys has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bounds {
    /// A key that it is behind.
    pub(crate) after: bool,
    /// A key that it ends with.
    pub(crate) up_to: bool,
}

impl Bounds {
    pub(crate) fn of(span: Span<'_>) -> Bounds {
        Bounds { after: span.after.is_some(), up_to: span.up_to.is_some() }
    }
}

/// The condition of a span of keys, with a blank before it, and how many parameters it takes: the columns of each bound,
/// each an array of one.
pub(crate) fn within(table: &MappedTable, bounds: Bounds) -> (String, usize) {
    let (key, mut parameters, mut conditions) = (key_columns(table), 0, Vec::new());
    for (is_there, operator) in [(bounds.after, ">"), (bounds.up_to, "<=")] {
        if !is_there {
            continue;
        }
        let values = table.key.iter().map(|&at| {
            let column = &table.columns[at];
            parameters += 1;
            sought(column, &format!("(${parameters}::{}[])[1]", element_type(&column.kind)))
        });
        let values = values.collect::<Vec<_>>().join(", ");
        conditions.push(format!("({key}) {operator} ({values})"));
    }
    let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    (condition, parameters)
}

/// The key's columns in its order.
pub(crate) fn key_columns(table: &MappedTable) -> String {
    let key: Vec<_> = table.key.iter().map(|&at| format!("t.{}", Ident(&table.columns[at].column.name))).collect();
    key.join(", ")
}

/// The first rows of a span in key order; each column as text, and last whether somebody has locked or overwritten the
/// row. The limit is the last parameter.
pub(crate) fn chunk(table: &MappedTable, bounds: Bounds) -> String {
    let (condition, parameters) = within(table, bounds);
    format!(
        "SELECT {}, t.xmax <> '0'::xid FROM {} AS t{condition} ORDER BY {} LIMIT ${}::int8",
        texts(table),
        Table(&table.name),
        key_columns(table),
        parameters + 1
    )
}

/// Every column as text.
pub(crate) fn texts(table: &MappedTable) -> String {
    let text = |column: &MappedColumn| as_text(column, &format!("t.{}", Ident(&column.column.name)));
    table.columns.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A column as the text that the log has of it: what its type's output function writes. A cast to text is something else for
/// some (`inet` with the mask that the output leaves out); `concat` takes the output (`text_concat` of varlena.c).
pub(crate) fn as_text(column: &MappedColumn, name: &str) -> String {
    match column.kind {
        Kind::Spelled { .. } => format!("(CASE WHEN {name} IS NOT NULL THEN concat({name}) END)"),
        _ => format!("{name}::text"),
    }
}

/// `unnest($1::int8[], ...) AS s(b0, ...)`: groups of columns, each with the letter of its names.
fn rows(table: &MappedTable, groups: &[(char, &[usize])], ordinality: &str) -> String {
    let (parameters, mut names) = listed(table, groups);
    if !ordinality.is_empty() {
        names.push("n".into());
    }
    format!("unnest({}){ordinality} AS s({})", parameters.join(", "), names.join(", "))
}

/// The parameters of groups of columns, and their names.
fn listed(table: &MappedTable, groups: &[(char, &[usize])]) -> (Vec<String>, Vec<String>) {
    let (mut parameters, mut names) = (Vec::new(), Vec::new());
    for (letter, places) in groups {
        for &at in *places {
            parameters.push(format!("${}::{}[]", parameters.len() + 1, element_type(&table.columns[at].kind)));
            names.push(format!("{letter}{at}"));
        }
    }
    (parameters, names)
}

/// The row is found by its key, which is among the columns that are `compared`, and has these as before.
fn as_before(table: &MappedTable, compared: &[usize]) -> String {
    let keys = table.key.iter().map(|&at| key_equals(&table.columns[at], &format!("s.b{at}")));
    let values = table
        .columns
        .iter()
        .enumerate()
        .filter(|(at, column)| compared.contains(at) && !(table.key.contains(at) && key_is_exact(column)))
        .map(|(at, column)| equals(column, &format!("s.b{at}")));
    keys.chain(values).collect::<Vec<_>>().join(" AND ")
}

/// Whether [`key_equals`] already says that the values are equal in common form.
fn key_is_exact(column: &MappedColumn) -> bool {
    !matches!(column.kind, Kind::Text { .. })
}

/// A parameter as a value to look for, of a type whose `=` with the column an index on it serves.
pub(crate) fn sought(column: &MappedColumn, parameter: &str) -> String {
    match &column.kind {
        Kind::Decimal { .. } => format!("{parameter}::numeric"),
        // An enum's name is as the server quotes it; the cast knows no modifier.
        Kind::Enum { .. } => format!("{parameter}::{}", column.column.native),
        Kind::Text { padded: true, .. } if column.form != Form::Uuid => format!("{parameter}::bpchar"),
        _ => parameter.into(),
    }
}

/// The key's column is equal to a parameter.
fn key_equals(column: &MappedColumn, parameter: &str) -> String {
    let name = format!("t.{}", Ident(&column.column.name));
    match (&column.kind, column.form) {
        // Where the column can hold several spellings of one key, no index helps: right before fast.
        (Kind::Text { .. }, Form::Uuid)
        | (Kind::Text { padded: false, .. }, Form::Text { padded: true })
        | (Kind::Bits { .. } | Kind::Spelled { .. }, _) => equals(column, parameter),
        (Kind::Float64 { .. }, Form::Float32) | (Kind::Json { .. }, _) => equals(column, parameter),
        _ if cut_to(column).is_some() => equals(column, parameter),
        (Kind::Enum { .. }, _) => format!("{name}::{} = {}", column.column.native, sought(column, parameter)),
        _ => format!("{name} = {}", sought(column, parameter)),
    }
}

/// Column and parameter are equal in common form, or both null.
fn equals(column: &MappedColumn, parameter: &str) -> String {
    let name = leeway::common(column, &format!("t.{}", Ident(&column.column.name)));
    let exactly = |left: String, right: String| format!("{left} IS NOT DISTINCT FROM {right}");
    let exact_text = |text: String| format!("({text}) COLLATE pg_catalog.\"C\"");
    if let Some(unit) = cut_to(column) {
        // A subtraction, since a time of day has no sum that does not wrap; of two moments it is an
        // interval too.
        let since = format!("({name} - {parameter})");
        return format!(
            "({since} >= interval '0' AND {since} < interval '{unit}' OR {name} IS NULL AND {parameter} IS NULL)"
        );
    }
    match (&column.kind, column.form) {
        (Kind::Text { .. }, Form::Uuid) => {
            exactly(exact_text(format!("lower({name}::text COLLATE pg_catalog.\"C\")")), parameter.into())
        }
        (Kind::Text { padded: false, .. }, Form::Text { padded: true }) => {
            exactly(exact_text(format!("rtrim({name}::text, ' ')")), parameter.into())
        }
        (Kind::Bits { .. } | Kind::Spelled { .. }, _) => exactly(exact_text(as_text(column, &name)), parameter.into()),
        // The cast of char(n) to text takes the padding off.
        (Kind::Text { .. }, _) => exactly(exact_text(format!("{name}::text")), parameter.into()),
        (Kind::Float64 { .. }, Form::Float32) => exactly(as_real(&name), as_real(parameter)),
        (Kind::Json { .. }, _) => exactly(as_document(column, &name), format!("{parameter}::jsonb")),
        // The cast is none but for a domain, which has no operator of its own.
        (Kind::Enum { .. }, _) => exactly(format!("{name}::{}", column.column.native), sought(column, parameter)),
        _ => exactly(name, sought(column, parameter)),
    }
}

/// A double as a `real`, also where the cast would be an error.
fn as_real(double: &str) -> String {
    format!(
        "(CASE WHEN {double} = 'NaN' THEN real 'NaN' WHEN abs({double}) <= {REAL_LEAST} THEN real '0' \
         WHEN abs({double}) < {REAL_GREATEST} THEN {double}::real WHEN {double} > 0 THEN real 'Infinity' \
         WHEN {double} < 0 THEN real '-Infinity' END)"
    )
}

/// A document that can be compared. In a json column one may lie that jsonb refuses; it is equal to
/// none that the log can bring, for which a number stands that no document of the bridge is.
fn as_document(column: &MappedColumn, name: &str) -> String {
    if &*column.column.native == "jsonb" {
        return name.into();
    }
    format!(
        "(CASE WHEN strpos({name}::text, '\\u0000') = 0 THEN {name}::text::jsonb WHEN {name} IS NOT NULL THEN jsonb '\"\\u0001\"' END)"
    )
}

/// The unit below which the common form cuts, where the column has more digits.
fn cut_to(column: &MappedColumn) -> Option<&'static str> {
    let (own, common) = match (&column.kind, column.form) {
        (Kind::Time { precision, .. }, Form::Time { precision: common })
        | (Kind::DateTime { precision, .. }, Form::DateTime { precision: common })
        | (Kind::Instant { precision, .. }, Form::Instant { precision: common }) => (*precision, common),
        _ => return None,
    };
    const UNITS: [&str; 6] =
        ["1 second", "0.1 second", "0.01 second", "0.001 second", "0.0001 second", "0.00001 second"];
    if own > common { UNITS.get(usize::from(common)).copied() } else { None }
}

/// A parameter as a value to store.
fn assigned(column: &MappedColumn, parameter: &str) -> String {
    match &column.kind {
        // json keeps the text as it is; jsonb takes it by assignment.
        Kind::Json { .. } => format!("{parameter}::json"),
        // By the type's own input function, since there is no other; a modifier could cut, but the length fits.
        Kind::Bits { length } => format!("{parameter}::bit({length})"),
        // What does not come out as it went in is handed to the input function with a letter that none of these types
        // takes, so that it refuses it. (A constant would be refused when the statement is planned.)
        Kind::Spelled { native } => format!(
            "(CASE WHEN {parameter} IS NULL THEN NULL WHEN concat({parameter}::{native}) = {parameter} COLLATE pg_catalog.\"C\" \
             THEN {parameter}::{native} \
             ELSE (chr(1) || left({parameter}, 0) || 'not as the server would write it')::{native} END)"
        ),
        _ => sought(column, parameter),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use pontoon_core::{Column, TableName};
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn column(name: &str, kind: Kind, form: Form) -> MappedColumn {
        let column = Column::plain(name, "jsonb", kind.clone());
        MappedColumn::new(column, kind, form)
    }

    pub(crate) fn table(name: &str, note: &str) -> MappedTable {
        let text = Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: false };
        MappedTable {
            label: "t".into(),
            ..MappedTable::plain(
                TableName::new("public", name),
                vec![
                    column("id", Kind::Integer { min: 0, max: 9 }, Form::Integer),
                    column(note, text, Form::Text { padded: false }),
                    column("at", Kind::DateTime { precision: 6, micros: (0, 0) }, Form::DateTime { precision: 0 }),
                ],
            )
        }
    }

    #[test]
    fn statements_are_as_meant() {
        let table = table("items", "note");
        assert_eq!(
            update(&table, &[1], &[]),
            "UPDATE \"public\".\"items\" AS t SET \"note\" = s.a1 \
             FROM unnest($1::int8[], $2::text[], $3::timestamp[], $4::text[]) AS s(b0, b1, b2, a1) \
             WHERE t.\"id\" = s.b0 AND (t.\"note\"::text) COLLATE pg_catalog.\"C\" IS NOT DISTINCT FROM s.b1 \
             AND ((t.\"at\" - s.b2) >= interval '0' AND (t.\"at\" - s.b2) < interval '1 second' \
             OR t.\"at\" IS NULL AND s.b2 IS NULL) AND pg_current_xact_id_if_assigned() IS NOT NULL"
        );
        assert_eq!(
            insert(&table),
            "INSERT INTO \"public\".\"items\" (\"id\", \"note\", \"at\") OVERRIDING SYSTEM VALUE SELECT s.a0, s.a1, s.a2 \
             FROM unnest($1::int8[], $2::text[], $3::timestamp[]) AS s(a0, a1, a2) \
             WHERE pg_current_xact_id_if_assigned() IS NOT NULL ON CONFLICT (\"id\") DO NOTHING"
        );
        assert_eq!(
            by_key(&table, Locking::ForUpdate),
            "SELECT s.n, t.\"id\"::text, t.\"note\"::text, t.\"at\"::text FROM unnest($1::int8[]) WITH ORDINALITY AS s(k0, n) \
             JOIN \"public\".\"items\" AS t ON t.\"id\" = s.k0 ORDER BY s.n FOR NO KEY UPDATE OF t"
        );
        assert_eq!(
            chunk(&table, Bounds { after: true, up_to: false }),
            "SELECT t.\"id\"::text, t.\"note\"::text, t.\"at\"::text, t.xmax <> '0'::xid FROM \"public\".\"items\" AS t \
             WHERE (t.\"id\") > (($1::int8[])[1]) ORDER BY t.\"id\" LIMIT $2::int8"
        );
    }

    #[test]
    fn an_additive_column_is_added_to_and_not_compared() {
        let mut table = table("items", "note");
        table.columns.push(column("n", Kind::Integer { min: 0, max: 9 }, Form::Integer));
        let sum = |added, floor: Option<i128>| Sum { at: 3, added, floor: floor.map(Value::Integer) };
        let head = "UPDATE \"public\".\"items\" AS t SET ";
        let compared = "WHERE t.\"id\" = s.b0 AND (t.\"note\"::text) COLLATE pg_catalog.\"C\" IS NOT DISTINCT FROM s.b1 \
             AND ((t.\"at\" - s.b2) >= interval '0' AND (t.\"at\" - s.b2) < interval '1 second' \
             OR t.\"at\" IS NULL AND s.b2 IS NULL) AND pg_current_xact_id_if_assigned() IS NOT NULL";
        assert_eq!(
            update(&table, &[], &[sum(true, Some(-5))]),
            format!(
                "{head}\"n\" = t.\"n\" + s.d3::numeric \
                 FROM unnest($1::int8[], $2::text[], $3::timestamp[], $4::text[]) AS s(b0, b1, b2, d3) {compared} \
                 AND t.\"n\" IS NOT NULL AND (t.\"n\" < '-5'::numeric OR t.\"n\" + s.d3::numeric >= '-5'::numeric)"
            )
        );
        assert_eq!(
            update(&table, &[1], &[sum(false, None)]),
            format!(
                "{head}\"note\" = s.a1 \
                 FROM unnest($1::int8[], $2::text[], $3::timestamp[], $4::text[]) AS s(b0, b1, b2, a1) {compared}"
            )
        );
    }

    const BOTH: Bounds = Bounds { after: true, up_to: true };

    /// The statement with each quoted name as a star, read as the server's scanner does.
    fn unquoted(sql: &str) -> String {
        let (mut out, mut chars) = (String::new(), sql.chars().peekable());
        while let Some(c) = chars.next() {
            if c != '"' {
                out.push(c);
                continue;
            }
            while chars.next().is_some_and(|c| c != '"') || chars.next_if_eq(&'"').is_some() {}
            out.push('*');
        }
        out
    }

    proptest! {
        #[test]
        fn a_hostile_name_changes_nothing_outside_of_its_quotes(name in "[\"'\\\\;.$a-z -]{1,16}", note in "[\"'\\\\;.$a-z -]{1,16}") {
            prop_assume!(note != "id" && note != "at");
            let (plain, hostile) = (table("items", "note"), table(&name, &note));
            let all = |t: &MappedTable| {
                [update(t, &[1], &[]), delete(t), insert(t), by_key(t, Locking::No), chunk(t, BOTH)].map(|sql| unquoted(&sql))
            };
            prop_assert_eq!(all(&plain), all(&hostile));
        }
    }
}
