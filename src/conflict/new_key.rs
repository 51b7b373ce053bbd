//! A row that an operator gives another key, since two different rows came to stand under one: each side had inserted
//! its own, under generated keys that collide.
//!
//! Either the key is in quarantine: then one side's row stands under it, and the other side's under the new key, both
//! decided in one rendezvous and in one group. Or a rule has decided before: then the row that lost, which is in the
//! record in full, is written under the new key, on both nodes.
//!
//! Why it is done once, wholly, and to nothing that nobody had seen:
//!
//! * It is a rendezvous like any other: the new key is claimed, locked and fenced with the old one, so what stands or is
//!   under way there is known. It has to be free: no row on either node, no write that is pending, not in quarantine.
//! * The request is answered in the transaction that writes the rows on A (rule `Answer`), on condition that it is still
//!   what it was. A commits first: what is on A alone is half done, and is completed as any other settlement is. So a
//!   crash leaves the request as it was and nothing written, or the request answered and the rows on their way.
//! * What is answered with `Given` is never asked again: of a record the request's row stays, with that.
//! * What was written in the old key since the operator looked is not decided over (rule `Looked`).
//!
//! What cannot be done is refused, and the request taken back with the reason: of an entry by trying its key as if the
//! operator had not decided, so that the entry says both why it waits and why it has no other key.

use std::{collections::BTreeSet, time::Duration};

use pontoon_core::{
    Code, Error, Result, Row, Tag,
    new_key::{Answer, NewKey, Of},
};
use tokio::time::Instant;

use super::{
    decide::Reason,
    lost::{self, Settled},
    merge::Outcome,
    pending::Pending,
    registry::Settling,
    retry::CLOSE_WAIT,
    settle::{Attempt, Cause, Settler, outcome_unknown},
    verdict::{self, Case, Rows, Verdict},
    view::View,
};
use crate::{
    bridge::Shared,
    direction::plan::{self, Place},
    rules::Rule,
    side::{Pair, Side},
};

/// Attempts that find a row in their way which was not there under the locks. One inserts just then; again and again does
/// a row that the server takes for the same (a key that differs in case alone).
const MISSES_MAX: u32 = 3;

/// The longest random pause between two such.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Which row is to have another key.
enum Source {
    /// The key is in quarantine: the row of the other side than this one, which keeps it.
    Held { place: Place, keeps: Side },
    /// The one that lost in this record.
    Lost(i64),
}

/// What came of a request.
enum Given {
    Done,
    /// Something is in the way that has nothing to do with the rows: it is looked at again.
    Later,
    /// It cannot be, for this reason.
    Refused(String),
}

/// What both nodes shall hold of the keys, and why.
struct Decided {
    rows: Vec<(Place, Option<Row>)>,
    /// Whose row was chosen.
    side: Side,
    rule: String,
    /// When the row was written, where the logs no longer tell.
    commit_time: i64,
}

impl Settler {
    /// Gives rows that lost a key of their own, where operators have asked for it.
    pub(super) async fn give_new_keys(&mut self, requests: Vec<NewKey>) -> Result<()> {
        for request in requests {
            match request.of {
                Of::Record(id) => {
                    if let Given::Refused(why) = self.give(&request, &Source::Lost(id)).await? {
                        self.answer(&request, Answer::Refused(why)).await?;
                    }
                }
                // The marks on its entries are what is looked for.
                Of::Entry(id) if self.shared.quarantine.is_head(id) => {}
                Of::Entry(_) => self.answer(&request, Answer::Refused("it is out of quarantine".into())).await?,
            }
        }
        Ok(())
    }

    /// Has one side's row stand under a key in quarantine, and the other side's under the key that was asked for.
    pub(super) async fn part(&mut self, place: &Place, keeps: Side) -> Result<()> {
        let Some((_, id, _)) = self.shared.quarantine.head(place) else { return Ok(()) };
        let request = asked(&self.shared).await?.into_iter().find(|request| request.of == Of::Entry(id));
        let Some(request) = request else {
            self.decline(place, "the other row was not given another key: which one is not known any more".into())
                .await?;
            return Ok(());
        };
        let source = Source::Held { place: place.clone(), keeps };
        if let Given::Refused(why) = self.give(&request, &source).await? {
            let declined = format!("the other row was not given the key ({}): {why}", request.key);
            if self.decline(place, declined).await? {
                self.answer(&request, Answer::Refused(why)).await?;
            }
        }
        Ok(())
    }

