//! How busy the server is: the lag of its replicas, which are asked themselves, and the statements that it carries out.
//!
//! A server does not know how far its replicas are; each of them does (`Seconds_Behind_Source`, on MariaDB `Seconds_Behind_Master`), and tells NULL where
//! it does not replicate, which is further behind than any limit allows. `Threads_running` counts what is carried out at the moment, with the
//! question itself and, for as long as they live, the connections that replicas and this bridge read the log by; anybody may ask for it. Sources: the manuals
//! of both servers, `SHOW REPLICA STATUS` and "Server Status Variables".

use std::{collections::HashMap, time::Duration};

use pontoon_core::{
    Code, Error, Result,
    pressure::{Pressure, PressureLimits},
};

use crate::{
    connect::{Client, Purpose, Target, number},
    node::MysqlNode,
};

/// What is asked for with one limit or the other.
pub(crate) async fn read(node: &MysqlNode, limits: &PressureLimits) -> Result<Pressure> {
    let mut pressure = Pressure::default();
    if limits.load.is_some() {
        pressure.load = Some(node.with_helper(async |client| running(client).await).await?);
    }
    if limits.replica_lag.is_some() {
        for (host, port) in &limits.replicas {
            let replica = node.target().of_replica(host, *port)?;
            let lag = lag(&replica).await.map_err(|error| error.at(&replica.address))?;
            pressure.replica_lag = pressure.replica_lag.max(Some(lag));
        }
    }
    Ok(pressure)
}

async fn running(client: &mut Client) -> Result<u64> {
    let rows = client.rows("SHOW GLOBAL STATUS LIKE 'Threads_running'").await?;
    let count = rows.first().and_then(|row| number(row, 1));
    count.ok_or_else(|| Error::new(Code::Protocol, "the server does not tell Threads_running"))
}

/// How far a replica is behind the last of those that it replicates from.
async fn lag(replica: &Target) -> Result<Duration> {
    let mut client = replica.connect(Purpose::Look).await?;
    let sources = client.named_rows(client.server.replica_status_statement()).await?;
    if sources.is_empty() {
        return Err(Error::new(Code::Config, "is a replica of no server").hint("mend the node's list of replicas"));
    }
    let seconds = |source: &HashMap<String, String>| {
        // A field that is NULL is not there.
        source.get("Seconds_Behind_Source").or_else(|| source.get("Seconds_Behind_Master"))?.parse().ok()
    };
    let lags: Option<Vec<u64>> = sources.iter().map(seconds).collect();
    let lag = lags.and_then(|lags| lags.into_iter().max());
    lag.map(Duration::from_secs).ok_or_else(|| {
        Error::new(Code::ServerBusy, "does not replicate")
            .hint("START REPLICA there, or take it out of the node's list of replicas")
    })
}
