//! What MariaDB and MySQL need: programs, initialising, arguments.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::account::{self, Account};
use crate::certificate::Certificate;
use crate::options::{Durability, Options};
use crate::{Kind, ServerError, folder, server};

/// Where the server programs are if not in `$PATH`.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/libexec", "/usr/bin"];

/// Where `scripts/install-servers` unpacks MySQL, in the cache folder. Both name this folder.
const UNPACKED: &str = "mysql/9.7";

/// A part of the templates' names, to be raised when what this file makes of them changes.
const TEMPLATE_FORMAT: u32 = 1;

/// How long to wait for another process that makes the same template. That takes seconds.
const TEMPLATE_TIMEOUT: Duration = Duration::from_secs(180);

/// A shutdown: sessions are ended, transactions rolled back.
pub(crate) const STOP: Signal = Signal::TERM;

/// The programs of one of the two.
#[derive(Debug)]
pub(crate) struct Programs {
    kind: Kind,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// A server installed in the system.
    System { server: PathBuf },
    /// MySQL of another release of Debian, unpacked into this folder: started by its own loader, with its own
    /// libraries.
    Unpacked { root: PathBuf },
}

impl Programs {
    pub(crate) fn find_mariadb() -> Result<Programs, ServerError> {
        let server = folder::find_program("mariadbd", &SYSTEM_FOLDERS).ok_or(ServerError::MissingProgram {
            program: "mariadbd",
            hint: "run scripts/install-servers, or install the packages mariadb-server-core and mariadb-client-core",
        })?;
        Ok(Programs { kind: Kind::Mariadb, place: Place::System { server } })
    }

    pub(crate) async fn find_mysql(cache: &Path) -> Result<Programs, ServerError> {
        let root = cache.join(UNPACKED);
        if folder::is_program(&root.join("usr/sbin/mysqld")) {
            return Ok(Programs { kind: Kind::Mysql, place: Place::Unpacked { root } });
        }
        if let Some(server) = folder::find_program("mysqld", &SYSTEM_FOLDERS) {
            let programs = Programs { kind: Kind::Mysql, place: Place::System { server } };
            // MariaDB goes by this name, too.
            if !programs.version().await?.contains("MariaDB") {
                return Ok(programs);
            }
        }
        Err(ServerError::MissingProgram {
            program: "mysqld of MySQL",
            hint: "run scripts/install-servers, which fetches it into the cache folder",
        })
    }

    /// Puts an initialised data folder into the server's folder.
    pub(crate) async fn initialise(
        &self,
        cache: &Path,
        home: &Path,
        password: &str,
        account: Option<Account>,
    ) -> Result<(), ServerError> {
        self.reach(home, account).await?;
        let template = self.template(cache, password, account).await?;
        let data = home.join("data");
        server::blocking(move || folder::copy(&template, &data, account)).await
    }

    /// The command that starts the server.
    pub(crate) fn command(
        &self,
        home: &Path,
        port: u16,
        options: &Options,
        certificate: Option<&Certificate>,
        account: Option<Account>,
    ) -> Result<Command, ServerError> {
        let mut command = self.server_command(home, account)?;
        command
            .arg(option("datadir", home.join("data")))
            // A MariaDB that starts removes temporary tables of other servers from a folder that they share.
            .arg(option("tmpdir", home.join("data")))
            // Without a folder, they are in the data folder.
            .args(["--socket=server.sock", "--pid-file=server.pid"])
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve"])
            .arg(format!("--port={port}"))
            // As unique as the port is.
            .arg(format!("--server-id={port}"))
            .args(["--log-bin=binlog", "--binlog-format=ROW"])
            .args(["--binlog-row-image=FULL", "--binlog-row-metadata=FULL"])
            .args(["--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1"])
            .args(["--character-set-server=utf8mb4", "--performance-schema=OFF"])
            .arg("--innodb-buffer-pool-size=64M");
        match self.kind {
            Kind::Mysql => command.args(["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]).args([
                "--innodb-redo-log-capacity=64M",
                "--mysqlx=OFF",
                "--secure-file-priv=",
            ]),
            Kind::Mariadb | Kind::Postgres => command.arg("--innodb-log-file-size=64M"),
        };
        if options.durability == Durability::Process {
            command.arg("--innodb-flush-method=nosync");
        }
        if let Some(Certificate { authority, server, key, .. }) = certificate {
            command.args([option("ssl-ca", authority), option("ssl-cert", server), option("ssl-key", key)]);
        }
        for (name, value) in &options.settings {
            // An option without a value is a switch, such as skip-log-bin.
            command.arg(if value.is_empty() { format!("--{name}") } else { format!("--{name}={value}") });
        }
        Ok(command)
    }