    /// Tries a key as if the operator had not decided. Returns whether their request is taken back.
    async fn decline(&mut self, place: &Place, why: String) -> Result<bool> {
        self.shared.quarantine.decline(place, Some(why));
        self.declines = true;
        let tried = self.settle(BTreeSet::from([place.clone()]), Cause::Retry).await;
        let is_taken_back = !std::mem::take(&mut self.declines);
        tried?;
        Ok(is_taken_back || !self.shared.quarantine.holds(place))
    }

    /// Answers a request, in a transaction of its own.
    async fn answer(&mut self, request: &NewKey, answer: Answer) -> Result<()> {
        self.open().await?;
        let session = self.session(Side::A)?;
        let answered = async {
            session.begin(Some(&Tag::ALONE)).await?;
            session.answer_new_key(request, &answer).await?;
            session.commit().await.map_err(outcome_unknown)
        };
        let answered = answered.await;
        self.unless_contended(Side::A, answered).await?;
        Ok(())
    }

    /// Answers what verdicts answer, in the transaction that writes them on A. Errors: contention, where the operator asks
    /// for something else now.
    pub(super) async fn answer_with(&mut self, verdicts: &[Verdict]) -> Result<()> {
        for request in verdicts.iter().filter_map(|verdict| verdict.answers.as_ref()) {
            if !self.session(Side::A)?.answer_new_key(request, &Answer::Given).await? {
                return Err(Error::new(Code::Contention, "another key is asked for now"));
            }
        }
        Ok(())
    }

    async fn give(&mut self, request: &NewKey, source: &Source) -> Result<Given> {
        let mut keys = BTreeSet::from([(request.table, request.key.clone())]);
        if let Source::Held { place, .. } = source {
            keys.insert(place.clone());
        }
        if !self.readers_are_close(CLOSE_WAIT).await? {
            return Ok(Given::Later);
        }
        for _ in 0..MISSES_MAX {
            let registry = self.shared.registry.clone();
            let settling = registry.settle(&keys, self.shared.rules.has(Rule::Registry)).await;
            let tried = self.try_to_give(request, source, &keys, &settling).await;
            self.used = Instant::now();
            match tried {
                Ok(Some(Given::Done)) => return Ok(Given::Done),
                Ok(Some(given)) => {
                    self.roll_back().await?;
                    return Ok(given);
                }
                Ok(None) => self.roll_back().await?,
                Err(error) if error.code() == Code::Contention => {
                    tracing::debug!(%error, "a row is given another key later");
                    self.roll_back().await?;
                    return Ok(Given::Later);
                }
                Err(error) => return Err(error),
            }
            drop(settling);
            self.shared.pause(PAUSE_MAX).await;
        }
        Ok(Given::Refused("a row is in its way that the server takes for the same, or that comes and goes".into()))
    }

