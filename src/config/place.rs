//! Where something stands in the file, what is wrong with it, and what was probably meant.

use std::{fmt, ops::Range};

use pontoon_core::{Code, Error};

/// A line and a column in the file, both counted from one, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// How telling a problem is: a mistyped key often makes a contradiction elsewhere, so it is told first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// The file is no TOML.
    Syntax,
    /// A key that is not known.
    Unknown,
    /// A value that cannot be used.
    Value,
    /// Values that do not go together, or something that is missing.
    Contradiction,
}

/// One thing that is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(super) rank: Rank,
    /// Where; `None` if there is no such file.
    pub place: Option<Place>,
    /// The key, with its section: `limits.memory_mib`. Empty where no key is concerned.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Why a configuration cannot be used: at least one problem, the most telling first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub(super) file: String,
    pub(super) problems: Vec<Problem>,
}

impl Invalid {
    /// A problem that has no place in a file.
    pub(super) fn without_place(file: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let problem = Problem {
            rank: Rank::Syntax,
            place: None,
            key: String::new(),
            message: message.into(),
            hint: Some(hint.into()),
        };
        Invalid { file: file.into(), problems: vec![problem] }
    }

    /// The problems, the most telling first.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// One line for a problem: `pontoon.toml:12:1: limits.memroy_mib: unknown key; ...`.
    pub fn line(&self, problem: &Problem) -> String {
        let mut line = String::new();
        if !self.file.is_empty() {
            line += &self.file;
            line += ":";
        }
        if let Some(place) = problem.place {
            line += &format!("{place}:");
        }
        if !line.is_empty() {
            line += " ";
        }
        if !problem.key.is_empty() {
            line += &format!("{}: ", problem.key);
        }
        line + &problem.message
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", self.line(problem))?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for Error {
    /// The first problem becomes the error; a command prints the others before it.
    fn from(invalid: Invalid) -> Error {
        let Some(first) = invalid.problems.first() else {
            return Error::new(Code::Internal, "a configuration was refused without a reason");
        };
        let error = Error::new(Code::Config, invalid.line(first));
        match &first.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }
}

/// The text of the file, and what was found wrong with it so far.
pub(super) struct Problems<'a> {
    text: &'a str,
    list: Vec<(usize, Problem)>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Problems { text, list: Vec::new() }
    }

    /// The line and column of a byte of the file.
    pub(super) fn place(&self, byte: usize) -> Place {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let before = &self.text[..byte];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            line: before.bytes().filter(|&b| b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    pub(super) fn add(
        &mut self,
        rank: Rank,
        span: &Range<usize>,
        key: &str,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let problem = Problem {
            rank,
            place: Some(self.place(span.start)),
            key: key.to_owned(),
            message: one_line(&message.into()),
            hint: hint.into().map(|hint| one_line(&hint)),
        };
        self.list.push((span.start, problem));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn into_invalid(mut self, file: &str) -> Invalid {
        self.list.sort_by_key(|(start, problem)| (problem.rank, *start));
        Invalid { file: file.to_owned(), problems: self.list.into_iter().map(|(_, problem)| problem).collect() }
    }
}

fn one_line(text: &str) -> String {
    text.trim().replace(['\r', '\n'], " ")
}

/// The known word nearest to what was written, if it is near enough to have been meant.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the word may be wrong, at least one letter: beyond that a suggestion is noise.
    let allowed = (written.chars().count() / 3).max(1);
    let written = written.to_lowercase();
    known
        .into_iter()
        .map(|word| {
            let distance = |word: &str| strsim::damerau_levenshtein(&written, &word.to_lowercase());
            // `memory` for `memory_mib`, `pasword` for `password_file`: a beginning is as good as the whole.
            let beginnings = word.match_indices(['_', '-', ':']).map(|(at, _)| distance(&word[..at]) + 1);
            (beginnings.chain([distance(word)]).min().unwrap_or(usize::MAX), word)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `; did you mean "word"?`, or nothing.
pub(super) fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, known).map(|word| format!("; did you mean {word:?}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let problems = Problems::new("a = 1\nüä = 2\n");
        let second = "a = 1\nü".len();
        assert_eq!(problems.place(second), Place { line: 2, column: 2 });
        assert_eq!(problems.place(999), Place { line: 3, column: 1 });
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["memory_mib", "spill_gib", "spill_dir"];
        assert_eq!(nearest("memroy_mib", known), Some("memory_mib"));
        assert_eq!(nearest("memory", known), Some("memory_mib"));
        assert_eq!(nearest("spil_dir", known), Some("spill_dir"));
        assert_eq!(nearest("colour", known), None);
    }
}
