//! How busy the server is: the lag of its standbys, and the statements that it carries out.
//!
//! Sources: the PostgreSQL manual, "The Cumulative Statistics System". `replay_lag` of `pg_stat_replication` is null where a standby has everything and a
//! while has passed; where its replay stands still it grows, interpolated between what was sent (`LagTrackerRead` of walsender.c). Slots that are decoded,
//! the bridge's own among them, are readers of the log and no replicas. To anybody without `pg_read_all_stats` the rows of others show with nulls, as if
//! nothing were the matter: so that right is asked for first.

use std::time::Duration;

use pontoon_core::{
    Code, Error, Result,
    pressure::{Pressure, PressureLimits},
};
use tokio_postgres::Client;

use crate::{catalog::get, error::failed};

/// What is asked for with one limit or the other.
pub(crate) async fn read(client: &Client, bridge: &str, limits: &PressureLimits) -> Result<Pressure> {
    const SQL: &str = "SELECT pg_has_role('pg_read_all_stats', 'USAGE'),
        CASE WHEN $1 THEN (SELECT max(extract(epoch FROM replay_lag))::float8 FROM pg_stat_replication r
            WHERE NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')) END,
        CASE WHEN $2 THEN (SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend'
            AND NOT starts_with(application_name, $3)) END";
    // Of this bridge are the connections that are named after it.
    let own = format!("pontoon {bridge} ");
    let asked = (limits.replica_lag.is_some(), limits.load.is_some());
    let row = client.query_one(SQL, &[&asked.0, &asked.1, &own]).await.map_err(failed)?;
    if !get::<bool>(&row, 0)? {
        return Err(Error::new(Code::PrivilegeMissing, "may not see what others do, and how far standbys are")
            .hint("GRANT pg_read_all_stats TO CURRENT_USER, with the bridge's role for it"));
    }
    let lag = get::<Option<f64>>(&row, 1)?.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(Pressure { replica_lag: lag, load: get::<Option<i64>>(&row, 2)?.and_then(|count| u64::try_from(count).ok()) })
}
