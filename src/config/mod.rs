//! The configuration: one TOML file, one bridge.
//!
//! [`Config::load`] reads it and either returns something that can be used as it stands or says, with
//! file, line, column and key, everything that is wrong with it; nothing is connected to for that.
//!
//! # Layout
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the types, where the file is looked for |
//! | `keys.rs` | every key with its default and its documentation; the reference page |
//! | `parse.rs` | from text to types |
//! | `columns.rs` | the rules of single columns |
//! | `reader.rs` | one value at a time, with its place |
//! | `place.rs` | places, problems, suggestions |
//! | `url.rs` | what a node's URL says |
//! | `tables.rs` | names and patterns of tables, and what they come to on two databases |
//! | `write.rs` | a new file, for `pontoon init` |
//! | `sample.toml` | the sample file |

mod changes;
mod columns;
mod keys;
mod parse;
mod place;
mod reader;
mod rules;
mod tables;
mod url;
mod write;

use std::{
    fmt, io,
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::Duration,
};

use pontoon_core::{
    Code, Error,
    history::Retention,
    node::{NodeOptions, Secret},
};
use pontoon_tls::Own;

pub(crate) use self::url::without_written_password;
pub use self::{
    changes::Changes,
    columns::{ColumnRules, Columns, name_across},
    place::{Invalid, Place, Problem},
    tables::{Absent, Choices, NamePattern, Present, TableChoice, TableRule},
    write::{Outline, OutlineNode, OutlinePassword, written},
};
use crate::{
    conflict::{
        policy::{ForeignKeyRule, UniqueRule},
        quarantine::OnError,
    },
    side::{Pair, Side},
    windows::Windows,
};

/// The commented sample file.
const SAMPLE: &str = include_str!("sample.toml");

/// Where the file is looked for if neither `--config` nor `$PONTOON_CONFIG` names one.
const PLACES: [&str; 2] = ["./pontoon.toml", "/etc/pontoon/pontoon.toml"];

/// The known word nearest to what was written, if it is near enough to have been meant.
pub fn suggest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    place::nearest(written, known)
}

/// A whole configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it was read from, as it is named in messages; empty for a text.
    pub file: String,
    /// The origin tag.
    pub bridge: BridgeName,
    /// The nodes; A is the first by name.
    pub nodes: Pair<NodeConfig>,
    /// What holds for tables that do not say otherwise.
    pub defaults: Defaults,
    /// The `[[tables]]` entries, in the order of the file; at least one.
    pub tables: Vec<TableRule>,
    /// What may be used of the host.
    pub limits: Limits,
    /// The HTTP server.
    pub server: Server,
    /// What works and should not be so; a command prints them as warnings.
    pub warnings: Vec<String>,
}

/// The name of a bridge: `[a-z0-9_-]{1,32}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BridgeName(String);

impl BridgeName {
    /// The most characters that it has. A PostgreSQL origin's name and a slot's hold it with a prefix.
    pub const LENGTH_MAX: usize = 32;

    /// Takes a name that can be one.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        fits.then(|| BridgeName(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BridgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which kind of server a URL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `postgresql://`, `postgres://`.
    Postgres,
    /// `mysql://`, `mariadb://`: MySQL or MariaDB, told apart by asking the server.
    Mysql,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name in the configuration.
    pub name: String,
    /// Which connector speaks to it.
    pub scheme: Scheme,
    /// The URL, without password.
    pub url: String,
    /// The database that the URL names.
    pub database: String,
    /// The password, already read from where the configuration says.
    pub password: Option<Secret>,
    /// The higher wins where commit times are equal.
    pub priority: i64,
    /// Host and port of the replicas whose lag counts; of a server that knows its own, none.
    pub replicas: Vec<(String, u16)>,
}

impl NodeConfig {
    /// The schema of a table's name without one.
    pub fn default_schema(&self) -> &str {
        match self.scheme {
            Scheme::Postgres => "public",
            Scheme::Mysql => &self.database,
        }
    }
}

/// `[defaults]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Who wins.
    pub conflict: Conflict,
    /// Which way rows go.
    pub direction: Direction,
    /// What becomes of rows that a target refuses.
    pub on_error: OnError,
    /// What becomes of two rows that a unique constraint does not let live side by side.
    pub unique_conflict: UniqueRule,
    /// What becomes of a row that refers to one which the other side has removed.
    pub foreign_key: ForeignKeyRule,
}

