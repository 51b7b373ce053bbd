//! The binary: arguments, log, exit code.

use std::process::ExitCode;

use pontoon::{cli, logging};

/// Rows are made by one thread and let go by another, which took the C library's allocator more than a third of the
/// bridge's processor time in a first load.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::arguments();
    let started = logging::start(arguments.global.log_format, arguments.log());
    cli::exit_code(started.and_then(|()| cli::run(arguments)))
}
