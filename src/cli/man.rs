//! `pontoon man`: the manual page, made from what the command line takes.
//!
//! One page has every command: what `--help` says of each, under a heading of its own.

use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::{Man, roff::Roff};
use pontoon_core::{Code, Error, Result};

use super::{Arguments, Context, DONE, ManArgs};

#[expect(clippy::unused_async, reason = "every command has one form")]
pub(crate) async fn run(_arguments: ManArgs, context: &Context) -> Result<u8> {
    let page = page().map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    let page = String::from_utf8(page).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    context.out.print(&page)?;
    Ok(DONE)
}

fn page() -> io::Result<Vec<u8>> {
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    let mut page = Vec::new();
    let man = Man::new(root.clone()).manual("Pontoon");
    man.render_title(&mut page)?;
    for section in [
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section as Section,
    ] {
        page.extend(lines(&man, section)?);
    }
    heading("SH", "COMMANDS", &mut page);
    commands(&root, &mut page)?;
    heading("SH", "EXIT STATUS", &mut page);
    paragraphs(&man, Man::render_extra_section, &mut page)?;
    Ok(page)
}

/// All commands below one, in the order of its help.
fn commands(of: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    for command in of.get_subcommands() {
        // What every command takes stands once, at the top.
        let command = command.clone().mut_args(|argument| {
            let is_everywhere = argument.is_global_set() || argument.get_id() == "help";
            if is_everywhere { argument.hide(true) } else { argument }
        });
        heading("SS", command.get_bin_name().unwrap_or_else(|| command.get_name()), page);
        let man = Man::new(command.clone());
        paragraphs(&man, Man::render_synopsis_section, page)?;
        paragraphs(&man, Man::render_description_section, page)?;
        paragraphs(&man, Man::render_options_section, page)?;
        if command.get_after_help().is_some() {
            paragraphs(&man, Man::render_extra_section, page)?;
        }
        commands(&command, page)?;
    }
    Ok(())
}

fn heading(level: &str, text: &str, page: &mut Vec<u8>) {
    let mut roff = Roff::default();
    roff.control(level, [text]);
    page.extend(roff.to_roff().into_bytes());
}

/// How a section of a page is written.
type Section = fn(&Man, &mut dyn io::Write) -> io::Result<()>;

/// A section without what each begins with and a page has once: how an apostrophe is written.
fn lines(man: &Man, section: Section) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    section(man, &mut text)?;
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    Ok(lines.filter(|line| !line.starts_with(b".ie ") && !line.starts_with(b".el ")).flatten().copied().collect())
}

/// The same as paragraphs under the heading that is there.
fn paragraphs(man: &Man, section: Section, page: &mut Vec<u8>) -> io::Result<()> {
    for line in lines(man, section)?.split_inclusive(|byte| *byte == b'\n') {
        page.extend_from_slice(if line.starts_with(b".SH ") { b".PP\n" } else { line });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each command by its whole name with its own options.
    fn known(command: &Command, found: &mut Vec<(String, Vec<String>)>) {
        for command in command.get_subcommands() {
            let options = command.get_arguments().filter(|argument| !argument.is_global_set()).filter_map(|argument| argument.get_long());
            let options = options.filter(|option| *option != "help").map(str::to_owned).collect();
            found.push((command.get_bin_name().unwrap().to_owned(), options));
            known(command, found);
        }
    }

    #[test]
    fn the_page_has_every_command_and_every_option_once() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        let mut root = Arguments::command().disable_help_subcommand(true);
        root.build();
        let mut commands = Vec::new();
        known(&root, &mut commands);
        assert!(commands.len() > 25, "{}", commands.len());
        let parts: Vec<&str> = page.split("\n.SS ").collect();
        assert_eq!(parts.len(), commands.len() + 1);
        for ((command, options), part) in commands.iter().zip(&parts[1..]) {
            assert!(part.starts_with(&format!("\"{command}\"\n")), "{command}: {part}");
            for option in options {
                let written = format!("\n.TP\n\\fB\\-\\-{}\\fR", option.replace('-', "\\-"));
                assert_eq!(part.matches(&written).count(), 1, "{command} --{option}: {part}");
            }
        }
        assert!(page.contains(".TH pontoon 1 ") && page.matches(".ds Aq").count() == 2, "{page}");
        assert_eq!(page.matches("\\fB\\-\\-log\\-format\\fR").count(), 2, "in the synopsis and among the options");
        assert!(parts.last().unwrap().contains("\n.SH \"EXIT STATUS\"\n.PP\nExit codes: 0 done"), "{page}");
    }
}
