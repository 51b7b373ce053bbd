//! The status as a page for people: no script, nothing from elsewhere, readable in a text browser.

use std::fmt::Write;

use super::StatusSnapshot;
use crate::human::{bytes, rate, seconds};

/// How often a browser asks again.
const REFRESH_SECONDS: u32 = 5;

/// Escapes text for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The whole page.
pub(super) fn render(status: &StatusSnapshot) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, status);
    page
}

fn write_page(page: &mut String, status: &StatusSnapshot) -> std::fmt::Result {
    let size = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), bytes);
    let time = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), seconds);
    let bridge = escape(&status.bridge);
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{bridge}: pontoon</title><style>\
         :root{{color-scheme:light dark}}body{{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em}}\
         table{{border-collapse:collapse;width:100%;margin:1em 0}}th,td{{text-align:left;padding:.3em .8em .3em 0;border-bottom:1px solid #8884;vertical-align:top}}\
         td{{font-variant-numeric:tabular-nums}}.bad{{color:#c33;font-weight:600}}.good{{color:#292;font-weight:600}}</style></head><body>\n"
    )?;
    let (class, word) = if status.ready { ("good", "ready") } else { ("bad", "not ready") };
    writeln!(page, "<h1>{bridge} <span class=\"{class}\">{word}</span></h1>")?;
    if !status.not_ready.is_empty() {
        page.push_str("<ul>\n");
        for reason in &status.not_ready {
            writeln!(page, "<li>{}</li>", escape(reason))?;
        }
        page.push_str("</ul>\n");
    }
    page.push_str("<table>\n<tr><th>direction</th>");
    for direction in &status.directions {
        write!(page, "<th>{} &rarr; {}</th>", escape(&direction.source), escape(&direction.target))?;
    }
    page.push_str("</tr>\n");
    let [a, b] = &status.directions;
    type Cell = fn(&super::DirectionStatus) -> String;
    let rows: [(&str, Cell); 10] = [
        ("state", |d| if d.used { d.in_words() } else { "not used".to_owned() }),
        ("lag", |d| d.lag_seconds.map_or_else(|| "unknown".to_owned(), seconds)),
        ("log not yet applied", |d| d.lag_bytes.map_or_else(|| "unknown".to_owned(), bytes)),
        ("applied up to", |d| d.position.applied.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("rows applied", |d| format!("{} ({})", d.rows_applied, rate(d.rates.rows_applied_per_second, "rows"))),
        ("transactions applied", |d| d.transactions_applied.to_string()),
        ("echoes suppressed", |d| d.echo_transactions.to_string()),
        ("conflicts settled", |d| d.conflicts.to_string()),
        ("queue", |d| d.queue_bytes.map_or_else(|| "unknown".to_owned(), bytes)),
        ("last error", |d| {
            d.error.as_ref().map_or_else(|| "none".to_owned(), |e| format!("{} [{}]", e.message, e.code))
        }),
    ];
    for (name, cell) in rows {
        writeln!(page, "<tr><th>{name}</th><td>{}</td><td>{}</td></tr>", escape(&cell(a)), escape(&cell(b)))?;
    }
    page.push_str("</table>\n<table>\n<tr><th>node</th><th>server</th><th>log kept</th><th>headroom</th><th>clock</th><th>reconnects</th></tr>\n");
    for node in &status.nodes {
        let server = match (&node.error, node.up) {
            (Some(error), _) => format!("<span class=\"bad\">{} [{}]</span>", escape(&error.message), error.code),
            (None, Some(true)) => escape(node.server.as_deref().unwrap_or("up")),
            (None, Some(false)) => "<span class=\"bad\">down</span>".to_owned(),
            (None, None) => "not connected yet".to_owned(),
        };
        writeln!(
            page,
            "<tr><th>{}</th><td>{server}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&node.name),
            size(node.log_retained_bytes),
            size(node.log_headroom_bytes),
            time(node.clock_offset_seconds),
            node.reconnects
        )?;
    }
    write!(
        page,
        "</table>\n<p>Spill: {} of {}. {}, pontoon {}. <a href=\"/metrics\">metrics</a> · <a href=\"/api/status\">JSON</a></p>\n</body></html>\n",
        size(status.spill_bytes),
        size(status.spill_limit_bytes),
        escape(&status.time),
        escape(&status.version)
    )
}

#[cfg(test)]
mod tests {
    use pontoon_core::{Code, Error};

    use super::*;
    use crate::{
        observe::{Metrics, events::Disconnected},
        side::Side,
    };

    #[test]
    fn the_page_shows_what_is_wrong_and_runs_nothing() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        let error = Error::new(Code::Unreachable, "<script>alert(1)</script>");
        Disconnected { node: Side::A, error: &error, pause: None }.emit(&metrics);
        let page = render(&metrics.status());
        assert!(page.contains("not ready") && page.contains("shop &rarr; stock"));
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
        assert!(page.ends_with("</html>\n"));
    }
}
