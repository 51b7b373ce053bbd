//! What operators ask of the bridge: rows of `control`.

use pontoon_core::{
    MappedTable, Result,
    new_key::{self, ASKED, Answer, GIVEN, NewKey, Of, Request},
    node::Tables,
    repair::{self, Repair},
    requests::Requests,
};

use crate::{
    connect::{Client, Field, Script, number, text},
    encode,
};

/// Asks for another key of a row, but where it was given. (Assignments are made from left to right: the number has to be the last.)
pub(crate) async fn ask_new_key(client: &mut Client, bridge: &str, request: &Request) -> Result<()> {
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

/// One request for another key.
pub(crate) async fn find_new_key(client: &mut Client, bridge: &str, of: Of) -> Result<Option<Request>> {
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
pub(crate) async fn asked(client: &mut Client, bridge: &str, tables: &Tables) -> Result<Requests> {
    let rows = client
        .rows(format!(
            "SELECT name, number, value FROM `pontoon`.`control` \
             WHERE bridge = {} AND (name LIKE '{}%' AND number = {ASKED} OR name LIKE '{}%') ORDER BY name",
            encode::text(bridge),
            new_key::NAMES,
            repair::NAMES
        ))
        .await?;
    let mut requests = Requests::default();
    for row in rows {
        let (Some(name), Some(number), Some(value)) = (text(&row, 0), number(&row, 1), text(&row, 2)) else { continue };
        requests.add(&name, number, &value, tables);
    }
    Ok(requests)
}

/// Asks for keys to be made equal.
pub(crate) async fn ask_repairs(client: &mut Client, bridge: &str, tables: &Tables, repairs: &[Repair]) -> Result<()> {
    let mut script = Script::from("START TRANSACTION");
    for repair in repairs {
        let Some(table) = tables.get(repair.table.index()) else { continue };
        script.push(format!(
            "INSERT INTO `pontoon`.`control` (bridge, name, number, value) VALUES ({}, {}, {ASKED}, {})",
            encode::text(bridge),
            encode::text(&repair.name()),
            encode::text(&repair.value(table))
        ));
    }
    script.push("COMMIT");
    client.run(script).await.map(|_| ())
}

/// The statement that removes one of them.
pub(crate) fn repaired(bridge: &str, request: &Repair) -> String {
    let name = encode::text(&request.name());
    format!("DELETE FROM `pontoon`.`control` WHERE bridge = {} AND name = {name}", encode::text(bridge))
}

fn read(row: &[Field]) -> Option<Request> {
    Request::read(&text(row, 0)?, number(row, 1)?, &text(row, 2)?)
}

/// The statement that answers a request for another key that is as it was; `None` where it cannot be.
pub(crate) fn answer_new_key(bridge: &str, table: &MappedTable, request: &NewKey, answer: &Answer) -> Option<String> {
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
