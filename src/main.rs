//! The binary: arguments, log, exit code.

use std::process::ExitCode;

use pontoon::{cli, logging};

fn main() -> ExitCode {
    let arguments = cli::arguments();
    let started = logging::start(arguments.global.log_format, arguments.log());
    cli::exit_code(started.and_then(|()| cli::run(arguments)))
}
