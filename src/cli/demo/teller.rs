//! Prints the demo's lines in their order, from one thread, so that nothing that works waits for a
//! terminal that scrolls.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicBool, Ordering},
};

use pontoon_core::{Code, Error, Result, calendar};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, spawn_blocking},
};

use super::NAMES;
use crate::{
    cli::terminal::{Style, Terminal},
    observe::now_micros,
    side::Side,
};

/// Lines that can wait to be printed. Of those that only illustrate, more are dropped.
const LINES_MAX: usize = 256;

/// The column after the time holds the longest of what stands in it: `shop → stock`.
const WHO_WIDTH: usize = 12;

enum Line {
    /// The story.
    Out(String),
    /// What follows its end.
    Talk(String),
    /// Everything before it is printed.
    Flush(oneshot::Sender<()>),
}

/// Prints lines.
pub(super) struct Teller {
    pub(super) out: Terminal,
    lines: mpsc::Sender<Line>,
    printer: std::sync::Mutex<Option<JoinHandle<Result<()>>>>,
    /// The results are complete: what comes now goes to standard error.
    over: AtomicBool,
}

impl Teller {
    pub(super) fn new(out: Terminal) -> Teller {
        let (lines, mut received) = mpsc::channel(LINES_MAX);
        let printer = spawn_blocking(move || {
            while let Some(line) = received.blocking_recv() {
                match line {
                    Line::Out(text) => out.line(&text)?,
                    Line::Talk(text) => eprintln!("{text}"),
                    Line::Flush(done) => drop(done.send(())),
                }
            }
            Ok(())
        });
        Teller { out, lines, printer: Some(printer).into(), over: AtomicBool::new(false) }
    }

    /// Prints a line. Errors: nobody reads any more.
    pub(super) async fn line(&self, text: impl Into<String>) -> Result<()> {
        match self.lines.send(self.make(text.into())).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.why_it_ended().await),
        }
    }

    /// Prints a line, unless too many wait to be printed.
    pub(super) fn try_line(&self, text: String) {
        // Left out, or nobody reads any more, which the next line that counts meets.
        let _ = self.lines.try_send(self.make(text));
    }

    fn make(&self, text: String) -> Line {
        if self.over.load(Ordering::Relaxed) { Line::Talk(text) } else { Line::Out(text) }
    }

    /// Waits until all is printed. What comes after it goes to standard error.
    pub(super) async fn end(&self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        let (done, printed) = oneshot::channel();
        let sent = self.lines.send(Line::Flush(done)).await.is_ok();
        if sent && printed.await.is_ok() { Ok(()) } else { Err(self.why_it_ended().await) }
    }

    async fn why_it_ended(&self) -> Error {
        let printer = self.printer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match printer {
            Some(printer) => match printer.await {
                Ok(Err(error)) => error,
                _ => Error::new(Code::Internal, "the demo's printer has ended"),
            },
            None => Error::new(Code::Internal, "the demo's printer has ended"),
        }
    }

    /// A line of the story: when, who, what.
    pub(super) fn told(&self, who: &Who, what: &str) -> String {
        let now = calendar::format_instant(now_micros());
        let clock = now.get(11..23).unwrap_or_default();
        let blanks = " ".repeat(WHO_WIDTH.saturating_sub(who.plain().chars().count()));
        format!("{}  {}{blanks}  {what}", self.out.paint(Style::Faint, clock), self.who(who))
    }

    fn who(&self, who: &Who) -> String {
        match who {
            Who::Node(side) => self.node(*side).into_owned(),
            Who::Direction(source) => {
                format!("{} → {}", self.node(*source), self.node(source.other()))
            }
            Who::Conflict => self.out.paint(Style::Warning, &who.plain()).into_owned(),
            Who::Both => format!("{} ⇄ {}", self.node(Side::A), self.node(Side::B)),
            Who::Demo => self.out.paint(Style::Faint, &who.plain()).into_owned(),
        }
    }

    /// A node's name in its colour.
    pub(super) fn node(&self, side: Side) -> Cow<'static, str> {
        let name = NAMES[side as usize];
        if !self.out.color {
            return Cow::Borrowed(name);
        }
        let color = if side == Side::A { 36 } else { 35 };
        Cow::Owned(format!("\x1b[{color}m{name}\x1b[0m"))
    }
}

/// Whom a line is about.
pub(super) enum Who {
    /// What a client wrote there.
    Node(Side),
    /// What crossed from there.
    Direction(Side),
    /// What both wrote.
    Conflict,
    /// Where both directions stand.
    Both,
    /// How far the demo is.
    Demo,
}

impl Who {
    fn plain(&self) -> String {
        match self {
            Who::Node(side) => NAMES[*side as usize].to_owned(),
            Who::Direction(source) => format!("{} → {}", NAMES[*source as usize], NAMES[source.other() as usize]),
            Who::Conflict => "conflict".to_owned(),
            Who::Both => format!("{} ⇄ {}", NAMES[0], NAMES[1]),
            Who::Demo => "demo".to_owned(),
        }
    }
}
