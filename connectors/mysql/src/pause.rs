//! An operator's word that nothing is to be applied here: a row of `control`.
//!
//! Every transaction of the bridge holds the lease's row shared from its beginning to its end, and checks the token in it. So whoever
//! raises the token waits for all that are under way, and no other begins: by the time the word is committed nothing is applied
//! any more. The bridge finds its token gone, begins a new session, and heeds what it reads there.

use std::time::Duration;

use pontoon_core::{Result, state::Pause};

use crate::{
    connect::{Client, Script, number},
    encode, lease, state,
    tables::{PAUSE, micros},
};

/// Whether there is such a word, and when it ends.
pub(crate) async fn read(client: &mut Client, bridge: &str) -> Result<Option<Pause>> {
    let rows = client
        .rows(format!(
            "SELECT number FROM `pontoon`.`control` WHERE bridge = {} AND name = '{PAUSE}' AND (number = 0 OR number > {})",
            encode::text(bridge),
            micros("CURRENT_TIMESTAMP(6)")
        ))
        .await
        .map_err(state::not_set_up)?;
    let until = |row: &Vec<_>| number(row, 0).filter(|until: &i64| *until != 0);
    Ok(rows.first().map(|row| Pause { until: until(row) }))
}

/// Gives it, for a time or for good.
pub(crate) async fn give(client: &mut Client, bridge: &str, length: Option<Duration>) -> Result<()> {
    let name = encode::text(bridge);
    let until = length.map_or_else(
        || "0".to_owned(),
        |length| {
            format!(
                "{} + {}",
                micros("CURRENT_TIMESTAMP(6)"),
                i64::try_from(length.as_micros()).unwrap_or(i64::MAX >> 1)
            )
        },
    );
    let mut script = Script::from("START TRANSACTION");
    script.push(lease::raise(bridge, None));
    script.push(format!(
        "INSERT INTO `pontoon`.`control` (bridge, name, number) VALUES ({name}, '{PAUSE}', {until}) \
         ON DUPLICATE KEY UPDATE number = {until}"
    ));
    let answers = client.run(script).await.map_err(state::not_set_up)?;
    if answers.get(1).is_none_or(|raised| raised.affected != 1) {
        client.run("ROLLBACK").await?;
        return Err(state::missing(bridge));
    }
    client.run("COMMIT").await.map(|_| ())
}

/// Takes it back. Whether there was any.
pub(crate) async fn take_back(client: &mut Client, bridge: &str) -> Result<bool> {
    let answers = client
        .run(format!("DELETE FROM `pontoon`.`control` WHERE bridge = {} AND name = '{PAUSE}'", encode::text(bridge)))
        .await
        .map_err(state::not_set_up)?;
    Ok(answers.first().is_some_and(|answer| answer.affected > 0))
}
