//! What differs from version to version of the server: all of it stands here, each by what it is about, and nothing else in this
//! crate compares versions.

use pontoon_core::Result;
use tokio_postgres::Client;

use crate::{catalog::get, error};

/// `server_version_num`: 150018.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version(i32);

impl Version {
    pub(crate) async fn of(client: &Client) -> Result<Version> {
        let row = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await;
        get(&row.map_err(|error| error::of_statement(&error))?, 0).map(Version)
    }

    /// Whether a bridge can work with it: 14 lets `pg_replication_origin_*` be granted to a user who is no superuser, and has
    /// `idle_session_timeout`.
    pub(crate) fn is_served(self) -> bool {
        self.0 >= 140_000
    }

    /// Whether the right to a superuser's setting can be granted.
    pub(crate) fn grants_settings(self) -> bool {
        self.0 >= 150_000
    }

    /// Whether a slot can be one that standbys keep as well.
    pub(crate) fn has_failover_slots(self) -> bool {
        self.0 >= 170_000
    }

    /// The setting that limits how many origins are in use. Before 18 it is that of slots as well.
    pub(crate) fn origins_setting(self) -> &'static str {
        if self.0 >= 180_000 { "max_active_replication_origins" } else { "max_replication_slots" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_has_the_other_has_not() {
        let [old, usual, new] = [140_020, 150_018, 180_006].map(Version);
        assert!(!Version(130_000).is_served() && old.is_served());
        assert!(!old.grants_settings() && usual.grants_settings() && new.grants_settings());
        assert!(!usual.has_failover_slots() && new.has_failover_slots());
        assert_eq!(usual.origins_setting(), "max_replication_slots");
        assert_eq!(new.origins_setting(), "max_active_replication_origins");
    }
}
