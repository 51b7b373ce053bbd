//! `pontoon reload`: the bridge that runs takes up its configuration anew.

use std::time::Duration;

use pontoon_core::{Code, Error, Result};
use tokio::time::{sleep, timeout};

use super::{Context, DONE, NO, ReloadArgs};
use crate::{barrier, nodes, nodes::Nodes, reload::Answer, setup, side::Side};

/// How often it is looked for the answer.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often it is looked whether a process works, and how long after each look: one that has just taken something up begins a session, and
/// nobody holds the lease for a moment. A look takes it for a moment too.
const LOOKS_FOR_IT: u32 = 4;
const LOOK_FOR_IT_EVERY: Duration = Duration::from_millis(700);

pub(crate) async fn run(arguments: ReloadArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?;
    setup::connect(&nodes.nodes).await?;
    if !is_running(&nodes).await? {
        eprintln!("no process of the bridge works; pontoon run reads its file when it is started");
        return Ok(NO);
    }
    let Ok(answer) = timeout(arguments.timeout, answered(&nodes)).await else {
        eprintln!("no answer within {:?}; the bridge takes its file up as soon as it can, and says so in its log", arguments.timeout);
        return Ok(NO);
    };
    match answer? {
        Answer::Taken(keys) if keys.is_empty() => context.out.line("nothing has changed")?,
        Answer::Taken(keys) => context.out.line(&format!("taken up: {}", keys.join(", ")))?,
        Answer::Refused(error) => {
            eprintln!("not taken up: {} [{}]", error.message(), error.code());
            if let Some(hint) = error.remedy() {
                eprintln!("hint: {hint}");
            }
            return Ok(NO);
        }
    }
    Ok(DONE)
}

/// Whether a process works, or is about to.
async fn is_running(nodes: &Nodes) -> Result<bool> {
    for _ in 0..LOOKS_FOR_IT {
        if barrier::is_running(&nodes.nodes).await? {
            return Ok(true);
        }
        sleep(LOOK_FOR_IT_EVERY).await;
    }
    Ok(false)
}

/// What the process that works says to it.
async fn answered(nodes: &Nodes) -> Result<Answer> {
    let admin = &nodes.admins[Side::A];
    let number = admin.ask_reload().await?;
    loop {
        // Whoever has asked since is answered for the same file.
        let latest = admin.reload_asked().await?.filter(|request| request.number >= number);
        if let Some(answer) = latest.and_then(|request| request.answer) {
            let unreadable = |_| Error::new(Code::Internal, "the answer of the bridge cannot be read: it is of another version");
            return serde_json::from_str(&answer).map_err(unreadable);
        }
        sleep(LOOK_EVERY).await;
    }
}