    /// The command of the server program with the arguments that say where its files are.
    fn server_command(&self, home: &Path, account: Option<Account>) -> Result<Command, ServerError> {
        match &self.place {
            Place::System { server } => {
                let mut command = account::command(server, account, home)?;
                command.arg("--no-defaults");
                Ok(command)
            }
            Place::Unpacked { root } => {
                // The account may not be able to enter the cache folder: see `reach`.
                let root = if account.is_some() { home.join("programs") } else { root.clone() };
                let libraries = libraries(&root)?;
                let mut command = account::command(&loader(&libraries)?, account, home)?;
                command
                    .arg("--library-path")
                    .arg(&libraries)
                    .arg(root.join("usr/sbin/mysqld"))
                    .arg("--no-defaults")
                    .arg(option("basedir", root.join("usr")))
                    .arg(option("lc-messages-dir", root.join("usr/share/mysql")))
                    .arg(option("character-sets-dir", root.join("usr/share/mysql/charsets")))
                    .arg(option("plugin-dir", root.join("usr/lib/mysql/plugin")));
                Ok(command)
            }
        }
    }

    /// Makes an unpacked MySQL available to an account that may not enter the caller's cache folder, by second
    /// names in the server's own folder. That takes no space and a few milliseconds.
    async fn reach(&self, home: &Path, account: Option<Account>) -> Result<(), ServerError> {
        let (Place::Unpacked { root }, Some(account)) = (&self.place, account) else { return Ok(()) };
        let (from, to) = (root.clone(), home.join("programs"));
        server::blocking(move || {
            for part in ["usr/sbin", "usr/lib", "usr/share"] {
                folder::create_folder(&to.join(part))?;
                folder::link(&from.join(part), &to.join(part))?;
            }
            // Those were created for their owner alone, the rest is as it was unpacked: open to all.
            folder::give(&to.join("usr"), Some(account))?;
            folder::give(&to, Some(account))
        })
        .await
    }

    /// What the server program says its version is.
    async fn version(&self) -> Result<String, ServerError> {
        let mut command = match &self.place {
            Place::System { server } => Command::new(server),
            Place::Unpacked { root } => {
                let libraries = libraries(root)?;
                let mut command = Command::new(loader(&libraries)?);
                command.arg("--library-path").arg(&libraries).arg(root.join("usr/sbin/mysqld"));
                command
            }
        };
        command.args(["--no-defaults", "--version"]);
        server::blocking(move || {
            let output = command.output().map_err(|error| ServerError::system("run", command.get_program(), error))?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        })
        .await
    }

