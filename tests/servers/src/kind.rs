//! The three kinds of server, and which version of one is started.

use std::fmt;
use std::str::FromStr;

/// A kind of database server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mariadb,
    /// MySQL.
    Mysql,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::Postgres, Kind::Mariadb, Kind::Mysql];

    /// The name as it is written on a command line: `postgres`, `mariadb` or `mysql`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Postgres => "postgres",
            Kind::Mariadb => "mariadb",
            Kind::Mysql => "mysql",
        }
    }

    /// The scheme of a URL. It is the protocol's, so MariaDB has MySQL's.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Kind::Postgres => "postgresql",
            Kind::Mariadb | Kind::Mysql => "mysql",
        }
    }

    /// The name of the superuser every server is started with.
    #[must_use]
    pub fn superuser(self) -> &'static str {
        match self {
            Kind::Postgres => "postgres",
            Kind::Mariadb | Kind::Mysql => "root",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Kind, UnknownKind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownKind { name: name.to_owned() })
    }
}

/// A kind of server in a version: the one that the system has, which a [`Kind`] by itself stands for, or a newer one that the
/// tests run as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Release {
    kind: Kind,
    newer: bool,
}

impl Release {
    /// PostgreSQL 18 and MariaDB 11.8, which `scripts/install-servers newer` brings. Of MySQL there is one version alone, which
    /// is newer than what any system has.
    #[must_use]
    pub const fn newer(kind: Kind) -> Release {
        Release { kind, newer: true }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(self) -> Kind {
        self.kind
    }

    /// Whether it is not the one that the system has.
    #[must_use]
    pub const fn is_newer(self) -> bool {
        self.newer
    }
}

impl From<Kind> for Release {
    fn from(kind: Kind) -> Release {
        Release { kind, newer: false }
    }
}

/// A word that names no [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKind {
    name: String,
}

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is none of postgres, mariadb, mysql", self.name)
    }
}

impl std::error::Error for UnknownKind {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let unknown = "oracle".parse::<Kind>().unwrap_err();
        assert_eq!(unknown.to_string(), "\"oracle\" is none of postgres, mariadb, mysql");
    }
}
