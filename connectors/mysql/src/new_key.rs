//! What operators ask of rows that are to have another key: rows of `control`.

use pontoon_core::{
    MappedTable, Result,
    new_key::{ASKED, Answer, GIVEN, NAMES, NewKey, Of, Request},
    node::Tables,
};

use crate::{
    connect::{Client, Field, number, text},
    encode,
};

/// Asks, but where it was given. (Assignments are made from left to right: the number has to be the last.)
pub(crate) async fn ask(client: &mut Client, bridge: &str, request: &Request) -> Result<()> {
    let Some((number, value)) = request.row() else { return Ok(()) };
    let statement = format!(
        "INSERT INTO `pontoon`.`control` (bridge, name, number, value) VALUES ({}, {}, {number}, {}) \
         ON DUPLICATE KEY UPDATE value = IF(number = {GIVEN}, value, VALUES(value)), \
         number = IF(number = {GIVEN}, number, VALUES(number))",
        encode::text(bridge),
        encode::text(&request.of.name()),
        encode::text(&value)
    );
    client.run(statement).await.map(|_| ())
}

/// One request.
pub(crate) async fn find(client: &mut Client, bridge: &str, of: Of) -> Result<Option<Request>> {
    let rows = client
        .rows(format!(
            "SELECT name, number, value FROM `pontoon`.`control` WHERE bridge = {} AND name = {}",
            encode::text(bridge),
            encode::text(&of.name())
        ))
        .await?;
    Ok(rows.first().and_then(|row| read(row)))
}

/// Those that wait for the bridge.
pub(crate) async fn asked(client: &mut Client, bridge: &str, tables: &Tables) -> Result<Vec<NewKey>> {
    let rows = client
        .rows(format!(
            "SELECT name, number, value FROM `pontoon`.`control` \
             WHERE bridge = {} AND name LIKE '{NAMES}%' AND number = {ASKED} ORDER BY name",
            encode::text(bridge)
        ))
        .await?;
    Ok(rows.iter().filter_map(|row| read(row)?.new_key(tables)).collect())
}

fn read(row: &[Field]) -> Option<Request> {
    Request::read(&text(row, 0)?, number(row, 1)?, &text(row, 2)?)
}

/// The statement that answers a request that is as it was; `None` where it cannot be.
pub(crate) fn answer(bridge: &str, table: &MappedTable, request: &NewKey, answer: &Answer) -> Option<String> {
    let (_, asked) = request.request(table, None).row()?;
    let (number, value) = request.request(table, Some(answer.clone())).row()?;
    let as_it_was = format!(
        "bridge = {} AND name = {} AND number = {ASKED} AND value = {}",
        encode::text(bridge),
        encode::text(&request.of.name()),
        encode::text(&asked)
    );
    Some(match request.of {
        Of::Entry(_) => format!("DELETE FROM `pontoon`.`control` WHERE {as_it_was}"),
        Of::Record(_) => format!(
            "UPDATE `pontoon`.`control` SET number = {number}, value = {} WHERE {as_it_was}",
            encode::text(&value)
        ),
    })
}
