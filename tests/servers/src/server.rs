//! One private server: start, kill, restart, stop.

use std::env;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::account::{self, Account};
use crate::certificate::{Authority, Certificate, Issued};
use crate::options::{Encryption, Options};
use crate::ping::ping;
use crate::port::{self, Port};
use crate::process::Process;
use crate::{Kind, Release, ServerError, folder, mysql, postgres};

/// How often a server that is starting is asked whether it answers.
const PING_INTERVAL: Duration = Duration::from_millis(20);

/// How long to wait before a start is tried again that failed for a reason that passes.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How many ports are tried for a new server: another program may take one between the look at it and the start.
const PORTS_MAX: usize = 5;

/// How long initialising a data folder may take. It takes three seconds at most when the machine is idle.
const INITIALISE_TIMEOUT: Duration = Duration::from_secs(120);

/// A private database server. Dropping it kills it and removes its folder.
///
/// All methods that fail leave a value that can be dropped, and tried again.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    programs: Programs,
    options: Options,
    account: Option<Account>,
    password: String,
    certificate: Option<Certificate>,
    // Fields are dropped in this order: the process must be gone before its folder, and the folder before the port.
    process: Option<Process>,
    folder: TempDir,
    port: Port,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.take());
        postgres::remove_shared_memory(self.folder.path());
    }
}

#[derive(Debug)]
enum Programs {
    Postgres(postgres::Programs),
    Mysql(mysql::Programs),
}

impl Server {
    /// Starts a new server with an empty database, and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`ServerError::MissingProgram`] where it is not installed; never is a server left out in silence.
    pub async fn start(release: impl Into<Release>, options: Options) -> Result<Server, ServerError> {
        let release = release.into();
        let kind = release.kind();
        options.settings.iter().try_for_each(|(name, value)| check_setting(name, value))?;
        let cache = folder::cache()?;
        port::remove_left_folders(&cache)?;
        let programs = match kind {
            Kind::Postgres if release.is_newer() => Programs::Postgres(postgres::Programs::find_newer(&cache)?),
            Kind::Postgres => Programs::Postgres(postgres::Programs::find()?),
            Kind::Mariadb if release.is_newer() => Programs::Mysql(mysql::Programs::find_newer_mariadb(&cache)?),
            Kind::Mariadb => Programs::Mysql(mysql::Programs::find_mariadb()?),
            Kind::Mysql => Programs::Mysql(mysql::Programs::find_mysql(&cache).await?),
        };
        let account = Account::for_servers();
        let password = folder::superuser_password(&cache)?;
        let mut port = Port::take(&cache)?;
        let folder = folder::temporary(kind.name(), account)?;
        port.note_folder(folder.path())?;
        let certificate = match options.encryption {
            Encryption::Off => None,
            Encryption::Private => Some(Certificate::make(folder.path(), account)?),
        };
        match &programs {
            Programs::Postgres(programs) => programs.initialise(&cache, folder.path(), &password, account).await?,
            Programs::Mysql(programs) => programs.initialise(&cache, folder.path(), &password, account).await?,
        }

        let mut server =
            Server { kind, programs, options, account, password, certificate, process: None, folder, port };
        let mut ports = 1;
        loop {
            match server.launch().await {
                Err(ServerError::Ended { log, .. }) if is_port_taken(&log) && ports < PORTS_MAX => {
                    let mut other = Port::take(&cache)?;
                    other.note_folder(server.folder.path())?;
                    // The new one has the note now; the old one would remove the folder.
                    server.port.note_folder(Path::new(""))?;
                    server.port = other;
                    ports += 1;
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
    }

    /// Starts a standby of a PostgreSQL server that runs, with settings of its own, from a base backup. It streams under the name `standby`, by a
    /// replication slot of that name, which is made on this server.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub async fn standby(&self, settings: &[(&str, &str)]) -> Result<Server, ServerError> {
        let mut options = self.options.clone();
        let url = self.superuser_url("postgres");
        let as_standby = format!("{url}?application_name=standby");
        for (name, value) in
            [("primary_conninfo", as_standby.as_str()), ("primary_slot_name", "standby")].iter().chain(settings)
        {
            check_setting(name, value)?;
            options.settings.push(((*name).to_owned(), (*value).to_owned()));
        }
        let cache = folder::cache()?;
        let programs = Programs::Postgres(match &self.programs {
            Programs::Postgres(postgres::Programs::Unpacked(_)) => postgres::Programs::find_newer(&cache)?,
            _ => postgres::Programs::find()?,
        });
        let mut port = Port::take(&cache)?;
        let folder = folder::temporary(self.kind.name(), self.account)?;
        port.note_folder(folder.path())?;
        if let Programs::Postgres(programs) = &programs {
            programs.back_up(&url, folder.path(), self.account).await?;
        }
        let (account, password) = (self.account, self.password.clone());
        let mut standby = Server {
            kind: self.kind,
            programs,
            options,
            account,
            password,
            certificate: None,
            process: None,
            folder,
            port,
        };
        standby.launch().await?;
        Ok(standby)
    }

    /// Goes on at the address of another server, which is killed if it still runs and gets this one's.
    ///
    /// # Errors
    ///
    /// As [`Server::kill`] and [`Server::restart`].
    pub async fn take_the_place_of(&mut self, other: &mut Server) -> Result<(), ServerError> {
        other.kill().await?;
        self.stop().await?;
        // A port's lock notes the folder that goes with it.
        std::mem::swap(&mut self.port, &mut other.port);
        self.port.note_folder(self.folder.path())?;
        other.port.note_folder(other.folder.path())?;
        self.restart().await
    }

    /// Kills the server and all its processes with SIGKILL, and waits until they are gone.
    ///
    /// Nothing is written any more once this returns; what was not yet told to the operating system is lost. A
    /// server that is not running stays so.
    ///
    /// # Errors
    ///
    /// The operating system did not end the process.
    pub async fn kill(&mut self) -> Result<(), ServerError> {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.kill().await.map_err(|error| ServerError::system("kill the server in", self.folder.path(), error))?;
        self.process = None;
        Ok(())
    }

    /// Starts the server again on its port with its data, and waits until it answers. One that still runs is
    /// stopped before.
    ///
    /// # Errors
    ///
    /// [`ServerError::Ended`] or [`ServerError::NotReady`], with the server's log.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.stop().await?;
        let deadline = Instant::now() + self.options.start_timeout;
        loop {
            match self.launch().await {
                Err(ServerError::Ended { log, .. }) if is_passing(&log) && Instant::now() < deadline => {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                result => return result,
            }
        }
    }

    /// Stops the server as its administrator would. Sessions are ended, everything is written.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotStopped`]; it was killed then.
    pub async fn stop(&mut self) -> Result<(), ServerError> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let signal = match self.programs {
            Programs::Postgres(_) => postgres::STOP,
            Programs::Mysql(_) => mysql::STOP,
        };
        process.signal(signal).map_err(|error| ServerError::system("stop the server in", self.folder.path(), error))?;
        let waited = self.options.stop_timeout;
        if process.wait(waited).await.is_none() {
            let log = folder::tail(&self.log(), 0);
            self.kill().await?;
            return Err(ServerError::NotStopped { kind: self.kind, waited, log });
        }
        self.process = None;
        Ok(())
    }

    /// Adds a setting that counts from the next [`restart`](Server::restart) on.
    ///
    /// # Errors
    ///
    /// [`ServerError::InvalidSetting`].
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> Result<(), ServerError> {
        let (name, value) = (name.into(), value.into());
        check_setting(&name, &value)?;
        self.options.settings.push((name, value));
        Ok(())
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its port on 127.0.0.1, the same as long as this value lives.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The id of its (first) process, if it runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The name of its superuser: `postgres`, or `root` (from 127.0.0.1).
    #[must_use]
    pub fn superuser(&self) -> &'static str {
        self.kind.superuser()
    }

    /// The password of its superuser.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The URL of a database for a user, without a password. An empty database is none.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        let (scheme, port) = (self.kind.scheme(), self.port());
        format!("{scheme}://{}@127.0.0.1:{port}/{}", percent_encode(user), percent_encode(database))
    }

