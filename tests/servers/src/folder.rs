//! The cache folder and temporary folders, and copying from one into the other.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::ServerError;
use crate::account::Account;

/// What the names of all temporary folders start with.
pub(crate) const TEMPORARY_PREFIX: &str = "pontoon-";

/// `${XDG_CACHE_HOME:-~/.cache}/pontoon`, created if it is not there.
pub(crate) fn cache() -> Result<PathBuf, ServerError> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let cache = base
        .map(|base| base.join("pontoon"))
        .ok_or_else(|| ServerError::system("find the cache folder by", "$HOME", ErrorKind::NotFound.into()))?;
    create_folder(&cache)?;
    Ok(cache)
}

/// Creates a folder and those above it, for their owner alone.
pub(crate) fn create_folder(path: &Path) -> Result<(), ServerError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| ServerError::system("create the folder", path, error))
}

/// Opens a file of the cache to lock it. It is never removed, since a lock on a removed file is none.
pub(crate) fn open_lock(path: &Path) -> Result<File, ServerError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| ServerError::system("open the lock file", path, error))
}

/// A temporary folder that belongs to the account, and to nobody else.
pub(crate) fn temporary(name: &str, account: Option<Account>) -> Result<TempDir, ServerError> {
    let base = temporary_base(account);
    let folder = tempfile::Builder::new()
        .prefix(&format!("{TEMPORARY_PREFIX}{name}-"))
        .tempdir_in(&base)
        .map_err(|error| ServerError::system("create a temporary folder in", &base, error))?;
    give(folder.path(), account)?;
    Ok(folder)
}

/// `$TMPDIR`, or where that lies in a folder that the account may not enter (below `/root`, say), `/tmp`.
fn temporary_base(account: Option<Account>) -> PathBuf {
    let base = env::temp_dir();
    let open_to_all = |folder: &Path| fs::metadata(folder).is_ok_and(|folder| folder.mode() & 0o001 != 0);
    if account.is_none() || (base.is_absolute() && base.ancestors().all(open_to_all)) {
        base
    } else {
        PathBuf::from("/tmp")
    }
}

/// Gives a file or folder to the account.
pub(crate) fn give(path: &Path, account: Option<Account>) -> Result<(), ServerError> {
    let Some(Account { uid, gid }) = account else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).map_err(|error| ServerError::system("change the owner of", path, error))
}

/// Writes a file that the account may read, and nobody else.
pub(crate) fn write(path: &Path, content: &str, account: Option<Account>) -> Result<(), ServerError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|error| ServerError::system("write", path, error))?;
    give(path, account)
}

/// Copies a folder with all that is in it. What is copied belongs to the account.
pub(crate) fn copy(from: &Path, to: &Path, account: Option<Account>) -> Result<(), ServerError> {
    walk(from, to, &|from, to| {
        // On file systems that can, this shares the blocks until one of the two is written to.
        fs::copy(from, to).map_err(|error| ServerError::system("copy to", to, error))?;
        give(to, account)
    })?;
    give_folders(to, account)
}

/// Makes a second name, below `to`, for every file below `from`; where the file system cannot, a copy.
pub(crate) fn link(from: &Path, to: &Path) -> Result<(), ServerError> {
    walk(from, to, &|from, to| {
        fs::hard_link(from, to)
            .or_else(|_| fs::copy(from, to).map(drop))
            .map_err(|error| ServerError::system("link or copy to", to, error))
    })
}

/// Calls `place` for every file, after making the folders. Symbolic links are made anew.
fn walk(from: &Path, to: &Path, place: &dyn Fn(&Path, &Path) -> Result<(), ServerError>) -> Result<(), ServerError> {
    let read = |error| ServerError::system("read the folder", from, error);
    let mode = fs::metadata(from).map_err(read)?.permissions().mode();
    create_folder(to)?;
    for entry in fs::read_dir(from).map_err(read)? {
        let entry = entry.map_err(read)?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(read)?;
        if kind.is_dir() {
            walk(&from, &to, place)?;
        } else if kind.is_symlink() {
            fs::read_link(&from)
                .and_then(|target| std::os::unix::fs::symlink(target, &to))
                .map_err(|error| ServerError::system("link", &to, error))?;
        } else {
            place(&from, &to)?;
        }
    }
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
        .map_err(|error| ServerError::system("change the permissions of", to, error))
}

