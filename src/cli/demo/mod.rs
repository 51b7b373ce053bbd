//! `pontoon demo`: the bridge at work between two private servers, told as it happens.
//!
//! What is shown is the real thing: two servers of their kind, a bridge that runs by
//! [`service::run`](crate::service::run) with a configuration file, clients that know nothing of it.
//!
//! # Layout
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the course of the demo |
//! | `stage.rs` | servers, users, configuration, set-up |
//! | `schema.rs` | the shop's tables and first rows |
//! | `sql.rs` | a session on either kind of server |
//! | `clients.rs` | who writes what, and the contests for one row |
//! | `story.rs` | the engine's observer: what crosses, what conflicts, the lag |
//! | `summary.rs` | both tables side by side, the figures |
//! | `teller.rs` | prints the lines |

mod clients;
mod schema;
mod sql;
mod stage;
mod story;
mod summary;
mod teller;

use std::{sync::Arc, time::Duration};

use pontoon_core::{Code, Error, Result};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use self::{
    clients::Shop,
    stage::Stage,
    story::Story,
    summary::Figures,
    teller::{Teller, Who},
};
use super::{Context, DONE, DemoArgs, NO, run::told_to_stop, terminal::Style};
use crate::{
    barrier,
    bridge::Until,
    human, service,
    side::{Pair, Side},
};

/// The nodes. By name the first is A.
const NAMES: [&str; 2] = ["shop", "stock"];

/// The database on both servers.
const DATABASE: &str = "shop";

/// So many writes per second the clients make, so that one can follow, and the lag is that of a bridge at
/// work and not that of its queue; in a pipe more. Yet they take no longer than so many seconds.
const WRITES_PER_SECOND: Paced = Paced { watched: 150, piped: 400 };
const WRITING_SECONDS_MAX: Paced = Paced { watched: 12, piped: 10 };

/// How often it is said where everything stands.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// How long the bridge may take until it works.
const ACTIVE_WITHIN: Duration = Duration::from_secs(30);

/// How long a bridge that was told to stop is waited for; longer than it takes.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How long the last writes may take to cross: a bridge that is a minute behind a demo has stopped.
const CROSS_WITHIN: Duration = Duration::from_secs(60);

/// Two numbers: where somebody watches, and in a pipe.
#[derive(Clone, Copy)]
struct Paced {
    watched: u32,
    piped: u32,
}

pub(crate) async fn run(arguments: DemoArgs, context: &Context) -> Result<u8> {
    let mut stop = listen_for_stop()?;
    let teller = Arc::new(Teller::new(context.out));
    let kinds = Pair::new(stage::kind(arguments.pair.0[0]), stage::kind(arguments.pair.0[1]));
    let began = Instant::now();
    let text = format!("starting two private servers, {} and {}", kinds[Side::A], kinds[Side::B]);
    teller.line(teller.told(&Who::Demo, &text)).await?;
    // Not given up halfway: what a start has begun it also cleans up.
    let servers = stage::start_servers(kinds).await?;
    if *stop.borrow() {
        return Ok(interrupted());
    }
    let stage = tokio::select! {
        biased;
        () = told(&mut stop) => return Ok(interrupted()),
        stage = stage::set_up(servers, arguments.keep) => stage?,
    };
    introduce(&stage, &teller, began.elapsed()).await?;
    let story = Arc::new(Story::new(teller.clone(), stage.mapping.tables.clone()));
    let (finish, finished) = watch::channel(false);
    let mut bridge = start_bridge(&stage, story.clone(), finished);
    let ended = tokio::select! {
        biased;
        () = told(&mut stop) => Ok(interrupted()),
        ended = &mut bridge => return Err(ended_early(ended)),
        converged = play(&arguments, &stage, &story, &teller) => converged.map(|yes| if yes { DONE } else { NO }),
    };
    if ended.is_ok() && arguments.keep && !*stop.borrow() {
        tokio::select! {
            biased;
            () = told(&mut stop) => {}
            ended = &mut bridge => return Err(ended_early(ended)),
        }
    }
    finish.send_replace(true);
    // What it says now is of no interest any more. The servers end after it: they are in process groups of their own,
    // which Ctrl-C in a terminal does not reach.
    let _ = timeout(STOP_WITHIN, bridge).await;
    ended
}

/// Becomes true at SIGTERM or Ctrl-C.
fn listen_for_stop() -> Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let told = told_to_stop()?;
    tokio::spawn(async move {
        told.await;
        sender.send_replace(true);
        sender.closed().await;
    });
    Ok(receiver)
}

async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody can tell any more.
        std::future::pending().await
    }
}

