//! Row events: which table, which columns, and the images of the rows.

use pontoon_core::{Kind, Value};

#[cfg(test)]
use super::table_map::MapColumn;
use super::{
    Malformed,
    cursor::Cursor,
    json_diff, malformed,
    table_map::{ColumnType, TableMap},
    values,
};
use crate::charset::Charsets;

/// What a row event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Images after.
    Insert,
    /// Images before and after, in turn.
    Update,
    /// Images before.
    Delete,
}

impl Verb {
    /// By the order of the event types.
    pub(crate) fn of(index: u8) -> Verb {
        match index {
            0 => Verb::Insert,
            1 => Verb::Update,
            _ => Verb::Delete,
        }
    }
}

/// A row event, its rows not yet read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The table map that it refers to.
    pub(crate) table: u64,
    /// What it does.
    pub(crate) verb: Verb,
    columns: usize,
    first: &'a [u8],
    second: &'a [u8],
    /// The images after may hold parts of documents.
    partial: bool,
    rest: Cursor<'a>,
}

/// In the images after of a partial update: documents are there in part.
const PARTIAL_JSON: u64 = 1;

/// An update whose images after may hold parts of documents (MySQL).
pub(crate) fn parse_partial(body: &[u8]) -> Result<Rows<'_>, Malformed> {
    Ok(Rows { partial: true, ..parse(body, Verb::Update, true)? })
}

/// The head of a row event; `extended` for the second version, which may carry more.
pub(crate) fn parse(body: &[u8], verb: Verb, extended: bool) -> Result<Rows<'_>, Malformed> {
    let mut cursor = Cursor(body);
    let table = cursor.little(6)?;
    cursor.skip(2)?;
    if extended {
        let extra = cursor.little(2)? as usize;
        cursor.skip(extra.checked_sub(2).ok_or(malformed("a row event's extra data has no length"))?)?;
    }
    let columns = cursor.count()?;
    let first = cursor.take(columns.div_ceil(8))?;
    let second = if verb == Verb::Update { cursor.take(columns.div_ceil(8))? } else { first };
    Ok(Rows { table, verb, columns, first, second, partial: false, rest: cursor })
}

/// Where the images of a row event begin.
pub(crate) fn images_at(body: &[u8], verb: Verb, extended: bool) -> Result<usize, Malformed> {
    Ok(body.len() - parse(body, verb, extended)?.rest.0.len())
}

/// Which column of a table map goes where, and what it is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// For each column of the log its place in the row.
    pub(crate) places: Vec<Option<usize>>,
    /// What it is there.
    pub(crate) kinds: Vec<Kind>,
    /// The columns that were added since, or are something else: null stands for what the log does not tell.
    pub(crate) added: Vec<usize>,
    /// The row itself is to be asked ([`pontoon_core::Change::reshaped`]).
    pub(crate) reshaped: bool,
}

/// A row before and after, as far as an event has it.
pub(crate) type Images = (Option<Vec<Value>>, Option<Vec<Value>>);

impl<'a> Rows<'a> {
    /// Whether every image holds every column that is wanted.
    pub(crate) fn are_full(&self, plan: &Plan) -> bool {
        let wanted = plan.places.iter().enumerate().filter(|(_, place)| place.is_some());
        let mut columns = wanted.map(|(column, _)| column);
        columns.all(|column| bit(self.first, column) && bit(self.second, column))
    }

