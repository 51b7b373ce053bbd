//! `pontoon teardown`: removes all that `setup` created.

use pontoon_core::Result;

use super::{Context, DONE, NO, TeardownArgs};
use crate::{nodes, setup, side::Side};

pub(crate) async fn run(arguments: TeardownArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?;
    let plans = setup::teardown_plans(&config, &nodes).await?;
    let mut left = Vec::new();
    for side in Side::BOTH {
        let name = nodes.nodes[side].name();
        if arguments.execute {
            let rest = nodes.admins[side].teardown(&plans[side]).await.map_err(|error| error.at(name))?;
            left.extend(rest.into_iter().map(|what| format!("{name}: {what}")));
        } else {
            let sql = nodes.admins[side].teardown_sql(&plans[side]).await.map_err(|error| error.at(name))?;
            super::print_sql(context, name, &sql)?;
        }
    }
    if !arguments.execute {
        if !arguments.print_sql {
            eprintln!("nothing is done; --execute does it");
        }
        return Ok(DONE);
    }
    for what in &left {
        context.out.line(&format!("left: {what}"))?;
    }
    if left.is_empty() {
        context.out.line("torn down: nothing is left on either side")?;
    }
    Ok(if left.is_empty() { DONE } else { NO })
}