fn interrupted() -> u8 {
    eprintln!("stopped before the end; servers and files are removed");
    NO
}

fn start_bridge(stage: &Stage, story: Arc<Story>, mut finished: watch::Receiver<bool>) -> JoinHandle<Result<()>> {
    let (config, nodes) = (stage.config.clone(), stage.nodes.clone());
    tokio::spawn(async move {
        let shutdown = async move { told(&mut finished).await };
        service::run(&config, &nodes, Until::Stopped, Some(story), None, None, shutdown).await
    })
}

fn ended_early(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Error {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => Error::new(Code::Internal, "the bridge ended before the demo did"),
        Err(error) => Error::new(Code::Internal, format!("the bridge ended: {error}")),
    }
}

/// Who plays.
async fn introduce(stage: &Stage, teller: &Teller, took: Duration) -> Result<()> {
    for side in Side::BOTH {
        let text = format!("{} on 127.0.0.1:{}", stage.versions[side], stage.servers[side].port());
        teller.line(teller.told(&Who::Node(side), &text)).await?;
    }
    let text = format!(
        "set up after {}: {} both ways; the last writer wins",
        human::seconds(took.as_secs_f64()),
        schema::TABLES.join(", ")
    );
    teller.line(teller.told(&Who::Demo, &text)).await
}

/// The demo from the first write to the verdict. Whether both sides hold the same rows.
async fn play(arguments: &DemoArgs, stage: &Stage, story: &Arc<Story>, teller: &Arc<Teller>) -> Result<bool> {
    if timeout(ACTIVE_WITHIN, story.active()).await.is_err() {
        let message = format!("the bridge does not work after {} s", ACTIVE_WITHIN.as_secs());
        return Err(Error::new(Code::Internal, message));
    }
    let of = |paced: Paced| if teller.out.interactive { paced.watched } else { paced.piped } as f64;
    let seconds = (arguments.writes as f64 / of(WRITES_PER_SECOND)).min(of(WRITING_SECONDS_MAX));
    let duration = Duration::from_secs_f64(seconds);
    let shop = Arc::new(Shop::new(stage.logins.clone(), story.clone(), arguments.writes, duration));
    let began = Instant::now();
    with_status(&shop, story, teller, shop.clone().trade()).await??;
    let writing = began.elapsed();
    teller.line(teller.told(&Who::Demo, "all is written; waiting until all of it has crossed")).await?;
    let mapping = &stage.mapping;
    let applied = barrier::all_applied(&stage.nodes.nodes, &mapping.tables, mapping.reads);
    let caught_up = match with_status(&shop, story, teller, timeout(CROSS_WITHIN, applied)).await? {
        Ok(applied) => applied.map(|()| true)?,
        Err(_) => false,
    };
    let now = if caught_up { "all has crossed; comparing all rows" } else { "not all has crossed; comparing all rows" };
    teller.line(teller.told(&Who::Demo, now)).await?;

    let compared = summary::compare(stage, CROSS_WITHIN).await?;
    summary::side_by_side(stage, &compared, teller).await?;
    let mut figures = Figures {
        written: Pair::from_fn(|side| shop.written(side)),
        writing,
        retried: shop.retried(),
        counts: story.counts(),
        compared: &compared,
        caught_up,
    };
    for line in figures.lines(teller) {
        teller.line(line).await?;
    }
    if arguments.keep {
        for line in summary::invitation(stage, teller) {
            teller.line(line).await?;
        }
        teller.line("").await?;
    }
    let converged = figures.converged();
    let (word, style) = if converged { ("yes", Style::Good) } else { ("no", Style::Bad) };
    teller.line(format!("converged: {}", teller.out.paint(style, word))).await?;
    teller.end().await?;
    if arguments.keep {
        eprintln!("all of it runs on until Ctrl-C; what crosses now is shown here");
    }
    Ok(converged)
}

/// Does the work, and says each second where everything stands.
async fn with_status<T>(shop: &Shop, story: &Story, teller: &Teller, work: impl Future<Output = T>) -> Result<T> {
    tokio::pin!(work);
    let mut last = Instant::now();
    let mut ticks = interval_at(last + STATUS_EVERY, STATUS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let say = async |last: Instant| {
        let status = story.status(shop.written_in_all(), shop.total(), last.elapsed());
        teller.line(teller.told(&Who::Both, &status)).await
    };
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                say(last).await?;
                return Ok(done);
            }
            _ = ticks.tick() => {
                say(last).await?;
                last = Instant::now();
            }
        }
    }
}

/// `1 row`, `1,234 rows`.
fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", human::count(number), if number == 1 { "" } else { "s" })
}
