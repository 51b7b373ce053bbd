//! `pontoon setup`: creates what the bridge needs on both sides.

use pontoon_core::Result;

use super::{Context, DONE, SetupArgs};
use crate::{mapping, nodes, setup, side::Side};

pub(crate) async fn run(arguments: SetupArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?;
    if arguments.print_sql {
        setup::connect(&nodes.nodes).await?;
        let mapping = mapping::map(&config, &nodes.nodes).await?.require()?;
        let plans = setup::plans(&config, &nodes.nodes, &mapping).await?;
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
