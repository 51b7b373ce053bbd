//! `pontoon resync`: tables whose log is lost on a node are made as that node has them.
//!
//! What that node's log holds of them until now is passed over; then both sides are compared, and where no write explains a difference that node's
//! row stands ([`super::repair`]): so what it wrote, changed and removed while its log was lost is on the other side too, and what the other side
//! wrote crosses by its own log as ever. In this order: what was compared before could be written, and passed over, in between.

use std::{collections::BTreeSet, sync::Arc};

use pontoon_core::Result;

use super::{Context, NO, RepairArgs, ResyncArgs, copy, repair, run::beside};
use crate::{barrier::{all_applied, until_stuck}, mapping, nodes, setup};

pub(crate) async fn run(arguments: ResyncArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let ResyncArgs { from, tables: names, execute, timeout } = arguments;
    let source = config.named(&from)?;
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
    let (sides, mapped) = (&nodes.nodes, &mapping.tables);
    setup::setup_anew(&config, &nodes, source, &labels).await?;
    // What is on its way does not have to be looked at row by row. Where another table waits for a person, it is all the same.
    let crossed = async {
        tokio::select! {
            done = all_applied(sides, mapped, mapping.reads) => done.map(|()| BTreeSet::new()),
            stuck = until_stuck(sides, mapped) => stuck,
        }
    };
    let stuck = beside(&config, &nodes, mapping.reads, crossed).await?.unwrap_or_default();
    if labels.iter().any(|label| stuck.contains(label)) {
        eprintln!(
            "{}: set aside again: the log of {other} holds what cannot be applied, too, or both sides do not agree; pontoon status says which. What the log of \
             {from} held is passed over. Once the rest is mended or passed over, resync compares the rows",
            stuck.into_iter().collect::<Vec<_>>().join(", ")
        );
        return Ok(NO);
    }
    repair::run(RepairArgs { from, tables: names, execute: true, timeout }, context).await
}
