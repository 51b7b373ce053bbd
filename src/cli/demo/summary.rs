//! The end of the demo: both tables side by side, the figures, the verdict.

use std::{sync::Arc, time::Duration};

use pontoon_core::{Key, Kind, MappedTable, Result, Row, Span, Value, node::Node};
use unicode_width::UnicodeWidthStr;

use super::{
    NAMES, counted, schema,
    stage::Stage,
    story::{Counts, quantile, value_text},
    teller::Teller,
};
use crate::{
    cli::terminal::Style,
    human::{self, printable},
    side::{Pair, Side},
    verify::{Compared, Comparison, Kind as Difference, Limits},
};

/// Differing rows that are named.
const DIFFERENCES_SHOWN: usize = 5;

/// What is shown of a table: its columns, and the first so many rows.
const SHOWN: [(&str, &[&str], usize); 3] = [
    ("customers", &["id", "name", "city", "newsletter"], 5),
    ("items", &["id", "name", "quantity", "price"], 8),
    ("orders", &["id", "item", "quantity", "total", "paid"], 6),
];

/// Compares all rows of all tables; none where what has not crossed yet does not within this time either.
pub(super) async fn compare(stage: &Stage, within: Duration) -> Result<Vec<(MappedTable, Compared)>> {
    let limits = Limits { timeout: within, rows_per_second: None };
    let mut comparison = Comparison::open(&stage.nodes.nodes, &stage.mapping, limits).await?;
    let mut all = Vec::new();
    for table in stage.mapping.tables[Side::A].iter() {
        let Some(compared) = comparison.table(table.id).await? else { return Ok(Vec::new()) };
        all.push((table.clone(), compared));
    }
    Ok(all)
}

/// The first rows of each table on both sides.
pub(super) async fn side_by_side(stage: &Stage, compared: &[(MappedTable, Compared)], teller: &Teller) -> Result<()> {
    let open = async |side: Side| {
        let node: &Arc<dyn Node> = &stage.nodes.nodes[side];
        node.open_scan(&stage.mapping.tables[side]).await
    };
    let mut scans = Pair::new(open(Side::A).await?, open(Side::B).await?);
    for (table, compared) in compared {
        let Some((_, columns, limit)) = SHOWN.iter().find(|(name, ..)| *name == &*table.label) else { continue };
        let rows = scans[Side::A].chunk(table.id, Span::default(), *limit).await?;
        let keys: Vec<Key> = rows.iter().map(|row| table.key_of(row)).collect();
        let others = scans[Side::B].rows(table.id, &keys).await?;
        let pairs: Vec<[Option<&Row>; 2]> =
            rows.iter().zip(&others).map(|(row, other)| [Some(row), other.as_ref()]).collect();
        for line in table_lines(table, columns, &pairs, compared, teller) {
            teller.line(line).await?;
        }
    }
    Ok(())
}

