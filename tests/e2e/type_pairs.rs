//! Which types are a pair, asked of the servers themselves: the tables of `docs/types.md`.

use std::fmt::Write as _;

use pontoon::{config::Config, nodes, side::Side};
use pontoon_core::{Column, Form, TableName};
use pontoon_servers::Kind;

use crate::support::{Database, Link, LinkOptions};

/// Types of PostgreSQL, one of each kind at least.
const POSTGRES: [&str; 45] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "numeric(10,2)",
    "numeric(20,0)",
    "numeric",
    "real",
    "double precision",
    "text",
    "varchar(60)",
    "char(10)",
    "name",
    "citext",
    "bytea",
    "date",
    "time",
    "time(0)",
    "timetz",
    "timestamp",
    "timestamp(0)",
    "timestamptz",
    "timestamptz(0)",
    "interval",
    "json",
    "jsonb",
    "uuid",
    "mood",
    "happy_mood",
    "bit(8)",
    "bit varying(8)",
    "inet",
    "cidr",
    "macaddr",
    "integer[]",
    "text[]",
    "int4range",
    "datemultirange",
    "xml",
    "point",
    "hstore",
    "ltree",
    "money",
    "tsvector",
    "oid",
];

/// Types of MySQL and MariaDB.
const MYSQL: [&str; 43] = [
    "tinyint(1)",
    "tinyint",
    "tinyint unsigned",
    "smallint",
    "smallint unsigned",
    "mediumint",
    "mediumint unsigned",
    "int",
    "int unsigned",
    "bigint",
    "bigint unsigned",
    "decimal(10,2)",
    "decimal(20,0)",
    "float",
    "double",
    "bit(1)",
    "bit(8)",
    "char(10)",
    "char(36)",
    "varchar(60)",
    "tinytext",
    "text",
    "mediumtext",
    "longtext",
    "binary(8)",
    "binary(16)",
    "varbinary(60)",
    "tinyblob",
    "blob",
    "mediumblob",
    "longblob",
    "date",
    "time",
    "time(6)",
    "datetime",
    "datetime(6)",
    "timestamp",
    "timestamp(6)",
    "year",
    "json",
    "enum('a','b')",
    "set('a','b')",
    "geometry",
];

/// Those of only one of them.
const MYSQL_ALONE: [&str; 1] = ["vector(3)"];
const MARIADB_ALONE: [&str; 3] = ["uuid", "inet4", "inet6"];

