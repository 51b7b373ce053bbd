//! What a server may be started with.

use std::time::Duration;

/// How a [`Server`](crate::Server) is started. The default is what the tests want.
#[derive(Clone, Debug)]
pub struct Options {
    /// Settings of the server, over those that this crate makes; the last of a name counts.
    ///
    /// A name that the server does not know makes the start fail, with its log in the error.
    pub settings: Vec<(String, String)>,
    /// What the data has to survive.
    pub durability: Durability,
    /// Whether clients may connect with TLS and verify the server.
    pub encryption: Encryption,
    /// How many seconds the server's clock is ahead of the machine's, by libfaketime; 0 for not at all.
    pub clock_ahead: i64,
    /// How large a disk of its own is that the server has beside its data, in bytes: [`Server::disk`](crate::Server::disk).
    pub disk: Option<u64>,
    /// How long a start may take until the server answers, the recovery after a kill included.
    pub start_timeout: Duration,
    /// How long a [`stop`](crate::Server::stop) may take until it is an error.
    pub stop_timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            settings: Vec::new(),
            durability: Durability::Process,
            encryption: Encryption::Off,
            clock_ahead: 0,
            disk: None,
            // A start takes a second; on two cores with a compiler on each it was seen to take ten.
            start_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(60),
        }
    }
}

impl Options {
    /// Adds a setting of the server.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Options {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Sets the server's clock ahead of the machine's, or behind it.
    #[must_use]
    pub fn clock_ahead(mut self, seconds: i64) -> Options {
        self.clock_ahead = seconds;
        self
    }

    /// Gives the server a disk of its own beside its data, of so many bytes.
    #[must_use]
    pub fn disk(mut self, bytes: u64) -> Options {
        self.disk = Some(bytes);
        self
    }

    /// Sets what the data has to survive.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// Sets whether clients may connect with TLS and verify the server.
    #[must_use]
    pub fn encryption(mut self, encryption: Encryption) -> Options {
        self.encryption = encryption;
        self
    }
}

/// What the data of a server has to survive.
///
/// The settings that a client can ask for and would judge a server by (`sync_binlog`,
/// `innodb_flush_log_at_trx_commit`, `synchronous_commit`) are the durable ones in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the server's process at any moment. The operating system is not asked to bring the data to
    /// the disk: right for tests, which kill processes and not machines.
    Process,
    /// The end of the machine at any moment. For measuring.
    Machine,
}

/// Whether clients may connect to a server with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// As the server does it when not told. PostgreSQL and MariaDB have no TLS then, MySQL has, with a
    /// certificate of its own making that names no host.
    Off,
    /// With a certificate for 127.0.0.1 and localhost, of an authority made for this server alone:
    /// [`Server::authority`](crate::Server::authority). Connections without TLS are still accepted.
    Private,
}
