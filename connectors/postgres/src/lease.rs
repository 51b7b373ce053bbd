//! The lease. An advisory lock of the session says who works, and is gone with the connection; the row
//! `lease` of `pontoon.control` holds the token, which alone keeps a loser from writing: every
//! transaction of the bridge holds that row shared to its end ([`crate::session`]), so raising the
//! token waits for all that are under way, and none can begin with the old one after.

use std::time::Duration;

use async_trait::async_trait;
use pontoon_core::{
    Checkpoint, Code, Error, Result,
    neighbours::Joined,
    node::{Applier, Lease, LeaseAttempt},
    state::{Arrangement, NotedLogs},
};
use tokio::time::timeout;
use tokio_postgres::{Client, Transaction, types::ToSql};

use crate::{
    catalog::get,
    connect::{Link, Role, Target},
    error,
    names::Names,
    tables, timeline,
};

/// The server ends a lease of which it has heard nothing for so long; it is renewed every three seconds.
const IDLE_TIMEOUT: &str = "10s";

/// How long a take-over waits for transactions of the holder before: longer than their own idle
/// time-out in a transaction (20 s).
const TAKE_OVER_TIMEOUT: &str = "30s";

/// Sets the checkpoint, wherever it was: the row of the first applier ($2), and nothing in that of the one beside it ($3).
const SET_CHECKPOINT: &str = "UPDATE pontoon.checkpoint
    SET position = CASE applier WHEN $2 THEN $4 END, log = CASE applier WHEN $2 THEN $5 END, updated_at = now()
    WHERE bridge = $1 AND applier IN ($2, $3)";

/// A renewal that takes longer is none.
const RENEW_TIMEOUT: Duration = Duration::from_secs(5);

/// Raises the token of a bridge ($1): waits for the transactions under the one before, and shuts out its holder. Leaves the
/// name of a new one ($2), where there is one.
pub(crate) const RAISE: &str =
    "INSERT INTO pontoon.control AS c (bridge, name, number, value) VALUES ($1, 'lease', 1, $2)
    ON CONFLICT (bridge, name) DO UPDATE
        SET number = coalesce(c.number, 0) + 1, value = coalesce(excluded.value, c.value), updated_at = now()
    RETURNING number";

/// Somebody has raised the token.
pub(crate) fn lost() -> Error {
    let text = "another process of the bridge has taken over, or an operator has paused it or set other tables up";
    Error::new(Code::LeaseLost, text).hint("nothing has to be done")
}

/// The lease of this node.
pub(crate) struct PostgresLease {
    link: Link,
    names: Names,
    /// Once it is taken over.
    token: Option<i64>,
}

/// Tries to get it.
pub(crate) async fn attempt(target: &Target, names: &Names) -> Result<LeaseAttempt> {
    let role = Role::new(&names.bridge, "lease")
        .set("idle_session_timeout", IDLE_TIMEOUT)
        .set("lock_timeout", TAKE_OVER_TIMEOUT)
        .set("synchronous_commit", "on");
    let link = target.connect(&role).await?;
    tables::format_check(&link.client).await?;
    if try_lock(&link.client, names).await? {
        Ok(LeaseAttempt::Ours(Box::new(PostgresLease { link, names: names.clone(), token: None })))
    } else {
        Ok(LeaseAttempt::HeldBy(holder(&link.client, names).await?))
    }
}

/// Takes the bridge's advisory lock for this session, if nobody has it.
pub(crate) async fn try_lock(client: &Client, names: &Names) -> Result<bool> {
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&names.lock]).await;
    get(&row.map_err(|error| error::of_statement(&error))?, 0)
}

/// Gives it back.
pub(crate) async fn unlock(client: &Client, names: &Names) -> Result<()> {
    let unlocked = client.execute("SELECT pg_advisory_unlock($1)", &[&names.lock]).await;
    unlocked.map(|_| ()).map_err(|error| error::of_statement(&error))
}