    /// `None`: a row was in the way that was not there under the locks.
    async fn try_to_give(
        &mut self,
        request: &NewKey,
        source: &Source,
        keys: &BTreeSet<Place>,
        _: &Settling,
    ) -> Result<Option<Given>> {
        if let Some(why) = self.unfit(request, source)? {
            return Ok(Some(Given::Refused(why)));
        }
        let mut view = match self.view(keys).await? {
            Ok(view) => view,
            Err(why) => {
                tracing::debug!(why, "a row is given another key later");
                return Ok(Some(Given::Later));
            }
        };
        let new = (request.table, request.key.clone());
        let taken = taken(&self.shared.names, &view.rows, &view.pending, &new);
        let decided = match (taken, source) {
            (Some(why), _) => Err(why),
            (None, Source::Held { place, keeps }) => self.apart(&mut view, keys, place, *keeps, new)?,
            (None, Source::Lost(id)) => self.found(*id, new).await?,
        };
        let decided = match decided {
            Ok(decided) => decided,
            Err(why) => return Ok(Some(Given::Refused(why))),
        };
        let cause = if let Source::Held { keeps, .. } = source { Cause::Take(*keeps) } else { Cause::Retry };
        let mut verdicts = self.verdicts(&view, keys, decided, request);
        self.number(&mut verdicts).await?;
        Ok(match self.write(&view.rows, &verdicts, cause).await? {
            Attempt::Settled => {
                if !self.shared.rules.has(Rule::Answer) {
                    self.answer(request, Answer::Given).await?;
                }
                Some(Given::Done)
            }
            Attempt::Refused(refusal) => Some(Given::Refused(refusal.why().to_owned())),
            Attempt::Widen(_) => Some(Given::Refused("a row would refer to one that is not there".into())),
            Attempt::Again(_) => None,
        })
    }

    /// Why it cannot be, before anything is locked.
    fn unfit(&self, request: &NewKey, source: &Source) -> Result<Option<String>> {
        let shared = &self.shared;
        let new = (request.table, request.key.clone());
        for side in Side::BOTH {
            if !plan::table(&shared.tables[side], new.0)?.followed {
                return Ok(Some("its table goes one way alone".into()));
            }
        }
        if let Source::Held { place, .. } = source {
            let mut all = BTreeSet::from([place.clone()]);
            self.widen(&mut all);
            if *place == new {
                return Ok(Some("it has that key".into()));
            }
            if all.len() > 1 {
                return Ok(Some("it waits together with another key, from or to which it was moved".into()));
            }
        }
        if shared.quarantine.holds(&new) || !shared.resolutions.half_done(|place| *place == new).is_empty() {
            return Ok(Some("that key is in quarantine".into()));
        }
        Ok(None)
    }

    /// Both rows of a key in quarantine. Errors: an inner one, why that cannot be.
    fn apart(
        &self,
        view: &mut View,
        keys: &BTreeSet<Place>,
        place: &Place,
        keeps: Side,
        new: Place,
    ) -> Result<Result<Decided, String>> {
        let shared = &self.shared;
        let of_key = BTreeSet::from([place.clone()]);
        let own = self.own(&of_key, keys, &mut view.pending);
        let by_hand = self.decided_by_hand(&own, &view.pending, Cause::Take(keeps));
        if !verdict::linked(&view.pending, keys).is_empty() {
            return Ok(Err("it was moved from one key to another".into()));
        }
        if by_hand.is_none() {
            return Ok(Err("it was written since that was asked for".into()));
        }
        let row = |side: Side| view.rows[side].get(place).cloned().flatten();
        let (kept, moves) = (row(keeps), row(keeps.other()));
        if kept == moves {
            return Ok(Err("both nodes hold the same row".into()));
        }
        let Some(moves) = moves else { return Ok(Err(format!("{} has no row", shared.names[keeps.other()]))) };
        let moved = lost::with_key(plan::table(&shared.tables[Side::A], new.0)?, &moves, &new.1);
        let rule = lost::rule_apart(&shared.names[keeps], &new.1);
        let rows = vec![(place.clone(), kept), (new, Some(moved))];
        Ok(Ok(Decided { rows, side: keeps, rule, commit_time: 0 }))
    }

    /// The row that lost in a record. Errors: an inner one, why there is none.
    async fn found(&mut self, id: i64, new: Place) -> Result<Result<Decided, String>> {
        let Some(record) = self.session(Side::A)?.recorded(id).await? else {
            return Ok(Err(format!("record {id} is no longer kept")));
        };
        if record.table != new.0 {
            return Ok(Err(format!("record {id} is of another table")));
        }
        let settled = Settled {
            rule: &record.rule,
            is_merged: record.columns.is_some(),
            a: record.own_row.as_ref(),
            b: record.other_row.as_ref(),
            verdict: record.verdict.as_ref(),
        };
        let (side, row) = match settled.lost() {
            Ok(lost) => lost,
            Err(why) => return Ok(Err(why.into())),
        };
        let row = lost::with_key(plan::table(&self.shared.tables[Side::A], new.0)?, row, &new.1);
        let rows = vec![(new, Some(row))];
        Ok(Ok(Decided { rows, side, rule: lost::rule_given(id), commit_time: record.commit_time }))
    }