    /// The URL of a database for a user with a password.
    #[must_use]
    pub fn url_with_password(&self, user: &str, password: &str, database: &str) -> String {
        let (scheme, port) = (self.kind.scheme(), self.port());
        let (user, password, database) = (percent_encode(user), percent_encode(password), percent_encode(database));
        format!("{scheme}://{user}:{password}@127.0.0.1:{port}/{database}")
    }

    /// The URL of a database for the superuser, with the password.
    #[must_use]
    pub fn superuser_url(&self, database: &str) -> String {
        self.url_with_password(self.superuser(), &self.password, database)
    }

    /// The certificate (PEM) of the authority that a client of an encrypted server has to trust; `None` without
    /// [`Encryption::Private`].
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.certificate.as_ref().map(|certificate| certificate.authority.as_path())
    }

    /// That authority itself, which can issue more certificates; `None` without [`Encryption::Private`].
    #[must_use]
    pub fn private_authority(&self) -> Option<&Authority> {
        self.certificate.as_ref().map(|certificate| &certificate.made_by)
    }

    /// Gives an encrypted server another certificate. It is shown to clients once the server is told to read it:
    /// `SELECT pg_reload_conf()`, `ALTER INSTANCE RELOAD TLS` (MySQL), `FLUSH SSL` (MariaDB).
    ///
    /// # Errors
    ///
    /// Its files cannot be written.
    pub fn replace_certificate(&self, issued: &Issued) -> Result<(), ServerError> {
        self.certificate.as_ref().map_or(Ok(()), |certificate| certificate.replace(issued, self.account))
    }

    /// Its temporary folder, which goes when this value is dropped.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Where it sees the disk of its own that [`Options::disk`] gives it. What is on it goes with the process.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.folder().join("disk")
    }

    /// The same disk, as others see it while the server runs.
    #[must_use]
    pub fn disk_from_outside(&self) -> Option<PathBuf> {
        let disk = self.disk();
        let disk = disk.strip_prefix("/").unwrap_or(&disk);
        Some(Path::new("/proc").join(self.process_id()?.to_string()).join("root").join(disk))
    }

    /// Its log, from all its starts.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        log(self.folder())
    }

    /// Starts the process once, and waits until it answers.
    async fn launch(&mut self) -> Result<(), ServerError> {
        let started = Instant::now();
        let log = self.log();
        let logged_before = fs::metadata(&log).map_or(0, |file| file.len());
        let command = self.command()?;
        let mut process = start(command, self.folder.path()).await?;
        let mut answer = "no connection was tried".to_owned();
        loop {
            if let Some(status) = process.ended() {
                let log = folder::tail(&log, logged_before);
                return Err(ServerError::Ended { kind: self.kind, ended: status.to_string(), log });
            }
            let waited = started.elapsed();
            if waited >= self.options.start_timeout {
                let log = folder::tail(&log, logged_before);
                return Err(ServerError::NotReady { kind: self.kind, waited, answer, log });
            }
            match ping(self.kind, self.port(), &self.password).await {
                // Were the port another's, and this server dead of that, its end would be seen here.
                Ok(()) if process.ended().is_none() => break,
                Ok(()) => {}
                Err(error) => {
                    answer = error;
                    tokio::time::sleep(PING_INTERVAL).await;
                }
            }
        }
        self.process = Some(process);
        Ok(())
    }

    fn command(&self) -> Result<Command, ServerError> {
        let (folder, port, options) = (self.folder.path(), self.port.number(), &self.options);
        let certificate = self.certificate.as_ref();
        let command = match &self.programs {
            Programs::Postgres(programs) => programs.command(folder, port, options, certificate, self.account),
            Programs::Mysql(programs) => programs.command(folder, port, options, certificate, self.account),
        }?;
        let command = match options.clock_ahead {
            0 => command,
            ahead => account::with_clock(&command, &folder::find_faketime()?, ahead),
        };
        let Some(bytes) = options.disk else { return Ok(command) };
        let disk = self.disk();
        fs::create_dir_all(&disk).map_err(|error| ServerError::system("make", &disk, error))?;
        account::with_disk(&command, &disk, bytes, self.account)
    }
}

