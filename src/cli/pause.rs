//! `pontoon pause`: nothing more is applied, in one direction or both.
//!
//! The word is left on the node that the direction goes to, in the transaction that shuts the bridge's sessions out of
//! it ([`pontoon_core::node::Admin::pause`]); whichever process of the bridge works heeds it, and those that come.

use std::time::Duration;

use pontoon_core::{Code, Error, Result};
use tokio::time::sleep;

use super::{Context, DONE, PauseArgs};
use crate::{config::Config, mapping, nodes, nodes::Nodes, setup, side::Side};

/// The pause before it is tried again where a transaction of the bridge takes long.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

pub(crate) async fn run(arguments: PauseArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?;
    for source in directions(&config, &nodes, arguments.direction.as_deref()).await? {
        pause(&nodes, source.other(), arguments.length).await?;
        let until = match arguments.length {
            Some(length) => format!("for {length:?}"),
            None => "until pontoon resume".to_owned(),
        };
        context.out.line(&format!("{}: nothing is applied, {until}", words(&nodes, source)))?;
    }
    Ok(DONE)
}

/// Waits for the transaction that is under way, however long it takes.
async fn pause(nodes: &Nodes, target: Side, length: Option<Duration>) -> Result<()> {
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
            done => return done.map_err(|error| error.at(nodes.nodes[target].name())),
        }
    }
}

/// The directions that are meant, by the side that they come from; without a word all that are used.
pub(super) async fn directions(config: &Config, nodes: &Nodes, word: Option<&str>) -> Result<Vec<Side>> {
    let named = word.map(|word| direction(config, word)).transpose()?;
    setup::connect(&nodes.nodes).await?;
    if let Some(source) = named {
        return Ok(vec![source]);
    }
    let reads = mapping::map(config, &nodes.nodes).await?.reads;
    Ok(Side::BOTH.into_iter().filter(|side| reads[*side]).collect())
}

fn direction(config: &Config, word: &str) -> Result<Side> {
    let refused = || {
        Error::new(Code::Config, format!("{word:?} is no direction of this bridge")).hint(format!(
            "it is '{a}->{b}' or '{b}->{a}', in quotes, since the shell takes > for itself",
            a = config.node(Side::A).name,
            b = config.node(Side::B).name
        ))
    };
    let (source, target) = word.split_once("->").ok_or_else(refused)?;
    let (source, target) = (super::side(config, source.trim())?, super::side(config, target.trim())?);
    if source == target { Err(refused()) } else { Ok(source) }
}

/// `shop -> stock`.
pub(super) fn words(nodes: &Nodes, source: Side) -> String {
    format!("{} -> {}", nodes.nodes[source].name(), nodes.nodes[source.other()].name())
}
