//! `pontoon init`: writes a commented configuration.
//!
//! What was said is first made a configuration of its own, so that names and URLs are judged by the one parser, and
//! the look into the databases is that of any other command.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::{BufRead, ErrorKind, IsTerminal, Write},
};

use pontoon_core::{Code, Error, Result, TableName};

use super::{Context, DONE, InitArgs, one_line};
use crate::{
    config::{Config, Environment, Outline, OutlineNode, OutlinePassword, without_written_password, written},
    nodes,
};

pub(crate) async fn run(arguments: InitArgs, context: &Context) -> Result<u8> {
    let path = context.new_config();
    let exists = || {
        Error::new(Code::Config, format!("{} is there already, and is not touched", path.display()))
            .hint("name another file with --config, or move that one away")
    };
    if path.exists() {
        return Err(exists());
    }
    let asked = Asked::take(&arguments)?;
    let config = asked.config(&arguments)?;
    let outline = outline(&asked, &arguments, &config).await?;
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => exists(),
        _ => Error::new(Code::Config, format!("{} cannot be written: {error}", path.display())),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    file.write_all(outline.text().as_bytes()).map_err(failed)?;
    tell(&outline, &path.display().to_string(), context)?;
    Ok(DONE)
}

/// What to do with the file.
fn tell(outline: &Outline, path: &str, context: &Context) -> Result<()> {
    let tables = match outline.tables.as_slice() {
        [] => "every table that is on both sides".to_owned(),
        tables => one_line(&tables.join(", ")),
    };
    context.out.line(&format!("wrote {path}: bridge {}, {tables}", outline.bridge))?;
    for node in &outline.nodes {
        if let OutlinePassword::Variable(variable) = &node.password {
            context.out.line(&format!("put the password of {} into ${variable}", node.name))?;
        }
    }
    if !outline.lonely.is_empty() {
        context.out.line(&format!("{} tables are on one side alone; they stand there as comments", outline.lonely.len()))?;
    }
    context.out.line("next: pontoon setup --print-sql for the grants, pontoon check, pontoon setup, pontoon run, pontoon copy")
}

/// The two databases and the bridge's name, as they were said.
struct Asked {
    bridge: String,
    nodes: [(String, String); 2],
}

impl Asked {
    fn take(arguments: &InitArgs) -> Result<Asked> {
        let mut nodes = Vec::new();
        for text in &arguments.nodes {
            // What may be a password is not repeated.
            let split = text.split_once('=').filter(|(name, _)| !name.contains(':'));
            let (name, url) = split.ok_or_else(|| {
                Error::new(Code::Config, "a database is given without a name for it")
                    .hint("write NODE=URL: shop=postgresql://pontoon@db1.example/shop")
            })?;
            nodes.push((name.to_owned(), url.to_owned()));
        }
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if nodes.len() < 2 && !terminal {
            return Err(Error::new(Code::Config, format!("a bridge has two databases, and {} is given", nodes.len()))
                .hint("pontoon init shop=postgresql://USER@HOST/DATABASE stock=mysql://USER@HOST/DATABASE"));
        }
        let asks = nodes.len() < 2;
        while nodes.len() < 2 {
            let (number, example) = [("first", "shop"), ("second", "stock")][nodes.len()];
            let name = ask(&format!("name of the {number} database"), Some(example))?;
            let url = ask("its url, as postgresql://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE", None)?;
            nodes.push((name, url));
        }
        let [one, other] = [nodes[0].clone(), nodes[1].clone()];
        let usual = format!("{}-{}", one.0, other.0).to_lowercase();
        let bridge = match &arguments.bridge {
            Some(name) => name.clone(),
            None if asks => ask("name of the bridge", Some(&usual))?,
            None => usual,
        };
        Ok(Asked { bridge, nodes: [one, other] })
    }