/// Who left a name in the lease's row.
pub(crate) async fn holder(client: &Client, names: &Names) -> Result<String> {
    const SQL: &str = "SELECT value FROM pontoon.control WHERE bridge = $1 AND name = 'lease'";
    let row = client.query_opt(SQL, &[&names.bridge]).await.map_err(|error| error::of_statement(&error))?;
    let text: Option<String> = row.as_ref().map(|row| get(row, 0)).transpose()?.flatten();
    Ok(text.unwrap_or_else(|| "another process".into()))
}

/// What takes longer shows no server that the holder lives.
async fn in_time<T>(asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
    let late = |_| Error::new(Code::ConnectionLost, "the lease could not be renewed: the server does not answer");
    timeout(RENEW_TIMEOUT, asked).await.map_err(late)?.map_err(|error| error::of_statement(&error))
}

#[async_trait]
impl Lease for PostgresLease {
    async fn take_over(&mut self, holder: &str) -> Result<i64> {
        let row = self.link.client.query_one(RAISE, &[&self.names.bridge, &Some(holder)]).await;
        let token = get(&row.map_err(|error| error::of_statement(&error))?, 0)?;
        self.token = Some(token);
        Ok(token)
    }

    async fn renew(&mut self) -> Result<()> {
        const SQL: &str = "SELECT number FROM pontoon.control WHERE bridge = $1 AND name = 'lease'";
        let row = in_time(self.link.client.query_opt(SQL, &[&self.names.bridge])).await?;
        let token: Option<i64> = row.map(|row| get(&row, 0)).transpose()?;
        if self.token.is_some_and(|ours| token != Some(ours)) { Err(lost()) } else { Ok(()) }
    }

    async fn raise_epoch(&mut self) -> Result<i64> {
        const SQL: &str = "INSERT INTO pontoon.control AS c (bridge, name, number) VALUES ($1, 'epoch', 1)
            ON CONFLICT (bridge, name) DO UPDATE SET number = coalesce(c.number, 0) + 1, updated_at = now()
            RETURNING number";
        get(&in_time(self.link.client.query_one(SQL, &[&self.names.bridge])).await?, 0)
    }

    async fn note_other_epoch(&mut self, epoch: i64) -> Result<()> {
        const SQL: &str = "INSERT INTO pontoon.control (bridge, name, number) VALUES ($1, 'other_epoch', $2)
            ON CONFLICT (bridge, name) DO UPDATE SET number = excluded.number, updated_at = now()";
        in_time(self.link.client.execute(SQL, &[&self.names.bridge, &epoch])).await.map(|_| ())
    }

    async fn set_checkpoint(&mut self, other: &Checkpoint) -> Result<()> {
        let (first, beside) = (Applier::Direction.number(), Applier::Beside.number());
        let (position, log) = (other.position.durable(), other.log.to_string());
        let parameters: [&(dyn ToSql + Sync); 5] = [&self.names.bridge, &first, &beside, &position, &log];
        match in_time(self.link.client.execute(SET_CHECKPOINT, &parameters)).await? {
            0 => Err(tables::not_set_up()),
            _ => Ok(()),
        }
    }

    async fn arrange(&mut self, arrangement: &Arrangement) -> Result<()> {
        let bridge = &self.names.bridge;
        let transaction = begin(&mut self.link.client, bridge, self.token).await?;
        arranged(&transaction, bridge, arrangement).await?;
        in_time(transaction.commit()).await
    }

