//! From a configuration to a running bridge: nodes, mapping, metrics, status page, engine.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pontoon_core::{Code, Error, Result, node::Node};
use tokio::sync::watch;

use crate::{
    bridge::{self, Plan, Until},
    config::Config,
    conflict::quarantine,
    direction::queue::Limits,
    event::{EngineEvent, Observer},
    mapping::{self, Mapping},
    nodes::Nodes,
    observe::{self, Metrics},
    rings,
    rules::Rules,
    setup,
    side::{Pair, Side},
};

/// Runs the bridge of a configuration between its opened nodes until `shutdown` completes, or until it is done with what is
/// asked. `also` is told what happens beside the metrics. Errors: as [`bridge::run`], and pairs of tables
/// that are unfit.
pub async fn run(
    config: &Config,
    opened: &Nodes,
    until: Until,
    also: Option<Arc<dyn Observer>>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let nodes = opened.nodes.clone();
    let metrics = Arc::new(Metrics::of(config)?);
    let mapping = prepare(config, opened).await?;
    for note in &mapping.notes {
        tracing::warn!("{note}");
    }
    let observer = Arc::new(Both { metrics: metrics.clone(), also });
    let (stop, stopped) = watch::channel(false);
    let ended = |mut stopped: watch::Receiver<bool>| async move {
        // The sender lives until both have ended.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let page = async {
        if let Some(listen) = &config.server.listen {
            observe::serve_when_free(listen, metrics.clone(), ended(stopped.clone())).await;
        }
    };
    let poll = observe::poll(nodes.clone(), metrics.clone(), ended(stopped.clone()));
    let work = async {
        let done = in_every_shape(config, &nodes, mapping, until, &observer, shutdown).await;
        stop.send_replace(true);
        done
    };
    let ((), (), done) = tokio::join!(page, poll, work);
    done
}

/// Runs the bridge; and again, as if somebody had started it, where it stopped because a table has another shape and the
/// pair is fit as it is now.
async fn in_every_shape(
    config: &Config,
    nodes: &Pair<Arc<dyn Node>>,
    mut mapping: Mapping,
    until: Until,
    observer: &Arc<Both>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let told = AtomicBool::new(false);
    let shutdown = async {
        shutdown.await;
        told.store(true, Ordering::Relaxed);
    };
    tokio::pin!(shutdown);
    loop {
        for side in Side::BOTH {
            observer.metrics.direction(side).set_used(mapping.reads[side]);
        }
        let tables = mapping.tables.clone();
        let plan = plan(config, nodes.clone(), mapping, until, observer.clone());
        let error = match bridge::run(plan, shutdown.as_mut()).await {
            Err(error) if error.code() == Code::SchemaChanged && !told.load(Ordering::Relaxed) => error,
            done => return done,
        };
        mapping = match mapping::map(config, nodes).await.and_then(Mapping::require) {
            Ok(now) if now.tables != tables => now,
            _ => return Err(error),
        };
        tracing::warn!(%error, "the tables are still fit to be bridged; going on with what they are now");
    }
}

/// Connects to both nodes and pairs their tables. Errors: among others, tables go round another way.
async fn prepare(config: &Config, Nodes { nodes, admins }: &Nodes) -> Result<Mapping> {
    for side in Side::BOTH {
        let at = |error: Error| error.at(nodes[side].name());
        let peer = nodes[side].connect().await.map_err(at)?;
        tracing::info!(node = nodes[side].name(), server = peer.server, "connected");
    }
    let mapping = mapping::map(config, nodes).await?.require()?;
    let plans = setup::plans(config, nodes, &mapping).await?;
    rings::look(setup::names(nodes), &plans, admins).await?.refuse()?;
    Ok(mapping)
}

fn plan(
    config: &Config,
    nodes: Pair<Arc<dyn Node>>,
    mapping: Mapping,
    until: Until,
    observer: Arc<dyn Observer>,
) -> Plan {
    // Each direction gets half of what the configuration gives both.
    let memory = usize::try_from(config.limits.memory_bytes / 2).unwrap_or(usize::MAX);
    Plan {
        nodes,
        tables: mapping.tables,
        policies: mapping.policies,
        on_error: mapping.on_error,
        quarantined_max: quarantine::KEYS_MAX,
        retention: config.limits.retention,
        preferred: config.tie_winner(),
        reads: mapping.reads,
        limits: Limits::new(memory, config.limits.spill_bytes / 2),
        spill_folder: config.limits.spill_dir.clone(),
        holder: holder(),
        until,
        chunk_rows: None,
        seed: None,
        rules: Rules::ALL,
        observer,
    }
}

/// This process for people: its host and its process id.
pub(crate) fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}, process {}", if host.is_empty() { "this host" } else { host }, std::process::id())
}

struct Both {
    metrics: Arc<Metrics>,
    also: Option<Arc<dyn Observer>>,
}

impl Observer for Both {
    fn observe(&self, event: &EngineEvent<'_>) {
        self.metrics.observe(event);
        if let Some(also) = &self.also {
            also.observe(event);
        }
    }
}
