//! Conflicts and quarantine on the page. Their lists name keys, as the log does; rows are shown one at a time, to who has the token.

use std::fmt::{Result, Write};

use pontoon_core::{
    Code, Error, calendar,
    history::Record,
    quarantine::{Entry, SETTLEMENT},
};
use serde_json::{Map, Value as Json, json};

use super::{View, escape, moment, write_button};
use crate::{
    conflict::lost::DISCARDED,
    operate::quarantine::{Found, Kept, reason},
    side::Side,
};

/// Columns of one key are few; a text in one may be long.
const KEY_SHOWN_MAX: usize = 120;

/// A value of a row that is longer is shown in part: what is to be compared is seen, and a page stays a page.
const VALUE_SHOWN_MAX: usize = 2_000;

/// Entries of the quarantine that are listed. `pontoon quarantine list` has all.
const ENTRIES_SHOWN: usize = 50;

pub(super) fn write_conflicts(page: &mut String, view: &View<'_>) -> Result {
    let settled: u64 = view.status.directions.iter().map(|direction| direction.conflicts).sum();
    writeln!(page, "<h2 id=\"conflicts-title\">Conflicts <small>{settled} settled since the start</small></h2>")?;
    let records = match &view.board.conflicts {
        Ok(records) if records.is_empty() => return writeln!(page, "<p class=\"quiet\">No conflict is on record.</p>"),
        Ok(records) => records,
        Err(error) => return write_error(page, error),
    };
    page.push_str("<ul class=\"list\">\n");
    let names = view.status.nodes.each_ref().map(|node| node.name.as_str());
    for record in records {
        let (winner, class) = winner(record, names);
        write!(
            page,
            "<li><time>{}</time><span class=\"key\"><b>{}</b> {}</span><span class=\"winner {class}\">{}</span><span class=\"why\">{}</span>",
            escape(&moment(&calendar::format_instant(record.settled_at))),
            escape(&record.table),
            escape(&cut(&record.key, KEY_SHOWN_MAX)),
            escape(&winner),
            escape(&record.rule)
        )?;
        write_show(page, view, "conflict", record.id, &format!("rows of conflict {}", record.id))?;
        page.push_str("</li>\n");
    }
    page.push_str("</ul>\n");
    Ok(())
}

/// Whose row stands, and the class of its colour.
fn winner(record: &Record, [a, b]: [&str; 2]) -> (String, &'static str) {
    let is_verdict = |row: &Option<String>| *row == record.verdict;
    match (is_verdict(&record.own_row), is_verdict(&record.other_row)) {
        _ if record.rule.starts_with(DISCARDED) => ("each its own".to_owned(), ""),
        (true, false) => (a.to_owned(), "of-a"),
        (false, true) => (b.to_owned(), "of-b"),
        (true, true) => ("both equal".to_owned(), ""),
        (false, false) => ("merged".to_owned(), ""),
    }
}

pub(super) fn write_quarantine(page: &mut String, view: &View<'_>) -> Result {
    let found = match &view.board.quarantine {
        Ok(found) => found,
        Err(error) => {
            page.push_str("<h2 id=\"quarantine-title\">Quarantine</h2>\n");
            return write_error(page, error);
        }
    };
    let refused: Vec<&Kept> = found.kept.iter().filter(|kept| kept.entry.code.is_some()).collect();
    let rows: u64 = view.status.directions.iter().filter_map(|direction| direction.quarantined).sum();
    writeln!(
        page,
        "<h2 id=\"quarantine-title\">Quarantine <small>{rows} {}</small></h2>",
        if rows == 1 { "row waits" } else { "rows wait" }
    )?;
    if refused.is_empty() {
        return writeln!(page, "<p class=\"quiet\">Nothing is in quarantine.</p>");
    }
    page.push_str("<ul class=\"list\">\n");
    for kept in refused.iter().take(ENTRIES_SHOWN) {
        write_entry(page, view, found, kept)?;
    }
    page.push_str("</ul>\n");
    if found.more || refused.len() > ENTRIES_SHOWN {
        page.push_str("<p class=\"quiet\">There are more: <code>pontoon quarantine list</code>.</p>\n");
    }
    Ok(())
}

