//! What MariaDB and MySQL need: programs, initialising, arguments.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::account::{self, Account};
use crate::certificate::Certificate;
use crate::options::{Durability, Options};
use crate::unpacked::{self, Unpacked};
use crate::{Kind, ServerError, folder, server, template};

/// Where the server programs are if not in `$PATH`.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/libexec", "/usr/bin"];

/// The server programs of the two in an unpacked folder.
const MYSQLD: &str = "usr/sbin/mysqld";
const MARIADBD: &str = "usr/sbin/mariadbd";

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
    /// One of another release of Debian.
    Unpacked(Unpacked),
}

impl Programs {
    pub(crate) fn find_mariadb() -> Result<Programs, ServerError> {
        let server = folder::find_program("mariadbd", &SYSTEM_FOLDERS).ok_or(ServerError::MissingProgram {
            program: "mariadbd",
            hint: "run scripts/install-servers, or install the packages mariadb-server-core and mariadb-client-core",
        })?;
        Ok(Programs { kind: Kind::Mariadb, place: Place::System { server } })
    }

    /// MariaDB of the newer version that is tested.
    pub(crate) fn find_newer_mariadb(cache: &Path) -> Result<Programs, ServerError> {
        let unpacked = Unpacked::find(cache, unpacked::NEWER_MARIADB, MARIADBD).ok_or(ServerError::MissingProgram {
            program: "mariadbd of MariaDB 11.8",
            hint: "run `scripts/install-servers newer`, which fetches it into the cache folder",
        })?;
        Ok(Programs { kind: Kind::Mariadb, place: Place::Unpacked(unpacked) })
    }

    pub(crate) async fn find_mysql(cache: &Path) -> Result<Programs, ServerError> {
        if let Some(unpacked) = Unpacked::find(cache, unpacked::MYSQL, MYSQLD) {
            return Ok(Programs { kind: Kind::Mysql, place: Place::Unpacked(unpacked) });
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
        let what = (self.version().await?, password);
        let make = async |home: &Path| self.make_template(home, password, account).await;
        let template = template::of(cache, self.kind, what, account, make).await?;
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
            Place::Unpacked(unpacked) => {
                let path = |path: &str| unpacked.path(home, account, path);
                let mut command = account::command(&path(self.unpacked_server()), account, home)?;
                command
                    .arg("--no-defaults")
                    .arg(option("basedir", path("usr")))
                    .arg(option("lc-messages-dir", path(&format!("usr/share/{}", self.kind))))
                    .arg(option("character-sets-dir", path(&format!("usr/share/{}/charsets", self.kind))))
                    .arg(option("plugin-dir", path("usr/lib/mysql/plugin")));
                Ok(command)
            }
        }
    }

    /// The server program in an unpacked folder.
    fn unpacked_server(&self) -> &'static str {
        match self.kind {
            Kind::Mysql => MYSQLD,
            Kind::Mariadb | Kind::Postgres => MARIADBD,
        }
    }

    async fn reach(&self, home: &Path, account: Option<Account>) -> Result<(), ServerError> {
        match &self.place {
            Place::System { .. } => Ok(()),
            Place::Unpacked(unpacked) => unpacked.reach(home, account).await,
        }
    }

    /// What the server program says its version is.
    async fn version(&self) -> Result<String, ServerError> {
        let mut command = Command::new(match &self.place {
            Place::System { server } => server.clone(),
            Place::Unpacked(unpacked) => unpacked.own_path(self.unpacked_server()),
        });
        command.args(["--no-defaults", "--version"]);
        server::blocking(move || {
            let output = command.output().map_err(|error| ServerError::system("run", command.get_program(), error))?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        })
        .await
    }

    /// The program that makes MariaDB's data folder, with the arguments that say where its files are.
    fn install_db(&self, home: &Path, account: Option<Account>) -> Result<Command, ServerError> {
        let program = match &self.place {
            Place::System { .. } => folder::find_program("mariadb-install-db", &SYSTEM_FOLDERS),
            Place::Unpacked(unpacked) => Some(unpacked.path(home, account, "usr/bin/mariadb-install-db")),
        };
        let program = program.ok_or(ServerError::MissingProgram {
            program: "mariadb-install-db",
            hint: "run scripts/install-servers, or install the package mariadb-server-core",
        })?;
        let mut command = account::command(&program, account, home)?;
        command.arg("--no-defaults");
        if let Place::Unpacked(unpacked) = &self.place {
            command.arg(option("basedir", unpacked.path(home, account, "usr")));
        }
        Ok(command)
    }

    /// Initialises the folder `data` in a temporary folder.
    async fn make_template(&self, home: &Path, password: &str, account: Option<Account>) -> Result<(), ServerError> {
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
                let mut command = self.install_db(home, account)?;
                command
                    .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
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
        Ok(())
    }
}

/// `--NAME=PATH`, for a path of any bytes.
fn option(name: &str, path: impl AsRef<Path>) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(path.as_ref());
    option
}
