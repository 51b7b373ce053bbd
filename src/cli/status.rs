//! `pontoon status`: both directions, whether or not `run` is up.
//!
//! A running bridge is asked for the document that its status page serves. Where none answers, the
//! databases are asked: what is durable there, and where the logs stand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pontoon_core::{Code, Error, Result, node::LeaseAttempt};
use tokio::time::{Instant, sleep};

use super::{
    Context, DONE, StatusArgs,
    run::told_to_stop,
    terminal::{Style, Table},
};
use crate::{
    bridge,
    config::Config,
    event::SetAside,
    human, mapping, nodes,
    observe::{DirectionState, DirectionStatus, Metrics, NodeStatus, StatusError, StatusSnapshot, ask},
    setup,
    side::Side,
};

/// How long a running bridge may take to answer: it is on this host, or at least in reach.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How often `--watch` shows it again.
const WATCH_EVERY: Duration = Duration::from_secs(2);

pub(crate) async fn run(arguments: StatusArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let stop = told_to_stop()?;
    tokio::pin!(stop);
    loop {
        let status = match ask_bridge(&config).await {
            Some(status) => status,
            None => ask_databases(&config).await?,
        };
        if arguments.json {
            context.out.line(&super::json(&status)?)?;
        } else {
            if arguments.watch && context.out.interactive {
                context.out.print("\x1b[H\x1b[2J")?;
            }
            print(&status, context)?;
        }
        if !arguments.watch {
            return Ok(DONE);
        }
        tokio::select! {
            () = &mut stop => return Ok(DONE),
            () = sleep(WATCH_EVERY) => {}
        }
    }
}

/// The document of the bridge that serves the configured address; `None` where there is none, or it is
/// another bridge's.
async fn ask_bridge(config: &Config) -> Option<StatusSnapshot> {
    let listen = config.server.listen.as_deref()?;
    let answer = ask(&config.server, listen, "/api/status", ANSWER_WITHIN).await.ok()?;
    if answer.code != 200 {
        return None;
    }
    let status: StatusSnapshot = serde_json::from_str(&answer.body).ok()?;
    (status.bridge == config.bridge.as_str()).then_some(status)
}

/// What the databases tell.
pub(crate) async fn ask_databases(config: &Config) -> Result<StatusSnapshot> {
    let nodes::Nodes { nodes, admins } = nodes::open(config)?;
    setup::connect(&nodes).await?;
    let metrics = Metrics::of(config)?;
    let mapping = mapping::map(config, &nodes).await?;
    let (mut holder, mut oldest, mut labels) = (None, None, BTreeSet::new());
    for side in Side::BOTH {
        let node = &nodes[side];
        let at = |error: Error| error.at(node.name());
        let target = &nodes[side.other()];
        let state = target.state(&mapping.tables[side.other()]).await.map_err(|error| error.at(target.name()))?;
        let checkpoint = state.checkpoint.ok_or_else(|| {
            Error::new(Code::NotSetUp, format!("{} has no checkpoint of this bridge", target.name()))
                .hint("run pontoon setup")
        })?;
        labels.extend(state.aside.into_iter().map(|(label, _)| label));
        // Of another log than the checkpoint's nothing tells how far behind it is.
        let is_of_this = mapping.reads[side] && node.identity().await.map_err(at)? == checkpoint.log;
        let position = is_of_this.then_some(&checkpoint.position);
        let asked = Instant::now();
        let log = node.log_status(position).await.map_err(at)?;
        metrics.node(side).set_up(true);
        metrics.node(side).log_status(&log, asked.elapsed().as_secs_f64());
        let direction = metrics.direction(side);
        let quarantine = admins[side.other()].quarantine_counts().await.map_err(|error| error.at(target.name()))?;
        direction.set_quarantined(quarantine.keys);
        oldest = oldest.into_iter().chain(quarantine.oldest).min();
        direction.set_used(mapping.reads[side]);
        direction.applied_up_to(&checkpoint.position);
        if log.behind_bytes == Some(0) {
            direction.set_lag_seconds(0.0);
        }
        if let Some(pause) = bridge::pauses::of(&nodes, side).await? {
            direction.paused_until(pause.until);
            direction.set_state(DirectionState::Paused);
        }
        // Taken and given back at once: who does not get it knows who holds it.
        if let LeaseAttempt::HeldBy(by) = node.try_lease().await.map_err(at)? {
            holder = Some(by);
        }
    }
    let unfit: BTreeMap<_, _> = mapping.unfit().into_iter().collect();
    let why = |label: &Arc<str>| unfit.get(label).cloned().unwrap_or_else(agreed_on);
    let aside: Vec<_> = labels.into_iter().map(|label| SetAside { why: why(&label), label }).collect();
    metrics.set_tables(mapping.tables[Side::A].len(), aside);
    metrics.set_quarantined_since(oldest);
    metrics.set_active(false, holder.as_deref());
    Ok(metrics.status())
}

