//! The log: lines on standard error, as text or JSON, counted by level.

use std::{
    io::IsTerminal,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use pontoon_core::{Code, Error, Result};
use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged: a level, or levels by module.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Targets);

impl Filter {
    /// What pontoon itself says up to this level; the libraries under it only warn, whatever it is, so that what
    /// they would print of a login is never printed.
    pub fn level(level: impl Into<LevelFilter>) -> Self {
        let level = level.into();
        Filter(Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("pontoon", level))
    }
}

impl FromStr for Filter {
    type Err = String;

    /// `info`, or `warn,pontoon::direction=debug`.
    ///
    /// A level alone is as in [`Filter::level`].
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(level) = text.parse::<LevelFilter>() {
            return Ok(Filter::level(level));
        }
        if !text.contains(['=', ',']) {
            return Err(
                "it is error, warn, info, debug, trace or off, or a list such as warn,pontoon::direction=debug".into(),
            );
        }
        text.parse().map(Filter).map_err(|error| format!("{error}; write a list such as warn,pontoon::direction=debug"))
    }
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

static COUNTS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

/// How many lines of each level this process has logged.
pub fn counts() -> [(&'static str, u64); 5] {
    std::array::from_fn(|at| (LEVELS[at], COUNTS[at].load(Ordering::Relaxed)))
}

struct Count;

impl<S: Subscriber> Layer<S> for Count {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let at = match *event.metadata().level() {
            Level::ERROR => 0,
            Level::WARN => 1,
            Level::INFO => 2,
            Level::DEBUG => 3,
            Level::TRACE => 4,
        };
        COUNTS[at].fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts the log of this process.
pub fn start(format: Format, filter: Filter) -> Result<()> {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        Format::Text => lines.with_target(false).with_ansi(color).boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    Registry::default()
        .with(Count.and_then(lines).with_filter(filter.0))
        .try_init()
        .map_err(|error| Error::new(Code::Internal, format!("the log cannot be started: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_never_say_more_than_warnings() {
        for level in ["error", "info", "debug", "TRACE"] {
            let Filter(targets) = level.parse().unwrap();
            assert!(!targets.would_enable("tokio_postgres::connect", &Level::INFO), "{level}");
        }
        let Filter(targets) = "debug".parse().unwrap();
        assert!(targets.would_enable("pontoon_mysql::log", &Level::DEBUG));
        assert!(targets.would_enable("mysql_async", &Level::WARN));
        let Filter(targets) = "warn,pontoon::direction=debug".parse().unwrap();
        assert!(targets.would_enable("pontoon::direction::read", &Level::DEBUG));
        assert!(!targets.would_enable("pontoon::bridge", &Level::INFO));
        assert!("loud".parse::<Filter>().is_err());
        assert!("a=b".parse::<Filter>().is_err());
    }

    #[test]
    fn lines_are_counted_by_level() {
        let before = counts();
        tracing::subscriber::with_default(Registry::default().with(Count), || {
            tracing::warn!("one");
            tracing::warn!("two");
        });
        assert!(counts()[1].1 >= before[1].1 + 2);
    }
}
