//! An operator's word on how fast is to be applied here: a row of `control`.
//!
//! It changes nothing of what is applied, so that no session has to end for it: the bridge looks from time to time.

use pontoon_core::{Result, state::Throttle};

use crate::{
    connect::{Client, number},
    encode, state,
    tables::THROTTLE,
};

/// What it is, where there is one.
pub(crate) async fn read(client: &mut Client, bridge: &str) -> Result<Option<Throttle>> {
    let sql = format!(
        "SELECT number FROM `pontoon`.`control` WHERE bridge = {} AND name = '{THROTTLE}'",
        encode::text(bridge)
    );
    let rows = client.rows(sql).await.map_err(state::not_set_up)?;
    Ok(rows.first().map(|row| Throttle::from_number(number(row, 0).unwrap_or_default())))
}

/// Gives it.
pub(crate) async fn give(client: &mut Client, bridge: &str, word: Throttle) -> Result<()> {
    let (name, number) = (encode::text(bridge), word.number());
    let sql = format!(
        "INSERT INTO `pontoon`.`control` (bridge, name, number) VALUES ({name}, '{THROTTLE}', {number}) \
         ON DUPLICATE KEY UPDATE number = {number}"
    );
    client.run(sql).await.map_err(state::not_set_up).map(|_| ())
}

/// Takes it back.
pub(crate) async fn take_back(client: &mut Client, bridge: &str) -> Result<()> {
    let sql =
        format!("DELETE FROM `pontoon`.`control` WHERE bridge = {} AND name = '{THROTTLE}'", encode::text(bridge));
    client.run(sql).await.map_err(state::not_set_up).map(|_| ())
}
