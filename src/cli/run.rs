//! `pontoon run`: the bridge.

use pontoon_core::{Code, Error, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::{Context, DONE, RunArgs};
use crate::{bridge::Until, nodes, service};

pub(crate) async fn run(arguments: RunArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let shutdown = told_to_stop()?;
    let until = if arguments.until_caught_up { Until::CaughtUp } else { Until::Stopped };
    service::run(&config, &nodes::open(&config)?, until, None, shutdown).await?;
    Ok(DONE)
}

/// Completes at SIGTERM or Ctrl-C.
pub(super) fn told_to_stop() -> Result<impl Future<Output = ()>> {
    let listen = |kind| {
        signal(kind).map_err(|error| Error::new(Code::Internal, format!("signals cannot be listened to: {error}")))
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop; what is in hand is finished first");
    })
}
