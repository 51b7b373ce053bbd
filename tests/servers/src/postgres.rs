//! What PostgreSQL needs: programs, initialising, settings.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::account::{self, Account};
use crate::certificate::Certificate;
use crate::options::{Durability, Options};
use crate::unpacked::{self, Unpacked};
use crate::{Kind, ServerError, folder, server};

/// Where Debian and its relatives keep the programs: one folder for each major version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A fast shutdown: sessions are ended, transactions rolled back.
pub(crate) const STOP: Signal = Signal::INT;

/// The programs of the newer version that is tested, in an unpacked folder.
const NEWER_INITDB: &str = "usr/lib/postgresql/18/bin/initdb";
const NEWER_POSTGRES: &str = "usr/lib/postgresql/18/bin/postgres";

/// The programs.
#[derive(Debug)]
pub(crate) enum Programs {
    /// Installed in the system.
    System { initdb: PathBuf, postgres: PathBuf },
    /// Of another release of Debian.
    Unpacked(Unpacked),
}

impl Programs {
    /// The newer version that is tested.
    pub(crate) fn find_newer(cache: &Path) -> Result<Programs, ServerError> {
        Unpacked::find(cache, unpacked::NEWER_POSTGRES, NEWER_INITDB).map(Programs::Unpacked).ok_or(
            ServerError::MissingProgram {
                program: "initdb of PostgreSQL 18",
                hint: "run `scripts/install-servers newer`, which fetches it into the cache folder",
            },
        )
    }

    /// Finds the newest version that the system has.
    pub(crate) fn find() -> Result<Programs, ServerError> {
        newest()
            .or_else(|| {
                Some(Programs::System {
                    initdb: folder::find_program("initdb", &[])?,
                    postgres: folder::find_program("postgres", &[])?,
                })
            })
            .ok_or(ServerError::MissingProgram {
                program: "initdb of PostgreSQL",
                hint: "run scripts/install-servers, or install the package postgresql",
            })
    }

    /// Makes a data folder.
    ///
    /// It is made anew for each server, in half a second, and not copied from a template: a copy would have the
    /// same system identifier, by which a bridge tells servers apart.
    pub(crate) async fn initialise(
        &self,
        home: &Path,
        password: &str,
        account: Option<Account>,
    ) -> Result<(), ServerError> {
        let password_file = home.join("password");
        folder::write(&password_file, password, account)?;
        let initdb = match self {
            Programs::System { initdb, .. } => initdb.clone(),
            Programs::Unpacked(unpacked) => {
                unpacked.reach(home, account).await?;
                unpacked.path(home, account, NEWER_INITDB)
            }
        };
        let mut command = account::command(&initdb, account, home)?;
        command
            .arg(format!("--username={}", Kind::Postgres.superuser()))
            .args(["--auth=scram-sha-256", "--pwfile=password", "--encoding=UTF8", "--locale=C.UTF-8"])
            // The settings say whether the data is to survive the machine, and the first checkpoint sees to it.
            .args(["--no-sync", "--pgdata=data"]);
        server::run(Kind::Postgres, command, home).await?;
        fs::remove_file(&password_file).map_err(|error| ServerError::system("remove", &password_file, error))?;

        let configuration = home.join("data/postgresql.conf");
        let mut content =
            fs::read_to_string(&configuration).map_err(|error| ServerError::system("read", &configuration, error))?;
        content.push_str("\ninclude '../server.conf'\n");
        folder::write(&configuration, &content, account)
    }

    /// Writes the settings, and returns the command that starts the server.
    ///
    /// They are in a file and not among the arguments, so that `ALTER SYSTEM` goes over them, as in a real server.
    pub(crate) fn command(
        &self,
        home: &Path,
        port: u16,
        options: &Options,
        certificate: Option<&Certificate>,
        account: Option<Account>,
    ) -> Result<Command, ServerError> {
        let mut content = String::new();
        let mut set = |name: &str, value: &str| {
            // Writing into a string cannot fail.
            let _ = writeln!(content, "{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "''"));
        };
        set("listen_addresses", "127.0.0.1");
        set("port", &port.to_string());
        // No socket at all: a path below a long $TMPDIR would be over the 107 bytes a socket's may have.
        set("unix_socket_directories", "");
        set("wal_level", "logical");
        set("max_replication_slots", "20");
        set("max_wal_senders", "20");
        set("max_connections", "100");
        set("track_commit_timestamp", "on");
        set("shared_buffers", "64MB");
        set("log_line_prefix", "%m [%p] ");
        if options.durability == Durability::Process {
            set("fsync", "off");
        }
        if let Some(certificate) = certificate {
            set("ssl", "on");
            set("ssl_cert_file", &certificate.server.to_string_lossy());
            set("ssl_key_file", &certificate.key.to_string_lossy());
            // By which it knows the certificates of clients.
            set("ssl_ca_file", &certificate.authority.to_string_lossy());
        }
        for (name, value) in &options.settings {
            set(name, value);
        }
        folder::write(&home.join("server.conf"), &content, account)?;

        let postgres = match self {
            Programs::System { postgres, .. } => postgres.clone(),
            Programs::Unpacked(unpacked) => unpacked.path(home, account, NEWER_POSTGRES),
        };
        let mut command = account::command(&postgres, account, home)?;
        command.args(["-D", "data"]);
        Ok(command)
    }
}

fn newest() -> Option<Programs> {
    fs::read_dir(VERSIONS)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path().join("bin");
            let (initdb, postgres) = (folder.join("initdb"), folder.join("postgres"));
            let complete = folder::is_program(&initdb) && folder::is_program(&postgres);
            complete.then_some((version, Programs::System { initdb, postgres }))
        })
        .max_by_key(|(version, _)| *version)
        .map(|(_, programs)| programs)
}