/// Of a table that is still set aside.
fn agreed_on() -> Error {
    Error::new(Code::TablesChanged, "both sides agree on it by now").hint("it goes on as soon as the bridge runs")
}

fn print(status: &StatusSnapshot, context: &Context) -> Result<()> {
    let out = &context.out;
    let (word, style) = match (status.active, &status.standing_by_for) {
        (true, _) => ("running".to_owned(), Style::Good),
        (false, Some(holder)) => (format!("held by {holder}, whose status page does not answer here"), Style::Warning),
        (false, None) => ("not running".to_owned(), Style::Warning),
    };
    out.line(&format!("{} {}", out.paint(Style::Strong, &status.bridge), out.paint(style, &word)))?;
    let mut table =
        Table::new(["direction", "state", "lag", "behind", "applied", "rows", "conflicts", "quarantine", "errors"])
            .right([2, 3, 5, 6, 7, 8]);
    for direction in status.directions.iter().filter(|direction| direction.used) {
        table.row(cells(direction));
    }
    out.print(&out.table(&table))?;
    let mut table = Table::new(["node", "server", "log end", "retained", "headroom", "clock"]).right([3, 4, 5]);
    for node in &status.nodes {
        table.row(node_cells(node));
    }
    out.print(&out.table(&table))?;
    for DirectionStatus { source, target, held_back, .. } in &status.directions {
        if let Some(why) = held_back {
            out.line(&out.paint(Style::Warning, &format!("{source} -> {target} is held back: {why}")))?;
        }
    }
    for table in &status.tables_set_aside {
        let StatusError { code, message, hint } = &table.error;
        out.line(&out.paint(Style::Warning, &format!("{} is set aside: {message} [{code}]", table.table)))?;
        if let Some(hint) = hint {
            out.line(&format!("  {hint}"))?;
        }
    }
    if let Some(since) = &status.quarantined_since {
        out.line(&out.paint(Style::Warning, &format!("in quarantine since {since}: pontoon quarantine list")))?;
    }
    let errors = status.directions.iter().filter_map(|direction| direction.error.as_ref());
    for error in errors.chain(status.nodes.iter().filter_map(|node| node.error.as_ref())) {
        out.line(&out.paint(Style::Bad, &format!("{} [{}]", error.message, error.code)))?;
    }
    Ok(())
}

fn known<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "?".to_owned(), text)
}

fn cells(direction: &DirectionStatus) -> [String; 9] {
    [
        format!("{} -> {}", direction.source, direction.target),
        direction.in_words(),
        known(direction.lag_seconds, human::seconds),
        known(direction.lag_bytes, human::bytes),
        known(direction.position.applied.clone(), |position| position),
        human::count(direction.rows_applied),
        human::count(direction.conflicts),
        known(direction.quarantined, human::count),
        human::count(direction.errors),
    ]
}

fn node_cells(node: &NodeStatus) -> [String; 6] {
    [
        node.name.clone(),
        known(node.server.clone(), |server| server),
        known(node.log_position.clone(), |position| position),
        known(node.log_retained_bytes, human::bytes),
        known(node.log_headroom_bytes, human::bytes),
        known(node.clock_offset_seconds, |offset| format!("{offset:+.3} s")),
    ]
}
