//! Tables whose keys sort alike on both servers: spans of them are compared, and divided where they differ.
//!
//! A task does one piece of work with a pair of sessions and comes back with what is to be done next, so that several are
//! under way, and no more is kept than the pieces that wait: a few for each time that a span was divided.

use std::{collections::BTreeMap, sync::Arc};

use pontoon_core::{
    Code, Digest, Error, Key, Result, Span, TableId,
    node::{Scan, Tables},
};
use tokio::task::JoinSet;

use super::{Comparison, Found, READ_ROWS, SUSPECTS_MAX, Scans, Way, Width, fingerprint, suspects::Suspect};
use crate::side::{Pair, Side};

/// Rows of a span that is asked for first. A statement over so many takes some hundredths of a second, beside which its way there and
/// back is little; and while rows are written all the time, most spans of this length are not.
pub(super) const SPAN_ROWS: usize = 10_000;

/// Into how many parts a span is divided that differs.
const PARTS: u64 = 8;

/// A span that owns its bounds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Between {
    after: Option<Key>,
    up_to: Option<Key>,
}

impl Between {
    fn span(&self) -> Span<'_> {
        Span { after: self.after.as_ref(), up_to: self.up_to.as_ref() }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Cut the next span of so many rows of this side off, and go on behind it.
    Cut { within: Between, side: Side, rows: usize },
    /// Compare what both sides have, without reading it.
    Compare(Between),
    /// Read both sides.
    Read(Between),
}

/// What a piece has come to.
#[derive(Debug, Default)]
struct Outcome {
    /// What is to be done next, the first of it first.
    pieces: Vec<Piece>,
    /// Rows of each side that have been gone through.
    rows: Pair<u64>,
    suspects: Vec<Suspect>,
    width: Option<Width>,
}

impl Outcome {
    fn of(pieces: Vec<Piece>) -> Outcome {
        Outcome { pieces, ..Outcome::default() }
    }
}

/// What all pieces of a table have in common.
#[derive(Clone)]
struct Job {
    table: TableId,
    tables: Pair<Tables>,
    names: Pair<Arc<str>>,
    way: Way,
}

impl Comparison {
    /// `false` where a fence was not passed in time.
    pub(super) async fn by_spans(&mut self, table: TableId, found: &mut Found) -> Result<bool> {
        let job = Job {
            table,
            tables: Pair::from_fn(|side| self.tables[side].clone()),
            names: Pair::from_fn(|side| self.nodes[side].name().into()),
            way: found.compared.way,
        };
        let rows = if job.way == Way::Databases { SPAN_ROWS } else { READ_ROWS };
        // The last is the next.
        let mut pieces = vec![Piece::Cut { within: Between::default(), side: Side::A, rows }];
        let mut tasks = JoinSet::new();
        loop {
            while found.suspects.len() < SUSPECTS_MAX
                && !pieces.is_empty()
                && let Some(scans) = self.idle.pop()
            {
                let Some(piece) = pieces.pop() else { break };
                tasks.spawn(job.clone().work(scans, piece, found.width));
            }
            match tasks.join_next().await {
                Some(ended) => {
                    let (scans, outcome) =
                        ended.map_err(|error| Error::new(Code::Internal, format!("a comparison ended: {error}")))?;
                    let outcome = outcome?;
                    self.idle.push(scans);
                    pieces.extend(outcome.pieces.into_iter().rev());
                    found.suspects.extend(outcome.suspects);
                    found.width = outcome.width.unwrap_or(found.width);
                    found.passed(outcome.rows);
                    found.pace.keep().await;
                }
                // Nothing is asked of any session, and there is enough to settle, or nothing else to do.
                None => {
                    if !self.settle(table, found).await? {
                        return Ok(false);
                    }
                    if pieces.is_empty() {
                        return Ok(true);
                    }
                }
            }
        }
    }
}

impl Job {
    async fn work(self, mut scans: Scans, piece: Piece, width: Width) -> (Scans, Result<Outcome>) {
        let outcome = match piece {
            Piece::Cut { within, side, rows } => self.cut(&mut scans, within, side, rows).await,
            Piece::Compare(between) if self.way == Way::Databases => self.digest(&mut scans, between).await,
            Piece::Compare(between) => self.count(&mut scans, between).await,
            Piece::Read(between) => self.read(&mut scans, &between, width).await,
        };
        (scans, outcome)
    }

    /// Where both sides can be asked for what is behind a key.
    fn can_bound(&self, key: &Key) -> bool {
        Side::BOTH.into_iter().all(|side| {
            let table = &self.tables[side][self.table.index()];
            table.key.iter().zip(&key.0).all(|(&at, value)| table.columns[at].kind.fits(value).is_ok())
        })
    }