/// A type and what the connector makes of a column of it.
type Described = (&'static str, Column);

async fn describe(link: &Link, side: Side, types: &[&'static str]) -> Vec<Described> {
    let node = link.nodes()[side as usize];
    let nodes = nodes::open(&Config::load(Some(&link.config())).unwrap()).unwrap();
    let columns: Vec<String> = types.iter().enumerate().map(|(at, native)| format!("c{at} {native} NULL")).collect();
    node.run(&format!("CREATE TABLE every_type ({})", columns.join(", "))).await;
    let name = TableName { schema: None, name: "every_type".into() };
    let found = nodes.nodes[side].describe(&[name]).await.unwrap().remove(0).unwrap();
    types.iter().copied().zip(found.columns).collect()
}

async fn extend(postgres: &Database) {
    for extension in ["citext", "hstore", "ltree"] {
        postgres.run(&format!("CREATE EXTENSION {extension}")).await;
    }
    postgres.run("CREATE TYPE mood AS ENUM ('a', 'b')").await;
    postgres.run("CREATE DOMAIN happy_mood AS mood").await;
}

fn form(a: &Column, b: &Column) -> Option<Form> {
    Form::of_pair(a.kind.as_ref()?, b.kind.as_ref()?)
}

fn code(types: impl IntoIterator<Item = String>) -> String {
    types.into_iter().collect::<Vec<_>>().join(", ")
}

/// One row for each type of PostgreSQL and each common form that it has with others.
fn pairs(postgres: &[Described], mysql: &[Described], mariadb: &[Described]) -> String {
    let mut table = String::from("| PostgreSQL | MySQL, MariaDB | compared as |\n| --- | --- | --- |\n");
    for (native, column) in postgres {
        let mut forms: Vec<Form> = Vec::new();
        for (_, other) in mysql.iter().chain(mariadb) {
            forms.extend(form(column, other).filter(|form| !forms.contains(form)));
        }
        for common in forms {
            let with = |others: &[Described]| -> Vec<&str> {
                let same = others.iter().filter(|(_, other)| form(column, other) == Some(common));
                same.map(|(native, _)| *native).collect()
            };
            let (mysql, mariadb) = (with(mysql), with(mariadb));
            let of_mysql = mysql.iter().map(|native| match mariadb.contains(native) {
                true => format!("`{native}`"),
                false => format!("`{native}` (MySQL)"),
            });
            let alone = mariadb.iter().filter(|native| !mysql.contains(native));
            let others = code(of_mysql.chain(alone.map(|native| format!("`{native}` (MariaDB)"))));
            writeln!(table, "| `{native}` | {others} | {common} |").unwrap();
        }
    }
    table
}

/// The types that `check` refuses by name.
fn refused(postgres: &[Described], mysql: &[Described], mariadb: &[Described]) -> String {
    let mut list = String::new();
    for (name, described) in [("PostgreSQL", postgres), ("MySQL", mysql), ("MariaDB", mariadb)] {
        let none = described.iter().filter(|(_, column)| column.kind.is_none()).map(|(native, _)| *native);
        writeln!(list, "* {name}: {}", code(none.map(|native| format!("`{native}`")))).unwrap();
    }
    list
}

/// The page with its tables made anew.
fn page(text: &str, tables: [(&str, String); 2]) -> String {
    let mut page = text.to_owned();
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- begin: {name} -->\n\n"), format!("\n<!-- end: {name} -->"));
        let (before, rest) = page.split_once(&begin).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        page = format!("{before}{begin}{table}{end}{after}");
    }
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_which_types_are_a_pair() {
    let with_mariadb = Link::start([Kind::Postgres, Kind::Mariadb], LinkOptions::default()).await;
    let with_mysql = Link::start([Kind::Postgres, Kind::Mysql], LinkOptions::default()).await;
    for link in [&with_mariadb, &with_mysql] {
        link.configure("[[tables]]\nname = \"every_type\"\n");
    }
    extend(&with_mariadb.a).await;
    let postgres = describe(&with_mariadb, Side::A, &POSTGRES).await;
    let mariadb = describe(&with_mariadb, Side::B, &[&MYSQL[..], &MARIADB_ALONE].concat()).await;
    let mysql = describe(&with_mysql, Side::B, &[&MYSQL[..], &MYSQL_ALONE].concat()).await;
    // What the page says of servers that are closer to each other.
    for (native, column) in postgres.iter().chain(&mysql).chain(&mariadb).filter(|(_, column)| column.kind.is_some()) {
        assert!(form(column, column).is_some(), "{native} with itself");
    }
    for ((native, of_mysql), (_, of_mariadb)) in mysql.iter().zip(&mariadb).take(MYSQL.len()) {
        assert_eq!(form(of_mysql, of_mariadb).is_some(), of_mysql.kind.is_some(), "{native} on MySQL and MariaDB");
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/types.md");
    let text = std::fs::read_to_string(file).unwrap();
    let tables = [("pairs", pairs(&postgres, &mysql, &mariadb)), ("refused", refused(&postgres, &mysql, &mariadb))];
    let page = page(&text, tables);
    if std::env::var_os("PONTOON_WRITE_DOCS").is_some() {
        std::fs::write(file, &page).unwrap();
        return;
    }
    for (made, written) in page.lines().zip(text.lines()) {
        assert_eq!(made, written, "PONTOON_WRITE_DOCS=1 makes the tables anew");
    }
    assert_eq!(page.len(), text.len(), "PONTOON_WRITE_DOCS=1 makes the tables anew");
}
