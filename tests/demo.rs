//! `pontoon demo` as a user starts it: it ends well, shows what it promises, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A place for the servers' folders that is this test's alone.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    // Of root's servers the user is another.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place
}

fn demo(arguments: &[&str], place: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon"));
    command.arg("demo").args(arguments).env("TMPDIR", place).env_remove("NO_COLOR").stdin(Stdio::null());
    command.process_group(0);
    command
}

/// The servers are in no process group of the demo's, so that it is the demo that ends them, in order.
fn servers_are_out_of_reach(demo: &Child, place: &Path) {
    let mut servers = 0;
    for entry in fs::read_dir("/proc").unwrap() {
        let process = entry.unwrap().path();
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let group =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(2)?.parse::<u32>().ok());
        if fs::read_link(process.join("cwd")).is_ok_and(|folder| folder.starts_with(place)) {
            servers += 1;
            assert_ne!(group, Some(demo.id()), "{stat}");
        }
    }
    assert!(servers >= 2, "there are {servers} processes of servers");
}

/// No process works in the place or names it, and nothing is in it.
fn nothing_is_left(place: &Path) {
    let left: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?} was left");
    for entry in fs::read_dir("/proc").unwrap() {
        let process = entry.unwrap().path();
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        let works_in = fs::read_link(process.join("cwd")).unwrap_or_default();
        let uses = arguments.contains(&*place.to_string_lossy()) || works_in.starts_with(place);
        assert!(!uses, "{} was left: {arguments}", process.display());
    }
}

fn converges(pair: &str) {
    let place = place();
    let Output { status, stdout, stderr } = demo(&["--pair", pair, "--writes", "300"], place.path()).output().unwrap();
    let (story, log) = (String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr).into_owned());
    let all = format!("{status}\n{story}\n{log}");
    assert!(status.success(), "{all}");
    assert_eq!(story.lines().last(), Some("converged: yes"), "{all}");
    for (what, words) in [
        ("a client's write", "  UPDATE items "),
        ("what crosses one way", "shop → stock  applied "),
        ("what crosses the other way", "stock → shop  applied "),
        ("a conflict", "  conflict  "),
        ("who won", " wins"),
        ("where it stands", "  300 of 300 · "),
        ("a table", "items on shop"),
        ("beside the other", "items on stock"),
    ] {
        assert!(story.contains(words), "{what} is not shown: {all}");
    }
    // All five contests at least are conflicts, and are counted.
    let conflicts = story.lines().find_map(|line| line.strip_prefix("conflicts")).unwrap();
    assert!(conflicts.trim().split(' ').next().unwrap().parse::<u64>().unwrap() >= 5, "{all}");
    assert!(!story.contains('\u{1b}') && !story.contains('≠'), "{all}");
    nothing_is_left(place.path());
}

#[test]
fn postgres_and_mariadb() {
    converges("postgres:mariadb");
}

#[test]
fn postgres_and_mysql() {
    converges("postgres:mysql");
}

#[test]
fn mariadb_and_mysql() {
    converges("mariadb:mysql");
}

#[test]
fn postgres_and_postgres() {
    converges("postgres:postgres");
}

/// Reads the story up to a line that begins like this.
fn read_until(child: &mut Child, start: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().starts_with(start) {
            return lines;
        }
    }
    panic!("no line begins with {start:?}: {lines:#?}");
}

/// Ctrl-C as a terminal sends it: to the whole process group, which the demo leads here.
fn interrupt(mut child: Child) -> i32 {
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap();
        }
        assert!(Instant::now() < deadline, "it does not end at Ctrl-C");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn kept_it_serves_other_commands_until_ctrl_c() {
    let place = place();
    let mut command = demo(&["--keep", "--writes", "50"], place.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = read_until(&mut child, "converged: ");
    assert_eq!(lines.last().unwrap(), "converged: yes");
    let value = |label: &str| lines.iter().find_map(|line| line.strip_prefix(label)).unwrap().trim().to_owned();
    assert!(value("shop  ").starts_with("postgresql://app:") && value("stock  ").starts_with("mysql://app:"));
    let config = value("config  ");
    for arguments in [&["status"][..], &["wait"], &["verify"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon"));
        let ended = command.args(["--config", &config]).args(arguments).output().unwrap();
        assert!(ended.status.success(), "{arguments:?}: {ended:?}");
    }
    assert_eq!(interrupt(child), 0);
    nothing_is_left(place.path());
}

#[test]
fn interrupted_it_leaves_nothing() {
    let place = place();
    let mut command = demo(&["--writes", "1000000"], place.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut story = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(story.any(|line| line.unwrap().contains(" applied ")));
    servers_are_out_of_reach(&child, place.path());
    // Somebody has to read on, else it would end for want of a reader.
    let reader = std::thread::spawn(move || story.count());
    assert_eq!(interrupt(child), 1);
    reader.join().unwrap();
    nothing_is_left(place.path());
}
