//! The page for people: the status, the last hour, conflicts and quarantine, as HTML without anything from elsewhere.
//!
//! All of it is rendered here. The script (`page.js`) fetches the page again and puts its live parts in the place of the old ones, so that there is one place that
//! knows how something looks and one that escapes: whatever comes from outside goes through [`escape`]. Without a script the page can be read, and acts nothing.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the whole, nodes and directions |
//! | `rows.rs` | conflicts and quarantine, and the rows of one on request |
//! | `chart.rs` | the last hour as a line |
//! | `page.css`, `page.js`, `icon.svg` | what is served beside it |

mod chart;
mod rows;

use std::fmt::{Result, Write};

pub(super) use self::rows::{conflict, entry};
use super::{DirectionStatus, Metrics, NodeStatus, StatusSnapshot, desk::Board};
use crate::{
    human::{self, printable},
    side::Side,
};

pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");
pub(super) const ICON: &str = include_str!("icon.svg");

/// What the page shows.
pub(super) struct View<'a> {
    pub(super) status: &'a StatusSnapshot,
    pub(super) board: &'a Board,
    pub(super) metrics: &'a Metrics,
    /// Whether there is a token at all.
    pub(super) can_act: bool,
}

/// Text for HTML, in elements as in attributes; what would turn or hide what follows is shown as what it is.
fn escape(text: &str) -> String {
    let text = printable(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// The whole page.
pub(super) fn render(view: &View<'_>) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, view);
    page
}

fn write_page(page: &mut String, view: &View<'_>) -> Result {
    let status = view.status;
    let bridge = escape(&status.bridge);
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{bridge}: pontoon</title>\n<link rel=\"icon\" href=\"icon.svg\">\n\
         <link rel=\"stylesheet\" href=\"page.css\">\n<script src=\"page.js\" defer></script>\n</head>\n<body>\n"
    )?;
    page.push_str("<header>\n<div id=\"head\" data-live>\n");
    write_head(page, status)?;
    page.push_str("</div>\n<p id=\"said\" role=\"status\" aria-live=\"polite\"></p>\n</header>\n<main>\n");
    page.push_str("<section id=\"bridge\" data-live aria-label=\"nodes and directions\">\n");
    write_node(page, &status.nodes[0])?;
    page.push_str("<div class=\"ways\">\n");
    for source in Side::BOTH {
        write_direction(page, view, source)?;
    }
    page.push_str("</div>\n");
    write_node(page, &status.nodes[1])?;
    page.push_str("</section>\n<section id=\"quarantine\" data-live aria-labelledby=\"quarantine-title\">\n");
    rows::write_quarantine(page, view)?;
    page.push_str("</section>\n<section id=\"conflicts\" data-live aria-labelledby=\"conflicts-title\">\n");
    rows::write_conflicts(page, view)?;
    page.push_str(
        "</section>\n<details id=\"more\">\n<summary>All numbers</summary>\n<div id=\"numbers\" data-live>\n",
    );
    write_numbers(page, status)?;
    page.push_str("</div>\n</details>\n</main>\n<footer id=\"foot\">\n");
    write_foot(page, view)?;
    page.push_str("</footer>\n");
    page.push_str(DIALOGS);
    page.push_str("</body>\n</html>\n");
    Ok(())
}

/// What the script asks with. A dialog of the browser's own keeps the keyboard inside it and closes by Escape. Enter in a field is a click on the first button.
const DIALOGS: &str = "<dialog id=\"rows\" aria-label=\"rows\"><div id=\"rows-shown\"></div>\
    <form method=\"dialog\" class=\"buttons\"><button autofocus>Close</button></form></dialog>\n\
    <dialog id=\"ask\" aria-labelledby=\"ask-title\"><form method=\"dialog\"><h2 id=\"ask-title\">Token</h2>\
    <p>Acting and seeing rows take the token that <code>[server] token_file</code> holds. It is kept until this tab is closed.</p>\
    <label>Token <input id=\"token\" type=\"password\" autocomplete=\"off\" spellcheck=\"false\" required></label>\
    <div class=\"buttons\"><button value=\"go\" class=\"go\">Go on</button><button value=\"\" formnovalidate>Cancel</button></div></form></dialog>\n\
    <dialog id=\"sure\" aria-labelledby=\"sure-title\"><form method=\"dialog\"><h2 id=\"sure-title\">Discard?</h2><p id=\"sure-text\"></p>\
    <div class=\"buttons\"><button value=\"\" autofocus>Keep</button><button value=\"go\" class=\"danger\">Discard</button></div></form></dialog>\n";

fn write_head(page: &mut String, status: &StatusSnapshot) -> Result {
    let (class, word) = match (status.ready, status.standing_by_for.is_some()) {
        (true, _) => ("good", "ready"),
        (false, true) => ("quiet", "standing by"),
        (false, false) => ("bad", "not ready"),
    };
    writeln!(page, "<h1>{} <span class=\"pill {class}\">{word}</span></h1>", escape(&status.bridge))?;
    writeln!(page, "<p class=\"when\"><time>{}</time></p>", escape(&moment(&status.time)))?;
    if !status.not_ready.is_empty() {
        page.push_str("<ul class=\"reasons\">\n");
        for reason in &status.not_ready {
            writeln!(page, "<li>{}</li>", escape(reason))?;
        }
        page.push_str("</ul>\n");
    }
    Ok(())
}

/// To the second, and with a space where the machine's form has a T.
fn moment(instant: &str) -> String {
    let whole = instant.split('.').next().unwrap_or_default().trim_end_matches('Z');
    format!("{} UTC", whole.replace('T', " "))
}

fn or_unknown<T>(value: Option<T>, words: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "unknown".to_owned(), words)
}