fn write_entry(page: &mut String, view: &View<'_>, found: &Found, kept: &Kept) -> Result {
    let entry = &kept.entry;
    let behind =
        found.kept.iter().filter(|other| other.entry.code.is_none() && Found::place(other) == Found::place(kept));
    let waiting = match behind.count() {
        0 => String::new(),
        count => format!(", {count} more behind it"),
    };
    let asked = found.asked(kept).map(|asked| format!(", asked for: {asked}")).unwrap_or_default();
    write!(
        page,
        "<li><time>{}</time><span class=\"key\"><b>{}</b> {}</span><span class=\"winner\">{} refused by {}</span><span class=\"why\">{}{}{}</span>",
        escape(&moment(&calendar::format_instant(entry.since))),
        escape(&entry.table),
        escape(&cut(&entry.key, KEY_SHOWN_MAX)),
        escape(&entry.operation),
        escape(&found.names[kept.side]),
        escape(&reason(entry)),
        escape(&waiting),
        escape(&asked)
    )?;
    if view.can_act {
        let id = entry.id;
        let one = json!({ "ids": [id] });
        page.push_str("<span class=\"buttons\">");
        write_button(
            page,
            &format!("retry-{id}"),
            "api/quarantine/retry",
            &one,
            "Retry",
            &format!("retry entry {id}"),
        )?;
        if is_for_a_person(entry) {
            for side in Side::BOTH {
                let name = &found.names[side];
                let (word, body) = (format!("Take {name}"), json!({ "ids": [id], "take": name }));
                let label = format!("take the row of {name} for entry {id}");
                let element = format!("take-{}-{id}", side as usize);
                write_button(page, &element, "api/quarantine/retry", &body, &word, &label)?;
            }
        }
        let label = format!("discard entry {id}");
        write_button(page, &format!("discard-{id}"), "api/quarantine/discard", &one, "Discard", &label)?;
        page.push_str("</span>");
    }
    write_show(page, view, "quarantine", entry.id, &format!("rows of entry {}", entry.id))?;
    page.push_str("</li>\n");
    Ok(())
}

/// Whether a choice between the two rows is what it waits for.
fn is_for_a_person(entry: &Entry) -> bool {
    let codes = [Code::ConflictHeld, Code::LoopSuspected].map(Code::as_str);
    entry.code.as_deref().is_some_and(|code| codes.contains(&code))
}

fn write_show(page: &mut String, view: &View<'_>, kind: &str, id: i64, label: &str) -> Result {
    if !view.can_act {
        return Ok(());
    }
    let path = format!("rows/{kind}/{id}");
    write!(
        page,
        "<button type=\"button\" class=\"show\" id=\"show-{kind}-{id}\" data-rows=\"{path}\" aria-label=\"{label}\">Rows</button>"
    )
}

fn write_error(page: &mut String, error: &Error) -> Result {
    writeln!(page, "<p class=\"bad\">{} [{}]</p>", escape(error.message()), error.code())
}

/// The rows of a settled conflict, side by side.
pub(in crate::observe) fn conflict(record: &Record, [a, b]: [&str; 2]) -> String {
    let title = format!("{} {}", record.table, record.key);
    let rows = [
        (format!("{a} held"), &record.own_row),
        (format!("{b} held"), &record.other_row),
        ("both hold".to_owned(), &record.verdict),
    ];
    let why = format!("{}; settled {}", record.rule, moment(&calendar::format_instant(record.settled_at)));
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_side_by_side(&mut page, &title, &why, &rows);
    page
}

