//! What the last comparison came to: a row of `control`.

use pontoon_core::{
    Code, Result,
    verified::{NAME, Verified},
};

use crate::{
    connect::{Client, number, text},
    encode, state,
};

/// What is noted; nothing where nothing is set up.
pub(crate) async fn read(client: &mut Client, bridge: &str) -> Result<Option<Verified>> {
    let bridge = encode::text(bridge);
    let sql = format!("SELECT number, value FROM `pontoon`.`control` WHERE bridge = {bridge} AND name = '{NAME}'");
    let rows = match client.rows(sql).await.map_err(state::not_set_up) {
        Err(error) if error.code() == Code::NotSetUp => return Ok(None),
        rows => rows?,
    };
    let noted = rows.first().and_then(|row| Some((number(row, 0)?, text(row, 1)?)));
    Ok(noted.and_then(|(number, value)| Verified::read(number, &value)))
}

/// Notes it.
pub(crate) async fn note(client: &mut Client, bridge: &str, verified: &Verified) -> Result<()> {
    let (bridge, value) = (encode::text(bridge), encode::text(&verified.value()));
    let (number, when_equal) = match verified.equal_at {
        Some(at) => (at, ", number = VALUES(number)"),
        None => (0, ""),
    };
    let statement = format!(
        "INSERT INTO `pontoon`.`control` (bridge, name, number, value) VALUES ({bridge}, '{NAME}', {number}, {value}) \
         ON DUPLICATE KEY UPDATE value = VALUES(value){when_equal}, updated_at = CURRENT_TIMESTAMP(6)"
    );
    client.run(statement).await.map(|_| ()).map_err(state::not_set_up)
}
