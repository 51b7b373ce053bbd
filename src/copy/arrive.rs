//! A chunk arrives: written by the task that applies, between two runs; see the head of [`super`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pontoon_core::{
    Class, Code, Error, Position, Result, Row, TableId, Tag,
    node::{Applied, Mark, TableBatch},
};
use tokio::time::{Instant, timeout};

use super::{feed::Chunk, lane::Lane};
use crate::{
    conflict::{
        pending::{self, History, Search},
        quarantine::OnError,
        registry::Claim,
        settle::{self, FENCE_WAIT},
    },
    direction::{
        apply::Direction,
        plan::{self, Place},
    },
    event::EngineEvent,
    rules::Rule,
    side::Side,
};

/// The longest random pause before a chunk is tried again.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Attempts that find a key there and then gone again, or a reader that is late, before the chunk's keys are all taken to
/// be in doubt: something writes them all the time.
const FRUITLESS_MAX: u32 = 20;

/// Rows of a chunk that are not settled otherwise, by key.
type Rows = BTreeMap<Place, Row>;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As fast as can be, half of them in a lane beside.
    Shared,
    /// As fast as one session can.
    Loaded,
    /// So that what refuses them is named: another unique constraint than the key's looks like the key's where they are
    /// loaded.
    Applied,
}

enum Attempt {
    Arrived,
    /// These keys are in doubt.
    Doubtful(BTreeSet<Place>),
    /// Some key is there already.
    Present,
    /// A reader was late.
    Again,
}

impl Direction {
    /// Writes a chunk's rows, then has what is in doubt settled, and only then notes the chunk as arrived: a crash in
    /// between brings it again, and finds most of it there.
    pub(crate) async fn arrive(&mut self, mut chunk: Chunk) -> Result<()> {
        let started = Instant::now();
        let table = plan::table(&self.shared.tables[self.source], chunk.table)?;
        let count = chunk.rows.len();
        let rows = std::mem::take(&mut chunk.rows).into_iter().map(|row| ((chunk.table, table.key_of(&row)), row));
        let mut rows: Rows = rows.collect();
        let window = self.shared.rules.has(Rule::Window);
        let mut doubtful: BTreeSet<Place> =
            rows.keys().filter(|(_, key)| window && chunk.window.has(key)).cloned().collect();
        // What is in quarantine is settled there, or in its time.
        rows.retain(|place, _| !doubtful.contains(place) && !self.shared.quarantine.holds(place));
        self.write_undoubted(&chunk, &mut rows, &mut doubtful).await?;
        if !doubtful.is_empty() {
            self.settle(doubtful, None).await;
            self.write_undoubted(&chunk, &mut Rows::new(), &mut BTreeSet::new()).await?;
        }
        self.shared.windows[self.source].close(&chunk.window);
        self.shared.underway.note(&chunk.then);
        self.shared.observe(&EngineEvent::Copied {
            source: self.source,
            table: &table_label(&self.shared.tables[self.source], &chunk),
            rows: count as u64,
            state: &chunk.then,
            took: started.elapsed(),
        });
        if let Some(arrived) = chunk.arrived {
            let _ = arrived.send(());
        }
        Ok(())
    }

