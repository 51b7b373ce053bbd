//! Servers of another release of Debian, which `scripts/install-servers` unpacks into the cache folder.
//!
//! Their programs need the loader and the libraries that were unpacked with them, and some start others: `initdb` runs
//! `postgres`, `mariadb-install-db` runs `mariadbd`. So the script puts a few lines of shell in the place of each, which start
//! the program itself by that loader, wherever the folder is. Here they are programs like any other.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::account::{Account, bound_command};
use crate::{ServerError, folder, server};

/// The folder in the cache folder that has them, and what there is in it, one folder each. The script names all of them too.
const FOLDER: &str = "unpacked";
pub(crate) const MYSQL: &str = "mysql-9.7";
pub(crate) const NEWER_MARIADB: &str = "mariadb-11.8";
pub(crate) const NEWER_POSTGRES: &str = "postgres-18";
const PROMETHEUS: &str = "prometheus";
const COMPOSE: &str = "compose";

/// The parts of such a folder that servers use.
const PARTS: [&str; 4] = ["usr/bin", "usr/sbin", "usr/lib", "usr/share"];

/// A command of one of MySQL's own tools, of the same version as the servers that are started. Arguments that are added are the tool's.
///
/// # Errors
///
/// [`ServerError::MissingProgram`]
pub fn mysql_tool(program: &str) -> Result<Command, ServerError> {
    let missing = ServerError::MissingProgram { program: "a tool of MySQL", hint: "run scripts/install-servers" };
    let Some(unpacked) = Unpacked::find(&folder::cache()?, MYSQL, &format!("usr/bin/{program}")) else {
        return folder::find_program(program, &["/usr/bin"]).ok_or(missing).and_then(bound_command);
    };
    // Nothing stands in its place, as for the programs that servers are made of.
    let Some(libraries) = the_one_in(&unpacked.own_path("usr/lib"), "-linux-gnu") else { return Err(missing) };
    let Some(loader) = the_one_in(&libraries, "ld-linux") else { return Err(missing) };
    let mut command = bound_command(loader)?;
    command.arg("--library-path").arg(libraries).arg(unpacked.own_path(&format!("usr/bin/{program}")));
    Ok(command)
}

/// A command of Prometheus's package, `prometheus` or `promtool`, in `$PATH` or in the cache folder. Arguments that are added are the program's.
///
/// # Errors
///
/// [`ServerError::MissingProgram`]
pub fn of_prometheus(program: &str) -> Result<Command, ServerError> {
    let path = format!("usr/bin/{program}");
    let unpacked = Unpacked::find(&folder::cache()?, PROMETHEUS, &path);
    let unpacked = || unpacked.map(|unpacked| unpacked.own_path(&path));
    let program = folder::find_program(program, &[]).or_else(unpacked).ok_or(ServerError::MissingProgram {
        program: "Prometheus (prometheus and promtool)",
        hint: "run scripts/install-servers, which fetches it into the cache folder",
    })?;
    bound_command(program)
}

/// The command of Docker Compose, in the cache folder or as a part of the `docker` in `$PATH`; it needs no engine for what is only read. Arguments that are
/// added are its own.
///
/// # Errors
///
/// [`ServerError::MissingProgram`]
pub fn compose() -> Result<Command, ServerError> {
    let path = "usr/libexec/docker/cli-plugins/docker-compose";
    if let Some(unpacked) = Unpacked::find(&folder::cache()?, COMPOSE, path) {
        return bound_command(unpacked.own_path(path));
    }
    let docker = folder::find_program("docker", &[]).ok_or(ServerError::MissingProgram {
        program: "Docker Compose",
        hint: "run scripts/install-servers, which fetches it into the cache folder",
    })?;
    let mut command = bound_command(docker)?;
    command.arg("compose");
    Ok(command)
}

/// What in a folder has this in its name.
fn the_one_in(folder: &Path, part: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)))
}

/// A folder with a server and all that it needs.
#[derive(Debug)]
pub(crate) struct Unpacked {
    root: PathBuf,
}

impl Unpacked {
    /// The folder of this name, if it has the program.
    pub(crate) fn find(cache: &Path, name: &str, program: &str) -> Option<Unpacked> {
        let root = cache.join(FOLDER).join(name);
        folder::is_program(&root.join(program)).then_some(Unpacked { root })
    }

    /// Where the files are for a server in `home`, once [`Unpacked::reach`] was called: the account may not be able to enter
    /// the cache folder.
    pub(crate) fn path(&self, home: &Path, account: Option<Account>, path: &str) -> PathBuf {
        let root = if account.is_some() { home.join("programs") } else { self.root.clone() };
        root.join(path)
    }

    /// The same for the caller.
    pub(crate) fn own_path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Makes it available to an account that may not enter the caller's cache folder, by second names in the server's own
    /// folder. That takes no space and a few milliseconds.
    pub(crate) async fn reach(&self, home: &Path, account: Option<Account>) -> Result<(), ServerError> {
        let Some(account) = account else { return Ok(()) };
        let (from, to) = (self.root.clone(), home.join("programs"));
        server::blocking(move || {
            for part in PARTS {
                folder::create_folder(&to.join(part))?;
                folder::link(&from.join(part), &to.join(part))?;
            }
            // Those were created for their owner alone, the rest is as it was unpacked: open to all.
            folder::give(&to.join("usr"), Some(account))?;
            folder::give(&to, Some(account))
        })
        .await
    }
}
