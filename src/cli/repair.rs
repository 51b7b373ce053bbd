//! `pontoon repair`: makes equal what `verify` finds different.
//!
//! The keys that differ and stay so are asked for durably, on node A, and made equal by whichever process of the bridge holds
//! the lease; this one stands by for it like any other, as `copy` does. Between comparison and repair nothing is held: what
//! was written in the meantime is settled as it would have been anyway ([`pontoon_core::repair`]).

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pontoon_core::{Code, Error, MappedTable, Result, repair::Repair};
use tokio::time::sleep;

use super::{Context, DONE, NO, RepairArgs, copy, run::beside, verify};
use crate::{
    config::Config,
    human,
    mapping::{self, Mapping},
    nodes::{self, Nodes},
    setup,
    side::Side,
    verify::{Comparison, Difference, Kind, Limits},
};

/// Keys of a table that are made equal in one go, and remembered until then: some tens of megabytes. Of a table with more
/// the rest is for the next call, and it says so.
const KEYS_MAX: usize = 200_000;

/// How often it is looked whether all is done.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn run(arguments: RepairArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let from = config.named(&arguments.from)?;
    let nodes = nodes::open(&config)?;
    setup::connect(&nodes.nodes).await?;
    let mapping = mapping::map(&config, &nodes.nodes).await?.require()?;
    let tables = copy::from(&config, &mapping, from, &arguments.tables)?;
    let work = Work { config: &config, nodes: &nodes, mapping: &mapping, from, timeout: arguments.timeout, context };
    let found = work.compare(&tables).await?;
    let different: usize = found.iter().map(|(_, differences)| differences.len()).sum();
    if different == 0 {
        context.out.line("nothing to repair: both sides hold the same rows")?;
        return Ok(DONE);
    }
    if !arguments.execute {
        eprintln!("nothing is done; --execute has both hold the rows of {}", arguments.from);
        return Ok(NO);
    }
    work.repair(&found).await?;
    let left = work.compare(&tables).await?;
    let left: usize = left.iter().map(|(_, differences)| differences.len()).sum();
    context.out.line(&format!("repaired: {} of {}", human::count(different.saturating_sub(left) as u64), human::count(different as u64)))?;
    if left > 0 {
        eprintln!("what still differs is in quarantine, or was written a moment ago: see pontoon quarantine list");
    }
    Ok(if left == 0 { DONE } else { NO })
}

struct Work<'a> {
    config: &'a Config,
    nodes: &'a Nodes,
    mapping: &'a Mapping,
    from: Side,
    timeout: Duration,
    context: &'a Context,
}

type Found<'a> = Vec<(&'a MappedTable, Vec<Difference>)>;

impl Work<'_> {
    /// What differs, said by row.
    async fn compare<'a>(&self, tables: &[&'a MappedTable]) -> Result<Found<'a>> {
        let limits = Limits { timeout: self.timeout, rows_per_second: self.config.limits.verify_rows_per_second };
        let mut comparison = Comparison::open(&self.nodes.nodes, self.mapping, limits).await?.keeping(KEYS_MAX);
        let mut found = Vec::new();
        for table in tables {
            let Some(compared) = comparison.table(table.id).await? else {
                let message = format!("{}: what was on its way had not crossed within {:?}", table.label, self.timeout);
                return Err(Error::new(Code::Contention, message).hint("pontoon status tells where both directions stand; --timeout waits longer"));
            };
            for difference in compared.differences.iter().take(verify::SHOWN_MAX) {
                self.say(table, difference)?;
            }
            let more = compared.different.saturating_sub(verify::SHOWN_MAX as u64);
            if more > 0 {
                self.context.out.line(&format!("{}: {} more", table.label, human::count(more)))?;
            }
            if compared.different > compared.differences.len() as u64 {
                eprintln!("{}: only the first {} are repaired in one go", table.label, human::count(KEYS_MAX as u64));
            }
            found.push((*table, compared.differences));
        }
        Ok(found)
    }

    /// What becomes of a row on the other node.
    fn say(&self, table: &MappedTable, difference: &Difference) -> Result<()> {
        let other = &self.config.node(self.from.other()).name;
        let what = match (difference.kind, self.from) {
            (Kind::Different, _) => format!("changed on {other} in {}", verify::columns(table, difference).join(", ")),
            (Kind::OnlyA, Side::A) | (Kind::OnlyB, Side::B) => format!("added on {other}"),
            (Kind::OnlyA, Side::B) | (Kind::OnlyB, Side::A) => format!("removed on {other}"),
        };
        let key = super::json_line(&verify::key(table, difference))?;
        self.context.out.line(&format!("{} {key}: {what}", table.label))
    }

    /// Asks for all of it, and works or stands by until it is done.
    async fn repair(&self, found: &Found<'_>) -> Result<()> {
        let from = &self.config.node(self.from).name;
        // Microseconds tell the requests of several calls apart.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut next = i64::try_from(now.as_micros()).unwrap_or_default();
        let mut requests = Vec::new();
        for (table, differences) in found {
            let keys = differences.iter().map(|difference| difference.key.clone());
            let of_table = Repair::of(next, table, from, keys);
            next += of_table.len() as i64;
            requests.extend(of_table);
        }
        let node = &self.nodes.nodes[Side::A];
        let asked = self.nodes.admins[Side::A].ask_repairs(&self.mapping.tables[Side::A], &requests).await;
        asked.map_err(|error| error.at(node.name()))?;
        let ids: BTreeSet<i64> = requests.iter().map(|request| request.id).collect();
        beside(self.config, self.nodes, self.mapping.reads, self.all_done(&ids)).await.map(|_| ())
    }

    async fn all_done(&self, ids: &BTreeSet<i64>) -> Result<()> {
        let node = &self.nodes.nodes[Side::A];
        loop {
            match node.requests(&self.mapping.tables[Side::A]).await {
                Ok(requests) if requests.repairs.iter().all(|repair| !ids.contains(&repair.id)) => return Ok(()),
                Ok(_) => {}
                // The work reconnects, and says so.
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.at(node.name())),
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