    /// The configuration that the look is made with, never written: passwords may stand in the URLs.
    fn config(&self, arguments: &InitArgs) -> Result<Config> {
        let nodes = self.nodes.clone().map(|(name, url)| OutlineNode {
            // A url that holds a password goes before the variable.
            password: match is_set(&name) && !holds_password(&url) {
                true => OutlinePassword::Variable(variable(&name)),
                false => OutlinePassword::Unasked,
            },
            name,
            url,
            server: None,
        });
        let outline =
            Outline { bridge: self.bridge.clone(), nodes, tables: arguments.tables.clone(), lonely: Vec::new() };
        Config::parse(&outline.text(), "", &Environment::process()).map_err(|invalid| {
            // A place in a file that nobody has is of no use.
            let said = invalid.problems().first();
            let error = Error::new(Code::Config, said.map(|p| format!("{}: {}", p.key, p.message)).unwrap_or_default());
            error.hint(said.and_then(|problem| problem.hint.as_deref()).unwrap_or("pontoon init --help"))
        })
    }
}

fn holds_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) || url.contains("password=")
}

/// Whether the variable of a node's password holds one.
fn is_set(node: &str) -> bool {
    (Environment::process().variable)(&variable(node)).is_some_and(|value| !value.is_empty())
}

/// The variable that holds a node's password.
fn variable(node: &str) -> String {
    format!("{}_PASSWORD", node.to_uppercase().replace('-', "_"))
}

fn ask(what: &str, usual: Option<&str>) -> Result<String> {
    let failed = |error: std::io::Error| Error::new(Code::Config, format!("no answer: {error}"));
    let shown = usual.map(|usual| format!(" [{usual}]")).unwrap_or_default();
    eprint!("{what}{shown}: ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    match (line.trim(), usual) {
        ("", Some(usual)) => Ok(usual.to_owned()),
        ("", None) => Err(Error::new(Code::Config, "no answer").hint("pontoon init --help shows how to say it all at once")),
        (answer, _) => Ok(answer.to_owned()),
    }
}

/// What one database answered.
struct Seen {
    server: String,
    /// Tables without a schema's name, of the default one.
    tables: BTreeSet<TableName>,
}

async fn outline(asked: &Asked, arguments: &InitArgs, config: &Config) -> Result<Outline> {
    let opened = nodes::open(config)?;
    let mut nodes = Vec::new();
    let mut found = Vec::new();
    for (name, typed) in &asked.nodes {
        let Some(side) = config.side(name) else { continue };
        let node = &opened.nodes[side];
        let look = async {
            let server = node.connect().await?.server;
            let of_default = |table: TableName| {
                let default = config.node(side).default_schema();
                (table.schema.as_deref() == Some(default)).then_some(TableName { schema: None, name: table.name })
            };
            let tables = node.list_tables().await?.into_iter().filter_map(of_default).collect();
            Ok::<Seen, Error>(Seen { server, tables })
        };
        let seen = look.await;
        if let Err(error) = &seen {
            tracing::warn!(error = %error.clone().at(name), "cannot look into the database: its tables are not listed");
        }
        let url = match typed.contains("${") {
            true => without_written_password(typed),
            false => config.node(side).url.clone(),
        };
        let password = match &config.node(side).password {
            Some(_) if url == *typed && !is_set(name) => OutlinePassword::InUrl,
            // A server that lets nobody in without one, or did not answer at all, is taken to want a password.
            None if seen.is_ok() => OutlinePassword::Unasked,
            _ => OutlinePassword::Variable(variable(name)),
        };
        nodes.push(OutlineNode {
            name: name.clone(),
            url,
            password,
            server: seen.as_ref().ok().map(|seen| seen.server.clone()),
        });
        found.extend(seen.ok());
    }
    let (mut tables, mut lonely) = (arguments.tables.clone(), Vec::new());
    if let ([one, other], true) = (found.as_slice(), tables.is_empty()) {
        tables.extend(one.tables.intersection(&other.tables).map(written));
        for (here, there, node) in [(one, other, &nodes[0]), (other, one, &nodes[1])] {
            lonely.extend(here.tables.difference(&there.tables).map(|table| (written(table), node.name.clone())));
        }
    }
    let nodes = nodes.try_into().map_err(|_| Error::new(Code::Internal, "not two nodes"))?;
    Ok(Outline { bridge: asked.bridge.clone(), nodes, tables, lonely })
}
