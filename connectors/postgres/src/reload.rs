//! An operator's word that whoever works for the bridge is to take up its configuration anew, and the answer: a row of `control`.

use pontoon_core::{Result, state::Reload};
use tokio_postgres::Client;

use crate::{catalog::get, error::failed};

/// Asks; the request's number. An earlier answer is forgotten.
pub(crate) async fn ask(client: &Client, bridge: &str) -> Result<i64> {
    const SQL: &str = "INSERT INTO pontoon.control AS c (bridge, name, number) VALUES ($1, 'reload', 1)
        ON CONFLICT (bridge, name) DO UPDATE SET number = c.number + 1, value = NULL, updated_at = now()
        RETURNING number";
    get(&client.query_one(SQL, &[&bridge]).await.map_err(failed)?, 0)
}

/// The latest request, where there is one.
pub(crate) async fn read(client: &Client, bridge: &str) -> Result<Option<Reload>> {
    const SQL: &str = "SELECT coalesce(number, 0), value FROM pontoon.control WHERE bridge = $1 AND name = 'reload'";
    let row = client.query_opt(SQL, &[&bridge]).await.map_err(failed)?;
    row.map(|row| Ok(Reload { number: get(&row, 0)?, answer: get(&row, 1)? })).transpose()
}

/// Answers a request, if it is still the latest.
pub(crate) async fn answer(client: &Client, bridge: &str, number: i64, answer: &str) -> Result<()> {
    const SQL: &str = "UPDATE pontoon.control SET value = $3, updated_at = now()
        WHERE bridge = $1 AND name = 'reload' AND number = $2";
    client.execute(SQL, &[&bridge, &number, &answer]).await.map_err(failed)?;
    Ok(())
}
