//! `pontoon setup`: creates what the bridge needs on both sides.

use pontoon_core::{Code, Result, node::SetupPlan};

use super::{Context, DONE, SetupArgs};
use crate::{
    config::Config,
    mapping,
    nodes::{self, Nodes},
    setup,
    side::{Pair, Side},
};

pub(crate) async fn run(arguments: SetupArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?;
    if arguments.print_sql {
        let plans = plans(&config, &nodes).await?;
        for side in Side::BOTH {
            let name = nodes.nodes[side].name();
            let sql = nodes.admins[side].setup_sql(&plans[side]).await.map_err(|error| error.at(name))?;
            super::print_sql(context, name, &sql)?;
        }
        return Ok(DONE);
    }
    let mapping = setup::setup(&config, &nodes).await?;
    for note in &mapping.notes {
        tracing::warn!("{note}");
    }
    for table in mapping.tables[Side::A].iter() {
        let other = &mapping.tables[Side::B][table.id.index()];
        let arrow = match (table.followed, other.followed) {
            (true, true) => "<->",
            (true, false) => "->",
            _ => "<-",
        };
        let names = Side::BOTH.map(|side| nodes.nodes[side].name());
        context.out.line(&format!("{}: {} {arrow} {}: {}", names[0], table.name, names[1], other.name))?;
    }
    context.out.line("set up: what is committed on either side from now on will cross")?;
    Ok(DONE)
}

/// What to print the SQL for. A user without any right sees no table, and on MySQL and MariaDB does not even
/// get in: then the configuration's names have to do.
async fn plans(config: &Config, nodes: &Nodes) -> Result<Pair<SetupPlan>> {
    let seen = async {
        setup::connect(&nodes.nodes).await?;
        let mapping = mapping::map(config, &nodes.nodes).await?;
        setup::plans(config, &nodes.nodes, &mapping).await
    };
    match seen.await {
        Err(error) if matches!(error.code(), Code::Config | Code::LoginRefused | Code::PrivilegeMissing) => {
            tracing::warn!(%error, "the tables cannot be seen yet: printed by their names, tables of patterns left out");
            Ok(setup::plans_by_name(config))
        }
        seen => seen,
    }
}
