//! Preparing two databases for a bridge, and removing what was prepared.
//!
//! Each node is asked where its log stands *after* everything is in place there; that position becomes
//! the first checkpoint, kept on the other node. So what is committed on either side after [`setup`]
//! returns crosses, and nothing before does: what the tables held then has to be equal already.
//!
//! Or an operator names a place that is past, because the other node holds a dump that was taken there. The node is asked
//! whether its log can be taken up at it before anything is made, and the rest is as ever. A checkpoint that is there is moved only
//! while no transaction of the bridge has been committed on the node that keeps it: it says then what `setup` said, and not
//! what is applied. That is looked at, and the checkpoint moved, as a bridge begins: under the lease of both nodes, and after
//! all transactions of whoever had it before. A process that is started meanwhile stands by.

use std::{sync::Arc, time::Duration};

use pontoon_core::{
    Checkpoint, Code, Error, LogIdentity, MappedTable, Position, Result, TableId, TableName,
    node::{Lease, LeaseAttempt, Node, Peer, SetupPlan, Tables},
    state::NodeState,
};

use tokio::time::{Instant, sleep};

use crate::{
    bridge,
    config::Config,
    epoch,
    mapping::{self, Mapping},
    nodes::Nodes,
    promoted, rings,
    rules::Rules,
    service,
    side::{Pair, Side},
};

/// A bridge that reads a log which is no longer followed notices it when it renews its lease, and that may come late.
const LET_GO_WITHIN: Duration = Duration::from_secs(30);

/// How often is looked whether it has.
const LET_GO_AGAIN: Duration = Duration::from_millis(300);

/// What each node has to be prepared for.
pub async fn plans(config: &Config, nodes: &Pair<Arc<dyn Node>>, mapping: &Mapping) -> Result<Pair<SetupPlan>> {
    plans_of(config, nodes, &mapping.tables, mapping.reads).await
}

async fn plans_of(
    config: &Config,
    nodes: &Pair<Arc<dyn Node>>,
    tables: &Pair<Tables>,
    reads: Pair<bool>,
) -> Result<Pair<SetupPlan>> {
    let log = async |side: Side| nodes[side].identity().await.map_err(|error| error.at(nodes[side].name()));
    let logs = Pair::new(log(Side::A).await?, log(Side::B).await?);
    if logs[Side::A] == logs[Side::B] && config.node(Side::A).database == config.node(Side::B).database {
        return Err(Error::new(Code::Config, format!("both nodes are the same database: {}", logs[Side::A]))
            .hint("a bridge joins two databases"));
    }
    Ok(planned(config, tables, reads, &logs))
}

fn planned(config: &Config, tables: &Pair<Tables>, reads: Pair<bool>, logs: &Pair<LogIdentity>) -> Pair<SetupPlan> {
    Pair::from_fn(|side| SetupPlan {
        tables: tables[side].clone(),
        other_tables: names_of(&tables[side.other()]),
        arrives: tables[side.other()].iter().map(|table| table.followed).collect(),
        anew: Vec::new(),
        followed: reads[side],
        written: reads[side.other()],
        database: config.node(side).database.clone(),
        other_name: config.node(side.other()).name.clone(),
        other_database: config.node(side.other()).database.clone(),
        other_log: logs[side.other()].clone(),
    })
}

fn names_of(tables: &Tables) -> Vec<TableName> {
    tables.iter().map(|table| table.name.clone()).collect()
}

/// What the configuration alone tells: for the SQL to print while the bridge's user may not even see the
/// tables, which it will not before that SQL has been run. Tables of a pattern are not known then.
pub fn plans_by_name(config: &Config) -> Pair<SetupPlan> {
    let tables = Pair::from_fn(|side| {
        let exact = config.tables.iter().filter_map(|rule| Some((rule, rule.names[side as usize].exact()?)));
        exact
            .zip(0..)
            .map(|((rule, name), number)| MappedTable {
                id: TableId(number),
                label: rule.written[Side::A as usize].as_str().into(),
                key: Vec::new(),
                followed: rule.direction.follows(side),
                ..MappedTable::plain(
                    TableName {
                        schema: name.schema.or_else(|| Some(config.node(side).default_schema().into())),
                        name: name.name,
                    },
                    Vec::new(),
                )
            })
            .collect::<Tables>()
    });
    let follows = Pair::from_fn(|side| config.tables.iter().any(|rule| rule.direction.follows(side)));
    planned(config, &tables, follows, &Pair::from_fn(|_| LogIdentity("unknown".into())))
}