/// Who wins where both sides wrote a row without seeing each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The later commit; where the times are equal the node of the higher priority, else A.
    LastWriterWins,
    /// Each column that one side changed is that side's; of both sides' the later one.
    ColumnMerge,
    /// Always this node.
    Prefer(Side),
    /// Neither: the row goes into quarantine until a person decides.
    Quarantine,
}

/// What becomes of a column that both sides changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnConflict {
    /// The value of the side that changed it last.
    LastWriterWins,
    /// This node's value.
    Prefer(Side),
    /// The lesser value.
    Min,
    /// The greater value.
    Max,
    /// What each side added counts.
    Additive {
        /// A sum below it is reported; a number in canonical text.
        floor: Option<Box<str>>,
    },
}

/// Which way rows of a table go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    Both,
    /// Only from this node to the other.
    From(Side),
}

impl Direction {
    /// Whether changes made on `source` cross.
    pub fn follows(self, source: Side) -> bool {
        match self {
            Direction::Both => true,
            Direction::From(side) => side == source,
        }
    }
}

/// A blocking finding of `check` about a table that an operator may answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accept {
    /// Both sides hand out the same generated keys; the operator sees to it that only one does.
    GeneratedKeys,
    /// The key's texts are equal by a collation on one side and differ on the other; the operator knows
    /// that no two keys differ by that alone.
    KeyComparison,
    /// A foreign key between a table that is bridged and one that is not.
    ForeignKeyOutside,
    /// A cascading foreign key on a server that does not log cascades; the operator knows that parents
    /// are not deleted or rekeyed there.
    ForeignKeyCascade,
    /// Triggers that cannot be switched off on apply; the operator knows that they change no row of a
    /// bridged table.
    Trigger,
}

impl Accept {
    /// All of them.
    pub const ALL: [Accept; 5] = [
        Accept::GeneratedKeys,
        Accept::KeyComparison,
        Accept::ForeignKeyCascade,
        Accept::ForeignKeyOutside,
        Accept::Trigger,
    ];

    /// The finding's code.
    pub fn as_str(self) -> &'static str {
        match self {
            Accept::GeneratedKeys => "generated-keys",
            Accept::KeyComparison => "key-comparison",
            Accept::ForeignKeyCascade => "foreign-key-cascade",
            Accept::ForeignKeyOutside => "foreign-key-outside",
            Accept::Trigger => "trigger",
        }
    }
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory for the queues of both directions together.
    pub memory_bytes: u64,
    /// Room for spill files, of both directions together.
    pub spill_bytes: u64,
    /// The folder for them; may not be there yet.
    pub spill_dir: PathBuf,
    /// Sessions that apply at the same time; this version uses one.
    pub appliers: u32,
    /// In which order transactions become visible; this version keeps the source's in both cases.
    pub apply_order: ApplyOrder,
    /// How long records of settled conflicts are kept.
    pub retention: Retention,
    /// Rows that each direction applies in a second, where no operator has said otherwise; `None` for as many as the servers can.
    pub rows_per_second: Option<NonZeroU64>,
    /// Seconds that a replica of a target may be behind.
    pub target_replica_lag: Option<Duration>,
    /// Statements that a target may carry out.
    pub target_load: Option<u64>,
    /// The hours in which is applied.
    pub windows: Windows,
    /// Rows of each side that `verify` looks at in a second; `None` for as many as the servers can.
    pub verify_rows_per_second: Option<NonZeroU64>,
}

/// In which order the target's transactions become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyOrder {
    /// The order of the source.
    Commit,
    /// Only changes of one row keep their order.
    Key,
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Address and port of the page and everything beside it, or `None` for no page.
    pub listen: Option<String>,
    /// Address and port where whoever reaches it may read metrics and probes, and nothing else; `None` for none.
    pub metrics_listen: Option<String>,
    /// Names by which browsers reach the page.
    pub host_names: Vec<String>,
    /// Who has it may act.
    pub token: Option<Secret>,
    /// What the page is served with; `None` for HTTP.
    pub tls: Option<Own>,
    /// Further behind than this is not ready.
    pub ready_lag_seconds: f64,
}