fn write_node(page: &mut String, node: &NodeStatus) -> Result {
    let (class, state) = match (&node.error, node.up) {
        (None, Some(true)) => ("good", "up".to_owned()),
        (Some(error), _) => ("bad", format!("{} [{}]", error.message, error.code)),
        (None, Some(false)) => ("bad", "down".to_owned()),
        (None, None) => ("quiet", "not connected yet".to_owned()),
    };
    write!(
        page,
        "<article class=\"node\">\n<h2>{}</h2>\n<p class=\"server\">{}</p>\n<p class=\"{class}\">{}</p>\n<dl>\n",
        escape(&node.name),
        escape(node.server.as_deref().unwrap_or("not connected yet")),
        escape(&state)
    )?;
    let rows = [
        ("end of its log", or_unknown(node.log_position.clone(), |position| position)),
        ("not applied yet", or_unknown(node.log_lag_bytes, human::bytes)),
        ("log kept", or_unknown(node.log_retained_bytes, human::bytes)),
        ("headroom", or_unknown(node.log_headroom_bytes, human::bytes)),
        ("clock", or_unknown(node.clock_offset_seconds, human::seconds)),
        ("reconnects", human::count(node.reconnects)),
    ];
    for (name, value) in rows {
        writeln!(page, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value))?;
    }
    page.push_str("</dl>\n</article>\n");
    Ok(())
}

fn write_direction(page: &mut String, view: &View<'_>, source: Side) -> Result {
    let direction = &view.status.directions[source as usize];
    let way = format!("{} → {}", direction.source, direction.target);
    if !direction.used {
        return writeln!(
            page,
            "<article class=\"way\"><h2>{}</h2><p class=\"quiet\">not used</p></article>",
            escape(&way)
        );
    }
    let state = match direction.state.as_str() {
        "streaming" => "good",
        "stopped" => "bad",
        _ => "quiet",
    };
    let flows = if direction.rates.rows_applied_per_second >= 0.05 { " flows" } else { "" };
    let (turned, [line, head]) = match source {
        Side::A => ("", ["M4 10H390", "M384 3l9 7-9 7"]),
        Side::B => (" back", ["M396 10H10", "M16 3l-9 7 9 7"]),
    };
    write!(
        page,
        "<article class=\"way{turned}{flows}\">\n<h2>{} <span class=\"pill {state}\">{}</span></h2>\n\
         <svg class=\"arrow\" viewBox=\"0 0 400 20\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><path class=\"shaft\" d=\"{line}\"/><path d=\"{head}\"/></svg>\n\
         <p class=\"live\"><span><b>{}</b> applied</span> <span><b>{}</b> behind</span></p>\n",
        escape(&way),
        escape(&direction.in_words()),
        escape(&human::rate(direction.rates.rows_applied_per_second, "rows")),
        escape(&or_unknown(direction.lag_seconds, human::seconds)),
    )?;
    if let Some(why) = &direction.held_back {
        writeln!(page, "<p class=\"quiet\">held back: {}</p>", escape(why))?;
    }
    let samples = view.metrics.hour(source).samples();
    page.push_str("<div class=\"charts\">\n");
    let rate = |rows: f32| human::rate(f64::from(rows), "rows");
    chart::write(page, "rows", "applied", samples.iter().map(|sample| sample.rows_per_second), rate)?;
    let lag = |seconds: f32| human::seconds(f64::from(seconds));
    chart::write(page, "lag", "behind", samples.iter().map(|sample| sample.lag_seconds), lag)?;
    page.push_str("</div>\n");
    if let Some(error) = &direction.error {
        writeln!(page, "<p class=\"bad\">{} [{}]</p>", escape(&error.message), escape(&error.code))?;
    }
    if view.can_act {
        write_switch(page, direction, source)?;
    }
    page.push_str("</article>\n");
    Ok(())
}

