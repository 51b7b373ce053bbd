//! What the last comparison came to: a row of `control`.

use pontoon_core::{
    Code, Result,
    verified::{NAME, Verified},
};
use tokio_postgres::Client;

use crate::{catalog::get, error::failed};

/// What is noted; nothing where nothing is set up.
pub(crate) async fn read(client: &Client, bridge: &str) -> Result<Option<Verified>> {
    const SQL: &str =
        "SELECT coalesce(number, 0), coalesce(value, '') FROM pontoon.control WHERE bridge = $1 AND name = $2";
    let row = match client.query_opt(SQL, &[&bridge, &NAME]).await.map_err(failed) {
        Err(error) if error.code() == Code::NotSetUp => return Ok(None),
        row => row?,
    };
    let verified = row.map(|row| Ok(Verified::read(get(&row, 0)?, &get::<String>(&row, 1)?))).transpose()?;
    Ok(verified.flatten())
}

/// Notes it.
pub(crate) async fn note(client: &Client, bridge: &str, verified: &Verified) -> Result<()> {
    const SQL: &str = "INSERT INTO pontoon.control AS c (bridge, name, number, value) VALUES ($1, $2, coalesce($3::bigint, 0), $4)
        ON CONFLICT (bridge, name) DO UPDATE SET number = coalesce($3::bigint, c.number), value = excluded.value, updated_at = now()";
    let noted = client.execute(SQL, &[&bridge, &NAME, &verified.equal_at, &verified.value()]).await;
    noted.map(|_| ()).map_err(failed)
}
