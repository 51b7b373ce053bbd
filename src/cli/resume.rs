//! `pontoon resume`: goes on with what was paused.

use pontoon_core::Result;

use super::{Context, DONE, ResumeArgs};
use crate::{nodes, operate::pause};

pub(crate) async fn run(arguments: ResumeArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?;
    for source in pause::directions(&config, &nodes, arguments.direction.as_deref()).await? {
        context.out.line(&pause::resume(&nodes, source).await?)?;
    }
    Ok(DONE)
}
