//! `pontoon tail`: what a node's log holds, as JSON lines.

use pontoon_core::{LogEvent, MappedTable, Position, Result, change::Event, node::PassedOver};

use super::{
    Context, DONE, TailArgs, TailFormat,
    debezium::{Envelopes, Met},
    run::told_to_stop,
};
use crate::{config::Config, direction::look::Look, mapping, nodes, observe::now_micros, side::Side};

pub(crate) async fn run(arguments: TailArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let side = config.named(&arguments.node)?;
    let nodes = nodes::open(&config)?.nodes;
    let peers = crate::setup::connect(&nodes).await?;
    let tables = mapping::map(&config, &nodes).await?.require()?.tables[side].clone();
    let node = &nodes[side];
    let opened = node.open_tail(arguments.from.as_ref(), &tables, &PassedOver::default()).await;
    let mut look = Look::new(opened.map_err(|error| error.at(node.name()))?, &config.limits);
    let envelopes = match arguments.format {
        TailFormat::Json => None,
        TailFormat::Debezium => Some(Envelopes::new(config.node(side), config.bridge.as_str(), &peers[side])),
    };
    let left = arguments.limit;
    let mut printer = Printer { config: &config, side, tables: &tables, context, envelopes, left, at: None };
    let stop = told_to_stop()?;
    tokio::pin!(stop);
    while printer.left != Some(0) {
        let event = tokio::select! {
            biased;
            () = &mut stop => return Ok(DONE),
            event = look.next() => event.map_err(|error| error.at(node.name()))?,
        };
        printer.print(&event)?;
    }
    Ok(DONE)
}

struct Printer<'a> {
    config: &'a Config,
    side: Side,
    tables: &'a [MappedTable],
    context: &'a Context,
    /// `None` for the common event.
    envelopes: Option<Envelopes<'a>>,
    left: Option<u64>,
    at: Option<Position>,
}

impl Printer<'_> {
    fn print(&mut self, event: &LogEvent) -> Result<()> {
        let fragment = match event {
            LogEvent::Fragment(fragment) => fragment,
            LogEvent::Progress(progress) => {
                self.at = Some(progress.position.clone());
                return Ok(());
            }
            LogEvent::Obstacle(obstacle) => {
                return Err(obstacle.error.clone().at(&self.config.node(self.side).name));
            }
            LogEvent::Held(_) => return Ok(()),
        };
        // Of a large transaction all but the last piece say where the one before ended.
        let position = fragment.position.clone().or_else(|| self.at.clone()).unwrap_or(Position::Index(0));
        for change in &fragment.changes {
            if self.left == Some(0) {
                break;
            }
            let Some(table) = self.tables.get(change.table.index()) else { continue };
            self.print_change(&Met { position: &position, fragment, table, change })?;
            self.left = self.left.map(|left| left - 1);
        }
        if let Some(position) = &fragment.position {
            self.at = Some(position.clone());
            if let Some(envelopes) = &mut self.envelopes {
                envelopes.transaction_ends();
            }
        }
        Ok(())
    }

    fn print_change(&mut self, met: &Met<'_>) -> Result<()> {
        if let Some(envelopes) = &mut self.envelopes {
            for message in envelopes.messages(met, now_micros()) {
                self.context.out.line(&super::json_line(&message)?)?;
            }
            return Ok(());
        }
        let Met { position, fragment, table, change } = *met;
        let (node, bridge) = (&self.config.node(self.side).name, self.config.bridge.as_str());
        self.context.out.line(&super::json_line(&Event { node, bridge, position, fragment, table, change })?)
    }
}