    /// The next row: its image before and after, as far as the event has them.
    pub(crate) fn next(
        &mut self,
        map: &TableMap,
        plan: &Plan,
        charsets: &Charsets,
    ) -> Result<Option<Images>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if map.columns.len() != self.columns {
            return Err(malformed("a row event has another number of columns than its table map"));
        }
        let start = self.rest;
        let one = self.image(self.first, map, plan, charsets, None)?;
        Ok(Some(match self.verb {
            Verb::Insert => (None, Some(one)),
            Verb::Delete => (Some(one), None),
            Verb::Update => {
                let parts = if self.partial { self.parts(map)? } else { None };
                let raw = RawImage::new(start, self.first, self.columns)?;
                let before = Before { values: &one, raw, parts };
                let after = self.image(self.second, map, plan, charsets, Some(before))?;
                (Some(one), Some(after))
            }
        }))
    }

    /// The next image's values as they stand there, `None` for nulls, where it holds all columns.
    #[cfg(test)]
    pub(crate) fn raw(&mut self, map: &TableMap) -> Result<Option<Vec<Option<&'a [u8]>>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let nulls = self.rest.take(self.columns.div_ceil(8))?;
        let mut value = |(column, described): (usize, &MapColumn)| {
            if bit(nulls, column) {
                return Ok(None);
            }
            let before = self.rest.0;
            values::skip(&mut self.rest, &described.column_type)?;
            Ok(Some(&before[..before.len() - self.rest.0.len()]))
        };
        map.columns.iter().enumerate().map(&mut value).collect::<Result<_, _>>().map(Some)
    }

    /// Which of the table's documents the next image holds in part.
    fn parts(&mut self, map: &TableMap) -> Result<Option<&'a [u8]>, Malformed> {
        if self.rest.length()? & PARTIAL_JSON == 0 {
            return Ok(None);
        }
        let documents = map.columns.iter().filter(|column| is_document(&column.column_type)).count();
        Ok(Some(self.rest.take(documents.div_ceil(8))?))
    }

    /// One image. A value that stands here as it did before is not made twice, whatever its size: most of an update is.
    fn image(
        &mut self,
        present: &[u8],
        map: &TableMap,
        plan: &Plan,
        charsets: &Charsets,
        mut before: Option<Before<'_, 'a>>,
    ) -> Result<Vec<Value>, Malformed> {
        let held = held(present, self.columns);
        let nulls = self.rest.take(held.div_ceil(8))?;
        if held == 0 {
            // An image of nothing would be read for ever.
            return Err(malformed("a row image holds no column"));
        }
        let mut row = Row { values: Vec::with_capacity(plan.kinds.len()), columns: plan.kinds.len() };
        for &place in &plan.added {
            row.put(place, Value::Null);
        }
        let (mut index, mut document) = (0, 0);
        for (column, described) in map.columns.iter().enumerate() {
            let was = match &mut before {
                Some(before) => before.raw.next(column, &described.column_type)?,
                None => None,
            };
            let is_part = |parts: &[u8]| is_document(&described.column_type) && bit(parts, document);
            let part = before.filter(|before| before.parts.is_some_and(is_part));
            document += usize::from(is_document(&described.column_type));
            if !bit(present, column) {
                continue;
            }
            let null = bit(nulls, index);
            index += 1;
            let place = plan.places.get(column).copied().flatten().filter(|&place| place < row.columns);
            match (place, part) {
                (Some(place), _) if null => row.put(place, Value::Null),
                (None, _) if null => {}
                (place, Some(Before { values: were, .. })) => {
                    let length = self.rest.little(4)? as usize;
                    let operations = self.rest.take(length)?;
                    if let Some(place) = place {
                        let Some(Value::Json(before)) = were.get(place) else {
                            return Err(malformed("a part of a document has no document before"));
                        };
                        row.put(place, Value::Json(json_diff::apply(before, operations)?.into()));
                    }
                }
                (Some(place), None) => {
                    // Bytes of one type tell where they end, so what begins alike is the same value.
                    let same = was.filter(|was| self.rest.0.starts_with(was)).zip(before);
                    let value = match same.and_then(|(was, before)| Some((was, before.values.get(place)?))) {
                        Some((was, value)) => {
                            self.rest.skip(was.len())?;
                            value.clone()
                        }
                        None => values::read(&mut self.rest, &described.column_type, &plan.kinds[place], charsets)?,
                    };
                    row.put(place, value);
                }
                (None, None) => values::skip(&mut self.rest, &described.column_type)?,
            }
        }
        Ok(row.whole())
    }
}

/// Values on their way into their places, which most are in the order of the log.
struct Row {
    values: Vec<Value>,
    columns: usize,
}

impl Row {
    /// Puts one into its place, of which there are as many as columns.
    #[inline]
    fn put(&mut self, place: usize, value: Value) {
        if place == self.values.len() {
            return self.values.push(value);
        }
        if place > self.values.len() {
            self.values.resize(place + 1, Value::Unchanged);
        }
        self.values[place] = value;
    }

    fn whole(mut self) -> Vec<Value> {
        self.values.resize(self.columns, Value::Unchanged);
        self.values
    }
}

/// The row before, for its image after.
#[derive(Clone, Copy)]
struct Before<'v, 'a> {
    values: &'v [Value],
    raw: RawImage<'a>,
    /// Which of the table's documents the image after holds in part.
    parts: Option<&'v [u8]>,
}

/// An image's values as they stand in the event, from column to column.
#[derive(Clone, Copy)]
struct RawImage<'a> {
    present: &'a [u8],
    nulls: &'a [u8],
    /// How many of the columns that it holds have been passed.
    passed: usize,
    rest: Cursor<'a>,
}

impl<'a> RawImage<'a> {
    fn new(mut image: Cursor<'a>, present: &'a [u8], columns: usize) -> Result<RawImage<'a>, Malformed> {
        let nulls = image.take(held(present, columns).div_ceil(8))?;
        Ok(RawImage { present, nulls, passed: 0, rest: image })
    }

    /// The bytes of the next column's value; `None` for a null, and where the image does not hold the column.
    fn next(&mut self, column: usize, column_type: &ColumnType) -> Result<Option<&'a [u8]>, Malformed> {
        if !bit(self.present, column) {
            return Ok(None);
        }
        self.passed += 1;
        if bit(self.nulls, self.passed - 1) {
            return Ok(None);
        }
        let here = self.rest.0;
        values::skip(&mut self.rest, column_type)?;
        Ok(Some(&here[..here.len() - self.rest.0.len()]))
    }
}

