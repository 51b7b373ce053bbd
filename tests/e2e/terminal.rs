//! `status --watch` on a terminal, and the picture of it in `docs/`: it shows what is shown there, but for figures. To take it anew:
//! `PONTOON_WRITE_DOCS=1 cargo test -p pontoon-e2e --test e2e terminal::`.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use pontoon_servers::Kind;

use crate::{
    commands::with_page,
    support::{DEADLINE, Database, Link, LinkOptions, eventually, link::write_configuration},
};

/// What the terminal is told before each look: to the upper left corner, all of it clear.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// In pixels.
const LINE_HEIGHT: usize = 20;
const CHARACTER_WIDTH: usize = 9;
const MARGIN: usize = 18;

fn picture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/status.svg")
}

/// The lines of a screen as a picture that every browser draws.
fn draw(lines: &[String]) -> String {
    let width = 2 * MARGIN + CHARACTER_WIDTH * lines.iter().map(|line| line.chars().count()).max().unwrap();
    let height = 2 * MARGIN + LINE_HEIGHT * lines.len();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <title>pontoon status --watch</title>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#1d2227\"/>\n\
         <g font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"15\" fill=\"#d7dde3\" xml:space=\"preserve\">\n"
    );
    for (number, line) in lines.iter().enumerate() {
        let line = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let y = MARGIN + LINE_HEIGHT * number + 15;
        svg += &format!("<text x=\"{MARGIN}\" y=\"{y}\">{line}</text>\n");
    }
    svg + "</g>\n</svg>\n"
}

/// The lines of a picture.
fn drawn(svg: &str) -> Vec<String> {
    let lines = svg.lines().filter_map(|line| line.strip_prefix("<text ")?.split_once('>')?.1.strip_suffix("</text>"));
    lines.map(|line| line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")).collect()
}

/// Lines as they are compared: without figures and their units.
fn plain(lines: &[String]) -> Vec<String> {
    let is_word = |word: &&str| {
        !word.contains(|c: char| c.is_ascii_digit()) && !["B", "KiB", "MiB", "ms", "s", "?"].contains(word)
    };
    lines.iter().map(|line| line.split_whitespace().filter(is_word).collect::<Vec<_>>().join(" ")).collect()
}

/// The screens of a terminal on which the status is watched, until one is as it should be.
fn watch(config: &Path, is_it: impl Fn(&[String]) -> bool) -> Result<Vec<String>, Vec<String>> {
    let program = env!("CARGO_BIN_EXE_pontoon-under-test");
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command"])
        .arg(format!("stty cols 120 rows 30 && exec {program} --config {} status --watch", config.display()))
        .arg("/dev/null")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = terminal.stdout.take().unwrap();
    let (began, mut said, mut buffer, mut last) = (Instant::now(), String::new(), [0; 4096], Vec::new());
    let found = loop {
        let read = out.read(&mut buffer).unwrap();
        assert!(read > 0, "it has ended: {said}");
        said += &String::from_utf8_lossy(&buffer[..read]);
        // Of the screens that are whole the last one.
        if let Some(screen) = said.rsplit(CLEAR).nth(1).filter(|screen| !screen.is_empty()) {
            last = screen.lines().map(|line| line.trim_end().to_owned()).collect();
            if is_it(&last) {
                break Ok(last);
            }
        }
        if began.elapsed() > DEADLINE {
            break Err(last);
        }
    };
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    found
}

/// A bridge with rows that have crossed both ways, and one in quarantine.
async fn link() -> Link {
    let (rest, _) = with_page();
    let link = Link::start([Kind::Postgres, Kind::Mariadb], LinkOptions::default()).await;
    let nodes: [(&str, &Database); 2] = [("shop", &link.a), ("stock", &link.b)];
    let users = link.nodes().map(|node| (node.server.superuser(), node.server.password()));
    write_configuration(link.folder.path(), "shop-stock", nodes, users, &rest);
    link.create("items", "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL CHECK (quantity < 1000)")
        .await;
    link.a.run("ALTER TABLE items DROP CONSTRAINT items_quantity_check").await;
    link
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_watched_as_in_the_picture() {
    let link = link().await;
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    for id in 0..40 {
        link.a.run(&format!("INSERT INTO items VALUES ({id}, 'of the shop', 1)")).await;
        link.b.run(&format!("INSERT INTO items VALUES ({}, 'of the stock', 1)", 100 + id)).await;
    }
    link.a.run("INSERT INTO items VALUES (99, 'too many', 5000)").await;
    eventually("one row is refused", async || link.succeed(&["status"]).await.contains("pontoon quarantine list"))
        .await;
    let config = link.config();
    let write = std::env::var_os("PONTOON_WRITE_DOCS").is_some();
    let shown = std::fs::read_to_string(picture()).map(|svg| drawn(&svg)).unwrap_or_default();
    let wanted: Vec<String> = plain(shown.get(1..).unwrap_or_default());
    let is_it = move |lines: &[String]| {
        let is_known = lines.iter().filter(|line| line.contains("streaming") && !line.contains('?')).count() == 2;
        is_known && (write || plain(lines) == wanted)
    };
    let screen = tokio::task::spawn_blocking(move || watch(&config, is_it)).await.unwrap();
    match screen {
        Ok(lines) if write => {
            let lines = [vec!["$ pontoon status --watch".to_owned()], lines].concat();
            std::fs::write(picture(), draw(&lines)).unwrap();
        }
        Ok(_) => {}
        Err(lines) => panic!("the terminal shows\n{}\nand docs/status.svg\n{}", lines.join("\n"), shown.join("\n")),
    }
    assert_eq!(bridge.stop().await, 0);
}
