//! The Debian package of the program under test, in a new root of Debian: installed, started, upgraded, removed, purged.

use std::process::{Command, Stdio};

#[test]
#[ignore = "full: makes a root of Debian, as root"]
fn is_installed_started_upgraded_and_removed() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/check-package");
    let ended =
        Command::new(script).arg(env!("CARGO_BIN_EXE_pontoon-under-test")).stdin(Stdio::null()).output().unwrap();
    let said = [&ended.stdout, &ended.stderr].map(|said| String::from_utf8_lossy(said).into_owned()).concat();
    assert!(ended.status.success() && said.contains("all as it should be"), "{said}");
}
