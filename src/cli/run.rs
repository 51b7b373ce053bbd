//! `pontoon run`: the bridge.

use pontoon_core::{Code, Error, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use super::{Context, DONE, RunArgs, dry_run};
use crate::{
    bridge::{self, Until},
    config::Config,
    nodes::{self, Nodes},
    observe::Manager,
    service,
    side::Pair,
};

pub(crate) async fn run(arguments: RunArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    if arguments.dry_run {
        return dry_run::run(&config, arguments.json, context).await;
    }
    let shutdown = told_to_stop()?;
    let until = if arguments.until_caught_up { Until::CaughtUp } else { Until::Stopped };
    let hangups = match until {
        Until::Stopped => Some(listen(SignalKind::hangup())?),
        Until::CaughtUp => None,
    };
    service::run(&config, &nodes::open(&config)?, until, None, Manager::of_this_process(), hangups, shutdown).await?;
    Ok(DONE)
}

/// Has the bridge at work until something else is done: in this process, or in the one that has the lease, for which this one stands by. Whichever it
/// is, a table that is in the way of the others is set aside. `None`: the work ended before, since it was told to. Errors: among others, a direction is
/// paused.
pub(super) async fn beside<T>(
    config: &Config,
    nodes: &Nodes,
    reads: Pair<bool>,
    other: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    bridge::pauses::refuse(&nodes.nodes, reads).await?;
    let (done, mut is_done) = watch::channel(false);
    let signal = told_to_stop()?;
    let shutdown = async move {
        tokio::select! {
            () = signal => {}
            _ = is_done.wait_for(|done| *done) => {}
        }
    };
    let work = service::run(config, nodes, Until::Stopped, None, None, None, shutdown);
    tokio::pin!(work);
    tokio::select! {
        biased;
        ended = &mut work => ended.map(|()| None),
        found = other => {
            let found = found?;
            done.send_replace(true);
            work.await?;
            Ok(Some(found))
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Error::new(Code::Internal, format!("signals cannot be listened to: {error}")))
}

/// Completes at SIGTERM or Ctrl-C.
pub(super) fn told_to_stop() -> Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop; what is in hand is finished first");
    })
}
