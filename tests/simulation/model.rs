//! The protocol as a program of its own, `tests/model/model.py`: its schedules hold, and fail where a rule is left out.
//!
//! It is where a change of the protocol is tried first. It knows several appliers a direction, which the engine has not
//! yet; the engine knows quarantine and copies, which the model has not.

use std::{path::Path, process::Command};

/// Schedules of each of the model's 54 shapes: some seconds' worth. By hand `python3 tests/model/model.py` takes more.
const SCHEDULES: &str = "20";

/// What the model says last, and whether every schedule held.
fn model(arguments: &[&str]) -> (String, bool) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model/model.py");
    let output = Command::new("python3").arg(file).args(["--schedules", SCHEDULES]).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("python3 runs the model; make install installs it: {error}"));
    let said = String::from_utf8(output.stdout).unwrap();
    (said.lines().last().unwrap_or_default().to_owned(), output.status.success())
}

#[test]
fn the_model_holds() {
    assert_eq!(model(&[]), ("0 of 1080 schedules failed".to_owned(), true));
}

#[test]
fn the_model_fails_without_its_rules() {
    for rule in ["exact", "fence", "seen", "complete", "prune"] {
        let (said, held) = model(&["--without", rule, "--topology", "pair"]);
        assert!(!held && said.ends_with("of 360 schedules failed"), "without {rule}: {said}");
    }
}
