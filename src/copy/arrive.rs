//! A chunk arrives: written by the task that applies, between two runs; see the head of [`super`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pontoon_core::{
    Class, Code, Error, Position, Result, Row, Tag,
    node::{Applied, Mark},
};
use tokio::time::{Instant, timeout};

use super::feed::Chunk;
use crate::{
    conflict::{
        pending,
        registry::Claim,
        settle::{self, FENCE_WAIT},
    },
    direction::{
        apply::Direction,
        plan::{self, Net, Place},
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
    /// Writes a chunk's rows; what is in doubt is settled by a rendezvous first, so that nothing of the chunk is
    /// forgotten when it is noted as arrived.
    pub(crate) async fn arrive(&mut self, chunk: Chunk) -> Result<()> {
        let started = Instant::now();
        let table = plan::table(&self.shared.tables[self.source], chunk.table)?;
        let rows = chunk.rows.iter().map(|row| ((chunk.table, table.key_of(row)), row.clone()));
        let mut rows: Rows = rows.collect();
        let window = self.shared.rules.has(Rule::Window);
        let mut doubtful: BTreeSet<Place> =
            rows.keys().filter(|(_, key)| window && chunk.window.has(key)).cloned().collect();
        let mut fruitless = 0;
        loop {
            if !doubtful.is_empty() {
                rows.retain(|place, _| !doubtful.contains(place));
                self.settle(std::mem::take(&mut doubtful), true).await?;
            }
            match self.try_arrive(&chunk, &rows).await {
                Ok(Attempt::Arrived) => break,
                Ok(Attempt::Doubtful(keys)) => {
                    self.roll_back().await?;
                    doubtful = keys;
                }
                Ok(Attempt::Present) => {
                    self.roll_back().await?;
                    fruitless += 1;
                    doubtful = self.look_up(&mut rows, fruitless).await?;
                }
                Ok(Attempt::Again) => {
                    self.roll_back().await?;
                    fruitless += 1;
                    self.shared.pause(PAUSE_MAX).await;
                }
                Err(error) if error.code() == Code::Contention => {
                    fruitless += 1;
                    self.back_off(&error).await?;
                }
                Err(error) if error.class() == Class::Definite => {
                    self.roll_back().await?;
                    return Err(self.refused(&error, &chunk));
                }
                Err(error) => return Err(error),
            }
            if fruitless >= FRUITLESS_MAX {
                doubtful.extend(rows.keys().cloned());
                fruitless = 0;
            }
        }
        self.shared.windows[self.source].close(&chunk.window);
        self.shared.underway.note(&chunk.then);
        self.shared.observe(&EngineEvent::Copied {
            source: self.source,
            table: &table_label(&self.shared.tables[self.source], &chunk),
            rows: chunk.rows.len() as u64,
            state: &chunk.then,
            took: started.elapsed(),
        });
        if let Some(arrived) = chunk.arrived {
            let _ = arrived.send(());
        }
        Ok(())
    }

    /// One transaction on the target.
    async fn try_arrive(&mut self, chunk: &Chunk, rows: &Rows) -> Result<Attempt> {
        let target = self.target();
        let keys: BTreeSet<Place> = rows.keys().cloned().collect();
        let _in_hand = match self.claim_keys(Claim::Keys(keys.clone())).await {
            Ok(in_hand) => in_hand,
            Err(half_done) => return Ok(Attempt::Doubtful(half_done)),
        };
        let table = plan::table(&self.shared.tables[target], chunk.table)?.clone();
        for ((_, key), row) in rows {
            plan::fits(&table, key, &Net { before: None, after: Some(row.clone()) }, &"the copy")?;
        }
        let passed = self.shared.passed[self.source].borrow().clone();
        // When the rows were written nobody knows: longer ago than anything that is in a log.
        let tag = Tag { position: Some(passed.clone()), commit_time: 0 };
        let session = self.session().await?;
        session.begin(Some(&tag)).await?;
        if !rows.is_empty() {
            let rows: Vec<Row> = rows.values().cloned().collect();
            if session.load(chunk.table, &rows).await? == Applied::Missed {
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
        let session = self.session().await?;
        session.note_copy(&chunk.then).await?;
        session.commit().await.map_err(settle::outcome_unknown)?;
        self.shared.durable[self.source].send_replace(passed);
        Ok(Attempt::Arrived)
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
        let Some(written) = self.written(self.source, keys, &end).await? else { return Ok(None) };
        doubtful.extend(written);
        Ok(Some(doubtful))
    }

    /// Which keys, locked on the target by now, it has written itself and the source has not got; `None` where the
    /// reader was late.
    pub(crate) async fn unseen(&mut self, keys: &BTreeSet<Place>) -> Result<Option<BTreeSet<Place>>> {
        if !self.shared.reads[self.target()] {
            return Ok(Some(BTreeSet::new()));
        }
        let fence = self.session().await?.fence().await?;
        self.written(self.target(), keys, &fence).await
    }

    /// Which of the keys the queue of a side has writes of, the bridge's own included, up to a place in its log.
    async fn written(&mut self, side: Side, keys: &BTreeSet<Place>, end: &Position) -> Result<Option<BTreeSet<Place>>> {
        let shared = &self.shared;
        let _urgent = shared.urgent();
        shared.nodes[side].mark(Mark::Heartbeat).await?;
        if timeout(FENCE_WAIT, shared.has_read(side, end)).await.is_err() {
            return Ok(None);
        }
        let pending = pending::scan(&shared.queues[side], &shared.tables[side], keys, end)?;
        Ok(Some(pending.histories.into_keys().filter(|place| keys.contains(place)).collect()))
    }

    /// Drops the rows that the target has just so; those that it has otherwise are in doubt. After many attempts that
    /// found nothing of either, all are.
    async fn look_up(&mut self, rows: &mut Rows, fruitless: u32) -> Result<BTreeSet<Place>> {
        let session = self.session().await?;
        session.begin(None).await?;
        let keys: Vec<_> = rows.keys().map(|(_, key)| key.clone()).collect();
        let Some((table, _)) = rows.keys().next() else { return Ok(BTreeSet::new()) };
        let found = session.read(*table, &keys).await?;
        session.rollback().await?;
        let mut doubtful = BTreeSet::new();
        let mut equal = BTreeSet::new();
        for ((place, row), found) in rows.iter().zip(found) {
            match found {
                Some(found) if found == *row => equal.insert(place.clone()),
                Some(_) => doubtful.insert(place.clone()),
                None => false,
            };
        }
        rows.retain(|place, _| !equal.contains(place));
        if fruitless >= FRUITLESS_MAX {
            doubtful.extend(rows.keys().cloned());
        }
        Ok(doubtful)
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
