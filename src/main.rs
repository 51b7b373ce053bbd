//! The binary: arguments, log, exit code.

use std::{
    env, io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use pontoon::{cli, logging, nodes};

/// Rows are made by one thread and let go by another, which took the C library's allocator more than a third of the
/// bridge's processor time in a first load.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let unbounded = with_environment();
    let arguments = cli::arguments();
    let started = logging::start(arguments.global.log_format, arguments.log());
    if let Err(error) = unbounded {
        tracing::warn!(%error, "more memory may be kept than should be: {:?} are not set", nodes::ENVIRONMENT);
    }
    cli::exit_code(started.and_then(|()| cli::run(arguments)))
}

/// Starts this program again in the same process with what drivers read from the environment, unless it is there: to set a
/// variable of the own process is unsafe. An operator's own value stays. Errors: it cannot be started.
fn with_environment() -> io::Result<()> {
    let missing: Vec<_> = nodes::ENVIRONMENT.into_iter().filter(|(name, _)| env::var_os(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut again = Command::new(env::current_exe()?);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    Err(again.args(arguments).envs(missing).exec())
}
