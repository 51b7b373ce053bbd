//! `pontoon explain`: what a code means, without a connection or a configuration.

use pontoon_core::{Class, Code, Error, Result};

use super::{
    Context, DONE, ExplainArgs,
    terminal::{Style, Table},
};
use crate::config::suggest;

#[expect(clippy::unused_async, reason = "every command has one form")]
pub(crate) async fn run(arguments: ExplainArgs, context: &Context) -> Result<u8> {
    let Some(text) = arguments.code else {
        let room =
            if context.out.interactive { context.out.width.saturating_sub(HEAD_WIDTH).max(20) } else { usize::MAX };
        context.out.print(&context.out.table(&list(room)))?;
        return Ok(DONE);
    };
    // As it is copied from a message: `[log-lost]`.
    let wanted = text.trim().trim_matches(['[', ']']).to_ascii_lowercase().replace('_', "-");
    let Some(code) = Code::ALL.iter().copied().find(|code| code.as_str() == wanted) else {
        let known = Code::ALL.iter().map(|code| code.as_str());
        let near = suggest(&wanted, known).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        return Err(Error::new(Code::Config, format!("there is no code {text:?}{near}"))
            .hint("pontoon explain without a code lists them all"));
    };
    let out = &context.out;
    out.print(&format!("{}\n\n", out.paint(Style::Strong, code.as_str())))?;
    out.print(&out.wrap(code.explanation()))?;
    out.print(&format!("\n{}\nExit code {}.\n", out.wrap(class_text(code.class())).trim_end(), code.exit()))?;
    Ok(DONE)
}

/// The reference page of the codes, in Markdown.
pub(super) fn reference() -> String {
    let mut page = String::from(
        "# Error codes\n\n<!-- Generated from connectors/core/src/error.rs by `cargo test --test config`; edit it there. -->\n\n\
         The code stands in brackets after the message: `error: ... [log-lost]`. `pontoon explain CODE` says the same offline.\n\n\
         | code | kind | exit | |\n| --- | --- | --- | --- |\n",
    );
    for code in Code::ALL {
        page += &format!("| `{code}` | {} | {} | {} |\n", class_name(code.class()), code.exit(), code.explanation());
    }
    for class in [Class::Transient, Class::Definite, Class::Fatal] {
        page += &format!("\n{}: {}\n", class_name(class), class_text(class));
    }
    page
}

/// What the columns before the meaning take.
const HEAD_WIDTH: usize = 40;

/// All codes, their meaning in at most `room` characters.
fn list(room: usize) -> Table {
    let mut table = Table::new(["code", "kind", "exit", "meaning"]);
    for code in Code::ALL {
        let first = code.explanation().split(". ").next().unwrap_or_default().trim_end_matches('.');
        let meaning = match first.char_indices().nth(room) {
            Some(_) => first.chars().take(room - 1).chain(['…']).collect(),
            None => first.to_owned(),
        };
        table.row([code.as_str(), class_name(code.class()), &code.exit().to_string(), &meaning]);
    }
    table
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Transient => "transient",
        Class::Definite => "definite",
        Class::Fatal => "fatal",
    }
}

fn class_text(class: Class) -> &'static str {
    match class {
        Class::Transient => "It goes away by itself: a running bridge tries again, for ever, and loses nothing.",
        Class::Definite => {
            "It is of the data: the bridge stops before the transaction, and goes on from there once it is mended."
        }
        Class::Fatal => "It needs a person: nothing will help but a change of the set-up.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed() {
        let list = crate::cli::terminal::Terminal::plain().table(&list(usize::MAX));
        for code in Code::ALL {
            assert!(list.lines().any(|line| line.starts_with(&format!("{code}\t"))), "{code}");
        }
    }
}
