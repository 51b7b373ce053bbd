//! `pontoon switchover`: applications go over from one node to the other.
//!
//! The databases need no switch: both are written already. What can go wrong is around it. An application that is not stopped goes on writing to
//! the node that the others have left; a row is still on its way; and a generator of keys gives those that the bridge has brought. So the
//! log of the node that is left is followed from before the wait for what it holds until after the last step: any transaction of an application
//! that it shows was committed by somebody who is not stopped.

use std::time::Duration;

use pontoon_core::{
    Code, Error, LogEvent, Origin, Result,
    node::{PassedOver, Mark, Tables},
};
use tokio::time::timeout;

use super::{Context, DONE, NO, SwitchoverArgs, sequences, terminal::Style};
use crate::{
    barrier::{all_applied, is_running},
    bridge,
    config::Config,
    direction::look::Look,
    human,
    mapping::{self, Mapping},
    nodes::{self, Nodes},
    operate::pause::words,
    promoted, setup,
    side::Side,
};

/// The log's reader may take so long to come to where the log ended a moment ago, before it is given up.
const LOOK_WITHIN: Duration = Duration::from_secs(60);

pub(crate) async fn run(arguments: SwitchoverArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let to = config.named(&arguments.to)?;
    let nodes = nodes::open(&config)?;
    setup::connect(&nodes.nodes).await?;
    let mapping = mapping::map(&config, &nodes.nodes).await?.require()?;
    if !mapping.reads[to.other()] {
        let text = format!("nothing goes {}: there is nobody to take over from", words(&nodes, to.other()));
        return Err(Error::new(Code::Config, text).hint("see direction in the tables' sections of the configuration"));
    }
    let over = Over { config: &config, nodes: &nodes, mapping: &mapping, to, context };
    let is_ready = over.look(arguments.execute).await?;
    match (is_ready, arguments.execute) {
        (false, _) => Ok(NO),
        (true, false) => over.tell_the_rest(),
        (true, true) => over.take_the_last_step(arguments.timeout).await,
    }
}

struct Over<'a> {
    config: &'a Config,
    nodes: &'a Nodes,
    mapping: &'a Mapping,
    to: Side,
    context: &'a Context,
}

