//! The bridge as a process, and other commands.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{DEADLINE, Database, eventually};

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// What a command that was refused left as its last lines on standard error.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Without its code.
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Ended {
    /// The last lines of standard error, which must be an error of this code and its remedy.
    #[track_caller]
    pub(crate) fn refused(&self, exit: i32, code: &str) -> Refusal {
        assert_eq!(self.code, exit, "{code} was expected: {self:#?}");
        let mut lines = self.err.lines().rev();
        let (hint, error) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let Some(hint) = hint.strip_prefix("hint: ") else { panic!("the last line is no hint: {self:#?}") };
        let message = error.strip_prefix("error: ").and_then(|error| error.strip_suffix(&format!(" [{code}]")));
        let Some(message) = message else { panic!("the line before the last is not of {code}: {self:#?}") };
        Refusal { message: message.to_owned(), hint: hint.to_owned() }
    }
}

/// The program, which dies with this process, also where that is killed. (By the letter with the thread that starts it:
/// a test's, or one of its runtime, which lives as long as the test does.)
fn program() -> Command {
    pontoon_servers::bound_command(env!("CARGO_BIN_EXE_pontoon-under-test")).unwrap()
}

/// Runs a command to its end, which must come. (Where it does not, it is told to end, and what it had said is shown.)
pub(crate) async fn pontoon(config: &Path, arguments: &[&str]) -> Ended {
    pontoon_with(config, arguments, &[]).await
}

