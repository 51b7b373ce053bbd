//! `pontoon wait`: a barrier for scripts and cut-overs.

use pontoon_core::Result;
use tokio::time::timeout;

use super::{Context, DONE, NO, WaitArgs};
use crate::{barrier::all_applied, bridge, mapping, nodes, setup};

pub(crate) async fn run(arguments: WaitArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?.nodes;
    setup::connect(&nodes).await?;
    let mapping = mapping::map(&config, &nodes).await?.require()?;
    bridge::pauses::refuse(&nodes, mapping.reads).await?;
    let waited = timeout(arguments.timeout, all_applied(&nodes, &mapping.tables, mapping.reads)).await;
    match waited {
        Ok(done) => done.map(|()| DONE),
        Err(_) => {
            eprintln!(
                "not everything has crossed within {:?}; pontoon status tells where it stands",
                arguments.timeout
            );
            Ok(NO)
        }
    }
}
