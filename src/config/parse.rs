//! From the text of the file to a [`Config`].

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::Duration,
};

use pontoon_core::{history::Retention, node::Secret};
use pontoon_tls::Own;
use toml::de::DeTable;

use super::{
    Accept, ApplyOrder, BridgeName, Config, Defaults, Environment, Invalid, Limits, NamePattern, NodeConfig, Scheme,
    Server, TableRule, keys,
    place::{Problems, Rank, did_you_mean},
    reader::{Fields, Item, join},
    url::{self, Refusal},
};
use crate::{
    side::{Pair, Side},
    windows::{self, Windows},
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The longest name of a node: it is a metrics label and, on PostgreSQL, part of what tools show.
const NODE_NAME_MAX: usize = 32;

/// Where a key is not written. Held against `keys.rs` by a test.
const MEMORY_MIB: i64 = 16;
const SPILL_GIB: f64 = 10.0;
const APPLIERS: i64 = 4;
const HISTORY_DAYS: i64 = 365;
const HISTORY_RECORDS: i64 = 1_000_000;
const LISTEN: &str = "127.0.0.1:9787";
const READY_LAG_SECONDS: f64 = 30.0;

/// A shorter token can be guessed, at the pace at which the page answers: 64 bits, where it is hexadecimal.
const TOKEN_LENGTH_MIN: usize = 16;

pub(super) fn parse(text: &str, file: &str, environment: &Environment<'_>) -> Result<Config, Invalid> {
    let mut problems = Problems::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        problems.add(Rank::Syntax, &span, "", syntax_message(error.message(), &text[span.clone()]), None);
    }
    if !problems.is_empty() {
        // What was recovered would only make more noise.
        return Err(problems.into_invalid(file));
    }
    let folder = Path::new(file).parent().unwrap_or(Path::new("")).to_owned();
    let mut parser = Parser { problems, environment, folder, warnings: Vec::new(), file };
    match parser.document(document.get_ref()) {
        Some(config) if parser.problems.is_empty() => Ok(config),
        _ => Err(parser.problems.into_invalid(file)),
    }
}

fn syntax_message(message: &str, at: &str) -> String {
    // Only a key is repeated: anything else may be a secret that lacks its quotes.
    if message.starts_with("duplicate key") { format!("{message} {at}") } else { message.to_owned() }
}

pub(super) struct Parser<'a, 'e> {
    pub(super) problems: Problems<'a>,
    environment: &'a Environment<'e>,
    /// Where relative paths start.
    folder: PathBuf,
    warnings: Vec<String>,
    file: &'a str,
}

/// The names of the two nodes, A's first.
pub(super) type Names<'n> = [&'n str; 2];

impl Parser<'_, '_> {
    /// `None` only with a problem noted.
    fn document(&mut self, document: &DeTable<'_>) -> Option<Config> {
        let root = Fields::new("", 0..0, document, &keys::ROOT, &mut self.problems);
        let bridge = self.bridge(&root);
        let nodes = self.nodes(&root);
        let names = nodes.as_ref().map(|nodes| [nodes[Side::A].name.clone(), nodes[Side::B].name.clone()]);
        // Without two nodes no name of a node can be judged; what else is wrong is still told.
        let names = names.as_ref().map(|[a, b]| [a.as_str(), b.as_str()]);

        let mut defaults = Defaults::default();
        if let Some(section) = self.section(&root, "defaults", &keys::DEFAULTS) {
            defaults = self.rules(&section, names, defaults);
        }
        let tables = self.tables(&root, names, defaults);
        let limits = self.limits(&root);
        let server = self.server(&root);
        let (nodes, limits) = (nodes?, limits?);
        let tells_no_lag = |node: &NodeConfig| node.scheme == Scheme::Mysql && node.replicas.is_empty();
        if limits.target_replica_lag.is_some() && nodes.iter().all(tells_no_lag) {
            self.warnings.push(format!(
                "{}: limits.target_replica_lag: is of no use, since no node names its replicas",
                self.file
            ));
        }
        Some(Config {
            file: self.file.to_owned(),
            bridge: bridge?,
            nodes,
            defaults,
            tables,
            limits,
            server,
            warnings: std::mem::take(&mut self.warnings),
        })
    }

