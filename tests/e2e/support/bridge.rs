//! The bridge as a process, and other commands.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{DEADLINE, eventually};

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end, which must come.
pub(crate) async fn pontoon(config: &Path, arguments: &[&str]) -> Ended {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pontoon"));
    command.arg("--config").arg(config).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE * 5, command.output()).await.expect("it ends").unwrap();
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
        let number = std::fs::read_dir(folder).unwrap().count();
        let log = folder.join(format!("run-{number}-{}.log", fastrand()));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon"));
        command.arg("--config").arg(config).args(["--log", "debug", "run"]);
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

fn fastrand() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos()
}
