//! `pontoon throttle`: how many rows are applied in a second, in one direction or both.
//!
//! The word is left on the node that the direction goes to, as that of [`crate::operate::pause`] is. It changes nothing of what is applied, so
//! that nothing has to be waited for: the bridge looks with each heartbeat.

use std::num::NonZeroU64;

use pontoon_core::{Result, state::Throttle};

use super::{Context, DONE, ThrottleArgs};
use crate::{nodes, operate::pause};

pub(crate) async fn run(arguments: ThrottleArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?;
    let (word, said) = match arguments.rows_per_second.and_then(NonZeroU64::new) {
        Some(rows) => (Some(Throttle { rows_per_second: Some(rows) }), format!("at most {rows} rows in a second")),
        None if arguments.off => (Some(Throttle { rows_per_second: None }), "as fast as it can".to_owned()),
        None => (None, match config.limits.rows_per_second {
            Some(rows) => format!("at most {rows} rows in a second, as the configuration has it"),
            None => "as fast as it can, as the configuration has it".to_owned(),
        }),
    };
    for source in pause::directions(&config, &nodes, arguments.direction.as_deref()).await? {
        let target = source.other();
        nodes.admins[target].throttle(word).await.map_err(|error| error.at(nodes.nodes[target].name()))?;
        context.out.line(&format!("{}: {said}", pause::words(&nodes, source)))?;
    }
    Ok(DONE)
}
