//! Preparing two databases for a bridge, and removing what was prepared.
//!
//! Each node is asked where its log stands *after* everything is in place there; that position becomes
//! the first checkpoint, kept on the other node. So what is committed on either side after [`setup`]
//! returns crosses, and nothing before does: what the tables held then has to be equal already.

use std::sync::Arc;

use pontoon_core::{
    Code, Error, LogIdentity, MappedTable, Result, TableId, TableName,
    node::{Node, Peer, SetupPlan, Tables},
};

use crate::{
    config::Config,
    mapping::{self, Mapping},
    nodes::Nodes,
    rings,
    side::{Pair, Side},
};

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
    let mut identities = Vec::<LogIdentity>::new();
    for side in Side::BOTH {
        identities.push(nodes[side].identity().await.map_err(|error| error.at(nodes[side].name()))?);
    }
    if identities[0] == identities[1] && config.node(Side::A).database == config.node(Side::B).database {
        return Err(Error::new(Code::Config, format!("both nodes are the same database: {}", identities[0]))
            .hint("a bridge joins two databases"));
    }
    Ok(Pair::from_fn(|side| SetupPlan {
        tables: tables[side].clone(),
        other_tables: names_of(&tables[side.other()]),
        followed: reads[side],
        written: reads[side.other()],
        database: config.node(side).database.clone(),
        other_name: config.node(side.other()).name.clone(),
        other_database: config.node(side.other()).database.clone(),
        other_log: identities[side.other() as usize].clone(),
    }))
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
                name: TableName {
                    schema: name.schema.or_else(|| Some(config.node(side).default_schema().into())),
                    name: name.name,
                },
                columns: Vec::new(),
                key: Vec::new(),
                followed: rule.direction.follows(side),
                uniques: Vec::new(),
                references: Vec::new(),
            })
            .collect::<Tables>()
    });
    let follows = |side: Side| config.tables.iter().any(|rule| rule.direction.follows(side));
    Pair::from_fn(|side| SetupPlan {
        tables: tables[side].clone(),
        other_tables: names_of(&tables[side.other()]),
        followed: follows(side),
        written: follows(side.other()),
        database: config.node(side).database.clone(),
        other_name: config.node(side.other()).name.clone(),
        other_database: config.node(side.other()).database.clone(),
        other_log: LogIdentity("unknown".into()),
    })
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
    connect(&nodes.nodes).await?;
    let mapping = mapping::map(config, &nodes.nodes).await?.require()?;
    let plans = plans(config, &nodes.nodes, &mapping).await?;
    rings::look(names(&nodes.nodes), &plans, &nodes.admins).await?.refuse()?;
    let mut starts = Vec::new();
    for side in Side::BOTH {
        let start = nodes.admins[side].setup(&plans[side]).await;
        starts.push(start.map_err(|error| error.at(nodes.nodes[side].name()))?);
    }
    for side in Side::BOTH {
        let installed = nodes.admins[side].install_checkpoint(&plans[side], &starts[side.other() as usize]).await;
        installed.map_err(|error| error.at(nodes.nodes[side].name()))?;
    }
    Ok(mapping)
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
