//! Every command of `docs/operations.md`, run as it stands there, in the order of the page, by a bridge in the state that its section speaks of. That each does what the section
//! says of it is for the tests of its own; those with `--at` are run by `at.rs`, with the places of a real dump.

use std::collections::VecDeque;

use pontoon_servers::Kind;

use crate::support::{
    Link, LinkOptions,
    documented::{Reader, fenced, page},
};

const CONFIGURATION: &str = r#"
bridge = "operations"

[nodes.shop]
url = "of the server"
password_env = "SHOP_PASSWORD"

[nodes.stock]
url = "of the server"
password_env = "STOCK_PASSWORD"

[[tables]]
name = "items"
"#;

const ORDERS: &str = "\n[[tables]]\nname = \"orders\"\n";

/// Blocks of commands that stand on the page and were not run yet.
struct Commands(VecDeque<Vec<String>>);

impl Commands {
    fn of(page: &str) -> Commands {
        let blocks = fenced(page).filter(|(language, _)| *language == "sh");
        let plain = |line: &str| line.split(" #").next().unwrap().trim().to_owned();
        let commands =
            blocks.map(|(_, lines)| lines.lines().map(plain).filter(|line| line.starts_with("pontoon ")).collect());
        Commands(commands.filter(|commands: &Vec<String>| !commands.is_empty()).collect())
    }

    /// Runs the next block, which begins with this command.
    async fn run(&mut self, reader: &mut Reader, first: &str) {
        for command in self.next(first) {
            println!("$ {command}");
            match command.strip_suffix(" &") {
                Some(command) => reader.starts(command, &["...".to_owned(), WORKS.to_owned()]).await,
                None => drop(reader.says(&command).await),
            }
        }
    }

    fn next(&mut self, first: &str) -> Vec<String> {
        let commands = self.0.pop_front().unwrap();
        assert_eq!(commands[0], first);
        commands
    }
}

/// What a bridge says when it is one that works.
const WORKS: &str = "2026-11-24T17:36:01.888761Z  INFO active: this process holds the lease bridge=\"operations\"";

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_page() {
    let link = Link::start([Kind::Postgres, Kind::Mariadb], LinkOptions::default()).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60) NOT NULL, quantity int NOT NULL").await;
    link.create("orders", "id bigint PRIMARY KEY, total int NOT NULL").await;
    link.both("INSERT INTO items VALUES (1, 'kettle', 4), (2, 'lamp', 9)").await;
    link.a.run("INSERT INTO orders VALUES (1, 10)").await;
    let (mut reader, mut page) = (Reader::new(link, ["shop", "stock"]), Commands::of(&page("operations.md")));
    reader.configure(CONFIGURATION);
    reader.says("pontoon setup").await;
    runs(&mut reader).await;
    page.run(&mut reader, "pontoon pause").await;
    reader.ends().await;
    page.run(&mut reader, "pontoon run --dry-run").await;
    runs(&mut reader).await;
    page.run(&mut reader, "pontoon throttle --rows-per-second 500").await;
    page.run(&mut reader, "pontoon reload").await;
    page.run(&mut reader, "pontoon status").await;
    page.run(&mut reader, "pontoon resync --from stock --table items --execute").await;
    reader.ends().await;
    reader.configure(&format!("{CONFIGURATION}{ORDERS}"));
    page.run(&mut reader, "pontoon setup").await;
    assert_eq!(reader.link.b.value("SELECT total FROM orders").await, "10");

    // A log that is lost.
    page.run(&mut reader, "pontoon setup").await;
    page.run(&mut reader, "pontoon setup").await;
    reader.ends().await;
    // A server that is replaced.
    page.run(&mut reader, "pontoon resync --from stock --table items --execute").await;
    page.run(&mut reader, "pontoon teardown --execute").await;
    page.run(&mut reader, "pontoon verify").await;

    runs(&mut reader).await;
    page.run(&mut reader, "pontoon wait").await;
    page.run(&mut reader, "pontoon switchover --to stock").await;
    for first in ["pontoon setup --at stock=binlog.000003:1234", "pontoon setup"] {
        page.next(first);
    }
    page.next("pontoon setup --at shop=0/16B3748 --at stock=binlog.000003:1234");
    assert!(page.0.is_empty(), "{:?}", page.0);
    assert_eq!(reader.says("pontoon verify").await.lines().last(), Some("equal: yes"));
    assert!(reader.is_running());
    reader.ends().await;
}

async fn runs(reader: &mut Reader) {
    reader.starts("pontoon run", &["...".to_owned(), WORKS.to_owned()]).await;
}
