//! Whether a server still works on what it was asked.
//!
//! The driver sets no more of TCP's keepalive than when it begins ([`crate::connect`]), and the kernel then asks for
//! eleven minutes; and where something in between goes on acknowledging, a balancer or a tunnel that has lost its other
//! half, TCP never notices. A statement has no time limit that would do either: a commit of a large transaction takes as
//! long as the log's disk does. So where an answer takes long, the server is asked on another connection what this one's
//! thread does. One that sleeps has answered already, or has never been asked: the connection is lost.

use std::time::Duration;

use mysql_async::Conn;
use pontoon_core::{Code, Result};
use tokio::time::{sleep, timeout};

use crate::{
    connect::{Target, batch, number, text},
    error,
};

/// An answer that takes longer is asked after, and again as often: hardly anything does, and with the two looks it leaves
/// half a minute in which a lost connection is noticed.
const LATE: Duration = Duration::from_secs(10);

/// The pause between two looks at a thread: what was on its way has come by then.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// Returns when the answer that is waited for on a connection is found never to come.
pub(crate) async fn until_lost(target: &Target, connection: u32) {
    loop {
        sleep(LATE).await;
        let lost = match timeout(LATE, look_twice(target, connection)).await {
            Ok(Ok(sleeps)) => sleeps,
            Ok(Err(error)) => error.code() == Code::Unreachable,
            Err(_) => true,
        };
        if lost {
            return;
        }
    }
}

async fn look_twice(target: &Target, connection: u32) -> Result<bool> {
    let mut conn = target.login().await?;
    if !sleeps(&mut conn, connection).await? {
        return Ok(false);
    }
    sleep(BETWEEN_LOOKS).await;
    sleeps(&mut conn, connection).await
}

/// Whether a connection's thread waits for its client, or is not there any more. A user sees its own without a privilege.
async fn sleeps(conn: &mut Conn, connection: u32) -> Result<bool> {
    let threads = batch(conn, "SHOW PROCESSLIST".into()).await.map_err(|error| error::convert(&error))?;
    let threads = threads.first().map_or(&[][..], |answer| &answer.rows);
    // Id, User, Host, db, Command
    let thread = threads.iter().find(|row| number(row, 0) == Some(connection));
    Ok(thread.is_none_or(|row| text(row, 4).as_deref() == Some("Sleep")))
}