fn table_lines(
    table: &MappedTable,
    columns: &[&str],
    pairs: &[[Option<&Row>; 2]],
    compared: &Compared,
    teller: &Teller,
) -> Vec<String> {
    let mut places: Vec<usize> = columns
        .iter()
        .filter_map(|name| table.columns.iter().position(|mapped| &*mapped.column.name == *name))
        .collect();
    let head: Vec<String> = places.iter().map(|&at| table.columns[at].column.name.to_string()).collect();
    let half = |row: Option<&Row>| match row {
        Some(row) => places.iter().map(|&at| cell(table, at, &row.0[at])).collect(),
        None => vec![String::new(); places.len()],
    };
    let cells: Vec<[Vec<String>; 2]> = pairs.iter().map(|pair| pair.map(half)).collect();
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.width()).collect();
    for row in cells.iter().flatten() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    // Both halves have to fit beside each other; what stands last is of the least interest.
    let half_width = |widths: &[usize]| widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    while widths.len() > 2 && 2 * half_width(&widths) + 7 > teller.out.width {
        widths.pop();
        places.pop();
    }
    let right: Vec<bool> = places.iter().map(|&at| is_number(table, at)).collect();
    let padded = |row: &[String]| {
        let cells = row.iter().zip(&widths).zip(&right).map(|((cell, width), right)| {
            let blanks = " ".repeat(width - cell.width());
            if *right { format!("{blanks}{cell}") } else { format!("{cell}{blanks}") }
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    let out = &teller.out;
    let [a, b] = Side::BOTH.map(|side| format!("{} on {}", table.label, NAMES[side as usize]));
    let (left, right_title) = (format!("{a:<width$}", width = half_width(&widths)), b);
    let mut lines = vec![String::new()];
    lines.push(format!("{}   {}   {}", out.paint(Style::Strong, &left), " ", out.paint(Style::Strong, &right_title)));
    let faint = padded(&head);
    lines.push(format!("{}       {}", out.paint(Style::Faint, &faint), out.paint(Style::Faint, faint.trim_end())));
    for (pair, [left, right]) in pairs.iter().zip(&cells) {
        let mark = if pair[0] == pair[1] { out.paint(Style::Good, "=") } else { out.paint(Style::Bad, "≠") };
        lines.push(format!("{}   {mark}   {}", padded(left), padded(right).trim_end()));
    }
    let more = compared.rows[Side::A].saturating_sub(pairs.len() as u64);
    if more > 0 {
        lines.push(out.paint(Style::Faint, &format!("... and {} more", human::count(more))).into_owned());
    }
    lines
}

fn is_number(table: &MappedTable, at: usize) -> bool {
    matches!(table.columns[at].kind, Kind::Integer { .. } | Kind::Decimal { .. })
}

/// A value as a shop would show it.
fn cell(table: &MappedTable, at: usize, value: &Value) -> String {
    let mut text = printable(&value_text(value));
    if let (Kind::Decimal { digits: Some((_, scale)) }, Value::Decimal(_)) = (&table.columns[at].kind, value) {
        // The common form of a number has no needless zeros.
        let have = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let scale = usize::from(*scale);
        if have == 0 && scale > 0 {
            text.push('.');
        }
        text += &"0".repeat(scale.saturating_sub(have));
    }
    text
}

/// The figures of a demo.
pub(super) struct Figures<'a> {
    pub(super) written: Pair<u64>,
    pub(super) writing: Duration,
    pub(super) retried: u64,
    pub(super) counts: Counts,
    pub(super) compared: &'a [(MappedTable, Compared)],
    /// Everything that was written had been applied in time.
    pub(super) caught_up: bool,
}

impl Figures<'_> {
    /// Whether both sides hold the same rows.
    pub(super) fn converged(&self) -> bool {
        self.caught_up && !self.compared.is_empty() && self.compared.iter().all(|(_, compared)| compared.different == 0)
    }

    /// The lines of the summary but for the verdict.
    pub(super) fn lines(&mut self, teller: &Teller) -> Vec<String> {
        let out = &teller.out;
        let each = |number: &dyn Fn(Side) -> String| {
            Side::BOTH.map(|side| format!("{} {}", teller.node(side), number(side))).join(", ")
        };
        let directions = |number: &dyn Fn(Side) -> String| {
            Side::BOTH
                .map(|side| format!("{} → {} {}", teller.node(side), teller.node(side.other()), number(side)))
                .join(" · ")
        };
        let mut lines = vec![String::new()];
        let mut add = |label: &str, text: String| {
            lines.push(format!("{}  {text}", out.paint(Style::Faint, &format!("{label:<9}"))));
        };
        let written: u64 = self.written.iter().sum();
        let rate = written as f64 / self.writing.as_secs_f64().max(0.001);
        add(
            "writes",
            format!(
                "{} in {}, {}: {}",
                human::count(written),
                human::seconds(self.writing.as_secs_f64()),
                human::rate(rate, "rows"),
                each(&|side| human::count(self.written[side]))
            ),
        );
        let counts = &self.counts;
        add(
            "crossed",
            directions(&|source| {
                let crossed = &counts.directions[source];
                format!("{}, {}", counted(crossed.transactions, "transaction"), counted(crossed.rows, "row"))
            }),
        );
        add(
            "echoes",
            format!("{} suppressed: {}", human::count(counts.echoes()), {
                each(&|side| human::count(counts.directions[side].echoes))
            }),
        );
        let ties =
            if counts.ties > 0 { format!(" ({} by priority)", human::count(counts.ties)) } else { String::new() };
        add(
            "conflicts",
            format!(
                "{} settled alike on both sides{ties}: {}",
                human::count(counts.conflicts()),
                each(&|side| format!("won {}", human::count(counts.won[side])))
            ),
        );
        if self.retried > 0 {
            add("retries", format!("{} made their write again after a lock", counted(self.retried, "client")));
        }
        let mut lags = Pair::from_fn(|side| self.counts.directions[side].lags.clone());
        let lag = Side::BOTH.map(|source| {
            let max = self.counts.directions[source].lag_max;
            let half = quantile(&mut lags[source], 0.5).map_or("-".to_owned(), |lag| human::seconds(f64::from(lag)));
            format!(
                "{} → {} half within {half}, all within {}",
                teller.node(source),
                teller.node(source.other()),
                human::seconds(f64::from(max))
            )
        });
        add("lag", lag.join(" · "));
        for side in Side::BOTH.into_iter().filter(|side| self.counts.coarse[*side]) {
            let (node, other) = (teller.node(side), teller.node(side.other()));
            add("", format!("The log of {node} tells the second of a commit and no more: within the same second"));
            add("", format!("{other}'s write counts as the later, and lags are taken from when it was read."));
        }
        let rows = self.compared.iter().map(|(table, compared)| {
            let [a, b] = Side::BOTH.map(|side| human::count(compared.rows[side]));
            let style = if compared.different == 0 { Style::Good } else { Style::Bad };
            let mark = if compared.different == 0 { "=" } else { "≠" };
            format!("{} {a} {} {b}", table.label, out.paint(style, mark))
        });
        add("rows", rows.collect::<Vec<_>>().join(", "));
        lines.extend(self.differences());
        lines.push(String::new());
        lines
    }

    fn differences(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (table, compared) in self.compared {
            for difference in compared.differences.iter().take(DIFFERENCES_SHOWN) {
                let what = match difference.kind {
                    Difference::OnlyA => format!("only on {}", NAMES[0]),
                    Difference::OnlyB => format!("only on {}", NAMES[1]),
                    Difference::Different => {
                        let names = difference.columns.iter().filter_map(|&at| table.columns.get(at));
                        let names: Vec<&str> = names.map(|mapped| &*mapped.column.name).collect();
                        format!("differs in {}", names.join(", "))
                    }
                };
                lines.push(format!("{} ({}): {what}", table.label, difference.key));
            }
        }
        lines
    }
}

/// What can be done with a demo that is kept.
pub(super) fn invitation(stage: &Stage, teller: &Teller) -> Vec<String> {
    let mut lines = Vec::new();
    for side in Side::BOTH {
        let login = &stage.logins[side];
        let url = stage.servers[side].url_with_password(&login.user, &login.password, &login.database);
        lines.push(format!("{}  {url}", teller.out.paint(Style::Faint, &format!("{:<9}", NAMES[side as usize]))));
    }
    let file = stage.config_file.display();
    let mut add = |label: &str, text: String| {
        lines.push(format!("{}  {text}", teller.out.paint(Style::Faint, &format!("{label:<9}"))));
    };
    if let Some(listen) = &stage.config.server.listen {
        add("page", format!("http://{listen}/"));
        add("token", stage.config.server.token.as_ref().map_or("", |token| token.reveal()).to_owned());
    }
    add("config", file.to_string());
    add("try", format!("pontoon status --config {file}"));
    add(
        "",
        format!("UPDATE items SET quantity = 7 WHERE id = 1, on either side; tables: {}", schema::TABLES.join(", ")),
    );
    lines
}
