//! What the fuzz targets of the connectors share, and their corpus as an ordinary test.
//!
//! A target is a function of bytes, in `connectors/*/src/fuzzing.rs`, that panics where something does not hold: no
//! input makes a decoder panic, what comes out of it takes memory within a multiple of the input, and every value
//! is one that the engine can rely on ([`sound()`]). `fuzz/` has the targets run by libFuzzer, for as long as one likes;
//! [`run`] goes through the same in a second or two with every test: each file of the corpus, and seeded mutations of it.
//!
//! Beside them are the names that both connectors' quoting is tried with ([`hostile_names`]).
//!
//! The logs are also what is read where the instructions that a row costs are counted ([`counted`]).
//!
//! The corpus lies in `fuzz/corpus/TARGET`. Its logs were written by real servers ([`write()`], asked for by
//! `PONTOON_WRITE_CORPUS`); what else a decoder takes is cut out of these.

mod mutate;
mod names;
mod sound;

use std::{
    fs,
    panic::{catch_unwind, resume_unwind},
    path::PathBuf,
};

pub use names::{every_column_is_written, hostile_names};
pub use sound::{kinds, sound, sound_row};

/// Mutations that a target is tried with by the ordinary test, shared by the files of its corpus: of each some
/// hundreds, in about a second.
const MUTATIONS: u64 = 20_000;

/// A file of the corpus is no larger: it is mutated thousands of times, and kept for ever.
const FILE_BYTES_MAX: usize = 64 << 10;

/// One input of a corpus, and its file's name.
#[derive(Debug)]
pub struct Input {
    /// The file.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

fn folder(target: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus")).join(target)
}

/// The corpus of a target, in the order of the files' names.
///
/// # Panics
///
/// Where it is missing, empty, or a file of it is too large.
pub fn inputs(target: &str) -> Vec<Input> {
    let folder = folder(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("the corpus {}: {error}", folder.display()));
    let read = |file: fs::DirEntry| {
        let bytes = fs::read(file.path()).unwrap_or_else(|error| panic!("{}: {error}", file.path().display()));
        assert!(bytes.len() <= FILE_BYTES_MAX, "{}: {} bytes", file.path().display(), bytes.len());
        Input { name: file.file_name().to_string_lossy().into_owned(), bytes }
    };
    let mut inputs: Vec<Input> = files.flatten().map(read).collect();
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!inputs.is_empty(), "the corpus {} is empty", folder.display());
    inputs
}

/// Tries a target with its corpus and with mutations of it. What it fails with is said, and left as a file.
///
/// # Panics
///
/// Where the target does, or the corpus is missing.
pub fn run(target: &str, entry: fn(&[u8])) {
    let inputs = inputs(target);
    let each = MUTATIONS.div_ceil(inputs.len() as u64);
    for (at, input) in inputs.iter().enumerate() {
        attempt(target, entry, &input.name, &input.bytes);
        for seed in 0..each {
            let other = &inputs[(at + seed as usize) % inputs.len()].bytes;
            attempt(
                target,
                entry,
                &format!("{} mutated by {seed}", input.name),
                &mutate::mutated(&input.bytes, other, seed),
            );
        }
    }
}

fn attempt(target: &str, entry: fn(&[u8]), name: &str, bytes: &[u8]) {
    if let Err(cause) = catch_unwind(|| entry(bytes)) {
        let left = std::env::temp_dir().join(format!("pontoon-{target}-failed"));
        let kept = fs::write(&left, bytes).map_or_else(|error| error.to_string(), |()| left.display().to_string());
        eprintln!("the target {target} fails with {name}, {} bytes: {kept}", bytes.len());
        resume_unwind(cause);
    }
}

/// A log of the corpus.
///
/// # Panics
///
/// Where there is none of that name.
pub fn input(target: &str, name: &str) -> Vec<u8> {
    let found = inputs(target).into_iter().find(|input| input.name == name);
    found.unwrap_or_else(|| panic!("the corpus of {target} has no {name}")).bytes
}

/// Does some work of which `scripts/bench-guard` counts the instructions: those from here on until it returns. So it has this name whatever
/// it is given, and is never a part of another function.
#[inline(never)]
pub fn counted(work: &mut dyn FnMut()) {
    work();
}

/// Whether the corpus is to be written anew.
pub fn is_writing() -> bool {
    std::env::var_os("PONTOON_WRITE_CORPUS").is_some()
}

/// Puts an input into the corpus of a target.
///
/// # Panics
///
/// Where it cannot be written.
pub fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = folder(target);
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(name), bytes));
    written.unwrap_or_else(|error| panic!("{}: {error}", folder.join(name).display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the corpus")]
    fn a_corpus_that_is_missing_is_a_failure() {
        run("no-such-target", |_| {});
    }
}
