//! Which user the servers run as.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::ServerError;
use crate::folder;

/// `nobody` of the Linux kernel, where the system has no line for it.
const NOBODY: Account = Account { uid: 65534, gid: 65534 };

/// The user and group that servers run as and that own their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// `None` is the caller's own; root's servers run as `nobody`.
    pub(crate) fn for_servers() -> Option<Account> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Some(users.lines().find_map(parse_nobody).unwrap_or(NOBODY))
    }
}

/// Reads a line of `/etc/passwd`: name, password, user id, group id, and what does not matter here.
fn parse_nobody(line: &str) -> Option<Account> {
    let mut fields = line.strip_prefix("nobody:")?.split(':').skip(1);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { uid, gid })
}

/// A command of a program that the kernel kills when the thread that starts it ends, and so when its process is
/// killed. Arguments that are added are the program's.
///
/// `setpriv` sets the signal that the kernel sends when the parent is gone, then becomes the program, so
/// that the process id is the program's.
///
/// # Errors
///
/// [`ServerError::MissingProgram`]
pub fn bound_command(program: impl AsRef<OsStr>) -> Result<Command, ServerError> {
    let mut command = setpriv()?;
    command.arg(program);
    Ok(command)
}

fn setpriv() -> Result<Command, ServerError> {
    let setpriv = folder::find_program("setpriv", &["/usr/bin", "/bin"])
        .ok_or(ServerError::MissingProgram { program: "setpriv", hint: "install the package util-linux" })?;
    let mut command = Command::new(setpriv);
    command.arg("--pdeathsig=KILL");
    Ok(command)
}

/// A command that runs `program` as `account`, in `folder`, and dies with this process. The signal can only be had
/// before the user is changed, which `setpriv` does last.
pub(crate) fn command(program: &Path, account: Option<Account>, folder: &Path) -> Result<Command, ServerError> {
    let mut command = setpriv()?;
    if let Some(Account { uid, gid }) = account {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
    }
    command
        .arg(program)
        // The caller's folder and home may be closed to the account, and its folder for temporary files too.
        .current_dir(folder)
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .env("LC_ALL", "C.UTF-8")
        // cargo sets it for tests, to libraries that are not the server's.
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null());
    Ok(command)
}

/// What [`command`] made, with a clock that is so many seconds ahead of the machine's.
///
/// Only the program itself has it. `setpriv` does not: it would make the memory that the library shares with a program's
/// children as the caller, and the program may be another user's.
pub(crate) fn with_clock(command: &Command, library: &Path, ahead: i64) -> Command {
    let arguments: Vec<&OsStr> = command.get_args().collect();
    let is_program = |argument: &&OsStr| !argument.to_string_lossy().starts_with("--");
    let (own, program) = arguments.split_at(arguments.iter().position(is_program).unwrap_or(arguments.len()));
    let mut preload = OsString::from("LD_PRELOAD=");
    preload.push(library);
    let mut other = Command::new(command.get_program());
    // Time that passes is left as it is: time-outs go by it.
    other
        .args(own)
        .arg("env")
        .arg(preload)
        .args([format!("FAKETIME={ahead:+}s"), "FAKETIME_DONT_FAKE_MONOTONIC=1".into()]);
    other.args(program);
    surrounded_as(command, other)
}

/// What [`command`] made, with a disk of so many bytes of its own in a folder that is there, which is the account's and
/// goes with the process.
///
/// It is memory that only this process and its children see, in a mount namespace. Whoever is not root becomes it in a
/// user namespace, and is himself again in another one: PostgreSQL does not run as root.
pub(crate) fn with_disk(
    command: &Command,
    disk: &Path,
    bytes: u64,
    account: Option<Account>,
) -> Result<Command, ServerError> {
    let (own, himself) = match account {
        Some(_) => (&[][..], String::new()),
        None => {
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            (&["--user", "--map-root-user"][..], format!("unshare --user --map-user={uid} --map-group={gid}"))
        }
    };
    let owner = account.map_or_else(String::new, |Account { uid, gid }| format!(",uid={uid},gid={gid}"));
    let mount = format!("mount -t tmpfs -o size={bytes},mode=700{owner} disk \"$0\" && exec {himself} \"$@\"");
    let mut other = bound_command("unshare")?;
    other.args(own).args(["--mount", "sh", "-c", &mount]).arg(disk);
    other.arg(command.get_program()).args(command.get_args());
    Ok(surrounded_as(command, other))
}

/// With the folder and the environment of a command.
fn surrounded_as(command: &Command, mut other: Command) -> Command {
    other.stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        other.current_dir(folder);
    }
    other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_read_from_its_line() {
        assert_eq!(parse_nobody("nobody:x:99:98:Nobody:/:/sbin/nologin"), Some(Account { uid: 99, gid: 98 }));
        assert_eq!(parse_nobody("root:x:0:0:root:/root:/bin/bash"), None);
        assert_eq!(parse_nobody("nobody:x"), None);
    }
}
