//! `pontoon health`: whether the bridge that runs with this configuration is well, by its exit code.
//!
//! It asks the process itself and no database, so that it is cheap enough for a container's health check, each few seconds.

use pontoon_core::Result;

use super::{Context, DONE, HealthArgs, NO};
use crate::{
    config::Config,
    human::printable,
    observe::{Answer, ask},
};

pub(crate) async fn run(arguments: HealthArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    match health(&config, &arguments).await {
        Ok(word) => {
            context.out.line(word.trim_end())?;
            Ok(DONE)
        }
        Err(reasons) => {
            for reason in reasons.lines() {
                eprintln!("{}", printable(reason));
            }
            Ok(NO)
        }
    }
}

/// What the bridge says where it is well, else why it is not.
async fn health(config: &Config, arguments: &HealthArgs) -> Result<String, String> {
    let server = &config.server;
    let Some(listen) = server.listen.as_deref().or(server.metrics_listen.as_deref()) else {
        return Err("server.listen is \"off\", and so is metrics_listen: nothing can be asked".to_owned());
    };
    let path = if arguments.ready { "/readyz" } else { "/livez" };
    let answer = ask(server, listen, path, arguments.timeout).await;
    judge(config.bridge.as_str(), answer.map_err(|error| format!("{listen} does not answer: {error}"))?)
        .map_err(|reason| if reason.is_empty() { format!("{listen} gave no reason") } else { reason })
}

fn judge(bridge: &str, answer: Answer) -> Result<String, String> {
    match answer.bridge {
        Some(name) if name == bridge => {}
        Some(name) => return Err(format!("the bridge that answers is {name}, not {bridge}")),
        None => return Err("what answers is no bridge".to_owned()),
    }
    if answer.code == 200 { Ok(answer.body) } else { Err(answer.body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_bridge_counts_and_only_if_it_is_well() {
        let answer = |code, bridge: Option<&str>, body: &str| {
            judge("b", Answer { code, bridge: bridge.map(str::to_owned), body: body.to_owned() })
        };
        assert_eq!(answer(200, Some("b"), "alive\n"), Ok("alive\n".to_owned()));
        assert_eq!(answer(503, Some("b"), "stands by\n"), Err("stands by\n".to_owned()));
        assert_eq!(answer(200, Some("c"), "alive\n"), Err("the bridge that answers is c, not b".to_owned()));
        assert_eq!(answer(200, None, "alive\n"), Err("what answers is no bridge".to_owned()));
    }
}