/// The nodes' names.
pub fn names(nodes: &Pair<Arc<dyn Node>>) -> Pair<&str> {
    Pair::from_fn(|side| nodes[side].name())
}

/// Connects to both nodes, and says what answered.
pub async fn connect(nodes: &Pair<Arc<dyn Node>>) -> Result<Pair<Peer>> {
    let connect = async |side: Side| nodes[side].connect().await.map_err(|error| error.at(nodes[side].name()));
    Ok(Pair::new(connect(Side::A).await?, connect(Side::B).await?))
}

/// Prepares both nodes. Safe to repeat: what is there stays, checkpoints included. Errors: among others, a ring would be
/// closed; then nothing is left.
pub async fn setup(config: &Config, nodes: &Nodes) -> Result<Mapping> {
    let (mapping, plans) = prepare(config, nodes).await?;
    let starts = create(nodes, &plans).await?;
    install(nodes, &plans, &starts).await?;
    let_go(nodes, &plans).await?;
    Ok(mapping)
}

/// The same, where what the log of `source` holds of some tables until now is passed over, by label: their rows are brought another way. What it holds
/// of others, and the other node's log, crosses as ever.
pub async fn setup_anew(config: &Config, nodes: &Nodes, source: Side, tables: &[Arc<str>]) -> Result<()> {
    let (_, mut plans) = prepare(config, nodes).await?;
    plans[source.other()].anew = tables.to_vec();
    let mut starts = create(nodes, &plans).await?;
    if let Position::Lsn(_) = starts[source].position {
        // A slot that was there has the log from where it is still needed, which may be long ago. (A binary log is taken up where it stands.)
        let node = &nodes.nodes[source];
        starts[source].position = node.log_status(None).await.map_err(|error| error.at(node.name()))?.end;
    }
    install(nodes, &plans, &starts).await
}

/// The same, where the logs of some nodes are taken up at places that an operator names. Returns from where each log is to be
/// applied. Errors: of a place where that cannot be, before anything is made; the bridge runs, or has applied something.
pub async fn setup_at(
    config: &Config,
    nodes: &Nodes,
    at: &Pair<Option<Position>>,
) -> Result<(Mapping, Pair<Option<Position>>)> {
    let (mapping, plans) = prepare(config, nodes).await?;
    let mut hold = match hold(nodes, &mapping, &plans, at).await {
        Err(error) if error.code() == Code::NotSetUp => None,
        held => Some(held?),
    };
    let starts = tokio::select! {
        starts = create_at(nodes, &plans, at) => starts?,
        error = keep(hold.as_mut()) => return Err(error),
    };
    let Hold { mut leases, moved } = match hold {
        Some(hold) => hold,
        None => self::hold(nodes, &mapping, &plans, at).await?,
    };
    install(nodes, &plans, &starts).await?;
    for (side, lease) in Side::BOTH.into_iter().zip(&mut leases) {
        if moved[side.other()] {
            let set = lease.set_checkpoint(&starts[side.other()]).await;
            set.map_err(|error| error.at(nodes.nodes[side].name()))?;
        }
    }
    let states = bridge::states::read(&nodes.nodes, &mapping.tables).await?;
    let place = |side: Side| Some(states[side.other()].checkpoint.as_ref()?.position.clone());
    let places = Pair::from_fn(|side| place(side).filter(|_| plans[side].followed));
    Ok((mapping, places))
}

/// What is to be done, if it may be.
async fn prepare(config: &Config, nodes: &Nodes) -> Result<(Mapping, Pair<SetupPlan>)> {
    connect(&nodes.nodes).await?;
    let mapping = mapping::map(config, &nodes.nodes).await?.with_statements(nodes).await.require()?;
    let plans = plans(config, &nodes.nodes, &mapping).await?;
    rings::look(names(&nodes.nodes), &plans, &nodes.admins).await?.refuse()?;
    match heed_promotions(&nodes.nodes, &mapping.tables).await {
        // There is nothing yet, or nothing that this version reads, that speaks of a log.
        Err(error) if matches!(error.code(), Code::NotSetUp | Code::FormatOld) => {}
        heeded => heeded?,
    }
    Ok((mapping, plans))
}

