//! `pontoon pause`: nothing more is applied, in one direction or both ([`crate::operate::pause`]).

use pontoon_core::Result;

use super::{Context, DONE, PauseArgs};
use crate::{nodes, operate::pause};

pub(crate) async fn run(arguments: PauseArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?;
    for source in pause::directions(&config, &nodes, arguments.direction.as_deref()).await? {
        context.out.line(&pause::pause(&nodes, source, arguments.length).await?)?;
    }
    Ok(DONE)
}
