//! Pontoon as its users have it: the binary of a release build, with a configuration file.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    database::Database,
    measure::{Run, Watch, processor_seconds},
    table,
};

/// A bridge between two databases.
pub(crate) struct Bridge {
    folder: TempDir,
}

impl Bridge {
    /// One of the table that is measured with; `direction` is that of the table.
    pub(crate) fn new(nodes: [&Database; 2], direction: &str) -> Bridge {
        Bridge::of(nodes, direction, &[table::NAME.to_owned()])
    }

    /// Writes its configuration: each of the tables goes in that direction.
    pub(crate) fn of(nodes: [&Database; 2], direction: &str, tables: &[String]) -> Bridge {
        let bridge = Bridge { folder: tempfile::tempdir().unwrap() };
        let folder = bridge.folder.path();
        let mut text = String::from("bridge = \"bench\"\n");
        for (name, node) in ["a", "b"].into_iter().zip(nodes) {
            let file = folder.join(format!("password-{name}"));
            std::fs::write(&file, node.server.password()).unwrap();
            let url = node.server.url(node.server.superuser(), "shop");
            text += &format!("[nodes.{name}]\nurl = \"{url}\"\npassword_file = \"{}\"\n", file.display());
        }
        text += &format!("[server]\nlisten = \"off\"\n[limits]\nspill_dir = \"{}\"\n", folder.join("spill").display());
        for table in tables {
            text += &format!("[[tables]]\nname = \"{table}\"\ndirection = \"{direction}\"\n");
        }
        std::fs::write(bridge.config(), text).unwrap();
        bridge
    }

    /// Its file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("pontoon.toml")
    }

    /// One of its commands.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(&self.config(), arguments)
    }

    /// Runs a command that has to succeed.
    pub(crate) async fn succeed(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pontoon {arguments:?}: {said}");
    }

    /// Runs a command that has to succeed, from its start to its end.
    pub(crate) async fn measure(&self, arguments: &[&str], nodes: [&Database; 2]) -> Run {
        measure(self.command(arguments), nodes).await
    }
}

fn command(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::from(pontoon_servers::bound_command(env!("CARGO_BIN_EXE_pontoon")).unwrap());
    command.arg("--config").arg(config).args(["--log", "warn"]).args(arguments);
    command
}

/// Runs a process that has to succeed and carries rows between the servers.
pub(crate) async fn measure(mut command: Command, nodes: [&Database; 2]) -> Run {
    command.stdout(Stdio::piped());
    measured(command, nodes, async || None).await.0
}

/// The same, whose work is done at its end, or as soon as `done` tells when; and what it said, where its output is piped.
pub(crate) async fn measured(
    mut command: Command,
    nodes: [&Database; 2],
    done: impl AsyncFnOnce() -> Option<Instant>,
) -> (Run, String) {
    let before = nodes.map(server);
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let watch = Watch::start(child.id().unwrap());
    let ended = async {
        let output = child.wait_with_output().await.unwrap();
        let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat();
        // Before it is waited for what it will not do.
        assert!(output.status.success(), "{command:?}: {said}");
        said
    };
    let (said, done) = tokio::join!(ended, done());
    let seconds = done.unwrap_or_else(Instant::now).duration_since(began).as_secs_f64();
    let (carrier, peak) = watch.end();
    let after = nodes.map(server);
    (Run { seconds, carrier, servers: [after[0] - before[0], after[1] - before[1]], peak }, said)
}

/// Processor seconds of a server so far.
pub(crate) fn server(node: &Database) -> f64 {
    node.server.process_id().map_or(0.0, processor_seconds)
}
