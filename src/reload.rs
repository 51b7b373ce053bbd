//! A bridge that runs takes up its configuration anew: when it is told to by SIGHUP, or by a request that an operator has left in the database of A
//! (`pontoon reload`), which every process of the bridge finds there, on whatever host. The one that works answers it.
//!
//! All of the file is taken, or nothing: where it cannot be read, a key differs that takes a restart ([`crate::config::Changes`]), or the tables as it has
//! them are not those that are set up or no pair any more, what was goes on. What is taken is taken as a new session, before which the one that is
//! under way ends as it does when the process is told to stop.

use std::{sync::Arc, time::Duration};

use pontoon_core::{Code, Error, Result, node::Admin};
use serde::{Deserialize, Serialize};
use tokio::{signal::unix::Signal, time::sleep};

use crate::config::{Changes, Config};

/// How often it is looked for a request: one small statement.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What came of a reload, as it is kept in the database for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// These keys were taken up; none where nothing has changed.
    Taken(Vec<String>),
    /// Nothing was.
    Refused(Error),
}

/// Who asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    BySignal,
    /// The request of this number.
    ByRequest(i64),
}

/// What a process is asked to take up anew.
pub(crate) struct Reloads {
    hangups: Option<Signal>,
    admin: Arc<dyn Admin>,
    /// The number of the latest request, once it was looked at.
    seen: Option<i64>,
    /// What was asked for last and is not answered.
    asked: Option<Asked>,
}

impl Reloads {
    /// `hangups`: the signals; `admin`: node A.
    pub(crate) fn new(hangups: Option<Signal>, admin: Arc<dyn Admin>) -> Reloads {
        Reloads { hangups, admin, seen: None, asked: None }
    }

    /// Waits until somebody asks. A request that nobody has answered yet counts for whoever looks first; one that is answered is that of another process.
    /// Whoever was interrupted before they could be answered asks still.
    pub(crate) async fn asked(&mut self) {
        if self.asked.is_some() {
            return;
        }
        let hangup = async {
            match &mut self.hangups {
                Some(hangups) => hangups.recv().await,
                None => std::future::pending().await,
            }
        };
        let asked = tokio::select! {
            biased;
            _ = hangup => Asked::BySignal,
            number = request(&self.admin, &mut self.seen) => Asked::ByRequest(number),
        };
        self.asked = Some(asked);
    }

    /// Says what came of it, in the log and, where this process is the one that works, to whoever asked.
    pub(crate) async fn answer(&mut self, answer: &Answer, works: impl Future<Output = bool>) {
        match answer {
            Answer::Taken(keys) if keys.is_empty() => tracing::info!("the configuration is what it was"),
            Answer::Taken(keys) => tracing::info!(changed = keys.join(", "), "the configuration is taken up"),
            Answer::Refused(error) => {
                tracing::error!(%error, hint = error.remedy(), "the configuration is not taken up; what was goes on");
            }
        }
        let Some(Asked::ByRequest(number)) = self.asked.take() else { return };
        let Ok(text) = serde_json::to_string(answer) else { return };
        if works.await
            && let Err(error) = self.admin.answer_reload(number, &text).await
        {
            tracing::warn!(%error, "whoever asked for it is not answered");
        }
    }
}

/// The number of the next request.
async fn request(admin: &Arc<dyn Admin>, seen: &mut Option<i64>) -> i64 {
    loop {
        match admin.reload_asked().await {
            Ok(Some(request)) if *seen != Some(request.number) => {
                let is_new = seen.replace(request.number).is_some() || request.answer.is_none();
                if is_new {
                    return request.number;
                }
            }
            Ok(None) => *seen = Some(0),
            Ok(_) => {}
            Err(why) => tracing::debug!(%why, "whether a reload is asked for cannot be seen"),
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The configuration as its file is now, and the keys that differ. Errors: it is none; keys that take a restart.
pub(crate) fn read(config: &Config) -> Result<(Config, Vec<String>)> {
    let now = Config::load(Some(config.file.as_ref())).map_err(Error::from)?;
    let Changes { taken, restart } = config.changes(&now);
    if restart.is_empty() {
        return Ok((now, taken));
    }
    let text = format!(
        "{}: {} cannot be changed while the bridge runs; nothing of it is taken up",
        config.file,
        restart.join(", ")
    );
    Err(Error::new(Code::Config, text).hint("restart the bridge for it, or take it back in the file and reload again"))
}