    /// Writes rows until they are durable; those that turn out to be in doubt are left out. Where none was, the chunk is
    /// noted as arrived with them; where they were shared out, with the next ones.
    async fn write_undoubted(&mut self, chunk: &Chunk, rows: &mut Rows, doubtful: &mut BTreeSet<Place>) -> Result<()> {
        let is_shared = Lane::is_worth(&self.shared, rows.len());
        let (mut fruitless, mut way) = (0, if is_shared { Way::Shared } else { Way::Loaded });
        while !rows.is_empty() || doubtful.is_empty() {
            match self.try_arrive(chunk, rows, way, doubtful.is_empty() && way != Way::Shared).await {
                Ok(Attempt::Arrived) if way == Way::Shared && doubtful.is_empty() => {
                    self.unnoted = Some(chunk.then.clone());
                    if !chunk.then.done {
                        return Ok(());
                    }
                    way = Way::Loaded;
                    rows.clear();
                }
                Ok(Attempt::Arrived) => return Ok(()),
                Ok(Attempt::Doubtful(keys)) => {
                    self.roll_back().await?;
                    doubtful.extend(keys);
                }
                Ok(Attempt::Present) => {
                    self.roll_back().await?;
                    fruitless += 1;
                    let (rows_before, doubtful_before) = (rows.len(), doubtful.len());
                    doubtful.extend(self.look_up(rows).await?);
                    let is_explained = (rows.len(), doubtful.len()) != (rows_before, doubtful_before);
                    way = if is_explained { Way::Loaded } else { Way::Applied };
                }
                Ok(Attempt::Again) => {
                    self.roll_back().await?;
                    fruitless += 1;
                    self.shared.pause(PAUSE_MAX).await;
                }
                Err(error) if error.code() == Code::Contention => {
                    fruitless += 1;
                    // Perhaps of one half with the other.
                    way = if way == Way::Shared { Way::Loaded } else { way };
                    self.back_off(&error).await?;
                }
                // Those that are refused are settled by themselves, and so go into quarantine.
                Err(error)
                    if error.is_of_a_row() && self.shared.on_error[chunk.table.index()] == OnError::Quarantine =>
                {
                    self.roll_back().await?;
                    doubtful.extend(self.refused_among(chunk, rows).await?);
                }
                Err(error) if error.class() == Class::Definite => {
                    self.roll_back().await?;
                    self.note_arrived().await?;
                    return Err(self.refused(&error, chunk));
                }
                Err(error) => return Err(error),
            }
            if fruitless >= FRUITLESS_MAX {
                doubtful.extend(rows.keys().cloned());
            }
            rows.retain(|place, _| !doubtful.contains(place));
        }
        Ok(())
    }

    /// Notes how far a copy has come, where no more rows follow that would bring it.
    pub(crate) async fn note_arrived(&mut self) -> Result<()> {
        let Some(then) = self.unnoted.take() else { return Ok(()) };
        let session = self.begin(Some(&Tag::ALONE)).await?;
        session.note_copy(&then).await?;
        session.commit().await.map_err(settle::outcome_unknown)
    }

    /// One transaction on the target, or two at the same time.
    async fn try_arrive(&mut self, chunk: &Chunk, rows: &Rows, way: Way, note: bool) -> Result<Attempt> {
        let target = self.target();
        let keys: Arc<BTreeSet<Place>> = Arc::new(rows.keys().cloned().collect());
        let _in_hand = match self.claim_keys(Claim::Keys(keys.clone())).await {
            Ok(in_hand) => in_hand,
            Err(half_done) => return Ok(Attempt::Doubtful(half_done)),
        };
        let covered: BTreeSet<Place> = keys.iter().filter(|place| self.is_settled(place)).cloned().collect();
        if !covered.is_empty() {
            return Ok(Attempt::Doubtful(covered));
        }
        let table = plan::table(&self.shared.tables[target], chunk.table)?.clone();
        for ((_, key), row) in rows {
            plan::fits(&table, key, (None, Some(row)), &"the copy")?;
        }
        let passed = self.shared.passed[self.source].get();
        // When the rows were written nobody knows: longer ago than anything that is in a log.
        let tag = Tag { position: Some(passed.clone()), commit_time: 0 };
        let session = self.begin(Some(&tag)).await?;
        if !rows.is_empty() {
            let written = match way {
                Way::Shared => self.load_shared(chunk.table, rows).await?,
                Way::Loaded => session.load(chunk.table, &rows.values().collect::<Vec<_>>()).await?,
                Way::Applied => {
                    let batch = TableBatch { inserts: rows.values().cloned().collect(), ..TableBatch::default() };
                    session.apply(chunk.table, &batch).await?
                }
            };
            if written == Applied::Missed {
                return Ok(Attempt::Present);
            }
            if self.shared.rules.has(Rule::Meanwhile) {
                match self.meanwhile(&keys).await? {
                    Some(doubtful) if doubtful.is_empty() => {}
                    Some(doubtful) => return Ok(Attempt::Doubtful(doubtful)),
                    None => return Ok(Attempt::Again),
                }
            }
        }
        // A log that is followed is to be on the disk at once: its reader sends no row before that, and the next chunk waits for these.
        let in_order = way == Way::Shared && !self.shared.reads[target];
        let mut lane = self.lane.take();
        let then = if note { Some(chunk.then.clone()) } else { self.unnoted.clone() };
        let session = self.session()?;
        if let Some(then) = &then {
            session.note_copy(then).await?;
        }
        let beside = async {
            match &mut lane {
                Some(lane) => lane.commit(in_order).await,
                None => Ok(()),
            }
        };
        let ours = async { if in_order { session.commit_in_order().await } else { session.commit().await } };
        let (committed, beside) = tokio::join!(ours, beside);
        committed.and(beside).map_err(settle::outcome_unknown)?;
        self.lane = lane;
        self.unnoted = None;
        if !in_order {
            self.shared.durable[self.source].set(passed);
        }
        Ok(Attempt::Arrived)
    }