    /// An optional `[section]`.
    fn section<'a, 'i>(
        &mut self,
        root: &Fields<'a, 'i>,
        name: &'static str,
        section: &'static keys::Section,
    ) -> Option<Fields<'a, 'i>> {
        let item = root.get(name)?;
        let table = item.table(&mut self.problems)?;
        Some(Fields::new(name, item.key_span, table, section, &mut self.problems))
    }

    fn bridge(&mut self, root: &Fields<'_, '_>) -> Option<BridgeName> {
        let item = root.required("bridge", &mut self.problems)?;
        let text = item.text(&mut self.problems)?;
        let name = BridgeName::new(text);
        if name.is_none() {
            item.refuse(
                &mut self.problems,
                format!("{text:?} is not 1 to {} of the characters a-z, 0-9, _ and -", BridgeName::LENGTH_MAX),
            );
        }
        name
    }

    fn nodes(&mut self, root: &Fields<'_, '_>) -> Option<Pair<NodeConfig>> {
        let item = root.required("nodes", &mut self.problems)?;
        let table = item.table(&mut self.problems)?;
        let mut nodes = Vec::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            let node = Item::of("nodes", key, value);
            let fits = (1..=NODE_NAME_MAX).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
            if !fits {
                self.problems.add(
                    Rank::Value,
                    &key.span(),
                    &node.path,
                    format!("{name:?} is no name for a node; it is 1 to {NODE_NAME_MAX} letters, digits, _ and -"),
                    None,
                );
            }
            if let Some(fields) = node.table(&mut self.problems) {
                let fields = Fields::new(&node.path, key.span(), fields, &keys::NODE, &mut self.problems);
                nodes.push((key.span(), self.node(name, &fields)));
            }
        }
        if table.len() != 2 {
            let found = table.keys().map(|key| &**key.get_ref()).collect::<Vec<_>>().join(", ");
            let place = table.keys().map(|key| key.span()).max_by_key(|span| span.start).unwrap_or(item.key_span);
            self.problems.add(
                Rank::Contradiction,
                &place,
                "nodes",
                format!(
                    "a bridge has exactly two nodes, found {}{}{found}",
                    table.len(),
                    if found.is_empty() { "" } else { ": " }
                ),
                "one [nodes.NAME] for each of the two; a hub or a chain is several bridges, each with its own file"
                    .to_owned(),
            );
        }
        nodes.sort_by(|(_, a), (_, b)| {
            let name = |node: &Option<(NodeConfig, String)>| node.as_ref().map(|(node, _)| node.name.clone());
            name(a).cmp(&name(b))
        });
        let (second_place, second) = nodes.pop()?;
        let (first_place, first) = nodes.pop()?;
        let ((first, first_hosts), (second, second_hosts)) = (first?, second?);
        if !nodes.is_empty() || table.len() != 2 {
            return None;
        }
        if first.scheme == second.scheme && first.database == second.database && first_hosts == second_hosts {
            let (place, node) =
                if first_place.start > second_place.start { (first_place, &first) } else { (second_place, &second) };
            self.problems.add(
                Rank::Contradiction,
                &place,
                &join(&join("nodes", &node.name), "url"),
                format!("{} and {} are the same database", first.name, second.name),
                "a bridge joins two databases".to_owned(),
            );
        }
        Some(Pair::new(first, second))
    }

    /// A node and what tells it from another.
    fn node(&mut self, name: &str, fields: &Fields<'_, '_>) -> Option<(NodeConfig, String)> {
        let priority = fields.get("priority").and_then(|item| item.integer(i64::MIN..=i64::MAX, &mut self.problems));
        let file = fields.get("password_file");
        let variable = fields.get("password_env");
        if let (Some(file), Some(variable)) = (&file, &variable) {
            let later = if file.span.start > variable.span.start { file } else { variable };
            self.problems.add(
                Rank::Contradiction,
                &later.key_span,
                &later.path,
                "password_file and password_env are both given",
                "keep the one that holds the password".to_owned(),
            );
        }
        let mut password = None;
        if let Some(item) = &file {
            password = self.secret_file(item);
        }
        if let Some(item) = variable.as_ref().filter(|_| file.is_none()) {
            password = self.password_variable(item);
        }

        let item = fields.required("url", &mut self.problems)?;
        let text = item.text(&mut self.problems)?;
        let address = match url::parse(text, |part| self.expand(part), |path| self.resolve(path)) {
            Ok(address) => address,
            Err(refusal) => {
                self.refuse(&item, refusal);
                return None;
            }
        };
        if address.password.is_some() {
            match file.as_ref().or(variable.as_ref()) {
                Some(other) => item.contradicts(
                    &mut self.problems,
                    format!("holds a password, and {} is given too", other.path.rsplit('.').next().unwrap_or_default()),
                    "take the password out of the url",
                ),
                None if !address.password_is_written => password = address.password,
                None => {
                    let place = self.problems.place(item.span.start);
                    let separator = if self.file.is_empty() { "" } else { ":" };
                    self.warnings.push(format!(
                        "{}{separator}{place}: {}: holds a password, which every reader of the file sees; use password_file or password_env",
                        self.file, item.path
                    ));
                    password = address.password;
                }
            }
        }
        let replicas = fields.get("replicas").map(|list| self.replicas(&list, address.scheme)).unwrap_or_default();
        let node = NodeConfig {
            name: name.to_owned(),
            scheme: address.scheme,
            url: address.url,
            database: address.database,
            password,
            priority: priority.unwrap_or(0),
            replicas,
        };
        Some((node, address.hosts))
    }

    fn replicas(&mut self, list: &Item<'_, '_>, scheme: Scheme) -> Vec<(String, u16)> {
        let mut replicas = Vec::new();
        for item in list.texts(&mut self.problems) {
            let Some(text) = item.text(&mut self.problems) else { continue };
            if scheme == Scheme::Postgres {
                let hint = "take it out: the server knows its standbys itself";
                item.contradicts(&mut self.problems, "is not asked of a PostgreSQL server", hint);
            } else if let Some(place) = host_and_port(text) {
                replicas.push(place);
            } else {
                let hint = "write \"stock-2.example:3306\" or \"[2001:db8::2]:3306\"";
                item.refuse_with(&mut self.problems, format!("{text:?} is no host with a port"), hint);
            }
        }
        replicas
    }

    fn secret_file(&mut self, item: &Item<'_, '_>) -> Option<Secret> {
        let path = self.path(item)?;
        let text = match (self.environment.read)(&path) {
            Ok(text) => text,
            Err(error) => {
                item.refuse_with(
                    &mut self.problems,
                    format!("cannot read {}: {error}", path.display()),
                    "the file must be readable for the user that runs pontoon",
                );
                return None;
            }
        };
        let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if line.is_empty() {
            item.refuse(&mut self.problems, format!("{} is empty", path.display()));
            return None;
        }
        Some(Secret::new(line))
    }

    fn password_variable(&mut self, item: &Item<'_, '_>) -> Option<Secret> {
        let name = item.text(&mut self.problems)?;
        if !is_variable_name(name) {
            // It may be the password itself: it is not repeated.
            item.refuse_with(
                &mut self.problems,
                "is not the name of an environment variable",
                "write the name alone: password_env = \"SHOP_PASSWORD\"",
            );
            return None;
        }
        match self.environment.get(name) {
            Some(password) => Some(Secret::new(password)),
            None => {
                item.refuse_with(
                    &mut self.problems,
                    format!("the environment variable {name} is not set"),
                    format!("set it to the password before pontoon is started: export {name}"),
                );
                None
            }
        }
    }

    /// A path as [`Self::resolve`] makes it.
    fn path(&mut self, item: &Item<'_, '_>) -> Option<PathBuf> {
        let text = item.text(&mut self.problems)?;
        match self.resolve(text) {
            Ok(path) => Some(path),
            Err(refusal) => {
                self.refuse(item, refusal);
                None
            }
        }
    }

    fn refuse(&mut self, item: &Item<'_, '_>, Refusal { message, hint }: Refusal) {
        match hint {
            Some(hint) => item.refuse_with(&mut self.problems, message, hint),
            None => item.refuse(&mut self.problems, message),
        }
    }

    /// A path with its variables replaced, relative to the file's folder.
    fn resolve(&self, text: &str) -> Result<PathBuf, Refusal> {
        let path = self.expand(text)?;
        if path.is_empty() { Err("is empty".to_owned().into()) } else { Ok(self.folder.join(path)) }
    }

    /// The text with each `${VARIABLE}` replaced from the environment, once: what a variable holds is not looked into. No refusal
    /// repeats more than a variable's name: the text may be a url with a password, and so may be what a variable holds.
    fn expand(&self, text: &str) -> Result<String, Refusal> {
        let mut rest = text;
        let mut expanded = String::new();
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else {
                return Err("has a ${ without }".to_owned().into());
            };
            if !is_variable_name(name) {
                return Err("has a ${} that does not name an environment variable".to_owned().into());
            }
            let Some(value) = self.environment.get(name) else {
                let message = format!("the environment variable {name} is not set");
                let hint = if name == "CREDENTIALS_DIRECTORY" {
                    "systemd sets it for a unit with LoadCredential=; elsewhere set it yourself, or write the path"
                        .to_owned()
                } else {
                    format!("set it before pontoon is started, or write in place of ${{{name}}} what it stands for")
                };
                return Err(Refusal { message, hint: Some(hint) });
            };
            expanded += before;
            expanded += &value;
            rest = after;
        }
        Ok(expanded + rest)
    }

    pub(super) fn node_name(&mut self, item: &Item<'_, '_>, name: &str, names: Option<Names<'_>>) -> Option<Side> {
        let names = names?;
        let at = names.iter().position(|known| *known == name);
        if at.is_none() {
            item.contradicts(
                &mut self.problems,
                format!("there is no node {name:?}{}", did_you_mean(name, names)),
                format!("the nodes are {} and {}", names[0], names[1]),
            );
        }
        at.map(|at| Side::BOTH[at])
    }

    fn tables(&mut self, root: &Fields<'_, '_>, names: Option<Names<'_>>, defaults: Defaults) -> Vec<TableRule> {
        let Some(item) = root.required("tables", &mut self.problems) else { return Vec::new() };
        let entries = item.tables(&mut self.problems);
        if entries.is_empty() && matches!(item.value, toml::de::DeValue::Array(array) if array.is_empty()) {
            item.refuse_with(
                &mut self.problems,
                "is empty",
                "name what is to be bridged: [[tables]] with name = \"...\"",
            );
        }
        let mut rules: Vec<TableRule> = Vec::new();
        for (span, table) in entries {
            let fields = Fields::new("tables", span, table, &keys::TABLE, &mut self.problems);
            let Defaults { conflict, direction, on_error, unique_conflict, foreign_key } =
                self.rules(&fields, names, defaults);
            let accept = self.accept(&fields);
            let columns = self.columns(&fields, names);
            let Some(item) = fields.required("name", &mut self.problems) else { continue };
            let Some((written, patterns)) = self.table_names(&item, names) else { continue };
            let place = self.problems.place(item.span.start);
            if let Some(other) = rules.iter().find(|rule| rule.names == patterns) {
                item.contradicts(
                    &mut self.problems,
                    format!("{:?} stands here for the second time; first at line {}", written[0], other.place.line),
                    "keep one entry for it",
                );
            }
            rules.push(TableRule {
                place,
                written,
                names: patterns,
                conflict,
                columns,
                direction,
                on_error,
                unique_conflict,
                foreign_key,
                accept,
            });
        }
        rules
    }

    fn table_names(
        &mut self,
        item: &Item<'_, '_>,
        names: Option<Names<'_>>,
    ) -> Option<([String; 2], [NamePattern; 2])> {
        if let Some(text) = item.value.as_str() {
            let pattern = self.pattern(item, text)?;
            return Some(([text.to_owned(), text.to_owned()], [pattern.clone(), pattern]));
        }
        let toml::de::DeValue::Table(table) = item.value else {
            item.refuse(&mut self.problems, "must be a text, or a table { NODE = \"...\", NODE = \"...\" }");
            return None;
        };
        let names = names?;
        let mut found: [Option<(String, NamePattern)>; 2] = [None, None];
        for (key, value) in table {
            let node: &str = key.get_ref();
            let Some(at) = names.iter().position(|known| *known == node) else {
                self.problems.add(
                    Rank::Unknown,
                    &key.span(),
                    &join(&item.path, node),
                    format!("there is no node {node:?}{}", did_you_mean(node, names)),
                    format!("the nodes are {} and {}", names[0], names[1]),
                );
                continue;
            };
            let value = Item::of(&item.path, key, value);
            let Some(text) = value.text(&mut self.problems) else { continue };
            found[at] = self.pattern(&value, text).map(|pattern| (text.to_owned(), pattern));
        }
        for name in names {
            if !table.keys().any(|key| key.get_ref() == name) {
                item.contradicts(
                    &mut self.problems,
                    format!("says nothing of node {name:?}"),
                    format!("name = {{ {} = \"...\", {} = \"...\" }}", names[0], names[1]),
                );
            }
        }
        let [Some((first_text, first)), Some((second_text, second))] = found else { return None };
        if first != second && (first.stars(), second.stars()) != (0, 0) && (first.stars(), second.stars()) != (1, 1) {
            item.contradicts(
                &mut self.problems,
                "has stars that do not correspond",
                "where a pattern differs between the nodes, it has one star on each side, which stands for the same text",
            );
        }
        Some(([first_text, second_text], [first, second]))
    }

    fn pattern(&mut self, item: &Item<'_, '_>, text: &str) -> Option<NamePattern> {
        match NamePattern::parse(text) {
            Ok(pattern) => Some(pattern),
            Err(message) => {
                item.refuse(&mut self.problems, format!("{text:?} {message}"));
                None
            }
        }
    }

    fn accept(&mut self, fields: &Fields<'_, '_>) -> Vec<Accept> {
        let mut accepted = Vec::new();
        let Some(list) = fields.get("accept") else { return accepted };
        for item in list.texts(&mut self.problems) {
            let Some(text) = item.text(&mut self.problems) else { continue };
            let known = Accept::ALL.map(Accept::as_str);
            match Accept::ALL.into_iter().find(|accept| accept.as_str() == text) {
                Some(accept) if accepted.contains(&accept) => {
                    item.refuse(&mut self.problems, format!("{text:?} stands here twice"))
                }
                Some(accept) => accepted.push(accept),
                None => item.refuse_with(
                    &mut self.problems,
                    format!("{text:?} is no finding that can be accepted{}", did_you_mean(text, known)),
                    format!("these can: {}", known.join(", ")),
                ),
            }
        }
        accepted
    }

    fn limits(&mut self, root: &Fields<'_, '_>) -> Option<Limits> {
        let section = self.section(root, "limits", &keys::LIMITS);
        let get = |name| section.as_ref().and_then(|section| section.get(name));
        let memory_mib = get("memory_mib").and_then(|item| item.integer(1..=65_536, &mut self.problems));
        let spill_gib = get("spill_gib").and_then(|item| item.number(1_000_000.0, &mut self.problems));
        let appliers = get("appliers").and_then(|item| item.integer(1..=64, &mut self.problems));
        let apply_order = get("apply_order").and_then(|item| {
            match item.text(&mut self.problems)? {
                "commit" => return Some(ApplyOrder::Commit),
                "key" => return Some(ApplyOrder::Key),
                text => item.refuse_with(
                    &mut self.problems,
                    format!("{text:?} is no order{}", did_you_mean(text, ["commit", "key"])),
                    "it is \"commit\" or \"key\"",
                ),
            }
            None
        });
        let days = get("history_days").and_then(|item| item.integer(1..=36_500, &mut self.problems));
        let records = get("history_records").and_then(|item| item.integer(1..=1_000_000_000, &mut self.problems));
        let mut rows = |name| {
            let rows = get(name).and_then(|item| item.integer(1..=1_000_000_000, &mut self.problems));
            rows.and_then(|rows| u64::try_from(rows).ok()).and_then(NonZeroU64::new)
        };
        let (applied, verified) = (rows("rows_per_second"), rows("verify_rows_per_second"));
        let lag = get("target_replica_lag").and_then(|item| item.number(1e9, &mut self.problems));
        let load = get("target_load").and_then(|item| item.integer(1..=1_000_000, &mut self.problems));
        let windows = get("windows").map(|list| self.windows(&list)).unwrap_or_default();
        let spill_dir = match get("spill_dir") {
            Some(item) => self.path(&item),
            None => self.default_spill_dir(section.as_ref().map_or(root.span.clone(), |section| section.span.clone())),
        };
        Some(Limits {
            memory_bytes: u64::try_from(memory_mib.unwrap_or(MEMORY_MIB)).unwrap_or_default() * MIB,
            spill_bytes: (spill_gib.unwrap_or(SPILL_GIB) * GIB as f64) as u64,
            spill_dir: spill_dir?,
            appliers: u32::try_from(appliers.unwrap_or(APPLIERS)).unwrap_or(1),
            apply_order: apply_order.unwrap_or(ApplyOrder::Commit),
            retention: Retention {
                age: u64::try_from(days.unwrap_or(HISTORY_DAYS)).ok().map(|days| Duration::from_secs(days * 86_400)),
                records: u64::try_from(records.unwrap_or(HISTORY_RECORDS)).ok(),
            },
            rows_per_second: applied,
            target_replica_lag: lag.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            target_load: load.and_then(|load| u64::try_from(load).ok()),
            windows,
            verify_rows_per_second: verified,
        })
    }

    fn windows(&mut self, list: &Item<'_, '_>) -> Windows {
        let mut windows = Windows::default();
        for item in list.texts(&mut self.problems) {
            if let Some(text) = item.text(&mut self.problems)
                && !windows.add(text)
            {
                let hint = format!("write it as {}", windows::FORM);
                item.refuse_with(&mut self.problems, format!("{text:?} is no window"), hint);
            }
        }
        windows
    }

    /// `$STATE_DIRECTORY`, else `${XDG_STATE_HOME:-~/.local/state}/pontoon`.
    fn default_spill_dir(&mut self, section: std::ops::Range<usize>) -> Option<PathBuf> {
        if let Some(folders) = self.environment.get("STATE_DIRECTORY") {
            // systemd lists several folders with colons between them.
            return folders.split(':').next().map(PathBuf::from);
        }
        let state = match self.environment.get("XDG_STATE_HOME").map(PathBuf::from) {
            // The XDG specification has relative paths ignored.
            Some(folder) if folder.is_absolute() => Some(folder),
            _ => self.environment.get("HOME").map(|home| Path::new(&home).join(".local/state")),
        };
        if state.is_none() {
            self.problems.add(
                Rank::Contradiction,
                &section,
                "limits.spill_dir",
                "is missing, and none of STATE_DIRECTORY, XDG_STATE_HOME and HOME is set",
                "name a folder: [limits] spill_dir = \"/var/lib/pontoon\"".to_owned(),
            );
        }
        state.map(|folder| folder.join("pontoon"))
    }

    fn server(&mut self, root: &Fields<'_, '_>) -> Server {
        let mut server = Server {
            listen: Some(LISTEN.to_owned()),
            metrics_listen: None,
            host_names: Vec::new(),
            token: None,
            tls: None,
            ready_lag_seconds: READY_LAG_SECONDS,
        };
        let Some(section) = self.section(root, "server", &keys::SERVER) else { return server };
        let tls = self.tls(&section);
        server.token = section.get("token_file").and_then(|item| self.token(&item));
        if let Some(item) = section.get("listen") {
            server.listen = self.listen(&item).unwrap_or(server.listen);
            self.guarded(&item, &section, server.listen.as_deref());
        }
        if let Some(item) = section.get("metrics_listen") {
            server.metrics_listen = self.listen(&item).flatten();
            if server.metrics_listen.is_some() && server.metrics_listen == server.listen {
                item.contradicts(&mut self.problems, "is listen too", "give each a port of its own");
            }
        }
        if let Some(item) = section.get("host_names") {
            server.host_names = self.host_names(&item);
        }
        if let Some(seconds) = section.get("ready_lag_seconds").and_then(|item| item.number(1e9, &mut self.problems)) {
            server.ready_lag_seconds = seconds;
        }
        Server { tls, ..server }
    }

    /// At an address that others reach nothing is read without TLS and the token, and nothing done.
    fn guarded(&mut self, item: &Item<'_, '_>, section: &Fields<'_, '_>, listen: Option<&str>) {
        let missing: Vec<_> = keys::GUARDS.into_iter().filter(|name| section.get(name).is_none()).collect();
        if listen.is_none_or(is_loopback) || missing.is_empty() {
            return;
        }
        item.contradicts(
            &mut self.problems,
            format!("other hosts reach this address, and {} is missing", missing.join(", ")),
            format!(
                "give {} as well; or keep listen on a loopback address, and let probes and Prometheus read without them: \
                 metrics_listen = \"0.0.0.0:9788\"",
                keys::GUARDS.join(", ")
            ),
        );
    }

    fn tls(&mut self, section: &Fields<'_, '_>) -> Option<Own> {
        let items = [section.get("tls_cert"), section.get("tls_key")];
        let (certificate, key) = match &items {
            [Some(certificate), Some(key)] => (certificate, key),
            [Some(lone), None] | [None, Some(lone)] => {
                let hint = "a certificate is of use only with its key: name both files, or neither";
                lone.contradicts(&mut self.problems, "stands alone", hint);
                return None;
            }
            [None, None] => return None,
        };
        let (certificate_path, key_path) = (self.path(certificate)?, self.path(key)?);
        match Own::new(&certificate_path, &key_path) {
            Ok(own) => Some(own),
            Err(error) => {
                // The message begins with the key that it is of.
                let (name, what) = error.message().split_once(": ").unwrap_or(("", error.message()));
                let item = if name == "tls_cert" { certificate } else { key };
                item.refuse_with(&mut self.problems, what, error.remedy().unwrap_or_default());
                None
            }
        }
    }

    fn token(&mut self, item: &Item<'_, '_>) -> Option<Secret> {
        let token = self.secret_file(item)?;
        if token.reveal().len() < TOKEN_LENGTH_MIN || !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
            item.refuse_with(
                &mut self.problems,
                format!("what the file holds is no token: {TOKEN_LENGTH_MIN} letters, digits and signs or more, without spaces"),
                "write one that nobody guesses: openssl rand -hex 24",
            );
            return None;
        }
        Some(token)
    }

    fn host_names(&mut self, list: &Item<'_, '_>) -> Vec<String> {
        let mut names = Vec::new();
        for item in list.texts(&mut self.problems) {
            let Some(name) = item.text(&mut self.problems) else { continue };
            if is_host_name(name) {
                names.push(name.to_owned());
            } else {
                let hint = "write the name alone, as bridge.example; addresses and localhost are always right";
                item.refuse_with(&mut self.problems, format!("{name:?} is no name of a host"), hint);
            }
        }
        names
    }

    /// `Some(None)` for no server. What a variable holds is not repeated.
    fn listen(&mut self, item: &Item<'_, '_>) -> Option<Option<String>> {
        let written = item.text(&mut self.problems)?;
        let text = match self.expand(written) {
            Ok(text) => text,
            Err(refusal) => {
                self.refuse(item, refusal);
                return None;
            }
        };
        if text == "off" {
            return Some(None);
        }
        if is_listen_address(&text) {
            return Some(Some(text));
        }
        item.refuse_with(
            &mut self.problems,
            format!("{written:?} is no address with a port{}", did_you_mean(&text, ["off"])),
            "write \"127.0.0.1:9787\", \"[::1]:9787\" or \"off\"",
        );
        None
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_plain = || is_host_name(host) || host.parse::<Ipv4Addr>().is_ok();
    let is_host = bare.map_or_else(is_plain, |host| host.parse::<Ipv6Addr>().is_ok());
    let port = port.parse().ok().filter(|port| *port > 0)?;
    is_host.then(|| (bare.unwrap_or(host).to_owned(), port))
}

