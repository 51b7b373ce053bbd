//! Commands of the documentation, run as they stand there, between real servers, and held against what is shown of their output.
//!
//! A block of `toml` is the configuration from there on, and a block of `console` a session: `$ pontoon ...` is a command (with `&` behind it the
//! bridge), `NODE> ...` a statement on that node, and what follows is what they say, `...` standing for lines that are left out. `# NODE is down`
//! has the server killed, `# NODE is up again` started, and `# a second later` waits until what is written is later than what was.

use std::{collections::VecDeque, path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::{DEADLINE, Database, Link, a_second_later, database::Client};

/// A command or statement, and what is shown of its output.
struct Step {
    line: String,
    shown: Vec<String>,
}

/// What a document asks for, in its order.
enum Block {
    Configuration(String),
    Session(Vec<Step>),
}

fn blocks(document: &str) -> Vec<Block> {
    let block = |(language, text): (&str, &str)| match language {
        "toml" => Some(Block::Configuration(text.to_owned())),
        "console" => Some(Block::Session(steps(text))),
        _ => None,
    };
    fenced(document).filter_map(block).collect()
}

/// The fenced blocks of a document, each with its language.
pub(crate) fn fenced(document: &str) -> impl Iterator<Item = (&str, &str)> {
    document.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'))
}

fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        let word = line.split(' ').next().unwrap_or_default();
        let is_statement =
            word.len() > 1 && word.ends_with('>') && word[..word.len() - 1].chars().all(char::is_alphanumeric);
        if ["$", "#"].contains(&word) || is_statement {
            steps.push(Step { line: line.to_owned(), shown: Vec::new() });
        } else {
            steps.last_mut().unwrap().shown.push(line.to_owned());
        }
    }
    steps
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

/// Holds what was said against what is shown. A line that ends with `...` is compared up to there.
fn same(command: &str, shown: &[String], said: &str) {
    let mut rest = said.lines().map(plain).filter(|line| !line.is_empty());
    let mut skipping = false;
    for line in shown.iter().map(|line| plain(line)).filter(|line| !line.is_empty()) {
        if line == "..." {
            skipping = true;
            continue;
        }
        let is_it = |said: &String| match line.strip_suffix("...") {
            Some(beginning) => said.starts_with(beginning),
            None => *said == line,
        };
        let found = if skipping { rest.find(is_it) } else { rest.next().filter(is_it) };
        assert!(found.is_some(), "{command} does not say {line:?}:\n{said}");
        skipping = false;
    }
    assert!(skipping || rest.next().is_none(), "{command} says more:\n{said}");
}