    async fn note_logs(&mut self, noted: &NotedLogs) -> Result<()> {
        const WRITE: &str =
            "UPDATE pontoon.control SET value = $2, updated_at = now() WHERE bridge = $1 AND name = 'pair'";
        const STORED: &str = "UPDATE pontoon.quarantine SET position = $2 WHERE bridge = $1 AND position IS NOT NULL";
        const FORGET: &str = "DELETE FROM pontoon.control WHERE bridge = $1 AND starts_with(name, 'skip:')";
        let bridge = &self.names.bridge;
        let transaction = begin(&mut self.link.client, bridge, self.token).await?;
        let row = in_time(transaction.query_opt(timeline::PAIR, &[bridge])).await?;
        let pair: Option<String> = row.map(|row| get(&row, 0)).transpose()?.flatten();
        let pair = pair.and_then(|pair| Joined::with_logs(&pair, &noted.own, &noted.other));
        in_time(transaction.execute(WRITE, &[bridge, &pair.ok_or_else(tables::not_set_up)?])).await?;
        if let Some(arrangement) = &noted.arrangement {
            arranged(&transaction, bridge, arrangement).await?;
        }
        for (column, fences) in [("own_fence", &noted.own_fences), ("other_fence", &noted.other_fences)] {
            let (ids, places): (Vec<i64>, Vec<String>) =
                fences.iter().map(|(id, place)| (*id, place.durable())).unzip();
            // Each record is looked up by itself, as in `crate::record`.
            let sql = format!(
                "UPDATE pontoon.resolution AS kept SET {column} = moved.fence
                FROM (SELECT old.ctid, new.fence FROM unnest($2::bigint[], $3::text[]) AS new (id, fence)
                    CROSS JOIN LATERAL (SELECT ctid FROM pontoon.resolution WHERE bridge = $1 AND id = new.id OFFSET 0)
                    AS old) AS moved
                WHERE kept.ctid = moved.ctid"
            );
            in_time(transaction.execute(&sql, &[bridge, &ids, &places])).await?;
        }
        if let Some(place) = &noted.stored_before {
            in_time(transaction.execute(STORED, &[bridge, &place.to_string()])).await?;
        }
        if noted.forget_skips {
            in_time(transaction.execute(FORGET, &[bridge])).await?;
        }
        in_time(transaction.commit()).await
    }
}

/// Sets tables aside or takes them back, and the checkpoint.
async fn arranged(transaction: &Transaction<'_>, bridge: &str, arrangement: &Arrangement) -> Result<()> {
    const SQL: &str = "WITH kept AS (SELECT name, value FROM unnest($2::text[], $3::text[]) AS kept (name, value)),
        gone AS (DELETE FROM pontoon.control
            WHERE bridge = $1 AND starts_with(name, 'aside:') AND name NOT IN (SELECT name FROM kept))
        INSERT INTO pontoon.control (bridge, name, value) SELECT $1, name, value FROM kept
            ON CONFLICT (bridge, name) DO UPDATE SET value = excluded.value, updated_at = now()";
    let Arrangement { checkpoint, since, aside } = arrangement;
    let rows = since.iter().map(|row| ("since", row)).chain(aside.iter().map(|row| ("aside", row)));
    let (names, values): (Vec<String>, Vec<String>) =
        rows.map(|(what, (label, position))| (format!("{what}:{label}"), position.durable())).unzip();
    let (first, beside) = (Applier::Direction.number(), Applier::Beside.number());
    let (position, log) = (checkpoint.position.durable(), checkpoint.log.to_string());
    in_time(transaction.execute(SQL, &[&bridge, &names, &values])).await?;
    match in_time(transaction.execute(SET_CHECKPOINT, &[&bridge, &first, &beside, &position, &log])).await? {
        0 => Err(tables::not_set_up()),
        _ => Ok(()),
    }
}

/// Begins a transaction that no later holder of the lease can be overtaken by. Errors: lease lost.
async fn begin<'a>(client: &'a mut Client, bridge: &str, token: Option<i64>) -> Result<Transaction<'a>> {
    const HELD: &str = "SELECT FROM pontoon.control WHERE bridge = $1 AND name = 'lease' AND number = $2 FOR SHARE";
    let transaction = in_time(client.transaction()).await?;
    match in_time(transaction.query_opt(HELD, &[&bridge, &token])).await? {
        Some(_) => Ok(transaction),
        None => Err(lost()),
    }
}