/// Notes of servers that were promoted that their logs go on from those that the bridge has read, as a session of it does: what is set up is for these
/// nodes then, and not for others. Errors: the bridge runs, or cannot go on; see [`promoted`].
async fn heed_promotions(nodes: &Pair<Arc<dyn Node>>, tables: &Pair<Tables>) -> Result<()> {
    let mut states = bridge::states::read(nodes, tables).await?;
    if promoted::look(nodes, tables, Rules::ALL, &mut states).await?.iter().all(Option::is_none) {
        return Ok(());
    }
    let mut leases = leases(nodes).await?;
    let mut states = bridge::states::read(nodes, tables).await?;
    epoch::check(nodes, &states)?;
    let promoted = promoted::look(nodes, tables, Rules::ALL, &mut states).await?;
    epoch::raise(nodes, &mut leases).await?;
    promoted::note(nodes, &mut leases, &promoted, (&states, tables)).await
}

/// Makes what is missing; where each log stands after it.
async fn create(nodes: &Nodes, plans: &Pair<SetupPlan>) -> Result<Pair<Checkpoint>> {
    let create = async |side: Side| {
        let start = nodes.admins[side].setup(&plans[side]).await;
        start.map_err(|error| error.at(nodes.nodes[side].name()))
    };
    Ok(Pair::new(create(Side::A).await?, create(Side::B).await?))
}

/// Leaves on each node from where on the other one's log is applied.
async fn install(nodes: &Nodes, plans: &Pair<SetupPlan>, starts: &Pair<Checkpoint>) -> Result<()> {
    for side in Side::BOTH {
        let installed = nodes.admins[side].install_checkpoint(&plans[side], &starts[side.other()]).await;
        installed.map_err(|error| error.at(nodes.nodes[side].name()))?;
    }
    Ok(())
}

/// Removes what a log that is no longer followed had for it, once whoever reads it has noticed.
async fn let_go(nodes: &Nodes, plans: &Pair<SetupPlan>) -> Result<()> {
    for side in Side::BOTH {
        let began = Instant::now();
        loop {
            match nodes.admins[side].let_go(&plans[side]).await {
                Err(error) if error.code() == Code::Contention && began.elapsed() < LET_GO_WITHIN => {
                    sleep(LET_GO_AGAIN).await;
                }
                done => break done.map_err(|error| error.at(nodes.nodes[side].name()))?,
            }
        }
    }
    Ok(())
}

/// The same once the logs can be taken up at the places that were named; from where on each log is to be applied.
async fn create_at(nodes: &Nodes, plans: &Pair<SetupPlan>, at: &Pair<Option<Position>>) -> Result<Pair<Checkpoint>> {
    let named = named(nodes, plans, at).await?;
    let now = create(nodes, plans).await?;
    Ok(Pair::from_fn(|side| named[side].clone().unwrap_or_else(|| now[side].clone())))
}

/// The places that were named, if the logs can be taken up at them.
async fn named(
    nodes: &Nodes,
    plans: &Pair<SetupPlan>,
    at: &Pair<Option<Position>>,
) -> Result<Pair<Option<Checkpoint>>> {
    let mut named = Pair::<Option<Checkpoint>>::default();
    for side in Side::BOTH {
        let Some(position) = &at[side] else { continue };
        let name = nodes.nodes[side].name();
        if !plans[side].followed {
            return Err(Error::new(Code::Config, format!("{name}: its log is not followed, whatever the place"))
                .hint("name the node from which tables go to the other one"));
        }
        let start = nodes.admins[side].start_at(&plans[side], position).await;
        named[side] = Some(start.map_err(|error| error.at(name))?);
    }
    Ok(named)
}

/// The right to work, and what is to be done with it: of which nodes' logs the checkpoint that is there has to be moved.
struct Hold {
    leases: Vec<Box<dyn Lease>>,
    moved: Pair<bool>,
}

