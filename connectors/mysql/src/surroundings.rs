//! What else moves rows to or from this server: other bridges, by what they leave in the database `pontoon`, and the
//! replication of the server's own.
//!
//! A replica tells the UUID of a MySQL server that it replicates from (manual, "SHOW REPLICA STATUS"), and of a MariaDB
//! server its `server_id` and where it is. A `server_id` alone is no name: outside of one replication the same one is
//! given again and again.

use std::collections::BTreeMap;

use pontoon_core::{
    Code, Result,
    neighbours::{Carried, Feed, Joined, Neighbour, Surroundings},
};

use crate::{
    connect::{Client, Flavour, text},
    encode,
    node::MysqlNode,
    state,
    tables::{PAIR, TABLE},
};

/// What a replica may be told to leave out or not to, each as a list that is empty otherwise.
const FILTERS: [&str; 6] = [
    "Replicate_Do_DB",
    "Replicate_Ignore_DB",
    "Replicate_Do_Table",
    "Replicate_Ignore_Table",
    "Replicate_Wild_Do_Table",
    "Replicate_Wild_Ignore_Table",
];

pub(crate) async fn look(client: &mut Client, node: &MysqlNode) -> Result<Surroundings> {
    let mut unseen = None;
    let bridges = match bridges(client, node.bridge()).await {
        Err(error) if error.code() == Code::NotSetUp => Vec::new(),
        Err(error) if error.code() == Code::PrivilegeMissing => {
            unseen = Some(("privilege-control", "GRANT SELECT ON `pontoon`.* TO the bridge's user".to_owned()));
            Vec::new()
        }
        found => found?,
    };
    let feeds = match feeds(client).await {
        Err(error) if error.code() == Code::PrivilegeMissing => {
            let right = client.server.replica_status_right();
            unseen = Some(("privilege-replica-status", format!("GRANT {right} ON *.* TO the bridge's user")));
            Vec::new()
        }
        found => found?,
    };
    Ok(Surroundings { bridges, feeds, serves: serves(client, node).await?, unseen })
}

async fn bridges(client: &mut Client, bridge: &str) -> Result<Vec<Neighbour>> {
    let rows = client
        .rows(format!(
            "SELECT bridge, name, value FROM `pontoon`.`control` \
             WHERE bridge NOT IN ('', {}) AND (name = '{PAIR}' OR name LIKE '{TABLE}%') ORDER BY bridge, name",
            encode::text(bridge)
        ))
        .await
        .map_err(state::not_set_up)?;
    let mut found: BTreeMap<String, (Option<Joined>, Vec<Carried>)> = BTreeMap::new();
    for row in &rows {
        let [bridge, name, value] = [0, 1, 2].map(|at| text(row, at).unwrap_or_default());
        let (joined, carried) = found.entry(bridge).or_default();
        match name.as_str() {
            PAIR => *joined = Joined::from_text(&value),
            _ => carried.extend(Carried::from_text(&value)),
        }
    }
    let told = found.into_iter();
    let told = told.filter_map(|(bridge, (joined, carried))| Some(Neighbour { bridge, joined: joined?, carried }));
    Ok(told.collect())
}

/// The servers that this one is a replica of.
async fn feeds(client: &mut Client) -> Result<Vec<Feed>> {
    let flavour = client.server.flavour;
    let mut feeds = Vec::new();
    for row in client.named_rows(client.server.replica_status_statement()).await? {
        // MySQL has Source and Replica since 8.0.22 where MariaDB has Master and Slave.
        let one = |old: &str, new: &str| row.get(old).or_else(|| row.get(new)).cloned().unwrap_or_default();
        let (host, port) = (one("Master_Host", "Source_Host"), one("Master_Port", "Source_Port"));
        if host.is_empty() {
            continue;
        }
        let id = one("Master_Server_Id", "Source_Server_Id");
        let mut sources: Vec<String> = addresses(&host).await.iter().map(|ip| by_place(&id, ip, &port)).collect();
        let uuid = one("Master_UUID", "Source_UUID");
        if !uuid.is_empty() {
            sources.push(by_uuid(&uuid));
        }
        let stands = [one("Slave_IO_Running", "Replica_IO_Running"), one("Slave_SQL_Running", "Replica_SQL_Running")]
            .iter()
            .all(|running| running == "No");
        let filtered = FILTERS.iter().any(|filter| row.get(*filter).is_some_and(|list| !list.is_empty()));
        let channel = row.get("Connection_name").or_else(|| row.get("Channel_Name")).cloned().unwrap_or_default();
        feeds.push(Feed {
            name: format!("a replica of {host}:{port}"),
            sources,
            tables: None,
            unsure: stands || filtered,
            stop: stop(flavour, &channel),
        });
    }
    Ok(feeds)
}

/// How a replication is ended for good.
fn stop(flavour: Flavour, channel: &str) -> String {
    let channel = encode::text(channel);
    match flavour {
        Flavour::Mysql => format!("STOP REPLICA FOR CHANNEL {channel}; RESET REPLICA ALL FOR CHANNEL {channel}"),
        Flavour::Mariadb => format!("STOP REPLICA {channel}; RESET REPLICA {channel} ALL"),
    }
}

/// By what replicas know this server.
async fn serves(client: &mut Client, node: &MysqlNode) -> Result<Vec<String>> {
    let mut serves = Vec::new();
    if client.server.flavour == Flavour::Mysql {
        serves.extend(client.scalar("SELECT @@server_uuid").await?.map(|uuid| by_uuid(&uuid)));
    }
    let rows = client.rows("SELECT @@server_id, @@port").await?;
    let own = rows.first().map(|row| [0, 1].map(|at| text(row, at).unwrap_or_default()));
    if let Some([id, port]) = own {
        let (host, reached) = &node.target().place;
        for ip in addresses(host).await {
            serves.push(by_place(&id, &ip, &port));
            serves.push(by_place(&id, &ip, &reached.to_string()));
        }
    }
    Ok(serves)
}

fn by_uuid(uuid: &str) -> String {
    format!("server_uuid {uuid}")
}

fn by_place(id: &str, ip: &str, port: &str) -> String {
    format!("server_id {id} at {ip} port {port}")
}

/// A host's addresses, as the bridge's host knows them: of a name that it does not know there are none. All that loop
/// back are one.
async fn addresses(host: &str) -> Vec<String> {
    let Ok(found) = tokio::net::lookup_host((host, 0)).await else { return Vec::new() };
    let address = |found: std::net::SocketAddr| match found.ip().to_canonical() {
        ip if ip.is_loopback() => "loopback".to_owned(),
        ip => ip.to_string(),
    };
    found.map(address).collect()
}
