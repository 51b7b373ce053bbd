//! `pontoon completions`: the completion script of a shell.

use clap::CommandFactory;
use pontoon_core::{Code, Error, Result};

use super::{Arguments, CompletionsArgs, Context, DONE};

#[expect(clippy::unused_async, reason = "every command has one form")]
pub(crate) async fn run(arguments: CompletionsArgs, context: &Context) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "pontoon", &mut script);
    let script = String::from_utf8(script).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    context.out.print(&script)?;
    Ok(DONE)
}