    /// Loads half of the rows in the lane, the others in the session's transaction.
    async fn load_shared(&mut self, table: TableId, rows: &Rows) -> Result<Applied> {
        let mut lane = Lane::begin(self.lane.take(), &self.shared, self.target()).await?;
        let rows: Vec<&Row> = rows.values().collect();
        let (ours, beside) = rows.split_at(rows.len() / 2);
        let session = self.session()?;
        let (ours, beside) = tokio::join!(session.load(table, ours), lane.session().load(table, beside));
        // Whatever became of it, it is rolled back or committed as the session is.
        self.lane = Some(lane);
        Ok(match (ours?, beside?) {
            (Applied::All, Applied::All) => Applied::All,
            _ => Applied::Missed,
        })
    }

    /// Whether a key has been settled in a way that may cover what the source's log has not brought yet.
    fn is_settled(&self, place: &Place) -> bool {
        self.shared.rules.has(Rule::Covered) && self.shared.resolutions.get(self.source.other(), place).is_some()
    }

    /// Which keys, locked on the target by now, it has written itself so that the chunk cannot know; `None` where a
    /// reader was late.
    async fn meanwhile(&mut self, keys: &BTreeSet<Place>) -> Result<Option<BTreeSet<Place>>> {
        if !self.shared.reads[self.target()] {
            return Ok(Some(BTreeSet::new()));
        }
        // First what the source has not got, then what it has got by then.
        let Some(mut doubtful) = self.unseen(keys).await? else { return Ok(None) };
        let end = self.shared.nodes[self.source].log_status(None).await?.end;
        let Some(histories) = self.histories(self.source, keys, &end).await? else { return Ok(None) };
        // What the source writes itself comes with its log, on top of what is written here.
        doubtful.extend(histories.into_iter().filter(|(_, history)| history.own).map(|(place, _)| place));
        Ok(Some(doubtful))
    }

    /// Which keys, locked on the target by now, it has written itself and the source has not got; `None` where the
    /// reader was late.
    pub(crate) async fn unseen(&mut self, keys: &BTreeSet<Place>) -> Result<Option<BTreeSet<Place>>> {
        if keys.is_empty() || !self.shared.reads[self.target()] {
            return Ok(Some(BTreeSet::new()));
        }
        let fence = self.session()?.fence().await?;
        let Some(histories) = self.histories(self.target(), keys, &fence).await? else { return Ok(None) };
        let in_queue = histories.into_iter().filter(|(_, of)| !of.all.is_empty()).map(|(place, _)| place);
        // What is stored of a key is behind the checkpoint, and the source has not got it either.
        let stored = keys.iter().filter(|place| self.shared.quarantine.holds(place)).cloned();
        Ok(Some(in_queue.chain(stored).collect()))
    }