fn give_folders(folder: &Path, account: Option<Account>) -> Result<(), ServerError> {
    if account.is_none() {
        return Ok(());
    }
    let read = |error| ServerError::system("read the folder", folder, error);
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        if entry.file_type().map_err(read)?.is_dir() {
            give_folders(&entry.path(), account)?;
        }
    }
    give(folder, account)
}

/// The password of every superuser of this user's servers.
///
/// It is made at random, so that no other user of the machine can log in; and once, so that the initialised
/// data folders in the cache can hold it.
pub(crate) fn superuser_password(cache: &Path) -> Result<String, ServerError> {
    const LENGTH: usize = 32;
    let path = cache.join("superuser-password");
    let failed = |error| ServerError::system("read or write", &path, error);
    let mut file = open_lock(&path)?;
    file.lock().map_err(failed)?;
    let mut password = String::new();
    file.read_to_string(&mut password).map_err(failed)?;
    if password.len() != LENGTH {
        let mut random = [0; LENGTH / 2];
        File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).map_err(failed)?;
        password = random.iter().map(|byte| format!("{byte:02x}")).collect();
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(password.as_bytes()))
            .map_err(failed)?;
    }
    Ok(password)
}

/// The end of a log, for an error message; of what was written after the first `from` bytes.
pub(crate) fn tail(log: &Path, from: u64) -> String {
    const BYTES_MAX: u64 = 4096;
    const LINES_MAX: usize = 25;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(BYTES_MAX))))?;
        let mut end = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut end)?;
        Ok(end)
    };
    let end = read().unwrap_or_default();
    let end = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = end.lines().collect();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
}

/// Finds a program in `$PATH`, or else in `folders`, which a user's `$PATH` often lacks.
pub(crate) fn find_program(name: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .chain(folders.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| is_program(program))
}

/// The library that gives a process another clock.
pub(crate) fn find_faketime() -> Result<PathBuf, ServerError> {
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    libraries.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|file| file.is_file()).ok_or(
        ServerError::MissingProgram {
            program: "libfaketimeMT.so.1",
            hint: "run scripts/install-servers, or install the package libfaketime",
        },
    )
}

pub(crate) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
}

/// Whether a folder is one that [`temporary`] may have made.
pub(crate) fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    path.is_absolute() && name.starts_with(TEMPORARY_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_files_folders_links_and_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::write(from.join("deep/er/file"), "content").unwrap();
        fs::set_permissions(from.join("deep"), fs::Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("deep/er", from.join("short")).unwrap();

        copy(&from, &to, None).unwrap();
        assert_eq!(fs::read_to_string(to.join("short/file")).unwrap(), "content");
        assert_eq!(fs::metadata(to.join("deep")).unwrap().mode() & 0o777, 0o750);

        let linked = folder.path().join("linked");
        link(&from, &linked).unwrap();
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(linked.join("deep/er/file")), inode(from.join("deep/er/file")));
    }

    #[test]
    fn a_tail_is_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let lines: Vec<String> = (0..100).map(|line| format!("line {line}")).collect();
        fs::write(&log, lines.join("\n")).unwrap();
        assert!(tail(&log, 0).starts_with("line 75\n") && tail(&log, 0).ends_with("\nline 99"));
        assert_eq!(tail(&log, fs::metadata(&log).unwrap().len() - 2), "99");
        assert_eq!(tail(&folder.path().join("none"), 0), "");
    }

    #[test]
    fn the_password_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let password = superuser_password(folder.path()).unwrap();
        assert_eq!(password.len(), 32);
        assert_eq!(superuser_password(folder.path()).unwrap(), password);
    }
}
