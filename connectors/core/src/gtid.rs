//! Names of transactions that are the same in the log of every server that has them (global transaction identifiers, GTIDs): by
//! them a place in the log of one server is found in that of another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Code, Error},
    value::{format_uuid, parse_uuid},
};

/// The name of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Gtid {
    /// MySQL: the UUID of the server that it was committed on first, and its number there, which rises by one with each (manual, "GTID
    /// Format and Storage"). One with a tag has a number of its own, and is none here.
    Mysql {
        /// The server's UUID.
        server: [u8; 16],
        /// From 1 on.
        number: u64,
    },
    /// MariaDB: domain, server and sequence (Knowledge Base, "Global Transaction ID"). Servers that were given no number all have
    /// number 1, so that such a name alone does not tell of which of them a transaction is. (Nor does its time: a replica gives a long transaction that of its
    /// first statement, tried on 10.11.)
    Mariadb {
        /// The domain, within which the order is the same everywhere.
        domain: u32,
        /// `server_id` of the server that it was committed on first.
        server: u32,
        /// Rises within the domain.
        sequence: u64,
    },
}

/// As the server writes it.
impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gtid::Mysql { server, number } => write!(f, "{}:{number}", format_uuid(server)),
            Gtid::Mariadb { domain, server, sequence } => write!(f, "{domain}-{server}-{sequence}"),
        }
    }
}

impl FromStr for Gtid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Gtid, Error> {
        mysql(text).or_else(|| mariadb(text)).ok_or_else(|| Error::new(Code::Config, format!("{text:?} is no GTID")))
    }
}

fn mysql(text: &str) -> Option<Gtid> {
    let (server, number) = text.split_once(':')?;
    Some(Gtid::Mysql { server: parse_uuid(server)?, number: digits(number)? })
}

fn mariadb(text: &str) -> Option<Gtid> {
    let mut parts = text.split('-');
    let (domain, server, sequence) = (parts.next()?, parts.next()?, parts.next()?);
    let small = |text: &str| u32::try_from(digits(text)?).ok();
    let gtid = Gtid::Mariadb { domain: small(domain)?, server: small(server)?, sequence: digits(sequence)? };
    parts.next().is_none().then_some(gtid)
}

fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn gtids() -> impl Strategy<Value = Gtid> {
        prop_oneof![
            any::<([u8; 16], u64)>().prop_map(|(server, number)| Gtid::Mysql { server, number }),
            any::<(u32, u32, u64)>().prop_map(|(domain, server, sequence)| Gtid::Mariadb { domain, server, sequence }),
        ]
    }

    proptest! {
        #[test]
        fn text_round_trips(gtid in gtids()) {
            prop_assert_eq!(gtid.to_string().parse::<Gtid>().unwrap(), gtid);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}|[0-9a-f:@-]{0,60}") {
            let _ = text.parse::<Gtid>();
        }
    }

    #[test]
    fn it_is_written_as_the_servers_do() {
        let mysql: Gtid = "3e11fa47-71ca-11e1-9e33-c80aa9429562:23".parse().unwrap();
        assert_eq!(mysql.to_string(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:23");
        let mariadb: Gtid = "0-1-77".parse().unwrap();
        assert_eq!(mariadb, Gtid::Mariadb { domain: 0, server: 1, sequence: 77 });
        for text in ["", "0-1", "0-1-77-2", "+1-1-77", "0-1-77@5", "3e11fa47-71ca-11e1-9e33-c80aa9429562:23-25", "a:1"]
        {
            assert!(text.parse::<Gtid>().is_err(), "{text}");
        }
    }
}
