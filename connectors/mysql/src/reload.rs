//! An operator's word that whoever works for the bridge is to take up its configuration anew, and the answer: a row of `control`.

use pontoon_core::{Code, Error, Result, state::Reload};

use crate::{
    connect::{Client, number, text},
    encode, state,
    tables::RELOAD,
};

/// Asks; the request's number. An earlier answer is forgotten.
pub(crate) async fn ask(client: &mut Client, bridge: &str) -> Result<i64> {
    let sql = format!(
        "INSERT INTO `pontoon`.`control` (bridge, name, number) VALUES ({}, '{RELOAD}', LAST_INSERT_ID(1)) \
         ON DUPLICATE KEY UPDATE number = LAST_INSERT_ID(number + 1), value = NULL",
        encode::text(bridge)
    );
    client.run(sql).await.map_err(state::not_set_up)?;
    let rows = client.rows("SELECT LAST_INSERT_ID()").await?;
    let number = rows.first().and_then(|row| number(row, 0));
    number.ok_or_else(|| Error::new(Code::Internal, "the server does not tell the number of the request"))
}

/// The latest request, where there is one.
pub(crate) async fn read(client: &mut Client, bridge: &str) -> Result<Option<Reload>> {
    let sql = format!(
        "SELECT number, value FROM `pontoon`.`control` WHERE bridge = {} AND name = '{RELOAD}'",
        encode::text(bridge)
    );
    let rows = client.rows(sql).await.map_err(state::not_set_up)?;
    Ok(rows.first().map(|row| Reload { number: number(row, 0).unwrap_or_default(), answer: text(row, 1) }))
}

/// Answers a request, if it is still the latest.
pub(crate) async fn answer(client: &mut Client, bridge: &str, number: i64, answer: &str) -> Result<()> {
    let sql = format!(
        "UPDATE `pontoon`.`control` SET value = {} WHERE bridge = {} AND name = '{RELOAD}' AND number = {number}",
        encode::text(answer),
        encode::text(bridge)
    );
    client.run(sql).await.map_err(state::not_set_up).map(|_| ())
}