/// Takes it. Errors: not set up; the bridge runs; a checkpoint may not be moved.
async fn hold(nodes: &Nodes, mapping: &Mapping, plans: &Pair<SetupPlan>, at: &Pair<Option<Position>>) -> Result<Hold> {
    let leases = leases(&nodes.nodes).await?;
    let states = bridge::states::read(&nodes.nodes, &mapping.tables).await?;
    let of = |side: Side| plans[side.other()].other_log.clone();
    let named = Pair::from_fn(|side| at[side].clone().map(|position| Checkpoint { position, log: of(side) }));
    let moved = moved(&names(&nodes.nodes), plans, &named, &states)?;
    Ok(Hold { leases, moved })
}

/// Keeps it, where it is held: reading a log may take longer than the servers wait for a word. Ends by an error alone.
async fn keep(hold: Option<&mut Hold>) -> Error {
    match hold {
        Some(hold) => bridge::lease::renewing(&mut hold.leases).await,
        None => std::future::pending().await,
    }
}

/// Both leases, with all earlier holders shut out. Errors: the bridge runs.
async fn leases(nodes: &Pair<Arc<dyn Node>>) -> Result<Vec<Box<dyn Lease>>> {
    let mut leases = Vec::new();
    for side in Side::BOTH {
        let node = &nodes[side];
        match node.try_lease().await.map_err(|error| error.at(node.name()))? {
            LeaseAttempt::Ours(lease) => leases.push(lease),
            LeaseAttempt::HeldBy(holder) => {
                return Err(Error::new(Code::Config, format!("the bridge runs: {holder}"))
                    .hint("stop it first; where its logs are applied from was not changed"));
            }
        }
    }
    for (side, lease) in Side::BOTH.into_iter().zip(&mut leases) {
        let taken = lease.take_over(&format!("{} (setup)", service::holder())).await;
        taken.map_err(|error| error.at(nodes[side].name()))?;
    }
    Ok(leases)
}

/// Of which nodes' logs the checkpoint that is there has to be moved. Errors: it is no longer as `setup` left it; or that of
/// the other log would stay where it was before the dump was loaded, and all of that would come back.
fn moved(
    names: &Pair<&str>,
    plans: &Pair<SetupPlan>,
    named: &Pair<Option<Checkpoint>>,
    states: &Pair<NodeState>,
) -> Result<Pair<bool>> {
    let mut moved = Pair::new(false, false);
    for side in Side::BOTH {
        let keeper = side.other();
        let (Some(start), Some(found)) = (&named[side], &states[keeper].checkpoint) else { continue };
        if start == found {
            continue;
        }
        let (name, other) = (names[side], names[keeper]);
        if states[keeper].applied {
            let text = format!(
                "{other} has the log of {name} applied up to {}, and not to {}",
                found.position, start.position
            );
            return Err(Error::new(Code::AlreadyApplied, text).hint(
                "`pontoon verify` shows what differs, `pontoon copy --merge` brings what is missing; or \
                 `pontoon teardown --execute`, and begin anew",
            ));
        }
        if let (true, None, Some(back)) = (plans[keeper].followed, &named[keeper], &states[side].checkpoint)
            && !states[side].applied
        {
            let text = format!(
                "{other}: its log is taken up at {}, as an earlier setup found it; what was loaded there since would cross back to {name}",
                back.position
            );
            return Err(Error::new(Code::Config, text).hint(format!(
                "name as well where its log ended when the dump was loaded: --at {other}=POSITION; where nothing was loaded since, --at {other}={}",
                back.position
            )));
        }
        moved[side] = true;
    }
    Ok(moved)
}

/// What has to be removed. Tables that are gone or unfit by now are no reason not to remove the rest.
pub async fn teardown_plans(config: &Config, nodes: &Nodes) -> Result<Pair<SetupPlan>> {
    connect(&nodes.nodes).await?;
    let tables = match mapping::map(config, &nodes.nodes).await {
        Ok(mapping) => mapping.tables,
        Err(error) if error.code() == Code::Config => Pair::from_fn(|_| Tables::from([])),
        Err(error) => return Err(error),
    };
    plans_of(config, &nodes.nodes, &tables, Pair::new(true, true)).await
}