/// What is in quarantine of a row and of those tied to it, one change after the other.
pub(in crate::observe) fn entry(found: &Found) -> String {
    let mut page = String::new();
    for kept in &found.kept {
        let entry = &kept.entry;
        let (name, other) = (&found.names[kept.side], &found.names[kept.side.other()]);
        let is_of_both = is_for_a_person(entry) && entry.operation == SETTLEMENT;
        let [before, after] = match is_of_both {
            true => [format!("on {name}"), format!("on {other}")],
            false => ["before".to_owned(), "after".to_owned()],
        };
        let title = format!("{} {}: {} on {other}, entry {}", entry.table, entry.key, entry.operation, entry.id);
        let why = entry.message.clone().unwrap_or_else(|| reason(entry));
        // Writing to a String cannot fail.
        let _ = write_side_by_side(&mut page, &title, &why, &[(before, &entry.before), (after, &entry.after)]);
    }
    page
}

/// A table with a line for each column; those in which the rows differ are marked.
fn write_side_by_side(page: &mut String, title: &str, why: &str, rows: &[(String, &Option<String>)]) -> Result {
    write!(page, "<h2>{}</h2>\n<p>{}</p>\n", escape(&cut(title, 2 * KEY_SHOWN_MAX)), escape(why))?;
    page.push_str("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"columns\">\n<table>\n<tr><th scope=\"col\">column</th>");
    for (name, _) in rows {
        write!(page, "<th scope=\"col\">{}</th>", escape(name))?;
    }
    page.push_str("</tr>\n");
    let read =
        |row: &Option<String>| row.as_deref().and_then(|row| serde_json::from_str::<Map<String, Json>>(row).ok());
    let rows: Vec<Option<Map<String, Json>>> = rows.iter().map(|(_, row)| read(row)).collect();
    let mut columns: Vec<&String> = Vec::new();
    for column in rows.iter().flatten().flat_map(Map::keys) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    for column in columns {
        let values: Vec<Option<&Json>> = rows.iter().map(|row| row.as_ref().and_then(|row| row.get(column))).collect();
        let class = if values.iter().any(|value| *value != values[0]) { " class=\"differs\"" } else { "" };
        write!(page, "<tr{class}><th scope=\"row\">{}</th>", escape(column))?;
        for (value, row) in values.into_iter().zip(&rows) {
            let text = match (row, value) {
                (None, _) => "no row".to_owned(),
                (Some(_), None) => String::new(),
                (Some(_), Some(Json::String(text))) => text.clone(),
                (Some(_), Some(value)) => value.to_string(),
            };
            write!(page, "<td>{}</td>", escape(&cut(&text, VALUE_SHOWN_MAX)))?;
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n</div>\n");
    Ok(())
}

fn cut(text: &str, most: usize) -> String {
    let mut characters = text.chars();
    let mut short: String = characters.by_ref().take(most).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_side_by_side_and_nothing_of_them_is_html() {
        let row = |name: &str| Some(json!({ "id": 7, "name": name, "note": null }).to_string());
        let record = Record {
            table: "<b>items".into(),
            key: "[7]".into(),
            own_row: row("<img src=x onerror=alert(1)>"),
            other_row: None,
            verdict: row("<img src=x onerror=alert(1)>"),
            rule: "last_writer_wins: shop".into(),
            ..Record::default()
        };
        let page = conflict(&record, ["shop", "stock"]);
        assert!(page.contains("<h2>&lt;b&gt;items [7]</h2>"), "{page}");
        let line = "<tr class=\"differs\"><th scope=\"row\">name</th><td>&lt;img src=x onerror=alert(1)&gt;</td><td>no row</td>";
        assert!(page.contains(line) && !page.contains("<img"), "{page}");
        assert_eq!(winner(&record, ["shop", "stock"]), ("shop".to_owned(), "of-a"));
        let dropped = Record { rule: format!("{DISCARDED}stock keeps its row"), ..record.clone() };
        assert_eq!(winner(&dropped, ["shop", "stock"]).0, "each its own");
        let merged = Record { verdict: row("x"), ..record };
        assert_eq!(winner(&merged, ["shop", "stock"]).0, "merged");
        assert_eq!((cut("äöü", 2).as_str(), cut("äö", 2).as_str()), ("äö…", "äö"));
    }
}
