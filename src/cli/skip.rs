//! `pontoon skip`: passes over one transaction that cannot be applied.

use std::time::Duration;

use pontoon_core::{LogEvent, Origin, Position, Result, change::Event, state::NodeState, node::PassedOver};
use tokio::time::timeout;

use super::{Context, DONE, SkipArgs};
use crate::{direction::look::Look, mapping, nodes, promoted, setup};

/// How long the transaction is looked for: it is next to where it is looked for, if it is there.
const LOOK_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn run(arguments: SkipArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let side = config.named(&arguments.node)?;
    let nodes = nodes::open(&config)?;
    setup::connect(&nodes.nodes).await?;
    let tables = mapping::map(&config, &nodes.nodes).await?.require()?.tables;
    let state = nodes.nodes[side.other()].state(&tables[side.other()]).await?;
    if let Some(checkpoint) = &state.checkpoint {
        promoted::is_of(nodes.nodes[side].name(), checkpoint, &nodes.nodes[side].identity().await?)?;
    }
    let start = start(&arguments.position, state);
    let reader = nodes.nodes[side].open_tail(start.as_ref(), &tables[side], &PassedOver::default()).await?;
    let mut look = Look::new(reader, &config.limits);
    let mut open = Vec::new();
    let looked = timeout(LOOK_MAX, async {
        loop {
            let event = look.next().await?;
            match &*event {
                LogEvent::Fragment(fragment) => {
                    let (end, echo) = (fragment.position.clone(), fragment.origin == Origin::Own);
                    open.push(fragment.clone());
                    match end {
                        Some(end) if end == arguments.position && !echo => return Ok(true),
                        // Where one transaction ends, the next may begin.
                        Some(end) if end != arguments.position && end.covers(&arguments.position) => return Ok(false),
                        Some(_) => open.clear(),
                        None => {}
                    }
                }
                LogEvent::Progress(progress)
                    if progress.position != arguments.position && progress.position.covers(&arguments.position) =>
                {
                    return Ok(false);
                }
                LogEvent::Progress(_) | LogEvent::Held(_) => {}
                LogEvent::Obstacle(obstacle) => {
                    open.clear();
                    context.out.line(&format!("{}", obstacle.error))?;
                    return Ok(obstacle.position == arguments.position);
                }
            }
        }
    });
    let found: Result<bool> = looked.await.unwrap_or(Ok(false));
    let found = found?;
    if found {
        let position = &arguments.position;
        for fragment in &open {
            for change in &fragment.changes {
                let Some(table) = tables[side].get(change.table.index()) else { continue };
                let (node, bridge) = (nodes.nodes[side].name(), config.bridge.as_str());
                let event = Event { node, bridge, position, fragment, table, change };
                context.out.line(&super::json_line(&event)?)?;
            }
        }
    } else {
        context.out.line(&format!("no transaction next to the checkpoint begins or ends at {}", arguments.position))?;
    }
    if !arguments.execute {
        eprintln!("nothing is done; --execute lets the bridge pass over it");
        return Ok(if found { DONE } else { super::NO });
    }
    if !found {
        return Ok(super::NO);
    }
    nodes.admins[side].skip(&arguments.position).await?;
    context.out.line("passed over when the bridge runs again; its rows are not applied")?;
    Ok(DONE)
}

/// From where the transaction is looked for: what is in the way of a table stands behind the checkpoint, or behind the place of one that is
/// set aside.
fn start(position: &Position, state: NodeState) -> Option<Position> {
    let checkpoint = state.checkpoint.map(|checkpoint| checkpoint.position);
    let places = checkpoint.clone().into_iter().chain(state.aside.into_iter().map(|(_, place)| place));
    let nearest = places
        .filter(|place| position.covers(place))
        .reduce(|nearest, place| if place.covers(&nearest) { place } else { nearest });
    nearest.or(checkpoint)
}
