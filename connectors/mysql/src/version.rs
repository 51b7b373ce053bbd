//! What differs from version to version of the two servers: all of it stands here, each by what it is about, and nothing else
//! in this crate compares versions.

use crate::connect::Flavour;

/// What a connection knows about its server.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Which of the two.
    pub(crate) flavour: Flavour,
    /// Its version in numbers.
    version: (u16, u16, u16),
    /// Bytes that a statement may have.
    pub(crate) packet_bytes_max: usize,
}

impl Server {
    /// The server that says `version` of itself.
    pub(crate) fn told(version: &str, packet_bytes_max: usize) -> Server {
        let flavour = if version.to_lowercase().contains("mariadb") { Flavour::Mariadb } else { Flavour::Mysql };
        Server { flavour, version: numbers(version), packet_bytes_max }
    }

    /// One of 10.11 for tests of what does not depend on the version.
    #[cfg(test)]
    pub(crate) fn sample(flavour: Flavour, packet_bytes_max: usize) -> Server {
        Server { flavour, version: (10, 11, 0), packet_bytes_max }
    }

    /// `MariaDB 10.11.19`.
    pub(crate) fn name(&self) -> String {
        let product = match self.flavour {
            Flavour::Mysql => "MySQL",
            Flavour::Mariadb => "MariaDB",
        };
        let (major, minor, patch) = self.version;
        format!("{product} {major}.{minor}.{patch}")
    }

    fn is_mysql_from(&self, version: (u16, u16, u16)) -> bool {
        self.flavour == Flavour::Mysql && self.version >= version
    }

    fn is_mariadb_from(&self, version: (u16, u16, u16)) -> bool {
        self.flavour == Flavour::Mariadb && self.version >= version
    }

    /// Whether a bridge can work with it, and what it needs in words.
    pub(crate) fn is_served(&self) -> (bool, &'static str) {
        match self.flavour {
            Flavour::Mysql => (self.version >= (8, 0, 19), "MySQL 8.0.19 or later"),
            Flavour::Mariadb => (self.version >= (10, 6, 0), "MariaDB 10.6 or later"),
        }
    }

    /// The statement that tells of every server that this one replicates from.
    pub(crate) fn replica_status_statement(&self) -> &'static str {
        match self.flavour {
            Flavour::Mariadb => "SHOW ALL SLAVES STATUS",
            Flavour::Mysql if self.version >= (8, 0, 22) => "SHOW REPLICA STATUS",
            Flavour::Mysql => "SHOW SLAVE STATUS",
        }
    }

    /// The right that it wants.
    pub(crate) fn replica_status_right(&self) -> &'static str {
        match self.flavour {
            Flavour::Mariadb => "REPLICA MONITOR",
            Flavour::Mysql => "REPLICATION CLIENT",
        }
    }

    /// The statement that tells where the log ends: a row of file, position and more.
    pub(crate) fn log_end_statement(&self) -> &'static str {
        if self.is_mysql_from((8, 2, 0)) { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }
    }

    /// The last microsecond of a `timestamp`; MariaDB 11.5 on 64 bits doubled the range (release notes, MDEV-32188).
    pub(crate) fn instant_max(&self) -> i64 {
        let seconds: i64 = if self.is_mariadb_from((11, 5, 0)) { 4_294_967_295 } else { 2_147_483_647 };
        seconds * 1_000_000 + 999_999
    }

    /// Whether it has a type `uuid`.
    pub(crate) fn has_uuid(&self) -> bool {
        self.is_mariadb_from((10, 7, 0))
    }

    /// Whether it has `JSON_EQUALS`. Where JSON has a type of its own, `=` does.
    pub(crate) fn has_json_equals(&self) -> bool {
        self.is_mariadb_from((10, 7, 0))
    }

    /// Whether a collation can have one number per character set, which only the applicability table tells.
    pub(crate) fn numbers_collations_by_charset(&self) -> bool {
        self.is_mariadb_from((10, 10, 0))
    }

    /// Whether rows of children that a foreign key changes are in the log, unless `innodb_native_foreign_keys` is on.
    pub(crate) fn logs_cascades(&self) -> bool {
        self.is_mysql_from((9, 6, 0))
    }
}

/// The numbers of a version: of `5.5.5-10.11.19-MariaDB` the second three, which an old MariaDB hides there.
fn numbers(text: &str) -> (u16, u16, u16) {
    let text = text.strip_prefix("5.5.5-").unwrap_or(text);
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(numbers("10.11.19-MariaDB-0+deb12u1-log"), (10, 11, 19));
        assert_eq!(numbers("5.5.5-10.6.1-MariaDB"), (10, 6, 1));
        assert_eq!(numbers("9.7.4-2"), (9, 7, 4));
        assert_eq!(numbers(""), (0, 0, 0));
    }

    #[test]
    fn what_one_has_the_other_has_not() {
        let [old, new, mysql] = ["10.11.19-MariaDB", "11.8.9-MariaDB-4", "9.7.4-2"].map(|told| Server::told(told, 1));
        assert_eq!(old.name(), "MariaDB 10.11.19");
        assert!(old.instant_max() < new.instant_max());
        assert_eq!(old.instant_max(), mysql.instant_max());
        assert!(old.has_uuid() && new.has_uuid() && !mysql.has_uuid());
        assert_eq!(new.log_end_statement(), "SHOW MASTER STATUS");
        assert_eq!(mysql.log_end_statement(), "SHOW BINARY LOG STATUS");
        assert!(mysql.logs_cascades() && !new.logs_cascades());
        assert!(!Server::told("8.0.18", 1).is_served().0 && !Server::told("10.5.9-MariaDB", 1).is_served().0);
    }
}
