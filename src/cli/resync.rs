//! `pontoon resync`: tables whose log is lost on a node are made as that node has them.
//!
//! What that node's log holds of them until now is passed over; then both sides are compared, and where no write explains a difference that node's
//! row stands ([`super::repair`]): so what it wrote, changed and removed while its log was lost is on the other side too, and what the other side
//! wrote crosses by its own log as ever. In this order: what was compared before could be written, and passed over, in between.

use std::sync::Arc;

use pontoon_core::Result;

use super::{Context, NO, RepairArgs, ResyncArgs, copy, repair, run::beside, side};
use crate::{barrier::all_applied, bridge::Until, mapping, nodes, setup};

pub(crate) async fn run(arguments: ResyncArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let ResyncArgs { from, tables: names, execute, timeout } = arguments;
    let source = side(&config, &from)?;
    let nodes = nodes::open(&config)?;
    setup::connect(&nodes.nodes).await?;
    let mapping = mapping::map(&config, &nodes.nodes).await?.require()?;
    let tables = copy::from(&config, &mapping, source, &names)?;
    let labels: Vec<Arc<str>> = tables.iter().map(|table| table.label.clone()).collect();
    let (all, other) = (labels.join(", "), &config.node(source.other()).name);
    context.out.line(&format!("{all}: what the log of {from} holds until now is passed over, and {other} gets what {from} has"))?;
    if !execute {
        eprintln!("nothing is done; --execute does it, while both sides may be written");
        return Ok(NO);
    }
    setup::setup_anew(&config, &nodes, source, &labels).await?;
    // What is on its way does not have to be looked at row by row.
    let all_applied = all_applied(&nodes.nodes, &mapping.tables, mapping.reads);
    beside(&config, &nodes, Until::CaughtUp, all_applied).await?;
    repair::run(RepairArgs { from, tables: names, execute: true, timeout }, context).await
}