/// Runs a program that initialises a data folder to its end.
pub(crate) async fn run(kind: Kind, command: Command, folder: &Path) -> Result<(), ServerError> {
    let mut process = start(command, folder).await?;
    let status = process.wait(INITIALISE_TIMEOUT).await;
    if status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    let late = || format!("it was killed after {} s", INITIALISE_TIMEOUT.as_secs());
    let ended = status.as_ref().map_or_else(late, ExitStatus::to_string);
    Err(ServerError::Initialise { kind, ended, log: folder::tail(&log(folder), 0) })
}

/// Runs what waits for the disk without holding up the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ServerError::system("finish copying to", env::temp_dir(), error.into()))?
}

/// Starts a program with its output in the folder's log.
async fn start(mut command: Command, folder: &Path) -> Result<Process, ServerError> {
    use std::os::unix::process::CommandExt;

    let log = log(folder);
    let failed = |error| ServerError::system("open the log", &log, error);
    let output = OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    // In a process group of its own, it does not get the Ctrl-C that is meant for the caller.
    command.stdout(output).stderr(errors).process_group(0);
    let program = PathBuf::from(command.get_program());
    Process::start(command).await.map_err(|error| ServerError::system("start", program, error))
}

fn log(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

/// Settings go into a file with one line for each, or into arguments.
fn check_setting(name: &str, value: &str) -> Result<(), ServerError> {
    let is_word = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if is_word && !value.contains(['\n', '\r', '\0']) {
        Ok(())
    } else {
        Err(ServerError::InvalidSetting { name: name.to_owned() })
    }
}

fn is_port_taken(log: &str) -> bool {
    log.contains("Address already in use")
}

/// Whether a server that was killed may start if it is tried again: something of the one before is still there.
fn is_passing(log: &str) -> bool {
    is_port_taken(log)
        || log.contains("pre-existing shared memory block")
        || log.contains("lock file \"postmaster.pid\" already exists")
        || log.contains("Unable to lock")
}

/// Encodes what is not a letter, a digit or `-._~`, so that it can stand anywhere in a URL.
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_holds_any_text() {
        assert_eq!(percent_encode("p@ss:/ü-_.~"), "p%40ss%3A%2F%C3%BC-_.~");
    }

    #[test]
    fn a_setting_is_one_line() {
        assert!(check_setting("binlog_row_image", "MINIMAL").is_ok());
        assert!(check_setting("auto_explain.log_format", "it's").is_ok());
        assert!(check_setting("skip-log-bin", "").is_ok());
        assert!(check_setting("fsync = off\nport", "1").is_err());
        assert!(check_setting("port", "1\nfsync = off").is_err());
        assert!(check_setting("", "1").is_err());
    }
}
