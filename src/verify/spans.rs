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
