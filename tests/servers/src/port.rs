//! Ports that are no other's, also while their server is down.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::{ServerError, folder, postgres};

/// Below what the kernel gives to outgoing connections by default (32768 and up).
///
/// Among those, a port could be taken by any client while its server is killed and not yet started again,
/// and a client that connects again and again could be given the port it asks for, and meet itself.
const PORTS: Range<u16> = 20_000..32_000;

/// How many ports are tried. Of twelve thousand, hardly one is in use.
const TRIES_MAX: usize = 200;

/// A port of 127.0.0.1 that no other process with this crate takes as long as this value lives.
///
/// The lock file also tells which temporary folder belongs to the port's server. When a process was killed,
/// its lock is gone and the name still there: [`remove_left_folders`] goes by that.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    lock: File,
}

impl Port {
    /// Takes a free port.
    pub(crate) fn take(cache: &Path) -> Result<Port, ServerError> {
        let folder = folder(cache)?;
        for _ in 0..TRIES_MAX {
            // A new state has new random keys, so what it makes of no input is random too.
            let random = RandomState::new().build_hasher().finish();
            let width = u64::from(PORTS.end - PORTS.start);
            let number = PORTS.start + u16::try_from(random % width).unwrap_or(0);
            let mut lock = folder::open_lock(&folder.join(number.to_string()))?;
            if lock.try_lock().is_err() {
                continue;
            }
            remove_left_folder(&mut lock);
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Port { number, lock });
            }
        }
        Err(ServerError::NoPort)
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Notes which folder is to be removed if this process cannot.
    pub(crate) fn note_folder(&mut self, folder: &Path) -> Result<(), ServerError> {
        self.lock
            .set_len(0)
            .and_then(|()| self.lock.seek(SeekFrom::Start(0)))
            .and_then(|_| self.lock.write_all(folder.as_os_str().as_bytes()))
            .map_err(|error| ServerError::system("note in the cache the folder", folder, error))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        remove_left_folder(&mut self.lock);
    }
}

/// Removes the folders of servers whose processes were killed before they could.
pub(crate) fn remove_left_folders(cache: &Path) -> Result<(), ServerError> {
    let folder = folder(cache)?;
    let read = |error| ServerError::system("read the folder", &folder, error);
    for entry in fs::read_dir(&folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        if entry.metadata().is_ok_and(|file| file.len() == 0) {
            continue;
        }
        let mut lock = folder::open_lock(&entry.path())?;
        if lock.try_lock().is_ok() {
            remove_left_folder(&mut lock);
        }
    }
    Ok(())
}

fn folder(cache: &Path) -> Result<PathBuf, ServerError> {
    let folder = cache.join("ports");
    folder::create_folder(&folder)?;
    Ok(folder)
}

/// Removes the folder that is noted in a lock file, which must be locked. What cannot be removed now stays
/// noted, for the next to come this way.
fn remove_left_folder(lock: &mut File) {
    let mut noted = Vec::new();
    if lock.seek(SeekFrom::Start(0)).and_then(|_| lock.read_to_end(&mut noted)).is_err() || noted.is_empty() {
        return;
    }
    let noted = PathBuf::from(std::ffi::OsString::from_vec(noted));
    if folder::is_temporary(&noted) {
        postgres::remove_shared_memory(&noted);
    }
    let gone = !folder::is_temporary(&noted) || !noted.exists() || fs::remove_dir_all(&noted).is_ok();
    if gone {
        // Were it to fail, the next would find a folder that is not there, and go on.
        let _ = lock.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_once_and_its_folder_is_removed_if_left() {
        let cache = tempfile::tempdir().unwrap();
        let left = cache.path().join("pontoon-left");
        fs::create_dir(&left).unwrap();

        let mut port = Port::take(cache.path()).unwrap();
        port.note_folder(&left).unwrap();
        let other = folder::open_lock(&cache.path().join("ports").join(port.number().to_string())).unwrap();
        assert!(other.try_lock().is_err());
        remove_left_folders(cache.path()).unwrap();
        assert!(left.exists(), "its port is still held");

        // What stays behind when a process is killed: a note, and no lock.
        fs::write(cache.path().join("ports/20001"), left.as_os_str().as_bytes()).unwrap();
        remove_left_folders(cache.path()).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn no_other_folder_is_removed() {
        let cache = tempfile::tempdir().unwrap();
        let other = cache.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::create_dir(cache.path().join("ports")).unwrap();
        fs::write(cache.path().join("ports/20001"), other.as_os_str().as_bytes()).unwrap();
        remove_left_folders(cache.path()).unwrap();
        assert!(other.exists());
    }
}
