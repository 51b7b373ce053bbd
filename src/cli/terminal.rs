//! What is printed: tables, colours and bars on a terminal, plain lines in a pipe.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use pontoon_core::{Code, Error, Result};
use unicode_width::UnicodeWidthStr;

use crate::human::printable;

/// The width of lines where the terminal does not tell its own.
const WIDTH: usize = 100;

/// Wider lines are hard to read.
const TEXT_WIDTH_MAX: usize = 100;

static READER_GONE: AtomicBool = AtomicBool::new(false);

/// Whether standard output was closed by whoever read it.
pub(super) fn reader_is_gone() -> bool {
    READER_GONE.load(Ordering::Relaxed)
}

/// Standard output, as far as it matters how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Somebody looks at it: tables are aligned, bars are drawn.
    pub interactive: bool,
    /// With colours.
    pub color: bool,
    /// Columns.
    pub width: usize,
}

/// What a text means, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it should be.
    Good,
    /// To be looked at.
    Warning,
    /// Wrong.
    Bad,
    /// A heading, a name.
    Strong,
    /// Of less interest.
    Faint,
}

impl Terminal {
    /// Standard output of this process. `NO_COLOR` is honoured, and so is `TERM=dumb`.
    pub fn stdout() -> Self {
        let interactive = io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let width = terminal_size::terminal_size().map_or(WIDTH, |(width, _)| usize::from(width.0).max(20));
        Terminal { interactive, color: interactive && !dumb && !set("NO_COLOR"), width }
    }

    /// A pipe.
    pub fn plain() -> Self {
        Terminal { interactive: false, color: false, width: WIDTH }
    }

    /// Prints to standard output, and flushes. Errors: nobody reads any more, which ends the process without a
    /// message; a full disk.
    pub fn print(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                READER_GONE.store(true, Ordering::Relaxed);
            }
            Error::new(Code::Internal, format!("standard output: {error}"))
        })
    }

    /// Prints a line.
    pub fn line(&self, text: &str) -> Result<()> {
        self.print(&format!("{text}\n"))
    }

    /// The text in the colour of its meaning.
    pub fn paint<'a>(&self, style: Style, text: &'a str) -> Cow<'a, str> {
        if !self.color || text.is_empty() {
            return Cow::Borrowed(text);
        }
        let code = match style {
            Style::Good => "32",
            Style::Warning => "33",
            Style::Bad => "1;31",
            Style::Strong => "1",
            Style::Faint => "2",
        };
        Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
    }

    /// A table: aligned on a terminal, cells with tabs between them in a pipe. Ends with a line end.
    pub fn table(&self, table: &Table) -> String {
        let cells = std::iter::once(&table.head).chain(&table.rows);
        if !self.interactive {
            return cells.map(|row| row.join("\t").trim_end().to_owned() + "\n").collect();
        }
        let mut widths = vec![0; table.head.len()];
        for row in cells.clone() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut text = String::new();
        for (number, row) in cells.enumerate() {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let blanks = " ".repeat(width - cell.width());
                let styled = match (number, table.styles.get(&(number.wrapping_sub(1), at))) {
                    (0, _) => self.paint(Style::Faint, cell),
                    (_, Some(style)) => self.paint(*style, cell),
                    _ => Cow::Borrowed(cell.as_str()),
                };
                let last = at + 1 == widths.len();
                match (table.right.contains(&at), last) {
                    (true, _) => line += &format!("{blanks}{styled}"),
                    (false, true) => line += &styled,
                    (false, false) => line += &format!("{styled}{blanks}"),
                }
                if !last {
                    line += "  ";
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    /// A text in lines that fit. Ends with a line end.
    pub fn wrap(&self, text: &str) -> String {
        let max = self.width.min(TEXT_WIDTH_MAX);
        let mut lines = String::new();
        let mut width = 0;
        for word in text.split_whitespace() {
            let next = word.width();
            if width > 0 && width + 1 + next > max {
                lines.push('\n');
                width = 0;
            } else if width > 0 {
                lines.push(' ');
                width += 1;
            }
            lines += word;
            width += next;
        }
        lines.push('\n');
        lines
    }

    /// `████████▍      ` for a part of a whole; nothing in a pipe.
    pub fn bar(&self, part: f64, width: usize) -> String {
        const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        if !self.interactive {
            return String::new();
        }
        let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        let eighths = (part * (width * 8) as f64).round() as usize;
        let mut bar = "█".repeat(eighths / 8);
        bar += EIGHTHS[eighths % 8];
        let drawn = eighths.div_ceil(8);
        bar + &" ".repeat(width - drawn)
    }
}

/// Rows of cells under a head.
#[derive(Debug, Clone, Default)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
    styles: std::collections::HashMap<(usize, usize), Style>,
}

impl Table {
    /// A table with these columns.
    pub fn new(head: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Table { head: head.into_iter().map(|cell| printable(cell.as_ref())).collect(), ..Table::default() }
    }

    /// Columns that stand to the right, by their place: numbers.
    #[must_use]
    pub fn right(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        self.right.extend(columns);
        self
    }

    /// Adds a row. Cells that are missing are empty, more than the head has are left out.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) -> &mut Self {
        let mut row: Vec<String> = cells.into_iter().map(|cell| printable(cell.as_ref())).collect();
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
        self
    }

    /// Gives a cell of the last row its meaning.
    pub fn style(&mut self, column: usize, style: Style) -> &mut Self {
        if let Some(row) = self.rows.len().checked_sub(1) {
            self.styles.insert((row, column), style);
        }
        self
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["table", "rows"]).right([1]);
        table.row(["items", "7"]).style(0, Style::Bad);
        table.row(["顧客", "1,234"]);
        table.row(["a\nb\u{202e}\x1b[2J", ""]);
        table
    }

    const TERMINAL: Terminal = Terminal { interactive: true, color: false, width: 80 };

    #[test]
    fn a_table_aligns_on_a_terminal_and_is_plain_in_a_pipe() {
        assert_eq!(
            TERMINAL.table(&sample()),
            "table                   rows\n\
             items                      7\n\
             顧客                   1,234\n\
             a\\nb\\u{202e}\\u{1b}[2J\n"
        );
        assert_eq!(
            Terminal::plain().table(&sample()),
            "table\trows\nitems\t7\n顧客\t1,234\na\\nb\\u{202e}\\u{1b}[2J\n"
        );
        let colored = Terminal { color: true, ..TERMINAL }.table(&sample());
        assert!(colored.contains("\x1b[1;31mitems\x1b[0m   "), "{colored:?}");
        assert!(!colored.contains("\x1b[2J"));
    }

    #[test]
    fn texts_wrap_and_bars_fill() {
        let narrow = Terminal { width: 20, ..TERMINAL };
        assert_eq!(narrow.wrap("one two three four five six"), "one two three four\nfive six\n");
        assert_eq!(TERMINAL.bar(0.5, 4), "██  ");
        assert_eq!(TERMINAL.bar(0.3, 4), "█▎  ");
        assert_eq!(TERMINAL.bar(2.0, 4), "████");
        assert_eq!(TERMINAL.bar(f64::NAN, 4), "    ");
        assert_eq!(Terminal::plain().bar(0.5, 4), "");
    }
}
