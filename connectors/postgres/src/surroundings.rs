//! What else moves rows to or from this database: other bridges, by what they leave in the schema `pontoon`, and
//! subscriptions of the server's own.
//!
//! Where a subscription connects to only a superuser may see. But it reads a slot at its publisher, under a name that
//! all may see, and so may the slot be seen there; with its publications that is enough to know the other node by.

use std::collections::BTreeMap;

use pontoon_core::{
    Code, Result, TableId,
    neighbours::{Carried, Feed, Joined, Neighbour, Surroundings},
    node::Tables,
};
use tokio_postgres::Client;

use crate::{
    catalog::{self, get, text},
    error,
    quote::Ident,
};

/// How rows of `control` begin that say which tables a bridge carries.
pub(crate) const TABLE: &str = "table:";

pub(crate) async fn look(client: &Client, bridge: &str, tables: &Tables) -> Result<Surroundings> {
    let (bridges, unseen) = match bridges(client, bridge).await {
        Ok(bridges) => (bridges, None),
        Err(error) if error.code() == Code::NotSetUp => (Vec::new(), None),
        Err(error) if error.code() == Code::PrivilegeMissing => {
            let remedy = "GRANT USAGE ON SCHEMA pontoon, SELECT ON pontoon.control TO the bridge's user";
            (Vec::new(), Some(("privilege-control", remedy.to_owned())))
        }
        Err(error) => return Err(error),
    };
    Ok(Surroundings { bridges, feeds: feeds(client, tables).await?, serves: serves(client).await?, unseen })
}

async fn bridges(client: &Client, bridge: &str) -> Result<Vec<Neighbour>> {
    const SQL: &str = "SELECT bridge, name, coalesce(value, '') FROM pontoon.control
        WHERE bridge NOT IN ('', $1) AND (name = 'pair' OR starts_with(name, $2)) ORDER BY bridge, name";
    let rows = client.query(SQL, &[&bridge, &TABLE]).await.map_err(|error| error::of_statement(&error))?;
    let mut found: BTreeMap<String, (Option<Joined>, Vec<Carried>)> = BTreeMap::new();
    for row in &rows {
        let (joined, carried) = found.entry(text(row, 0)?).or_default();
        match text(row, 1)?.as_str() {
            "pair" => *joined = Joined::from_text(&text(row, 2)?),
            _ => carried.extend(Carried::from_text(&text(row, 2)?)),
        }
    }
    let told = found.into_iter();
    let told = told.filter_map(|(bridge, (joined, carried))| Some(Neighbour { bridge, joined: joined?, carried }));
    Ok(told.collect())
}

/// The subscriptions of this database that write mapped tables. One that has been made without a slot, or disabled, is
/// not sure to bring anything.
async fn feeds(client: &Client, tables: &Tables) -> Result<Vec<Feed>> {
    const SQL: &str = "SELECT s.subname::text, s.subenabled, coalesce(s.subslotname::text, ''), s.subpublications,
            array_agg(want.number)
        FROM unnest($1::text[], $2::text[], $3::int[]) AS want (nspname, relname, number)
        JOIN pg_namespace n ON n.nspname = want.nspname
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname
        JOIN pg_subscription_rel r ON r.srrelid = c.oid
        JOIN pg_subscription s ON s.oid = r.srsubid
        GROUP BY 1, 2, 3, 4 ORDER BY 1";
    let names: Vec<_> = tables.iter().map(|table| catalog::with_schema(&table.name)).collect();
    let (schemas, relations) = catalog::split(&names);
    let numbers: Vec<i32> = (0..).take(tables.len()).collect();
    let rows = client.query(SQL, &[&schemas, &relations, &numbers]).await;
    let mut feeds = Vec::new();
    for row in rows.map_err(|error| error::of_statement(&error))? {
        let (name, enabled, slot): (String, bool, String) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        let (publications, written): (Vec<String>, Vec<i32>) = (get(&row, 3)?, get(&row, 4)?);
        feeds.push(Feed {
            name: format!("the subscription {name:?}"),
            sources: publications.iter().map(|publication| source(&slot, publication)).collect(),
            tables: Some(written.into_iter().filter_map(|number| u32::try_from(number).ok()).map(TableId).collect()),
            unsure: !enabled || slot.is_empty(),
            stop: format!("DROP SUBSCRIPTION {}", Ident(&name)),
        });
    }
    Ok(feeds)
}

/// What subscriptions elsewhere may read here.
async fn serves(client: &Client) -> Result<Vec<String>> {
    const SQL: &str =
        "SELECT s.slot_name::text, p.pubname::text FROM pg_replication_slots s CROSS JOIN pg_publication p
        WHERE s.database = current_database() AND s.plugin = 'pgoutput'";
    let rows = client.query(SQL, &[]).await.map_err(|error| error::of_statement(&error))?;
    rows.iter().map(|row| Ok(source(&text(row, 0)?, &text(row, 1)?))).collect()
}

fn source(slot: &str, publication: &str) -> String {
    format!("slot {slot:?}, publication {publication:?}")
}
