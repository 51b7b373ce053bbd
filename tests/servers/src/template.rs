//! Initialised data folders in the cache: each is made once, by one process, and copied for every server.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::{Kind, ServerError, folder, server};

/// A part of the templates' names, to be raised when what is made of them changes.
const FORMAT: u32 = 2;

/// How long to wait for another process that makes the same template. That takes seconds.
const TIMEOUT: Duration = Duration::from_secs(180);

/// The template of what a server is made of (its version, the password), which `make` initialises in the folder it is given, as `data`, if
/// this is the first time.
pub(crate) async fn of(
    cache: &Path,
    kind: Kind,
    what: impl Hash,
    account: Option<Account>,
    make: impl AsyncFnOnce(&Path) -> Result<(), ServerError>,
) -> Result<PathBuf, ServerError> {
    let templates = cache.join("templates");
    folder::create_folder(&templates)?;
    let mut hasher = DefaultHasher::new();
    (FORMAT, what).hash(&mut hasher);
    let name = format!("{kind}-{:016x}", hasher.finish());
    let template = templates.join(&name);
    if template.exists() {
        return Ok(template);
    }

    let lock = folder::open_lock(&templates.join(format!("{name}.lock")))?;
    let deadline = Instant::now() + TIMEOUT;
    while lock.try_lock().is_err() {
        if Instant::now() >= deadline {
            let waited = std::io::ErrorKind::TimedOut.into();
            return Err(ServerError::system("wait for the other process that makes", &template, waited));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if !template.exists() {
        // Where the account may write.
        let home = folder::temporary("template", account)?;
        make(home.path()).await?;
        put(home.path().join("data"), template.clone(), account).await?;
    }
    Ok(template)
}

/// Whole or not at all. Only the holder of the lock comes here, so what is there is a dead one's.
async fn put(data: PathBuf, template: PathBuf, account: Option<Account>) -> Result<(), ServerError> {
    server::blocking(move || {
        let partial = template.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(|error| ServerError::system("remove", &partial, error))?;
        }
        folder::copy(&data, &partial, account)?;
        fs::rename(&partial, &template).map_err(|error| ServerError::system("put in place", &template, error))
    })
    .await
}
