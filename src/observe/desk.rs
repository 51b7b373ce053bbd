//! What the page asks of the databases: the conflicts and the quarantine as they stand there, and what an operator does about them, as the commands do it
//! ([`crate::operate`]).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pontoon_core::{
    Code, Error, Result,
    history::{Filter, Record},
};
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::Metrics;
use crate::{
    config::Config,
    nodes::Nodes,
    operate::{
        pause,
        quarantine::{ENTRIES_MAX, Found, Kept},
    },
    side::Side,
};

/// The last conflicts: those that came while somebody looked. `pontoon conflicts list` has all.
const CONFLICTS_SHOWN: usize = 20;

/// Entries of the quarantine that are read of each node for the page. `pontoon quarantine list` has all.
const ENTRIES_LOOKED_AT: usize = 200;

/// However many look at the page, the databases are asked once in this time.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// A database that answers later has the page say so, and not wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// So long may an act take that waits for a transaction of the bridge: shorter than a connection lives, so that it is told what became of it.
const ACT_WITHIN: Duration = Duration::from_secs(120);

/// What stands in the databases.
pub(super) struct Board {
    /// The last ones, the newest first.
    pub(super) conflicts: Result<Vec<Record>>,
    /// Some of what is there, the oldest first.
    pub(super) quarantine: Result<Found>,
}

/// Which directions; all that are used where none is named.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Directions {
    direction: Option<String>,
}

/// Which entries to try again, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    ids: Vec<i64>,
    /// The node whose rows are to stand on both.
    take: Option<String>,
}

/// Which entries to drop.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Discard {
    ids: Vec<i64>,
    /// Without it, it is said what would be done.
    #[serde(default)]
    execute: bool,
}

/// What is asked of it.
#[derive(Debug)]
pub(super) enum Act {
    Pause(Directions),
    Resume(Directions),
    Retry(Retry),
    Discard(Discard),
}

impl Act {
    /// Where each is asked for.
    pub(super) const PATHS: [&str; 4] =
        ["/api/pause", "/api/resume", "/api/quarantine/retry", "/api/quarantine/discard"];

    /// The act of one of these paths and a body. Errors (configuration): the body is not its.
    pub(super) fn of(path: &str, body: &[u8]) -> Result<Act> {
        let read = match path {
            "/api/pause" => serde_json::from_slice(body).map(Act::Pause),
            "/api/resume" => serde_json::from_slice(body).map(Act::Resume),
            "/api/quarantine/retry" => serde_json::from_slice(body).map(Act::Retry),
            _ => serde_json::from_slice(body).map(Act::Discard),
        };
        read.map_err(|error| Error::new(Code::Config, format!("the request cannot be read: {error}")))
    }
}

/// A bridge's databases, as an operator reaches them.
pub(super) struct Desk {
    config: Config,
    nodes: Nodes,
    metrics: Arc<Metrics>,
    board: Mutex<Option<(Instant, Arc<Board>)>>,
}

impl Desk {
    pub(super) fn new(config: &Config, nodes: &Nodes, metrics: Arc<Metrics>) -> Desk {
        Desk { config: config.clone(), nodes: nodes.clone(), metrics, board: Mutex::default() }
    }

    pub(super) fn names(&self) -> [&str; 2] {
        Side::BOTH.map(|side| self.config.node(side).name.as_str())
    }

    /// What stands in the databases, a second ago at most.
    pub(super) async fn board(&self) -> Arc<Board> {
        let kept = self.board.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, board)) = kept.filter(|(at, _)| at.elapsed() < ASKED_EVERY) {
            return board;
        }
        let (conflicts, quarantine) = tokio::join!(
            answered(self.records(Filter::default(), CONFLICTS_SHOWN)),
            answered(Found::load(&self.config, &self.nodes.admins, ENTRIES_LOOKED_AT))
        );
        let board = Arc::new(Board { conflicts, quarantine });
        *self.board.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), board.clone()));
        board
    }

    /// A record is committed on node A before it is on B, so A has them all.
    async fn records(&self, filter: Filter, limit: usize) -> Result<Vec<Record>> {
        let found = self.nodes.admins[Side::A].records(&filter, limit).await;
        found.map_err(|error| error.at(self.names()[0]))
    }

    /// A settled conflict, with its rows.
    pub(super) async fn conflict(&self, id: i64) -> Result<Option<Record>> {
        answered(self.records(Filter { id: Some(id), ..Filter::default() }, 1)).await.map(|mut found| found.pop())
    }

    /// All that is in quarantine of the row of an entry and of those tied to it.
    pub(super) async fn entry(&self, id: i64) -> Result<Option<Found>> {
        let mut found = answered(self.found()).await?;
        let Ok(chosen) = found.chosen(&[id]) else { return Ok(None) };
        let ids: Vec<i64> = found.with_ties(&chosen).iter().map(|kept| kept.entry.id).collect();
        found.kept.retain(|Kept { entry, .. }| ids.contains(&entry.id));
        Ok(Some(found))
    }

    /// The directions that are meant. Which ones are used the configuration does not tell that the page began with: the bridge may have taken up another.
    fn directions(&self, word: Option<&str>) -> Result<Vec<Side>> {
        match word {
            Some(word) => Ok(vec![pause::direction(&self.config, word)?]),
            None => Ok(Side::BOTH.into_iter().filter(|side| self.metrics.direction(*side).is_used()).collect()),
        }
    }

    async fn found(&self) -> Result<Found> {
        Found::load(&self.config, &self.nodes.admins, ENTRIES_MAX).await
    }

    /// Does what is asked, and returns what the commands would print.
    pub(super) async fn act(&self, act: Act) -> Result<Vec<String>> {
        let done = timeout(ACT_WITHIN, self.carried_out(act)).await.unwrap_or_else(|_| {
            let why = format!("not done within {} s: a transaction of the bridge takes long", ACT_WITHIN.as_secs());
            Err(Error::new(Code::Contention, why).hint("ask again: what was done of it is done"))
        });
        // What was shown is not how it is any more.
        *self.board.lock().unwrap_or_else(PoisonError::into_inner) = None;
        done
    }

    async fn carried_out(&self, act: Act) -> Result<Vec<String>> {
        let (config, nodes) = (&self.config, &self.nodes);
        let missing = |why| Error::new(Code::Config, why);
        let mut said = Vec::new();
        match act {
            Act::Pause(Directions { direction }) => {
                for source in self.directions(direction.as_deref())? {
                    said.push(pause::pause(nodes, source, None).await?);
                }
            }
            Act::Resume(Directions { direction }) => {
                for source in self.directions(direction.as_deref())? {
                    said.push(pause::resume(nodes, source).await?);
                }
            }
            Act::Retry(Retry { ids, take }) => {
                let take = take.map(|node| config.named(&node)).transpose()?;
                let found = self.found().await?;
                said.push(found.retry(nodes, &found.chosen(&ids).map_err(missing)?, take).await?);
            }
            Act::Discard(Discard { ids, execute }) => {
                let found = self.found().await?;
                let chosen = found.chosen(&ids).map_err(missing)?;
                said.push(match execute {
                    true => found.discard(nodes, &chosen).await?,
                    false => found.would_discard(&chosen),
                });
            }
        }
        Ok(said)
    }
}

async fn answered<T>(asked: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(ANSWER_WITHIN, asked).await.unwrap_or_else(|_| {
        Err(Error::new(Code::Unreachable, format!("no answer within {} s", ANSWER_WITHIN.as_secs())))
    })
}