impl Over<'_> {
    fn name(&self, side: Side) -> &str {
        self.nodes.nodes[side].name()
    }

    fn line(&self, style: Style, word: &str, text: &str) -> Result<()> {
        let out = &self.context.out;
        out.line(&format!("{}  {text}", out.paint(style, &format!("{word:<5}"))))
    }

    /// Says of each thing whether it is in order; whether all that has to be are.
    async fn look(&self, execute: bool) -> Result<bool> {
        let mut is_ready = true;
        let mut tell = |ok: bool, good: &str, bad: &str| {
            is_ready &= ok;
            let (style, word, text) = if ok { (Style::Good, "ok", good) } else { (Style::Bad, "to do", bad) };
            self.line(style, word, text)
        };
        let nodes = &self.nodes.nodes;
        tell(is_running(nodes).await?, "the bridge works", "no process of the bridge works: pontoon run")?;
        for source in Side::BOTH.into_iter().filter(|side| self.mapping.reads[*side]) {
            let (target, way) = (source.other(), words(self.nodes, source));
            let paused = bridge::pauses::of(nodes, source).await?.is_some();
            tell(!paused, &format!("{way}: not paused"), &format!("{way}: paused: pontoon resume '{way}'"))?;
            let quarantine = self.nodes.admins[target].quarantine_counts().await;
            let keys = quarantine.map_err(|error| error.at(self.name(target)))?.keys;
            let held = format!("{way}: {} keys wait in quarantine: pontoon quarantine list", human::count(keys));
            tell(keys == 0, &format!("{way}: nothing in quarantine"), &held)?;
        }
        let from = self.to.other();
        let state = nodes[self.to].state(&self.mapping.tables[self.to]).await;
        let checkpoint = state.map_err(|error| error.at(self.name(self.to)))?.checkpoint;
        if let Some(checkpoint) = &checkpoint {
            let log = nodes[from].identity().await.map_err(|error| error.at(self.name(from)))?;
            promoted::is_of(self.name(from), checkpoint, &log)?;
        }
        let position = checkpoint.as_ref().map(|checkpoint| &checkpoint.position);
        let log = nodes[from].log_status(position).await.map_err(|error| error.at(self.name(from)))?;
        let behind = log.behind_bytes.map_or_else(|| "?".to_owned(), human::bytes);
        self.line(Style::Faint, "", &format!("{}: {behind} of the log of {} to come", self.name(self.to), self.name(from)))?;
        if !execute {
            for found in self.generators(false).await?.iter().filter(|found| found.is_behind()) {
                self.line(Style::Warning, "later", &format!("{} (done by --execute)", found.text()))?;
            }
        }
        let (here, there) = (self.name(self.to), self.name(from));
        match self.mapping.reads[self.to] {
            true => self.line(Style::Faint, "", &format!("what is written on {here} crosses to {there}, and there is a way back"))?,
            false => self.line(Style::Warning, "note", &format!("what is written on {here} stays there: {there} is no way back"))?,
        }
        Ok(is_ready)
    }

    async fn generators(&self, execute: bool) -> Result<Vec<sequences::Found<'_>>> {
        let chosen: Vec<_> = self.mapping.tables[self.to].iter().collect();
        sequences::of(self.nodes, &self.mapping.tables, self.to, &chosen, execute).await
    }

    fn tell_the_rest(&self) -> Result<u8> {
        let (to, from) = (self.name(self.to), self.name(self.to.other()));
        let out = &self.context.out;
        out.line("then:")?;
        out.line("  1. pontoon verify, if you want to be sure that both have the same rows")?;
        out.line(&format!("  2. stop the applications that write to {from}"))?;
        out.line(&format!("  3. pontoon switchover --to {to} --execute"))?;
        out.line(&format!("  4. have them write to {to}"))?;
        Ok(DONE)
    }

    async fn take_the_last_step(&self, patience: Duration) -> Result<u8> {
        let (nodes, tables) = (&self.nodes.nodes, &self.mapping.tables);
        let from = self.to.other();
        let tail = nodes[from].open_tail(None, &tables[from], &PassedOver::default()).await.map_err(|error| error.at(self.name(from)))?;
        let look = Look::new(tail, &self.config.limits);
        if timeout(patience, all_applied(nodes, tables, self.mapping.reads)).await.map_or(Ok(false), |done| done.map(|()| true))? {
            self.line(Style::Good, "done", &format!("all that was written to {} is on {}", self.name(from), self.name(self.to)))?;
        } else {
            let text = format!("not everything has crossed within {patience:?}: pontoon status tells where it stands");
            self.line(Style::Bad, "to do", &text)?;
            return Ok(NO);
        }
        let generators = self.generators(true).await?;
        for found in generators.iter().filter(|found| found.is_moved() || found.is_behind()) {
            let (style, word) = if found.is_behind() { (Style::Bad, "to do") } else { (Style::Good, "done") };
            self.line(style, word, &found.text())?;
        }
        let written = timeout(LOOK_WITHIN, self.written(look, &tables[from])).await;
        let late = |_| Error::new(Code::Unreachable, "its log does not come to its end");
        let written = written.map_err(late).and_then(|written| written).map_err(|error| error.at(self.name(from)))?;
        if written > 0 {
            let text = format!(
                "{} transactions of applications were committed on {} meanwhile: not all of them are stopped",
                human::count(written),
                self.name(from)
            );
            self.line(Style::Bad, "to do", &text)?;
        }
        if written > 0 || generators.iter().any(sequences::Found::is_behind) {
            return Ok(NO);
        }
        self.line(Style::Good, "go", &format!("applications may write to {} now", self.name(self.to)))?;
        Ok(DONE)
    }

    /// How many transactions of others than the bridge a log has between where it was opened and where it ends now, of the bridge's tables.
    async fn written(&self, mut look: Look, tables: &Tables) -> Result<u64> {
        let node = &self.nodes.nodes[self.to.other()];
        let end = node.log_status(None).await?.end;
        node.mark(Mark::Barrier).await?;
        let (mut written, mut is_theirs) = (0, false);
        loop {
            let event = look.next().await?;
            let position = match &*event {
                LogEvent::Fragment(fragment) => {
                    let is_mapped = |table: usize| tables.get(table).is_some_and(|table| table.followed);
                    // A large one comes in pieces, and its last need not have any of these tables.
                    is_theirs |= fragment.origin == Origin::Local
                        && fragment.changes.iter().any(|change| is_mapped(change.table.index()));
                    if fragment.position.is_some() {
                        written += u64::from(std::mem::take(&mut is_theirs));
                    }
                    fragment.position.as_ref()
                }
                LogEvent::Progress(progress) => Some(&progress.position),
                LogEvent::Obstacle(obstacle) => return Err(obstacle.error.clone()),
                LogEvent::Held(_) => None,
            };
            if position.is_some_and(|position| position.covers(&end)) {
                return Ok(written);
            }
        }
    }
}