    async fn cut(&self, scans: &mut Scans, within: Between, side: Side, rows: usize) -> Result<Outcome> {
        // What cannot be cut as short as it was to be is read as it is, or it would be cut for ever.
        let looked_at = |between, number| if number > rows { Piece::Read(between) } else { Piece::Compare(between) };
        let mut number = rows;
        loop {
            let key = scans[side].nth_key(self.table, within.span(), number).await;
            match key.map_err(|error| error.at(&self.names[side]))? {
                Some(key) if self.can_bound(&key) => {
                    let first = Between { after: within.after, up_to: Some(key.clone()) };
                    let rest = Between { after: Some(key), up_to: within.up_to };
                    let rest = Piece::Cut { within: rest, side, rows };
                    return Ok(Outcome::of(vec![looked_at(first, number), rest]));
                }
                Some(_) => number = number.saturating_mul(2),
                None => return Ok(Outcome::of(vec![looked_at(within, number)])),
            }
        }
    }

    async fn digest(&self, scans: &mut Scans, between: Between) -> Result<Outcome> {
        let [a, b] = scans.each_mut();
        let (a, b) = tokio::join!(a.digest(self.table, between.span()), b.digest(self.table, between.span()));
        let a: Digest = a.map_err(|error| error.at(&self.names[Side::A]))?;
        let b: Digest = b.map_err(|error| error.at(&self.names[Side::B]))?;
        if a == b {
            return Ok(Outcome { rows: Pair::new(a.rows, b.rows), ..Outcome::default() });
        }
        let (side, most) = if a.rows >= b.rows { (Side::A, a.rows) } else { (Side::B, b.rows) };
        let piece = if most <= READ_ROWS as u64 {
            Piece::Read(between)
        } else {
            let part = usize::try_from(most.div_ceil(PARTS)).unwrap_or(usize::MAX);
            Piece::Cut { within: between, side, rows: part.max(READ_ROWS) }
        };
        Ok(Outcome::of(vec![piece]))
    }

    /// Looks whether a span is short enough to be read on both sides.
    async fn count(&self, scans: &mut Scans, between: Between) -> Result<Outcome> {
        let [a, b] = scans.each_mut();
        let beyond = READ_ROWS + 1;
        let (a, b) =
            tokio::join!(a.nth_key(self.table, between.span(), beyond), b.nth_key(self.table, between.span(), beyond));
        let a = a.map_err(|error| error.at(&self.names[Side::A]))?;
        let b = b.map_err(|error| error.at(&self.names[Side::B]))?;
        let cut = |side| Piece::Cut { within: between.clone(), side, rows: READ_ROWS };
        let piece = match (a, b) {
            (Some(_), _) => cut(Side::A),
            (None, Some(_)) => cut(Side::B),
            (None, None) => Piece::Read(between),
        };
        Ok(Outcome::of(vec![piece]))
    }

    async fn read(&self, scans: &mut Scans, between: &Between, width: Width) -> Result<Outcome> {
        let [a, b] = scans.each_mut();
        let (a, b) = tokio::join!(
            self.rows(Side::A, a.as_mut(), between, width),
            self.rows(Side::B, b.as_mut(), between, width)
        );
        let ((a, width), (mut b, _)) = (a?, b?);
        let rows = Pair::new(a.len() as u64, b.len() as u64);
        let mut suspects = Vec::new();
        for (key, row) in a {
            let other = b.remove(&key);
            if other != Some(row) {
                suspects.push(Suspect::new(key, Pair::new(Some(row), other)));
            }
        }
        suspects.extend(b.into_iter().map(|(key, row)| Suspect::new(key, Pair::new(None, Some(row)))));
        Ok(Outcome { rows, suspects, width: Some(width), ..Outcome::default() })
    }

