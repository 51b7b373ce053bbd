//! The stage: two private servers, the shop on both, and a bridge that is set up between them.
//!
//! Everything is done as an operator would: the bridge's user gets what `pontoon setup --print-sql`
//! prints and nothing else, passwords are in files that only their owner reads, the configuration is a
//! file that every other command takes as well.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use pontoon_core::{Code, Error, Result};
use pontoon_servers::{Kind, Options, Server, ServerError};

use super::{
    DATABASE, NAMES, schema,
    sql::{Login, Session},
};
use crate::{
    cli::DemoServer,
    config::Config,
    mapping::{self, Mapping},
    nodes::{self, Nodes},
    setup,
    side::{Pair, Side},
};

/// The bridge's user, and its name.
const BRIDGE_USER: &str = "pontoon";
const BRIDGE: &str = "demo";

/// The user of the applications.
const CLIENT_USER: &str = "app";

/// What the demo plays on. The servers and all files are gone when it is dropped.
pub(super) struct Stage {
    pub(super) config: Arc<Config>,
    pub(super) config_file: PathBuf,
    pub(super) nodes: Nodes,
    pub(super) mapping: Mapping,
    /// Of the applications.
    pub(super) logins: Pair<Login>,
    /// `PostgreSQL 15.18`.
    pub(super) versions: Pair<String>,
    pub(super) servers: Pair<Server>,
}

/// Starts both servers at once.
pub(super) async fn start_servers(kinds: Pair<Kind>) -> Result<Pair<Server>> {
    let start = |side: Side| {
        let mut options = Options::default();
        for (name, value) in schema::settings(kinds[side], side) {
            options = options.setting(name, value);
        }
        Server::start(kinds[side], options)
    };
    // Both to their end, also where one fails: given up halfway, a start may leave files behind.
    let (a, b) = tokio::join!(start(Side::A), start(Side::B));
    Ok(Pair::new(a.map_err(of_server)?, b.map_err(of_server)?))
}

fn of_server(error: ServerError) -> Error {
    match error {
        ServerError::MissingProgram { program, hint } => {
            Error::new(Code::Unreachable, format!("the demo needs the program {program}, which is not installed"))
                .hint(hint)
        }
        other => Error::new(Code::Unreachable, other.to_string()),
    }
}

/// Which server.
pub(super) fn kind(server: DemoServer) -> Kind {
    match server {
        DemoServer::Postgres => Kind::Postgres,
        DemoServer::Mariadb => Kind::Mariadb,
        DemoServer::Mysql => Kind::Mysql,
    }
}

/// Creates the shop on both servers, and sets the bridge up. With a `page`, the bridge will serve one.
pub(super) async fn set_up(servers: Pair<Server>, page: bool) -> Result<Stage> {
    let passwords = Pair::from_fn(|_| Passwords { bridge: password(), clients: password() });
    let login = |side: Side, user: &str, password: &str| Login {
        node: NAMES[side as usize],
        kind: servers[side].kind(),
        port: servers[side].port(),
        user: user.to_owned(),
        password: password.to_owned(),
        database: DATABASE.to_owned(),
    };
    let superusers = Pair::from_fn(|side| login(side, servers[side].superuser(), servers[side].password()));
    let logins = Pair::from_fn(|side| login(side, CLIENT_USER, &passwords[side].clients));
    let create = |side: Side| create_shop(&superusers[side], side, &passwords[side]);
    tokio::try_join!(create(Side::A), create(Side::B))?;

    let listen = if page { Some(free_address()?) } else { None };
    let config_file = write_files(&servers, &passwords, listen.as_deref())?;
    let config = Config::load(Some(&config_file))?;
    let nodes = nodes::open(&config)?;
    let mut versions = Vec::new();
    for side in Side::BOTH {
        versions.push(nodes.nodes[side].connect().await?.server);
    }
    grant_least(&config, &nodes, &superusers).await?;
    let mapping = setup::setup(&config, &nodes).await?;
    let [b, a] = [versions.pop().unwrap_or_default(), versions.pop().unwrap_or_default()];
    Ok(Stage { config: Arc::new(config), config_file, nodes, mapping, logins, versions: Pair::new(a, b), servers })
}

struct Passwords {
    bridge: String,
    clients: String,
}

fn password() -> String {
    format!("{:032x}", rand::random::<u128>())
}

async fn create_shop(superuser: &Login, side: Side, passwords: &Passwords) -> Result<()> {
    let kind = superuser.kind;
    let first = if kind == Kind::Postgres { "postgres" } else { "mysql" };
    let mut session = Session::open(&Login { database: first.to_owned(), ..superuser.clone() }).await?;
    session.run(&format!("CREATE DATABASE {DATABASE}")).await?;
    let mut session = Session::open(superuser).await?;
    let mut statements = schema::create(kind, side);
    statements.extend(schema::seed());
    for (user, password, write) in [(CLIENT_USER, &passwords.clients, true), (BRIDGE_USER, &passwords.bridge, false)] {
        statements.push(schema::create_user(kind, user, password));
        statements.push(schema::grant(kind, user, write));
    }
    for statement in statements {
        session.run(&statement).await?;
    }
    Ok(())
}

/// What an administrator would do with the output of `pontoon setup --print-sql`.
async fn grant_least(config: &Config, nodes: &Nodes, superusers: &Pair<Login>) -> Result<()> {
    let mapping = mapping::map(config, &nodes.nodes).await?.require()?;
    let plans = setup::plans(config, &nodes.nodes, &mapping).await?;
    for side in Side::BOTH {
        let mut session = Session::open(&superusers[side]).await?;
        for statement in nodes.admins[side].setup_sql(&plans[side]).await? {
            if !statement.starts_with("--") {
                session.run(&statement).await?;
            }
        }
    }
    Ok(())
}

/// Writes the configuration and what belongs to it. All of it is in the first server's folder, which goes
/// with the server, and which the next start removes should this process be killed.
fn write_files(servers: &Pair<Server>, passwords: &Pair<Passwords>, listen: Option<&str>) -> Result<PathBuf> {
    let folder = servers[Side::A].folder().join("bridge");
    let failed = |path: &Path, error: std::io::Error| {
        Error::new(Code::Internal, format!("{} cannot be written: {error}", path.display()))
    };
    fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| failed(&folder, error))?;
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| failed(&path, error)).map(|()| path)
    };
    let mut config = format!("bridge = \"{BRIDGE}\"\n");
    for side in Side::BOTH {
        let name = NAMES[side as usize];
        write(&format!("{name}.password"), &passwords[side].bridge)?;
        let url = servers[side].url(BRIDGE_USER, DATABASE);
        config += &format!("\n[nodes.{name}]\nurl = \"{url}\"\npassword_file = \"{name}.password\"\n");
    }
    config += "\n[defaults]\nconflict = \"last_writer_wins\"\n";
    for table in schema::TABLES {
        config += &format!("\n[[tables]]\nname = \"{table}\"\n");
    }
    config += &format!("\n[limits]\nspill_dir = \"spill\"\n\n[server]\nlisten = \"{}\"\n", listen.unwrap_or("off"));
    if listen.is_some() {
        write("page-token", &password())?;
        config += "token_file = \"page-token\"\n";
    }
    write("pontoon.toml", &config)
}

/// An address that nothing listens on now. Should something else take it before the bridge does, the
/// bridge waits until it is free.
fn free_address() -> Result<String> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.to_string())
        .map_err(|error| Error::new(Code::Internal, format!("no port is free on 127.0.0.1: {error}")))
}