impl Server {
    /// Whether the page listens where only this host reaches it, so that it may be read without the token.
    pub fn is_local(&self) -> bool {
        self.listen.as_deref().is_none_or(parse::is_loopback)
    }
}

/// What the configuration may ask of the process around it; a test brings its own.
pub struct Environment<'a> {
    /// An environment variable. Empty ones count as not set.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// A file's text.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Environment<'static> {
    /// The process's own.
    pub fn process() -> Self {
        Environment { variable: &|name| std::env::var(name).ok(), read: &|path| std::fs::read_to_string(path) }
    }
}

impl Environment<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }
}

impl Config {
    /// The file to read: the one given, else `$PONTOON_CONFIG`, else `./pontoon.toml`, else
    /// `/etc/pontoon/pontoon.toml`.
    pub fn find(given: Option<&Path>, environment: &Environment<'_>) -> Result<PathBuf, Invalid> {
        if let Some(path) = given {
            return Ok(path.to_owned());
        }
        if let Some(path) = environment.get("PONTOON_CONFIG") {
            return Ok(path.into());
        }
        PLACES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
            Invalid::without_place(
                "",
                format!(
                    "there is no configuration: --config and $PONTOON_CONFIG name none, and neither {} nor {} is there",
                    PLACES[0], PLACES[1]
                ),
                "write pontoon.toml, or say where it is: pontoon --config FILE ...",
            )
        })
    }

    /// Finds the file, reads and checks it. Passwords are read, nothing is connected to.
    pub fn load(given: Option<&Path>) -> Result<Config, Invalid> {
        let environment = Environment::process();
        let path = Config::find(given, &environment)?;
        // `./pontoon.toml` is looked for, `pontoon.toml` is said.
        let name = path.strip_prefix("./").unwrap_or(&path).display().to_string();
        let text = (environment.read)(&path).map_err(|error| {
            let origin = match given {
                Some(_) => "--config names it",
                None if environment.get("PONTOON_CONFIG").is_some() => "$PONTOON_CONFIG names it",
                None => "it was found there",
            };
            Invalid::without_place(
                &name,
                format!("cannot be read: {error}"),
                format!("{origin}; it must be a readable TOML file"),
            )
        })?;
        Config::parse(&text, &name, &environment)
    }

    /// Checks a text; `file` is what it is called in messages, and where relative paths start.
    pub fn parse(text: &str, file: &str, environment: &Environment<'_>) -> Result<Config, Invalid> {
        parse::parse(text, file, environment)
    }

    /// The commented sample file. It can be loaded as it is, where its passwords are.
    pub fn sample() -> &'static str {
        SAMPLE
    }

    /// The reference page of the configuration, in Markdown.
    pub fn reference() -> String {
        keys::reference()
    }

    /// One of the nodes.
    pub fn node(&self, side: Side) -> &NodeConfig {
        &self.nodes[side]
    }

    /// The side of a node's name.
    pub fn side(&self, node: &str) -> Option<Side> {
        Side::BOTH.into_iter().find(|side| self.nodes[*side].name == node)
    }

    /// The side of a name that has to be one of a node's. Errors (configuration): it is not.
    pub(crate) fn named(&self, node: &str) -> Result<Side, Error> {
        self.side(node).ok_or_else(|| {
            let names = Side::BOTH.map(|side| self.node(side).name.as_str());
            Error::new(Code::Config, format!("{node:?} is no node of the bridge"))
                .hint(format!("its nodes are {} and {}", names[0], names[1]))
        })
    }

    /// What a connector needs to reach a node.
    pub fn node_options(&self, side: Side) -> NodeOptions {
        let node = &self.nodes[side];
        NodeOptions {
            name: node.name.clone(),
            bridge: self.bridge.0.clone(),
            url: node.url.clone(),
            password: node.password.clone(),
        }
    }

    /// The node that wins where two writes have the same commit time: the higher priority, else A.
    pub fn tie_winner(&self) -> Side {
        if self.nodes[Side::B].priority > self.nodes[Side::A].priority { Side::B } else { Side::A }
    }
}
