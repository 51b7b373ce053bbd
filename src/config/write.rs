//! A configuration as text, for `pontoon init`: what is known, and what else could be said as comments.

use std::fmt::Write;

use pontoon_core::TableName;

/// What a new configuration says.
#[derive(Debug, Clone)]
pub struct Outline {
    /// The bridge's name.
    pub bridge: String,
    /// The nodes, in the order in which they were named.
    pub nodes: [OutlineNode; 2],
    /// What is bridged, as it is written in the file; where there is none, all that is on both sides.
    pub tables: Vec<String>,
    /// Tables that could be, each with the node that alone has it.
    pub lonely: Vec<(String, String)>,
}

/// A node of a new configuration.
#[derive(Debug, Clone)]
pub struct OutlineNode {
    /// Its name.
    pub name: String,
    /// Its URL, without a password that is no variable.
    pub url: String,
    /// Where its password is.
    pub password: OutlinePassword,
    /// What answered there.
    pub server: Option<String>,
}

/// Where a node's password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutlinePassword {
    /// In this variable.
    Variable(String),
    /// In a variable that the URL names.
    InUrl,
    /// The server asks for none.
    Unasked,
}

/// The tables of a list that are written out; of more a pattern says it in one line.
const LONELY_MAX: usize = 100;

impl Outline {
    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "# One file is one bridge between two databases. `pontoon check` says what is in the way; all keys with their\n\
             # defaults are in docs/configuration.md.\n\n\
             bridge = {}   # the origin tag of what the bridge writes; never change it while it is in use\n",
            literal(&self.bridge)
        );
        for node in &self.nodes {
            push_node(&mut text, node);
        }
        let [one, other] = self.nodes.each_ref().map(|node| node.name.as_str());
        text += &format!(
            "\n[defaults]\n\
             conflict = \"last_writer_wins\"   # or \"prefer:{one}\", \"prefer:{other}\", \"quarantine\"\n\
             direction = \"both\"              # or \"{one}->{other}\", \"{other}->{one}\"\n"
        );
        self.push_tables(&mut text);
        text += "\n# [limits]\n\
                 # memory_mib = 16                     # queues of both directions together\n\
                 # spill_gib = 10                      # what does not fit there, in files in spill_dir\n\
                 # spill_dir = \"/var/lib/pontoon\"\n\n\
                 # [server]\n\
                 # listen = \"127.0.0.1:9787\"           # /metrics /livez /readyz / and /api/status; \"off\" for none\n";
        text
    }

    fn push_tables(&self, text: &mut String) {
        if self.tables.is_empty() {
            *text += "\n# Every table that is on both sides; name them one by one to give them rules of their own.\n\
                      [[tables]]\nname = \"*\"\n";
        }
        for table in &self.tables {
            *text += &format!("\n[[tables]]\nname = {}\n", literal(table));
        }
        if self.lonely.is_empty() {
            return;
        }
        *text += "\n# On one side alone. `pontoon setup --create-tables` makes on the other side what is named here.\n";
        for (table, node) in self.lonely.iter().take(LONELY_MAX) {
            *text += &format!("# [[tables]]\n# name = {}   # on {node}\n", literal(table));
        }
        if let Some(more @ 1..) = self.lonely.len().checked_sub(LONELY_MAX) {
            *text += &format!("# and {more} more\n");
        }
    }
}

fn push_node(text: &mut String, node: &OutlineNode) {
    let server = node.server.as_ref().map(|server| format!("   # {server}")).unwrap_or_default();
    // What is no name for a node is refused in words of its own, so it is written as a text.
    *text += &format!("\n[nodes.{}]{server}\nurl = {}\n", key(&node.name), literal(&node.url));
    *text += &match &node.password {
        OutlinePassword::Variable(variable) => {
            format!(
                "password_env = {}   # or password_file = \"${{CREDENTIALS_DIRECTORY}}/{}\"\n",
                literal(variable),
                node.name
            )
        }
        OutlinePassword::InUrl => {
            "# password_env = \"...\"              # a variable of the url holds the password\n".to_owned()
        }
        OutlinePassword::Unasked => {
            "# password_env = \"...\"              # the server asks for no password\n".to_owned()
        }
    };
    *text += "# priority = 0                      # the higher wins where commit times are equal\n";
}

/// A table's name as the file has it: a star or a dot within a name stands behind a backslash.
pub fn written(table: &TableName) -> String {
    table.to_string().replace('*', "\\*")
}

fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { name.to_owned() } else { literal(name) }
}

/// A basic string.
fn literal(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Config, Environment};

    fn outline(tables: Vec<String>, lonely: Vec<(String, String)>) -> Outline {
        let node = |name: &str, url: &str| OutlineNode {
            name: name.into(),
            url: url.into(),
            password: match name {
                "shop" => OutlinePassword::Variable("SHOP_PASSWORD".into()),
                _ => OutlinePassword::Unasked,
            },
            server: Some("MariaDB 10.11.19".into()),
        };
        let nodes = [node("shop", "postgresql://ann@db/shop"), node("stock", "mysql://ann@db/sto%22ck")];
        Outline { bridge: "shop-stock".into(), nodes, tables, lonely }
    }

    fn load(text: &str) -> Config {
        let environment = Environment {
            variable: &|name| matches!(name, "SHOP_PASSWORD" | "HOME").then(|| "/secret".into()),
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        Config::parse(text, "", &environment).unwrap_or_else(|invalid| panic!("{invalid}\n{text}"))
    }

    proptest! {
        #[test]
        fn any_names_are_read_back(names in proptest::collection::btree_set("[a*.\\\\\"'\n\u{7f}#ü]{1,8}|[^\0]{1,12}", 0..5)) {
            let tables: Vec<TableName> = names.iter().map(|name| TableName { schema: None, name: name.as_str().into() }).collect();
            let lonely = names.iter().map(|name| (name.clone(), "shop".to_owned())).collect();
            let config = load(&outline(tables.iter().map(written).collect(), lonely).text());
            let read: Vec<TableName> = config.tables.iter().filter_map(|rule| rule.names[0].exact()).collect();
            prop_assert_eq!(read, tables);
        }
    }

    #[test]
    fn what_is_a_comment_can_be_uncommented() {
        let text = outline(Vec::new(), vec![("items".into(), "shop".into())]).text();
        assert_eq!(load(&text).tables.len(), 1);
        let commented = |line: &str| line.starts_with("# [") || line.starts_with("# ") && line.contains(" = ");
        let lines = text.lines().map(|line| if commented(line) { &line[2..] } else { line });
        let lines = lines.filter(|line| !line.contains("\"...\"")).collect::<Vec<_>>().join("\n");
        let config = load(&lines);
        assert_eq!((config.tables.len(), config.limits.memory_bytes), (2, 16 << 20));
    }
}
