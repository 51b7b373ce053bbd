//! Nothing more is applied, in one direction or both, and going on with it.
//!
//! The word is left on the node that the direction goes to, in the transaction that shuts the bridge's sessions out of
//! it ([`pontoon_core::node::Admin::pause`]); whichever process of the bridge works heeds it, and those that come.

use std::time::Duration;

use pontoon_core::{Code, Error, Result};
use tokio::time::sleep;

use crate::{config::Config, mapping, nodes::Nodes, setup, side::Side};

/// The pause before it is tried again where a transaction of the bridge takes long.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Waits for the transaction that is under way, however long it takes. What is said of it.
pub(crate) async fn pause(nodes: &Nodes, source: Side, length: Option<Duration>) -> Result<String> {
    let target = source.other();
    let mut told = false;
    loop {
        match nodes.admins[target].pause(length).await {
            Err(error) if error.code() == Code::Contention => {
                if !told {
                    tracing::info!(node = nodes.nodes[target].name(), "waiting for the transaction that is under way");
                    told = true;
                }
                sleep(AGAIN_AFTER).await;
            }
            done => break done.map_err(|error| error.at(nodes.nodes[target].name()))?,
        }
    }
    let until = match length {
        Some(length) => format!("for {length:?}"),
        None => "until pontoon resume".to_owned(),
    };
    Ok(format!("{}: nothing is applied, {until}", words(nodes, source)))
}

/// Goes on with what was paused. What is said of it.
pub(crate) async fn resume(nodes: &Nodes, source: Side) -> Result<String> {
    let target = source.other();
    let was = nodes.admins[target].resume().await.map_err(|error| error.at(nodes.nodes[target].name()))?;
    Ok(format!("{}: {}", words(nodes, source), if was { "goes on" } else { "was not paused" }))
}

/// The directions that are meant, by the side that they come from; without a word all that are used.
pub(crate) async fn directions(config: &Config, nodes: &Nodes, word: Option<&str>) -> Result<Vec<Side>> {
    let named = word.map(|word| direction(config, word)).transpose()?;
    setup::connect(&nodes.nodes).await?;
    if let Some(source) = named {
        return Ok(vec![source]);
    }
    let reads = mapping::map(config, &nodes.nodes).await?.reads;
    Ok(Side::BOTH.into_iter().filter(|side| reads[*side]).collect())
}

/// The direction of a word like `shop->stock`. Errors (configuration): it is none.
pub(crate) fn direction(config: &Config, word: &str) -> Result<Side> {
    let refused = || {
        Error::new(Code::Config, format!("{word:?} is no direction of this bridge")).hint(format!(
            "it is '{a}->{b}' or '{b}->{a}', in quotes, since the shell takes > for itself",
            a = config.node(Side::A).name,
            b = config.node(Side::B).name
        ))
    };
    let (source, target) = word.split_once("->").ok_or_else(refused)?;
    let (source, target) = (config.named(source.trim())?, config.named(target.trim())?);
    if source == target { Err(refused()) } else { Ok(source) }
}

/// `shop -> stock`.
pub(crate) fn words(nodes: &Nodes, source: Side) -> String {
    format!("{} -> {}", nodes.nodes[source].name(), nodes.nodes[source.other()].name())
}