    /// What the queue of a side has of the keys, up to a place in its log; `None` where the reader is late.
    async fn histories(
        &mut self,
        side: Side,
        keys: &BTreeSet<Place>,
        end: &Position,
    ) -> Result<Option<BTreeMap<Place, History>>> {
        let shared = &self.shared;
        let _urgent = shared.urgent();
        shared.nodes[side].mark(Mark::Heartbeat).await?;
        match timeout(FENCE_WAIT, shared.has_read(side, end)).await {
            Ok(read) => read?,
            Err(_) => return Ok(None),
        }
        let search = Search {
            tables: &shared.tables[side],
            policies: &shared.policies,
            keys,
            fence: end,
            applied: shared.durable[side].get(),
            // What a chunk cannot know counts, whatever has become of it since.
            settled: BTreeMap::new(),
            passed_over: BTreeMap::new(),
            supersedes: false,
        };
        let pending = pending::scan(&shared.queues[side], search, BTreeMap::new())?;
        Ok(Some(pending.histories.into_iter().filter(|(place, _)| keys.contains(place)).collect()))
    }

    /// Drops the rows that the target has just so; those that it has otherwise are in doubt. So are equal ones that it
    /// has just written itself: what it wrote is yet to cross, and would meet what the source makes of its own row.
    async fn look_up(&mut self, rows: &mut Rows) -> Result<BTreeSet<Place>> {
        let Some((table, _)) = rows.keys().next().cloned() else { return Ok(BTreeSet::new()) };
        let keys: Vec<_> = rows.keys().map(|(_, key)| key.clone()).collect();
        let session = self.begin(None).await?;
        let found = session.lock(table, &keys).await?;
        let (mut doubtful, mut equal) = (BTreeSet::new(), BTreeSet::new());
        for ((place, row), found) in rows.iter().zip(found) {
            match found {
                Some(found) if found == *row => equal.insert(place.clone()),
                Some(_) => doubtful.insert(place.clone()),
                None => false,
            };
        }
        let unseen = self.unseen(&equal).await?;
        self.roll_back().await?;
        // Where the reader is late all are looked at again.
        if let Some(unseen) = unseen {
            rows.retain(|place, _| !equal.contains(place));
            doubtful.extend(unseen);
        }
        Ok(doubtful)
    }

    /// Which rows the target refuses, found by halves in transactions that are rolled back; all of them where it
    /// refuses none by itself.
    async fn refused_among(&mut self, chunk: &Chunk, rows: &Rows) -> Result<BTreeSet<Place>> {
        let table = plan::table(&self.shared.tables[self.target()], chunk.table)?.clone();
        let fits =
            |(place, row): &(&Place, &Row)| plan::fits(&table, &place.1, (None, Some(*row)), &"the copy").is_ok();
        let (fitting, misfits): (Vec<_>, Vec<_>) = rows.iter().partition(fits);
        let mut refused: BTreeSet<Place> = misfits.into_iter().map(|(place, _)| place.clone()).collect();
        let mut open = vec![&fitting[..]];
        while let Some(part) = open.pop().filter(|part| !part.is_empty()) {
            let rows: Vec<Row> = part.iter().map(|(_, row)| (*row).clone()).collect();
            let session = self.begin(Some(&Tag::ALONE)).await?;
            let inserted = session.apply(chunk.table, &TableBatch { inserts: rows, ..TableBatch::default() }).await;
            self.roll_back().await?;
            match (inserted, part) {
                (Err(error), [(place, _)]) if error.is_of_a_row() => {
                    refused.insert((*place).clone());
                }
                (Err(error), _) if error.is_of_a_row() => {
                    open.extend([&part[..part.len() / 2], &part[part.len() / 2..]])
                }
                // Whatever else is the matter shows when the chunk is tried again.
                (Err(error), _) if error.code() != Code::Contention => return Err(error),
                _ => {}
            }
        }
        Ok(if refused.is_empty() { rows.keys().cloned().collect() } else { refused })
    }

    fn refused(&self, error: &Error, chunk: &Chunk) -> Error {
        let label = table_label(&self.shared.tables[self.source], chunk);
        let place = match &chunk.then.after {
            Some(key) => format!("the copy of {label}, rows up to key ({key})"),
            None => format!("the copy of {label}"),
        };
        Error::new(error.code(), format!("{place}: {}", error.message())).hint(
            error.remedy().unwrap_or("mend the row on the source or what refuses it on the target, then start again: the copy goes on where it was"),
        )
    }
}

fn table_label(tables: &pontoon_core::node::Tables, chunk: &Chunk) -> String {
    tables.get(chunk.table.index()).map_or_else(|| "?".to_owned(), |table| table.label.to_string())
}
