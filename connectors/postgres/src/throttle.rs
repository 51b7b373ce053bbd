//! An operator's word on how fast is to be applied here: a row of `control`.
//!
//! It changes nothing of what is applied, so that no session has to end for it: the bridge looks from time to time.

use pontoon_core::{Result, state::Throttle};
use tokio_postgres::Client;

use crate::{catalog::get, error::failed};

/// What it is, where there is one.
pub(crate) async fn read(client: &Client, bridge: &str) -> Result<Option<Throttle>> {
    const SQL: &str = "SELECT coalesce(number, 0) FROM pontoon.control WHERE bridge = $1 AND name = 'throttle'";
    let row = client.query_opt(SQL, &[&bridge]).await.map_err(failed)?;
    row.map(|row| Ok(Throttle::from_number(get(&row, 0)?))).transpose()
}

/// Gives it.
pub(crate) async fn give(client: &Client, bridge: &str, word: Throttle) -> Result<()> {
    const SQL: &str = "INSERT INTO pontoon.control AS c (bridge, name, number) VALUES ($1, 'throttle', $2)
        ON CONFLICT (bridge, name) DO UPDATE SET number = excluded.number, updated_at = now()";
    client.execute(SQL, &[&bridge, &word.number()]).await.map_err(failed)?;
    Ok(())
}

/// Takes it back.
pub(crate) async fn take_back(client: &Client, bridge: &str) -> Result<()> {
    const SQL: &str = "DELETE FROM pontoon.control WHERE bridge = $1 AND name = 'throttle'";
    client.execute(SQL, &[&bridge]).await.map_err(failed)?;
    Ok(())
}