/// The same with variables of the environment.
pub(crate) async fn pontoon_with(config: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = tokio::process::Command::from(program());
    command.arg("--config").arg(config).args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().unwrap();
    let id = child.id().unwrap().to_string();
    let output = child.wait_with_output();
    tokio::pin!(output);
    let output = match tokio::time::timeout(DEADLINE * 5, &mut output).await {
        Ok(output) => output.unwrap(),
        Err(_) => {
            assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
            let said = tokio::time::timeout(DEADLINE, output).await;
            panic!("{arguments:?} does not end: {said:?}");
        }
    };
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A running bridge. It is killed when dropped.
pub(crate) struct Bridge {
    child: Child,
    log: PathBuf,
}

impl Bridge {
    pub(crate) fn start(config: &Path, folder: &Path) -> Bridge {
        Bridge::command(config, folder, &["run"])
    }

    /// With variables of the environment.
    pub(crate) fn start_with(config: &Path, folder: &Path, variables: &[(&str, &str)]) -> Bridge {
        let mut command = program();
        command.envs(variables.iter().copied());
        Bridge::spawn(command, config, folder, &["run"])
    }

    /// With a disk of so many bytes for what is spilled, which nobody else sees.
    pub(crate) fn start_on_disk(config: &Path, folder: &Path, spill: &Path, bytes: usize) -> Bridge {
        std::fs::create_dir_all(spill).unwrap();
        let mut command = pontoon_servers::bound_command("unshare").unwrap();
        let id = Command::new("id").arg("-u").output().unwrap().stdout;
        if id != b"0\n" {
            command.args(["--user", "--map-root-user"]);
        }
        let mount = format!(
            "mount -t tmpfs -o size={bytes} tmpfs \"$0\" && exec {} \"$@\"",
            env!("CARGO_BIN_EXE_pontoon-under-test")
        );
        command.args(["--mount", "sh", "-c", &mount]).arg(spill);
        Bridge::spawn(command, config, folder, &["run"])
    }

    /// A command that does the bridge's work.
    pub(crate) fn command(config: &Path, folder: &Path, arguments: &[&str]) -> Bridge {
        Bridge::spawn(program(), config, folder, arguments)
    }

    fn spawn(mut command: Command, config: &Path, folder: &Path, arguments: &[&str]) -> Bridge {
        let number = std::fs::read_dir(folder).unwrap().count();
        let log = folder.join(format!("run-{number}-{}.log", fastrand()));
        let file = std::fs::File::create(&log).unwrap();
        command.arg("--config").arg(config).args(["--log", "debug"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Bridge { child: command.spawn().unwrap(), log }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits until it has logged something.
    pub(crate) async fn logged(&self, what: &str) {
        eventually(&format!("the log says {what:?}"), async || self.log().contains(what)).await;
    }

    /// Waits until it holds the lease and works.
    pub(crate) async fn works(&self) {
        self.logged("active: this process holds the lease").await;
    }

    /// Where its status page is.
    pub(crate) async fn page(&self) -> String {
        self.logged("address=").await;
        let log = self.log();
        let address = log.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        address.trim_matches('"').to_owned()
    }

    /// What the process was started with, `name=value` each.
    pub(crate) fn environment(&self) -> Vec<String> {
        let all = std::fs::read(format!("/proc/{}/environ", self.id())).unwrap();
        all.split(|byte| *byte == 0).map(|one| String::from_utf8_lossy(one).into_owned()).collect()
    }

    /// The most memory that it ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal: `STOP`, `CONT`, `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub(crate) async fn stop(self) -> i32 {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits until it ends by itself, and gives the exit code.
    pub(crate) async fn ended(mut self) -> i32 {
        let mut code = None;
        eventually("the bridge ends", async || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        })
        .await;
        code.unwrap().code().unwrap_or(-1)
    }

    /// Waits until it ends by itself; what it logged is its standard error.
    pub(crate) async fn end(self) -> Ended {
        let log = self.log.clone();
        let code = self.ended().await;
        let err = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
        Ended { code, out: String::new(), err }
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the bridge's log:\n{}", self.log());
        }
    }
}

/// A running `pontoon tail` of one node. It is killed when dropped.
pub(crate) struct Tail {
    child: Child,
    out: PathBuf,
}

impl Tail {
    /// Begins at the log's present end.
    fn start(config: &Path, folder: &Path, node: &str) -> Tail {
        let out = folder.join(format!("tail-{node}-{}.json", fastrand()));
        let mut command = program();
        command.arg("--config").arg(config).args(["--log", "warn", "tail", node]);
        command.stdin(Stdio::null()).stdout(std::fs::File::create(&out).unwrap());
        Tail { child: command.spawn().unwrap(), out }
    }

    /// Follows the log of a named node, from now on at the latest: a row that is written to `table` again and again until
    /// it has been seen shows that it does.
    pub(crate) async fn follow(
        config: &Path,
        folder: &Path,
        (name, node): (&str, &Database),
        table: &str,
        key: i64,
    ) -> Tail {
        let tail = Tail::start(config, folder, name);
        let mut client = node.client().await;
        eventually("tail follows the log", async || {
            client.run(&format!("INSERT INTO {table} (id) VALUES ({key})")).await;
            client.run(&format!("DELETE FROM {table} WHERE id = {key}")).await;
            !tail.events(table).is_empty()
        })
        .await;
        tail
    }

    /// The events of a table so far.
    pub(crate) fn events(&self, table: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.out).unwrap();
        // The last line may be half written.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let events = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let is_of = |event: &serde_json::Value| {
            event["table"].as_str().is_some_and(|name| name.rsplit('.').next() == Some(table))
        };
        events.filter(is_of).collect()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fastrand() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos()
}

/// What the test below starts in a process of its own: a bridge, and a long wait. By itself it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn holds_a_bridge_until_it_is_killed() {
    let Some(folder) = std::env::var_os("PONTOON_E2E_HOLD") else { return };
    let folder = Path::new(&folder);
    let bridge = Bridge::start(&folder.join("pontoon.toml"), folder);
    std::fs::write(folder.join("id"), bridge.id().to_string()).unwrap();
    tokio::time::sleep(DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_dies_with_a_test_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    // The bridge waits for this server, which says nothing, and lives on when the process is killed that began it.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgresql://u@{}/d?connect_timeout=600", listener.local_addr().unwrap());
    let text = format!(
        "bridge = \"held\"\n[nodes.a]\nurl = \"{url}\"\n[nodes.b]\nurl = \"mysql://u@127.0.0.1:1/d\"\n\
         [server]\nlisten = \"off\"\n[limits]\nspill_dir = \"spill\"\n[[tables]]\nname = \"items\"\n"
    );
    std::fs::write(folder.path().join("pontoon.toml"), text).unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "support::bridge::holds_a_bridge_until_it_is_killed"])
        .env("PONTOON_E2E_HOLD", folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (_waiting, _) = tokio::time::timeout(DEADLINE, listener.accept()).await.expect("the bridge is there").unwrap();
    let id = || std::fs::read_to_string(folder.path().join("id")).unwrap_or_default();
    eventually("the other process says which", async || !id().is_empty()).await;
    // Whoever inherits it may take its time to see that it has ended.
    let runs = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", id())).unwrap_or_default();
        stat.contains("(pontoon") && !stat.contains(") Z ")
    };
    assert!(runs());
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("the bridge is gone", async || !runs()).await;
}