    fn verdicts(&self, view: &View, keys: &BTreeSet<Place>, decided: Decided, request: &NewKey) -> Vec<Verdict> {
        let View { rows, fences, pending } = view;
        let case = Case { shared: &self.shared, keys, own: keys, rows, fences, pending, brought: None, by_hand: None };
        let reason = Reason::Chosen(decided.side);
        let of = |(place, row)| {
            let outcome = Outcome::whole(row);
            case.verdict(&place, verdict::Decided { reason, outcome, group: 0, adjusted: None })
        };
        let mut verdicts: Vec<Verdict> = decided.rows.into_iter().map(of).collect();
        let times = verdicts.iter().map(|verdict| verdict.records[Side::A].commit_time);
        let commit_time = times.max().unwrap_or(0).max(decided.commit_time);
        for verdict in &mut verdicts {
            for side in Side::BOTH {
                let record = &mut verdict.records[side];
                (record.rule, record.commit_time) = (decided.rule.clone(), commit_time);
            }
        }
        if let Some(last) = verdicts.last_mut() {
            last.answers = Some(request.clone());
        }
        verdicts
    }
}

/// What waits for an answer.
async fn asked(shared: &Shared) -> Result<Vec<NewKey>> {
    let node = &shared.nodes[Side::A];
    let requests = node.requests(&shared.tables[Side::A]).await.map_err(|error| error.at(node.name()))?;
    Ok(requests.new_keys)
}

/// Why a row cannot have a key; `None`: nothing is there, nor on its way.
fn taken(names: &Pair<String>, rows: &Pair<Rows>, pending: &Pair<Pending>, new: &Place) -> Option<String> {
    let holder = Side::BOTH.into_iter().find(|side| rows[*side].get(new).is_some_and(Option::is_some));
    if let Some(side) = holder {
        return Some(format!("{} has a row under it", names[side]));
    }
    let is_written =
        pending.iter().any(|pending| pending.histories.get(new).is_some_and(|history| !history.all.is_empty()));
    is_written.then(|| "it was written a moment ago, and that is not on the other node yet".into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pontoon_core::{Key, TableId, Value};

    use super::{
        super::{chain::Chain, pending::History},
        *,
    };

    #[test]
    fn a_key_is_free_where_nothing_is_nor_comes() {
        let names = Pair::new("a".to_owned(), "b".to_owned());
        let new = (TableId(0), Key(vec![Value::Integer(7)]));
        let row = Row(vec![Value::Integer(7)]);
        let rows = |a: Option<&Row>, b: Option<&Row>| {
            Pair::new(BTreeMap::from([(new.clone(), a.cloned())]), BTreeMap::from([(new.clone(), b.cloned())]))
        };
        let nothing = Pair::<Pending>::default;
        assert_eq!(taken(&names, &rows(None, None), &nothing(), &new), None);
        assert_eq!(taken(&names, &rows(None, Some(&row)), &nothing(), &new), Some("b has a row under it".into()));
        assert_eq!(taken(&names, &rows(Some(&row), None), &nothing(), &new), Some("a has a row under it".into()));
        // It came and went, and only one side knows.
        let mut coming = nothing();
        let history = History { all: Chain::of(1, Some(row.clone()), None, None), ..History::default() };
        coming[Side::B].histories.insert(new.clone(), history);
        assert!(taken(&names, &rows(None, None), &coming, &new).unwrap().contains("a moment ago"));
        coming[Side::B].histories.insert(new.clone(), History { own: true, unlooked: true, ..History::default() });
        assert_eq!(taken(&names, &rows(None, None), &coming, &new), None, "what is settled is not under way");
    }
}