/// To pause a direction, or to go on with it.
fn write_switch(page: &mut String, direction: &DirectionStatus, source: Side) -> Result {
    let (path, word) = if direction.state == "paused" { ("api/resume", "Resume") } else { ("api/pause", "Pause") };
    let way = format!("{}->{}", direction.source, direction.target);
    let id = format!("switch-{}", source as usize);
    page.push_str("<p class=\"buttons\">");
    write_button(page, &id, path, &serde_json::json!({ "direction": way }), word, &format!("{word} {way}"))?;
    page.push_str("</p>\n");
    Ok(())
}

/// A button that the script makes act. Its id stays, so that it keeps the focus when its part of the page is renewed.
fn write_button(page: &mut String, id: &str, path: &str, body: &serde_json::Value, word: &str, label: &str) -> Result {
    write!(
        page,
        "<button type=\"button\" id=\"{id}\" data-act=\"{path}\" data-body=\"{}\" aria-label=\"{}\">{}</button>",
        escape(&body.to_string()),
        escape(label),
        escape(word)
    )
}

fn write_numbers(page: &mut String, status: &StatusSnapshot) -> Result {
    page.push_str("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"all numbers\">\n<table>\n<tr><th scope=\"col\">direction</th>");
    for direction in &status.directions {
        write!(page, "<th scope=\"col\">{} → {}</th>", escape(&direction.source), escape(&direction.target))?;
    }
    page.push_str("</tr>\n");
    type Cell = fn(&DirectionStatus) -> String;
    let rows: [(&str, Cell); 10] = [
        ("applied up to", |d| or_unknown(d.position.applied.clone(), |position| position)),
        ("log not yet applied", |d| or_unknown(d.lag_bytes, human::bytes)),
        ("rows applied", |d| human::count(d.rows_applied)),
        ("rows left out", |d| human::count(d.rows_skipped)),
        ("transactions applied", |d| human::count(d.transactions_applied)),
        ("echoes suppressed", |d| human::count(d.echo_transactions)),
        ("conflicts settled", |d| human::count(d.conflicts)),
        ("tried again", |d| human::count(d.retries)),
        ("errors", |d| human::count(d.errors)),
        ("queue", |d| or_unknown(d.queue_bytes, human::bytes)),
    ];
    for (name, cell) in rows {
        let [a, b] = status.directions.each_ref().map(|direction| escape(&cell(direction)));
        writeln!(page, "<tr><th scope=\"row\">{name}</th><td>{a}</td><td>{b}</td></tr>")?;
    }
    let [spilled, limit] = [status.spill_bytes, status.spill_limit_bytes].map(|size| or_unknown(size, human::bytes));
    writeln!(page, "<tr><th scope=\"row\">spill</th><td colspan=\"2\">{spilled} of {limit}</td></tr>\n</table>\n</div>")
}

fn write_foot(page: &mut String, view: &View<'_>) -> Result {
    if view.can_act {
        page.push_str(
            "<p class=\"buttons script\"><button type=\"button\" id=\"forget\" hidden>Forget the token</button></p>\n",
        );
    } else {
        page.push_str("<p>Nothing can be done from here: <code>[server] token_file</code> names no token. <code>pontoon pause</code>, <code>resume</code> and <code>quarantine</code> do it.</p>\n");
    }
    page.push_str("<noscript><p>Without a script the page is as it was when it was loaded, and acts nothing: <code>pontoon pause</code>, <code>resume</code> and <code>quarantine</code> do.</p></noscript>\n");
    writeln!(
        page,
        "<p>pontoon {} · <a href=\"metrics\">metrics</a> · <a href=\"api/status\">status as JSON</a> · <a href=\"readyz\">ready?</a></p>",
        escape(&view.status.version)
    )
}

#[cfg(test)]
mod tests {
    use pontoon_core::{Code, Error};

    use super::*;
    use crate::observe::events::Disconnected;

    #[test]
    fn the_page_shows_what_is_wrong_and_runs_nothing_of_it() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        let error = Error::new(Code::Unreachable, "<script>alert(1)</script>\" onclick='\u{202E}");
        Disconnected { node: Side::A, error: &error, pause: None }.emit(&metrics);
        let board = Board { conflicts: Err(error.clone()), quarantine: Err(error) };
        let status = metrics.status();
        for can_act in [false, true] {
            let page = render(&View { status: &status, board: &board, metrics: &metrics, can_act });
            assert!(page.contains("not ready") && page.contains("shop → stock"), "{page}");
            assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot; onclick=&#39;\\u{202e}"), "{page}");
            assert_eq!(page.matches("<script").count(), 1, "its own alone");
            assert!(!page.contains("style=") && !page.contains("onclick='"), "nothing that the policy forbids");
            assert_eq!(page.contains("data-act"), can_act);
            assert!(page.ends_with("</html>\n"));
        }
    }
}