    /// The rows of a span on one side, of which a hash is kept.
    async fn rows(
        &self,
        side: Side,
        scan: &mut dyn Scan,
        between: &Between,
        mut width: Width,
    ) -> Result<(BTreeMap<Key, u64>, Width)> {
        let table = &self.tables[side][self.table.index()];
        let (mut found, mut after, mut limit) = (BTreeMap::new(), between.after.clone(), width.0);
        loop {
            let span = Span { after: after.as_ref(), up_to: between.up_to.as_ref() };
            let rows = scan.chunk(self.table, span, limit).await.map_err(|error| error.at(&self.names[side]))?;
            let is_last = rows.len() < limit;
            let last = rows.last().map(|row| table.key_of(row));
            if !is_last && last.as_ref().is_some_and(|key| !self.can_bound(key)) {
                // Nothing can be asked for behind this row: again, and further.
                limit = limit.saturating_mul(2);
                continue;
            }
            width.saw(&rows);
            found.extend(rows.iter().map(|row| (table.key_of(row), fingerprint(row))));
            if is_last {
                return Ok((found, width));
            }
            (after, limit) = (last, width.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pontoon_core::{Column, Form, Kind, MappedColumn, MappedTable, Row, TableName, Value, node::Node};
    use pontoon_memory::{Database, Dice, Faults, database::Clock, node::MemoryNode};

    use super::*;
    use crate::{
        mapping::Mapping,
        verify::{Compared, Limits},
    };

    const TABLE: TableId = TableId(0);

    /// An integer for a key, up to `most`, and a value of one of two kinds.
    fn table(most: i128, value: Kind) -> Tables {
        let column = |name: &str, kind: Kind| {
            let form = Form::of_pair(&kind, &kind).unwrap();
            let column = Column { nullable: false, ..Column::plain(name, "", kind.clone()) };
            MappedColumn::new(column, kind, form)
        };
        let columns = vec![column("id", Kind::Integer { min: 0, max: most }), column("v", value)];
        let name = TableName::new("public", "t");
        let table = MappedTable { id: TABLE, label: "t".into(), ..MappedTable::plain(name, columns) };
        [table].into()
    }

    /// Which keys each side has, and which rows differ beside.
    struct Sides {
        keys: Pair<Vec<i128>>,
        changed: Vec<i128>,
        /// The greatest key that each side can hold.
        most: Pair<i128>,
    }

    async fn compared(sides: &Sides, way: Way) -> Compared {
        let (kind, value): (_, fn(i128) -> Value) = match way {
            Way::Databases => (Kind::Integer { min: 0, max: i128::MAX }, Value::Integer),
            _ => (Kind::Float64 { special: false }, |n| Value::Float64(n as f64)),
        };
        let faults = Faults { pause_max: Duration::from_millis(1), ..Faults::default() };
        let nodes = Pair::from_fn(|side| {
            let name = if side == Side::A { "a" } else { "b" };
            let database = Database::new(name, Dice::new(7, faults), Clock::Skewed(0));
            for &id in &sides.keys[side] {
                let is_other = side == Side::B && sides.changed.contains(&id);
                let row = Row(vec![Value::Integer(id), value(id + i128::from(is_other))]);
                database.seed_row((TABLE, Key(vec![Value::Integer(id)])), row);
            }
            let node: Arc<dyn Node> = Arc::new(MemoryNode::new(database, "test"));
            node
        });
        let mapping = Mapping {
            tables: Pair::from_fn(|side| table(sides.most[side], kind.clone())),
            policies: Vec::new(),
            on_error: Vec::new(),
            reads: Pair::new(true, true),
            findings: Vec::new(),
            missing: Vec::new(),
            notes: Vec::new(),
            unfit: Vec::new(),
        };
        let limits = Limits { timeout: Duration::from_secs(1), rows_per_second: None };
        let mut comparison = Comparison::open(&nodes, &mapping, limits).await.unwrap();
        let compared = comparison.table(TABLE).await.unwrap().unwrap();
        assert_eq!((compared.way, compared.unfenced), (way, compared.different > 0));
        compared
    }

    async fn both_ways(sides: Sides) {
        let only = |side: Side| {
            let others: std::collections::HashSet<_> = sides.keys[side.other()].iter().collect();
            sides.keys[side].iter().filter(|key| !others.contains(key)).count() as u64
        };
        for way in [Way::Databases, Way::Bridge] {
            let found = compared(&sides, way).await;
            assert_eq!(found.rows, Pair::from_fn(|side| sides.keys[side].len() as u64), "{way:?}");
            assert_eq!(found.only, Pair::from_fn(only), "{way:?}");
            let different = only(Side::A) + only(Side::B) + sides.changed.len() as u64;
            assert_eq!(found.different, different, "{way:?}");
            assert_eq!(found.differences.len(), usize::try_from(different).unwrap().min(1_000), "{way:?}");
        }
    }

    const ANY: Pair<i128> = Pair::new(i128::MAX, i128::MAX);

    #[tokio::test(start_paused = true)]
    async fn every_difference_is_found_wherever_it_is() {
        let all: Vec<i128> = (0..25_000).map(|n| n * 3).collect();
        let without = |not: &[i128]| all.iter().copied().filter(|key| !not.contains(key)).collect();
        both_ways(Sides { keys: Pair::new(all.clone(), all.clone()), changed: Vec::new(), most: ANY }).await;
        // At the ends of the table and of spans, and beside them.
        let (mut a, b): (Vec<_>, Vec<_>) = (without(&[0, 29_997, 60_000]), without(&[74_997, 30_000]));
        a.extend([1, 29_998, 80_000]);
        both_ways(Sides { keys: Pair::new(a, b), changed: vec![3, 2_997, 3_000, 74_994], most: ANY }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_may_have_nothing() {
        let (none, all): (Vec<i128>, Vec<i128>) = (Vec::new(), (0..12_345).collect());
        both_ways(Sides { keys: Pair::new(none.clone(), all.clone()), changed: Vec::new(), most: ANY }).await;
        both_ways(Sides { keys: Pair::new(all, none.clone()), changed: Vec::new(), most: ANY }).await;
        both_ways(Sides { keys: Pair::new(none.clone(), none), changed: Vec::new(), most: ANY }).await;
    }

    /// Such a key bounds nothing, and is found all the same.
    #[tokio::test(start_paused = true)]
    async fn a_side_may_have_keys_that_the_other_cannot_hold() {
        let (a, b) = ((0..20_000).collect::<Vec<_>>(), (0..500).chain(30_000..31_000).collect::<Vec<_>>());
        both_ways(Sides { keys: Pair::new(a, b), changed: vec![1, 499], most: Pair::new(i128::MAX, 900) }).await;
    }
}
