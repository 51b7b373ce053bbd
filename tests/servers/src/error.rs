//! Why a server could not be started or stopped.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Kind;

/// Why a server could not be started, restarted or stopped.
///
/// Where the server itself had something to say, the end of its log is in the message.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// A program is not installed.
    MissingProgram {
        /// The program.
        program: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// A file, folder or process could not be handled by the operating system.
    System {
        /// What was tried, as in "cannot ...".
        doing: String,
        /// The file, folder or program.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// No data folder could be initialised.
    Initialise {
        /// The kind of server.
        kind: Kind,
        /// How its program ended.
        ended: String,
        /// The end of its output.
        log: String,
    },
    /// The server ended before it answered.
    Ended {
        /// The kind of server.
        kind: Kind,
        /// How it ended.
        ended: String,
        /// The end of its log.
        log: String,
    },
    /// The server did not answer in time, and was killed.
    NotReady {
        /// The kind of server.
        kind: Kind,
        /// How long was waited.
        waited: Duration,
        /// What the last attempt to connect met.
        answer: String,
        /// The end of its log.
        log: String,
    },
    /// The server did not stop in time, and was killed.
    NotStopped {
        /// The kind of server.
        kind: Kind,
        /// How long was waited.
        waited: Duration,
        /// The end of its log.
        log: String,
    },
    /// No port could be found that is free.
    NoPort,
    /// A setting has a name or a value that cannot be written in a server's settings.
    InvalidSetting {
        /// The name.
        name: String,
    },
    /// No certificate could be made.
    Certificate {
        /// Why.
        source: rcgen::Error,
    },
}

impl ServerError {
    pub(crate) fn system(doing: &str, path: impl AsRef<Path>, source: io::Error) -> ServerError {
        ServerError::System { doing: doing.to_owned(), path: path.as_ref().to_owned(), source }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::MissingProgram { program, hint } => write!(f, "no program {program} was found: {hint}"),
            ServerError::System { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            ServerError::Initialise { kind, ended, log } => {
                write!(f, "no data folder for {kind} could be initialised ({ended}); its output ends with:\n{log}")
            }
            ServerError::Ended { kind, ended, log } => {
                write!(f, "{kind} ended before it answered ({ended}); its log ends with:\n{log}")
            }
            ServerError::NotReady { kind, waited, answer, log } => {
                write!(f, "{kind} did not answer within {} s ({answer}); its log ends with:\n{log}", waited.as_secs())
            }
            ServerError::NotStopped { kind, waited, log } => {
                write!(f, "{kind} did not stop within {} s; its log ends with:\n{log}", waited.as_secs())
            }
            ServerError::NoPort => f.write_str("no free port was found on 127.0.0.1"),
            ServerError::InvalidSetting { name } => {
                write!(f, "the setting {name:?} has a name that is no word, or a value of more than one line")
            }
            ServerError::Certificate { source } => write!(f, "no certificate could be made: {source}"),
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServerError::System { source, .. } => Some(source),
            ServerError::Certificate { source } => Some(source),
            _ => None,
        }
    }
}