fn is_listen_address(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    // An address without brackets or a number alone is a slip.
    text.rsplit_once(':').is_some_and(|(host, port)| is_host_name(host) && port.parse::<u16>().is_ok())
}

fn is_host_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// Whether only this host reaches an address to listen on. A name other than `localhost` may come to be any address.
pub(super) fn is_loopback(listen: &str) -> bool {
    match listen.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().is_loopback(),
        Err(_) => listen.rsplit_once(':').is_some_and(|(host, _)| host.eq_ignore_ascii_case("localhost")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_defaults_are_the_real_ones() {
        let documented = |section: &keys::Section, name: &str| {
            let key = section.keys.iter().find(|key| key.name == name).unwrap();
            match key.preset {
                keys::Preset::Value(text) => text.to_owned(),
                _ => panic!("{name} has no default"),
            }
        };
        assert_eq!(documented(&keys::LIMITS, "memory_mib"), MEMORY_MIB.to_string());
        assert_eq!(documented(&keys::LIMITS, "history_days"), HISTORY_DAYS.to_string());
        assert_eq!(documented(&keys::LIMITS, "history_records"), HISTORY_RECORDS.to_string());
        assert_eq!(documented(&keys::LIMITS, "spill_gib"), SPILL_GIB.to_string());
        assert_eq!(documented(&keys::LIMITS, "appliers"), APPLIERS.to_string());
        assert_eq!(documented(&keys::SERVER, "listen"), format!("{LISTEN:?}"));
        assert_eq!(documented(&keys::SERVER, "ready_lag_seconds"), READY_LAG_SECONDS.to_string());
    }

    #[test]
    fn only_a_loopback_address_is_for_this_host_alone() {
        for local in ["127.0.0.1:9787", "127.8.0.1:1", "[::1]:0", "[::ffff:127.0.0.1]:1", "localhost:1", "LocalHost:1"]
        {
            assert!(is_loopback(local), "{local}");
        }
        for far in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1", "localhost.example:1", "db-1:1"] {
            assert!(!is_loopback(far), "{far}");
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        for good in ["127.0.0.1:9787", "[::1]:0", "0.0.0.0:80", "localhost:9787", "db-1.example:9787"] {
            assert!(is_listen_address(good), "{good}");
        }
        for bad in ["", "9787", ":9787", "127.0.0.1", "127.0.0.1:99999", "::1:9787", "256.0.0.1:1", "localhost:"] {
            assert!(!is_listen_address(bad), "{bad}");
        }
    }
}
