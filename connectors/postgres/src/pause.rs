//! An operator's word that nothing is to be applied here: a row of `control`.
//!
//! Every transaction of the bridge holds the lease's row shared from its beginning to its end, and checks the token in it. So whoever
//! raises the token waits for all that are under way, and no other begins: by the time the word is committed nothing is applied
//! any more. The bridge finds its token gone, begins a new session, and heeds what it reads there.

use std::time::Duration;

use pontoon_core::{Result, state::Pause};
use tokio_postgres::Client;

use crate::{catalog::get, error::failed, lease::RAISE, tables::micros};

/// Whether there is such a word, and when it ends.
pub(crate) async fn read(client: &Client, bridge: &str) -> Result<Option<Pause>> {
    let sql = format!(
        "SELECT nullif(number, 0) FROM pontoon.control
        WHERE bridge = $1 AND name = 'pause' AND (number = 0 OR number > {})",
        micros("clock_timestamp()")
    );
    let row = client.query_opt(&sql, &[&bridge]).await.map_err(failed)?;
    row.map(|row| Ok(Pause { until: get(&row, 0)? })).transpose()
}

/// Gives it, for a time or for good.
pub(crate) async fn give(client: &mut Client, bridge: &str, length: Option<Duration>) -> Result<()> {
    let sql = format!(
        "INSERT INTO pontoon.control AS c (bridge, name, number) VALUES ($1, 'pause', coalesce({} + $2, 0))
        ON CONFLICT (bridge, name) DO UPDATE SET number = excluded.number, updated_at = now()",
        micros("clock_timestamp()")
    );
    let length = length.map(|length| i64::try_from(length.as_micros()).unwrap_or(i64::MAX >> 1));
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.execute(RAISE, &[&bridge, &None::<&str>]).await.map_err(failed)?;
    transaction.execute(&sql, &[&bridge, &length]).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// Takes it back. Whether there was any.
pub(crate) async fn take_back(client: &Client, bridge: &str) -> Result<bool> {
    const SQL: &str = "DELETE FROM pontoon.control WHERE bridge = $1 AND name = 'pause'";
    Ok(client.execute(SQL, &[&bridge]).await.map_err(failed)? > 0)
}
