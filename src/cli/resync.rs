//! `pontoon resync`: tables are brought anew from a node whose log is lost for them.

use std::sync::Arc;

use pontoon_core::Result;

use super::{Context, NO, ResyncArgs, copy, side};
use crate::{mapping, nodes, setup};

pub(crate) async fn run(arguments: ResyncArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let source = side(&config, &arguments.from)?;
    let nodes = nodes::open(&config)?;
    setup::connect(&nodes.nodes).await?;
    let mapping = mapping::map(&config, &nodes.nodes).await?.require()?;
    let tables = copy::from(&config, &mapping, source, &arguments.tables)?;
    let labels: Vec<Arc<str>> = tables.iter().map(|table| table.label.clone()).collect();
    let other = &config.node(source.other()).name;
    context.out.line(&format!(
        "{}: what the log of {} holds until now is passed over on {other}, and the rows are loaded from {}",
        labels.join(", "),
        arguments.from,
        arguments.from
    ))?;
    if !arguments.execute {
        eprintln!("nothing is done; --execute does it, while both sides may be written");
        return Ok(NO);
    }
    // In this order: a row that is read before the log is passed over could be written in between.
    setup::setup_anew(&config, &nodes, source, &labels).await?;
    copy::load(&config, &nodes, &mapping, source, &tables, true, context).await
}