    /// The initialised data folder in the cache, which is made if this is the first time.
    async fn template(&self, cache: &Path, password: &str, account: Option<Account>) -> Result<PathBuf, ServerError> {
        let templates = cache.join("templates");
        folder::create_folder(&templates)?;
        let mut hasher = DefaultHasher::new();
        (TEMPLATE_FORMAT, self.version().await?, password).hash(&mut hasher);
        let name = format!("{}-{:016x}", self.kind, hasher.finish());
        let template = templates.join(&name);
        if template.exists() {
            return Ok(template);
        }

        let lock = folder::open_lock(&templates.join(format!("{name}.lock")))?;
        let deadline = Instant::now() + TEMPLATE_TIMEOUT;
        while lock.try_lock().is_err() {
            if Instant::now() >= deadline {
                let waited = std::io::ErrorKind::TimedOut.into();
                return Err(ServerError::system("wait for the other process that makes", &template, waited));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if !template.exists() {
            self.make_template(&template, password, account).await?;
        }
        Ok(template)
    }

    /// Initialises a data folder in a temporary folder, where the account may write, and copies it into the cache.
    async fn make_template(
        &self,
        template: &Path,
        password: &str,
        account: Option<Account>,
    ) -> Result<(), ServerError> {
        let folder = folder::temporary("template", account)?;
        let home = folder.path();
        self.reach(home, account).await?;
        let data = home.join("data");
        // Clients on TCP are 127.0.0.1 to the server, since it resolves no names. MariaDB has root there already,
        // beside others without a password. It reads the privileges only when told. One statement is one line.
        let only_user = match self.kind {
            Kind::Mysql => "RENAME USER 'root'@'localhost' TO 'root'@'127.0.0.1';",
            Kind::Mariadb | Kind::Postgres => {
                "DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> '127.0.0.1';"
            }
        };
        let password = format!("ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '{password}';");
        let first_statements = format!("{only_user}\nFLUSH PRIVILEGES;\n{password}\n");
        let first = home.join("first.sql");
        folder::write(&first, &first_statements, account)?;
        let mut command = match self.kind {
            Kind::Mysql => {
                let mut command = self.server_command(home, account)?;
                command
                    .args(["--initialize-insecure", "--disable-log-bin", "--innodb-redo-log-capacity=64M"])
                    .args(["--mysqlx=OFF", "--secure-file-priv="])
                    .arg(option("init-file", &first));
                command
            }
            Kind::Mariadb | Kind::Postgres => {
                let program =
                    folder::find_program("mariadb-install-db", &SYSTEM_FOLDERS).ok_or(ServerError::MissingProgram {
                        program: "mariadb-install-db",
                        hint: "run scripts/install-servers, or install the package mariadb-server-core",
                    })?;
                let mut command = account::command(&program, account, home)?;
                command
                    .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
                    .arg(option("extra-file", &first))
                    .arg("--innodb-log-file-size=64M");
                command
            }
        };
        command.arg(option("datadir", &data)).args(["--innodb-buffer-pool-size=64M", "--innodb-flush-method=nosync"]);
        server::run(self.kind, command, home).await?;

        // The server's identity, which each makes itself if it is not there.
        match fs::remove_file(data.join("auto.cnf")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ServerError::system("remove", data.join("auto.cnf"), error));
            }
            _ => {}
        }
        let template = template.to_owned();
        server::blocking(move || {
            // Whole or not at all. Only the holder of the lock comes here, so what is there is a dead one's.
            let partial = template.with_extension("partial");
            if partial.exists() {
                fs::remove_dir_all(&partial).map_err(|error| ServerError::system("remove", &partial, error))?;
            }
            folder::copy(&data, &partial, account)?;
            fs::rename(&partial, &template).map_err(|error| ServerError::system("put in place", &template, error))
        })
        .await
    }
}

/// `--NAME=PATH`, for a path of any bytes.
fn option(name: &str, path: impl AsRef<Path>) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(path.as_ref());
    option
}

/// The folder of an unpacked Debian that has its libraries and its loader.
fn libraries(root: &Path) -> Result<PathBuf, ServerError> {
    let folder = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    if folder.is_dir() {
        Ok(folder)
    } else {
        Err(ServerError::system("find the libraries of MySQL in", folder, std::io::ErrorKind::NotFound.into()))
    }
}

fn loader(libraries: &Path) -> Result<PathBuf, ServerError> {
    let is_loader = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("ld-linux")
    };
    fs::read_dir(libraries)
        .map_err(|error| ServerError::system("read the folder", libraries, error))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(is_loader)
        .ok_or_else(|| {
            ServerError::system("find the loader of MySQL in", libraries, std::io::ErrorKind::NotFound.into())
        })
}