/// How many columns an image holds.
fn held(present: &[u8], columns: usize) -> usize {
    (0..columns).filter(|&column| bit(present, column)).count()
}

fn is_document(column_type: &ColumnType) -> bool {
    matches!(column_type, ColumnType::Json { .. })
}

fn bit(bits: &[u8], at: usize) -> bool {
    bits.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        charset::sample,
        log::table_map::{ColumnType, MapColumn},
    };

    fn map() -> TableMap {
        let column = |name: &str, column_type| MapColumn { name: name.into(), column_type };
        let text = ColumnType::Short { length_bytes: 1, bytes_max: 20, collation: 45, fixed: false };
        TableMap {
            schema: "d".into(),
            name: "t".into(),
            columns: vec![column("id", ColumnType::Integer { bytes: 4, unsigned: false }), column("name", text)],
            named: true,
        }
    }

    fn plan() -> Plan {
        let text = Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: true };
        let kinds = vec![text, Kind::Integer { min: 0, max: 1 }];
        Plan { places: vec![Some(1), Some(0)], kinds, ..Plan::default() }
    }

    #[test]
    fn images_are_read_into_their_places() {
        let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 0b11, 0b11];
        body.extend([0b00, 5, 0, 0, 0, 2, b'a', b'b', 0b10, 6, 0, 0, 0]);
        let mut rows = parse(&body, Verb::Update, true).unwrap();
        assert_eq!(rows.table, 7);
        assert!(rows.are_full(&plan()));
        let (before, after) = rows.next(&map(), &plan(), &sample()).unwrap().unwrap();
        assert_eq!(before.unwrap(), [Value::Text("ab".into()), Value::Integer(5)]);
        assert_eq!(after.unwrap(), [Value::Null, Value::Integer(6)]);
        assert_eq!(rows.next(&map(), &plan(), &sample()).unwrap(), None);
    }

    #[test]
    fn what_an_update_left_as_it_was_is_there_once() {
        let (old, new) =
            ("a name that is too long to stand in the value", "A name that is too long to stand in the value");
        let named = |name: &str| [&[name.len() as u8], name.as_bytes()].concat();
        for (name, is_shared) in [(old, true), (new, false), (&new[..40], false)] {
            let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 0b11, 0b11];
            body.extend([&[0b00, 5, 0, 0, 0][..], &named(old), &[0b00, 6, 0, 0, 0], &named(name)].concat());
            let mut rows = parse(&body, Verb::Update, true).unwrap();
            let (before, after) = rows.next(&map(), &plan(), &sample()).unwrap().unwrap();
            let (Value::Text(was), Value::Text(is)) = (&before.unwrap()[0], &after.unwrap()[0]) else { panic!() };
            assert_eq!((was.as_str(), is.as_str()), (old, name));
            assert_eq!(was.as_ptr() == is.as_ptr(), is_shared, "{name}");
        }
    }

    #[test]
    fn parts_of_documents_are_applied() {
        let json = ColumnType::Json { length_bytes: 4 };
        let mut map = map();
        map.columns.extend(["one", "two"].map(|name| MapColumn { name: name.into(), column_type: json.clone() }));
        let mut plan = plan();
        plan.places.extend([None, Some(2)]);
        plan.kinds.push(Kind::Json { exact_numbers: true, nul: true });
        let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 4, 0b1111, 0b1111];
        let document = [3, 0, 0, 0, 5, 1, 0];
        body.extend([0b0000, 5, 0, 0, 0, 1, b'a']);
        body.extend(document);
        body.extend([8, 0, 0, 0, 2, 1, 0, 7, 0, 5, 1, 0]);
        // The first whole, the second in part: $[0] becomes 9.
        body.extend([1, 0b10, 0b0000, 5, 0, 0, 0, 1, b'a']);
        body.extend(document);
        body.extend([10, 0, 0, 0, 0, 4, b'$', b'[', b'0', b']', 3, 5, 9, 0]);
        let mut rows = parse_partial(&body).unwrap();
        let (before, after) = rows.next(&map, &plan, &sample()).unwrap().unwrap();
        assert_eq!(before.unwrap()[2], Value::Json("[1]".into()));
        assert_eq!(after.unwrap(), [Value::Text("a".into()), Value::Integer(5), Value::Json("[9]".into())]);
        assert_eq!(rows.next(&map, &plan, &sample()).unwrap(), None);
    }

    #[test]
    fn partial_images_are_seen() {
        let body = [7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 0b01, 0b11];
        assert!(!parse(&body, Verb::Update, true).unwrap().are_full(&plan()));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..120), verb in 0..3, extended: bool) {
            let verb = [Verb::Insert, Verb::Update, Verb::Delete][verb as usize];
            for mut rows in [parse(&body, verb, extended), parse_partial(&body)].into_iter().flatten() {
                while let Ok(Some(_)) = rows.next(&map(), &plan(), &sample()) {}
            }
        }
    }
}
