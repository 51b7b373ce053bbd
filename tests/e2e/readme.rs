//! The README's way from two databases to one bridge: each of its commands is run, and says what is printed there.

use std::process::Stdio;

use pontoon_servers::Kind;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{DEADLINE, Database, Link, LinkOptions};

/// The commands of the README and what it shows of their output; `...` stands for lines that it leaves out.
fn session() -> Vec<(String, Vec<String>)> {
    let readme = include_str!("../../README.md");
    let block = readme.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut session: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => session.push((command.to_owned(), Vec::new())),
            None => session.last_mut().unwrap().1.push(line.to_owned()),
        }
    }
    session
}

/// A line as it is compared: what differs from run to run (times, places, versions) is words of digits with something
/// between them.
fn plain(line: &str) -> String {
    let word = |word: &str| {
        let varies = word.contains(|c: char| c.is_ascii_digit()) && word.contains([':', '.', '-']);
        if varies { "*".to_owned() } else { word.to_owned() }
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Holds what was said against what the README shows.
fn same(command: &str, shown: &[String], said: &str) {
    let mut rest = said.lines().map(plain).filter(|line| !line.is_empty());
    let mut skipping = false;
    for line in shown.iter().map(|line| plain(line)).filter(|line| !line.is_empty()) {
        if line == "..." {
            skipping = true;
            continue;
        }
        let found = if skipping { rest.find(|said| *said == line) } else { rest.next() };
        assert_eq!(found.as_deref(), Some(&*line), "{command} says\n{said}");
        skipping = false;
    }
    assert!(skipping || rest.next().is_none(), "{command} says more:\n{said}");
}

fn url(name: &str, database: &Database) -> String {
    format!("{name}={}", database.server.url(database.server.superuser(), "shop"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_databases_are_joined() {
    let link = Link::start([Kind::Postgres, Kind::Mariadb], LinkOptions::default()).await;
    link.a
        .run(
            "CREATE TABLE customers (id bigint PRIMARY KEY, name varchar(60) NOT NULL, city varchar(60)); \
              ALTER TABLE customers REPLICA IDENTITY FULL; \
              INSERT INTO customers VALUES (1, 'Ada', 'Brno'), (2, 'Kofi', 'Malmö'), (3, 'Lin', NULL)",
        )
        .await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60) NOT NULL, quantity int NOT NULL").await;
    link.a.run("INSERT INTO items VALUES (1, 'kettle', 4), (2, 'lamp', 9), (3, 'chair', 2)").await;
    link.b.run("INSERT INTO items VALUES (2, 'lamp', 9), (3, 'chair', 7)").await;
    let places = [
        ("shop=postgresql://pontoon@db1.example/shop", url("shop", &link.a)),
        ("stock=mysql://pontoon@db2.example/shop", url("stock", &link.b)),
    ];
    let mut running = Vec::new();
    for (line, shown) in session() {
        let mut words: Vec<String> = line.split_whitespace().skip(1).map(str::to_owned).collect();
        let behind = words.pop_if(|word| word == "&").is_some();
        for word in &mut words {
            if let Some((_, real)) = places.iter().find(|(shown, _)| word == shown) {
                word.clone_from(real);
            }
        }
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pontoon-under-test"));
        command.args(&words).current_dir(link.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        command.env("SHOP_PASSWORD", link.a.server.password()).env("STOCK_PASSWORD", link.b.server.password());
        command.env("XDG_STATE_HOME", link.folder.path()).env("NO_COLOR", "1");
        if words[0] == "init" {
            std::fs::remove_file(link.config()).unwrap();
        }
        if behind {
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
            let last = plain(shown.iter().rev().find(|line| *line != "...").unwrap());
            let mut said = String::new();
            let read = async {
                while let Some(line) = lines.next_line().await.unwrap() {
                    said += &(line.clone() + "\n");
                    if plain(&line) == last {
                        break;
                    }
                }
            };
            tokio::time::timeout(DEADLINE, read).await.expect("it says so");
            same(&line, &shown, &said);
            running.push((child, lines));
        } else {
            let output = tokio::time::timeout(DEADLINE * 2, command.output()).await.expect("it ends").unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{line}: {said}{}", String::from_utf8_lossy(&output.stderr));
            println!("$ {line}\n{said}");
            let user = format!("{:?}", link.a.server.superuser());
            same(&line, &shown, &said.replace(&user, "\"pontoon\""));
        }
    }
    assert!(!running.is_empty(), "the bridge is among the commands");
    link.same("SELECT id, name, quantity FROM items ORDER BY id").await;
    assert_eq!(link.same("SELECT id, name, city FROM customers ORDER BY id").await.len(), 3);
}