/// Who follows a document.
pub(crate) struct Reader {
    pub(crate) link: Link,
    /// As the document calls the nodes `a` and `b`, and by which user with which password they are reached.
    names: [&'static str; 2],
    users: [(String, String); 2],
    running: VecDeque<Child>,
}

impl Reader {
    /// Of a document that calls the two nodes so. The bridge is their superusers', until [`Reader::by`] says otherwise.
    pub(crate) fn new(link: Link, names: [&'static str; 2]) -> Reader {
        let users = link.nodes().map(|node| (node.server.superuser().to_owned(), node.server.password().to_owned()));
        Reader { link, names, users, running: VecDeque::new() }
    }

    /// Another user, with another password on each node.
    pub(crate) fn by(mut self, user: &str, passwords: [&str; 2]) -> Reader {
        self.users = passwords.map(|password| (user.to_owned(), password.to_owned()));
        self
    }

    /// Does all that a document asks for.
    pub(crate) async fn follow(&mut self, document: &str) {
        for block in blocks(document) {
            match block {
                Block::Configuration(text) => self.configure(&text),
                Block::Session(steps) => self.session(steps).await,
            }
        }
    }

    /// The commands of the first session of a document alone.
    pub(crate) async fn follow_the_first_session(&mut self, document: &str) {
        let first = blocks(document).into_iter().find_map(|block| match block {
            Block::Session(steps) => Some(steps),
            Block::Configuration(_) => None,
        });
        self.session(first.unwrap()).await;
    }

    /// Whether a bridge was started and runs still.
    pub(crate) fn is_running(&mut self) -> bool {
        self.running.iter_mut().any(|child| child.try_wait().unwrap().is_none())
    }

    fn node(&self, name: &str) -> &Database {
        self.link.nodes()[self.at(name)]
    }

    fn at(&self, name: &str) -> usize {
        self.names.iter().position(|known| *known == name).unwrap_or_else(|| panic!("there is no node {name}"))
    }

    /// Where a node really is, in the place of the URL that a document has.
    fn real_url(&self, at: usize) -> String {
        self.link.nodes()[at].server.url(&self.users[at].0, "shop")
    }

    pub(crate) fn configure(&self, text: &str) {
        let mut nodes = 0..2;
        let line = |line: &str| match line.starts_with("url = ") {
            true => format!("url = \"{}\"\n", self.real_url(nodes.next().unwrap())),
            false => format!("{line}\n"),
        };
        let text: String = text.lines().map(line).collect();
        // Another test may have the address that it has by default.
        let page = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        std::fs::write(self.link.config(), format!("{text}[server]\nlisten = \"{page}\"\n")).unwrap();
    }

    async fn session(&mut self, steps: Vec<Step>) {
        for Step { line, shown } in steps {
            println!("{line}");
            let (word, rest) = line.split_once(' ').unwrap();
            match word {
                "#" => self.happens(rest).await,
                "$" if rest.ends_with(" &") => self.starts(rest.trim_end_matches(" &"), &shown).await,
                "$" if rest == "kill %1" => self.ends().await,
                "$" => same(&line, &shown, &self.says(rest).await),
                _ => same(&line, &shown, &answer(self.node(word.trim_end_matches('>')), rest).await),
            }
        }
    }

    /// A command of the document, in the place of whose user and URLs there are real ones.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon-under-test"));
        for word in line.split_whitespace().skip(1) {
            let real = word.split_once('=').filter(|(_, url)| url.contains("://"));
            match real {
                Some((name, _)) => command.arg(format!("{name}={}", self.real_url(self.at(name)))),
                None => command.arg(word),
            };
        }
        command.current_dir(self.link.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        for (name, (_, password)) in self.names.iter().zip(&self.users) {
            command.env(format!("{}_PASSWORD", name.to_uppercase()), password);
        }
        command.env("XDG_STATE_HOME", self.link.folder.path()).env("NO_COLOR", "1");
        command
    }

    /// What a command says on standard output, and its exit code where that is not 0.
    pub(crate) async fn says(&self, line: &str) -> String {
        if line.starts_with("pontoon init ") {
            std::fs::remove_file(self.link.config()).unwrap();
        }
        let output = tokio::time::timeout(DEADLINE * 2, self.command(line).output()).await.expect("it ends").unwrap();
        let mut said = String::from_utf8(output.stdout).unwrap();
        match output.status.code() {
            Some(0) => {}
            // "The answer is no."
            Some(1) => said += "(exit code 1)\n",
            code => panic!("{line}: {code:?}: {said}{}", String::from_utf8_lossy(&output.stderr)),
        }
        println!("{said}");
        said.replace(&format!("{:?}", self.users[0].0), "\"pontoon\"")
    }

    /// Starts a bridge, and waits until it has said the last line that is shown.
    pub(crate) async fn starts(&mut self, line: &str, shown: &[String]) {
        let mut child = self.command(line).stderr(Stdio::piped()).spawn().unwrap();
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
        same(line, shown, &said);
        // What nobody reads would fill the pipe, and the bridge would wait for ever.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                println!("    {line}")
            }
        });
        self.running.push_back(child);
    }

    /// Has the bridge end that was started first.
    pub(crate) async fn ends(&mut self) {
        let mut child = self.running.pop_front().unwrap();
        let id = child.id().unwrap().to_string();
        assert!(Command::new("kill").arg(id).status().await.unwrap().success());
        let ended = tokio::time::timeout(DEADLINE, child.wait()).await.expect("it ends").unwrap();
        assert!(ended.success(), "{ended}");
    }

    async fn happens(&mut self, what: &str) {
        let Some((name, what)) = what.split_once(" is ") else {
            assert_eq!(what, "a second later");
            return a_second_later().await;
        };
        let node = if self.at(name) == 0 { &mut self.link.a } else { &mut self.link.b };
        match what {
            "down" => node.server.kill().await.unwrap(),
            "up again" => node.server.restart().await.unwrap(),
            _ => panic!("{name} is {what}"),
        }
    }
}

/// What a session of SQL answers, with two blanks between the columns.
async fn answer(node: &Database, statement: &str) -> String {
    let mut client: Client = node.client().await;
    let text = |value: Option<String>| value.unwrap_or_else(|| "NULL".into());
    let rows = client.rows(statement).await.into_iter();
    let lines = rows.map(|row| row.into_iter().map(text).collect::<Vec<_>>().join("  ") + "\n");
    let said: String = lines.collect();
    println!("{said}");
    said
}

/// A page of the documentation.
pub(crate) fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)).unwrap()
}
