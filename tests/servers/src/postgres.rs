//! What PostgreSQL needs: programs, initialising, settings.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::process::Signal;

use crate::account::{self, Account};
use crate::certificate::Certificate;
use crate::options::{Durability, Options};
use crate::unpacked::{self, Unpacked};
use crate::{Kind, ServerError, folder, server, template};

/// Where Debian and its relatives keep the programs: one folder for each major version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A fast shutdown: sessions are ended, transactions rolled back.
pub(crate) const STOP: Signal = Signal::INT;

/// The programs of the newer version that is tested, in an unpacked folder.
const NEWER_INITDB: &str = "usr/lib/postgresql/18/bin/initdb";
const NEWER_POSTGRES: &str = "usr/lib/postgresql/18/bin/postgres";
const NEWER_BACKUP: &str = "usr/lib/postgresql/18/bin/pg_basebackup";

/// The line of `postmaster.pid` with the key and the identifier of the shared memory, from 0 on.
const SHARED_MEMORY_LINE: usize = 6;

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
    /// A copy of a template takes a tenth of what initialising takes. It has the template's system identifier, by which a bridge tells servers
    /// apart, and so gets one of its own ([`identify`]).
    pub(crate) async fn initialise(
        &self,
        cache: &Path,
        home: &Path,
        password: &str,
        account: Option<Account>,
    ) -> Result<(), ServerError> {
        match self {
            Programs::System { initdb, .. } => {
                let what = (version(initdb.clone()).await?, password);
                let make = async |home: &Path| initialised(initdb, home, password, account).await;
                let template = template::of(cache, Kind::Postgres, what, account, make).await?;
                let data = home.join("data");
                server::blocking(move || folder::copy(&template, &data, account)).await?;
                identify(initdb, home, account).await?;
            }
            Programs::Unpacked(unpacked) => {
                unpacked.reach(home, account).await?;
                initialised(&unpacked.path(home, account, NEWER_INITDB), home, password, account).await?;
            }
        }
        let configuration = home.join("data/postgresql.conf");
        let mut content =
            fs::read_to_string(&configuration).map_err(|error| ServerError::system("read", &configuration, error))?;
        content.push_str("\ninclude '../server.conf'\n");
        folder::write(&configuration, &content, account)
    }

    /// Makes the data folder of a standby from a server that runs, and a replication slot for it there.
    pub(crate) async fn back_up(&self, url: &str, home: &Path, account: Option<Account>) -> Result<(), ServerError> {
        let program = match self {
            Programs::System { initdb, .. } => initdb.with_file_name("pg_basebackup"),
            Programs::Unpacked(unpacked) => {
                unpacked.reach(home, account).await?;
                unpacked.path(home, account, NEWER_BACKUP)
            }
        };
        let mut command = account::command(&program, account, home)?;
        command
            .args(["--pgdata=data", "--checkpoint=fast", "--no-sync", "--create-slot", "--slot=standby"])
            .arg(format!("--dbname={url}"));
        server::run(Kind::Postgres, command, home).await?;
        folder::write(&home.join("data/standby.signal"), "", account)
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

/// What `initdb` says of itself.
async fn version(initdb: PathBuf) -> Result<String, ServerError> {
    server::blocking(move || {
        let said = Command::new(&initdb).arg("--version").output();
        let said = said.map_err(|error| ServerError::system("run", &initdb, error))?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    })
    .await
}

/// Initialises the folder `data` in a folder.
async fn initialised(initdb: &Path, home: &Path, password: &str, account: Option<Account>) -> Result<(), ServerError> {
    let password_file = home.join("password");
    folder::write(&password_file, password, account)?;
    let mut command = account::command(initdb, account, home)?;
    command
        .arg(format!("--username={}", Kind::Postgres.superuser()))
        .args(["--auth=scram-sha-256", "--pwfile=password", "--encoding=UTF8", "--locale=C.UTF-8"])
        // The settings say whether the data is to survive the machine, and the first checkpoint sees to it.
        .args(["--no-sync", "--pgdata=data"]);
    server::run(Kind::Postgres, command, home).await?;
    fs::remove_file(&password_file).map_err(|error| ServerError::system("remove", &password_file, error))
}

/// Gives a copied data folder a system identifier of its own, as `pg_createsubscriber` does it (`modify_subscriber_sysid` of its source): in the
/// control file, and then in the log, which `pg_resetwal` makes anew by that file.
async fn identify(initdb: &Path, home: &Path, account: Option<Account>) -> Result<(), ServerError> {
    let file = home.join("data/global/pg_control");
    let failed = |error| ServerError::system("give an identifier to", &file, error);
    let mut content = fs::read(&file).map_err(failed)?;
    let checksum = checksum_at(&content).ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
    content[..8].copy_from_slice(&new_identifier().to_ne_bytes());
    let sum = crc32c(&content[..checksum]);
    content[checksum..checksum + 4].copy_from_slice(&sum.to_ne_bytes());
    fs::write(&file, content).map_err(failed)?;
    let mut command = account::command(&initdb.with_file_name("pg_resetwal"), account, home)?;
    command.args(["--pgdata", "data"]);
    server::run(Kind::Postgres, command, home).await
}

/// As the server makes it of time and process (`BootStrapXLOG` of xlog.c), but that a process makes many.
fn new_identifier() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let of_this_process = (u64::from(std::process::id()) << 6) + MADE.fetch_add(1, Ordering::Relaxed);
    (now.as_secs() << 32) | (u64::from(now.subsec_micros()) << 12) ^ (of_this_process & 0xffff)
}

/// Where the control file has its checksum: behind all that is in it, which grows from version to version.
fn checksum_at(content: &[u8]) -> Option<usize> {
    let is_at = |at: &usize| content.get(*at..at + 4).is_some_and(|sum| sum == crc32c(&content[..*at]).to_ne_bytes());
    (CONTROL_BYTES_MIN..CONTROL_BYTES_MAX).step_by(4).find(is_at)
}

/// The control data is more than this, and fits in a sector (`PG_CONTROL_MAX_SAFE_SIZE` of pg_control.h).
const CONTROL_BYTES_MIN: usize = 128;
const CONTROL_BYTES_MAX: usize = 512;

/// CRC-32C (`pg_crc32c.h`), of few bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let byte =
        |sum: u32, byte: &u8| (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1)));
    !bytes.iter().fold(u32::MAX, byte)
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

/// Removes the shared memory of a server that was killed, of which its folder tells: the kernel keeps it for ever, and has only some thousands of its
/// kind. (`AddToDataDirLockFile` of miscinit.c: the line of key and identifier in `postmaster.pid`. One that ends well removes the file.)
pub(crate) fn remove_shared_memory(folder: &Path) {
    let note = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    let id = note.lines().nth(SHARED_MEMORY_LINE).and_then(|line| line.split_whitespace().nth(1));
    if let Some(id) = id.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())) {
        // Where it is gone already, or there is no such program, nothing is lost by it.
        let _ = Command::new("ipcrm")
            .args(["-m", id])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_server() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let mut content = vec![7; 300];
        content.extend(crc32c(&[7; 300]).to_ne_bytes());
        content.resize(8192, 0);
        assert_eq!(checksum_at(&content), Some(300));
        content[0] = 8;
        assert_eq!(checksum_at(&content), None);
    }
}
