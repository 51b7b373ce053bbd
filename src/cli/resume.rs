//! `pontoon resume`: goes on with what was paused.

use pontoon_core::Result;

use super::{Context, DONE, ResumeArgs, pause};
use crate::nodes;

pub(crate) async fn run(arguments: ResumeArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?;
    for source in pause::directions(&config, &nodes, arguments.direction.as_deref()).await? {
        let target = source.other();
        let was = nodes.admins[target].resume().await.map_err(|error| error.at(nodes.nodes[target].name()))?;
        let said = if was { "goes on" } else { "was not paused" };
        context.out.line(&format!("{}: {said}", pause::words(&nodes, source)))?;
    }
    Ok(DONE)
}
