//! The right to work: a named lock for liveness, a row with a number for safety.
//!
//! `GET_LOCK` is held by the session and goes with it (both manuals, "Locking Functions"); names end at 64
//! characters on MySQL. The number is in the row of `control` that every transaction of the bridge holds
//! shared: raising it takes the row exclusively, and so waits until all of them have ended, with their
//! outcome in the log.

use std::time::Duration;

use async_trait::async_trait;
use pontoon_core::{
    Checkpoint, Code, Error, Result,
    neighbours::Joined,
    node::{Lease, LeaseAttempt},
    state::{Arrangement, NotedLogs},
};
use tokio::time::timeout;

use crate::{
    connect::{Client, Purpose, Script, number},
    encode,
    node::{MysqlNode, lease_holder},
    state,
    tables::{EPOCH, LEASE, OTHER_EPOCH},
};

/// A renewal that takes longer is none.
const RENEW_TIMEOUT: Duration = Duration::from_secs(5);

/// Somebody has raised the token.
pub(crate) fn lost() -> Error {
    let text = "another process of the bridge has taken over, or an operator has paused it or set other tables up";
    Error::new(Code::LeaseLost, text).hint("nothing has to be done")
}

/// A lease.
pub(crate) struct HeldLease {
    client: Client,
    bridge: String,
    /// Once it is taken over.
    token: Option<i64>,
}

/// The name of the lock, as a literal.
pub(crate) fn lock_name(bridge: &str) -> String {
    encode::text(&format!("pontoon:{bridge}"))
}

/// Tries to take the lock, without waiting.
pub(crate) async fn attempt(node: &MysqlNode) -> Result<LeaseAttempt> {
    let mut client = node.client(Purpose::Lease).await?;
    state::check_format(&mut client).await?;
    if try_lock(&mut client, node.bridge()).await? {
        return Ok(LeaseAttempt::Ours(Box::new(HeldLease { client, bridge: node.bridge().to_owned(), token: None })));
    }
    Ok(LeaseAttempt::HeldBy(lease_holder(&mut client, node.bridge()).await?))
}

/// Takes the lock for this connection, unless another has it.
pub(crate) async fn try_lock(client: &mut Client, bridge: &str) -> Result<bool> {
    Ok(client.scalar(format!("SELECT GET_LOCK({}, 0)", lock_name(bridge))).await?.as_deref() == Some("1"))
}

/// Gives it back.
pub(crate) async fn unlock(client: &mut Client, bridge: &str) -> Result<()> {
    client.run(format!("DO RELEASE_LOCK({})", lock_name(bridge))).await.map(|_| ())
}

/// Raises the token of a bridge: waits for the transactions under the one before, and shuts out its holder. Leaves the name of a
/// new one, where there is one.
pub(crate) fn raise(bridge: &str, holder: Option<&str>) -> String {
    let value = holder.map_or_else(|| "value".to_owned(), encode::text);
    format!(
        "UPDATE `pontoon`.`control` SET number = LAST_INSERT_ID(number + 1), value = {value} \
         WHERE bridge = {} AND name = '{LEASE}'",
        encode::text(bridge)
    )
}

/// What takes longer shows no server that the holder lives.
async fn in_time<T>(asked: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::new(Code::ConnectionLost, "the lease could not be renewed: the server does not answer");
    timeout(RENEW_TIMEOUT, asked).await.map_err(late)?
}

#[async_trait]
impl Lease for HeldLease {
    async fn take_over(&mut self, holder: &str) -> Result<i64> {
        let mut script = Script::from(raise(&self.bridge, Some(holder)));
        script.push("SELECT LAST_INSERT_ID()");
        let answers = self.client.run(script).await.map_err(state::not_set_up)?;
        let [update, token] = answers.as_slice() else { return Err(state::missing(&self.bridge)) };
        if update.affected != 1 {
            return Err(state::missing(&self.bridge));
        }
        self.token = token.rows.first().and_then(|row| number(row, 0));
        self.token.ok_or_else(|| Error::new(Code::Protocol, "the server tells no token"))
    }

    async fn renew(&mut self) -> Result<()> {
        let held = format!(
            "SELECT IS_USED_LOCK({}) = CONNECTION_ID(), \
             (SELECT number FROM `pontoon`.`control` WHERE bridge = {} AND name = '{LEASE}')",
            lock_name(&self.bridge),
            encode::text(&self.bridge)
        );
        let rows = in_time(self.client.rows(held)).await?;
        let answer = |at| rows.first().and_then(|row| number::<i64>(row, at));
        match answer(0) {
            Some(1) if self.token.is_none_or(|ours| answer(1) == Some(ours)) => Ok(()),
            Some(1) => Err(lost()),
            _ => Err(Error::new(Code::LeaseLost, "the lease's lock is no longer held")),
        }
    }

    async fn raise_epoch(&mut self) -> Result<i64> {
        let bridge = encode::text(&self.bridge);
        let mut script = Script::from(format!(
            "INSERT INTO `pontoon`.`control` (bridge, name, number) VALUES ({bridge}, '{EPOCH}', 1) \
             ON DUPLICATE KEY UPDATE number = number + 1"
        ));
        script.push(format!("SELECT number FROM `pontoon`.`control` WHERE bridge = {bridge} AND name = '{EPOCH}'"));
        let epoch = in_time(self.client.run(script)).await?.pop().and_then(|answer| number(answer.rows.first()?, 0));
        epoch.ok_or_else(|| Error::new(Code::Protocol, "the server tells no epoch"))
    }

    async fn note_other_epoch(&mut self, epoch: i64) -> Result<()> {
        let bridge = encode::text(&self.bridge);
        let note = format!(
            "INSERT INTO `pontoon`.`control` (bridge, name, number) VALUES ({bridge}, '{OTHER_EPOCH}', {epoch}) \
             ON DUPLICATE KEY UPDATE number = {epoch}"
        );
        in_time(self.client.run(note)).await.map(|_| ())
    }

    async fn set_checkpoint(&mut self, other: &Checkpoint) -> Result<()> {
        in_time(self.client.run(state::set_checkpoint(&self.bridge, other))).await.map(|_| ())
    }

    async fn arrange(&mut self, arrangement: &Arrangement) -> Result<()> {
        self.begin().await?;
        in_time(self.client.run(state::arrange(&self.bridge, arrangement))).await.map(|_| ())
    }

    async fn note_logs(&mut self, noted: &NotedLogs) -> Result<()> {
        self.begin().await?;
        let pair = in_time(self.client.scalar(state::pair(&self.bridge))).await?;
        let pair = pair.and_then(|pair| Joined::with_logs(&pair, &noted.own, &noted.other));
        let pair = pair.ok_or_else(|| state::missing(&self.bridge))?;
        in_time(self.client.run(state::note_logs(&self.bridge, &pair, noted))).await.map(|_| ())
    }
}

impl HeldLease {
    /// Begins a transaction that no later holder of the lease can be overtaken by. Errors: lease lost.
    async fn begin(&mut self) -> Result<()> {
        let mut script = Script::from("START TRANSACTION");
        let held = format!(
            "SELECT number FROM `pontoon`.`control` WHERE bridge = {} AND name = '{LEASE}'",
            encode::text(&self.bridge)
        );
        script.push(format!("{held} LOCK IN SHARE MODE"));
        let token = in_time(self.client.run(script)).await?.pop().and_then(|answer| number(answer.rows.first()?, 0));
        if token.is_none() || token != self.token {
            in_time(self.client.run("ROLLBACK")).await?;
            return Err(lost());
        }
        Ok(())
    }
}
