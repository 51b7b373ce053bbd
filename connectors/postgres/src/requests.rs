//! What operators ask of the bridge: rows of `control`.

use pontoon_core::{
    MappedTable, Result,
    new_key::{self, ASKED, Answer, GIVEN, NewKey, Of, Request},
    node::Tables,
    repair::{self, Repair},
    requests::Requests,
};
use tokio_postgres::{Client, Row};

use crate::{
    catalog::{get, text},
    error::failed,
};

/// Asks for another key of a row, but where it was given.
pub(crate) async fn ask_new_key(client: &Client, bridge: &str, request: &Request) -> Result<()> {
    let sql = format!(
        "INSERT INTO pontoon.control AS c (bridge, name, number, value) VALUES ($1, $2, $3, $4)
        ON CONFLICT (bridge, name) DO UPDATE SET number = excluded.number, value = excluded.value, updated_at = now()
            WHERE c.number <> {GIVEN}"
    );
    let Some((number, value)) = request.row() else { return Ok(()) };
    client.execute(&sql, &[&bridge, &request.of.name(), &number, &value]).await.map_err(failed)?;
    Ok(())
}

/// One request for another key.
pub(crate) async fn find_new_key(client: &Client, bridge: &str, of: Of) -> Result<Option<Request>> {
    const SQL: &str = "SELECT name, number, value FROM pontoon.control WHERE bridge = $1 AND name = $2";
    let found = client.query_opt(SQL, &[&bridge, &of.name()]).await.map_err(failed)?;
    found.map(|row| read(&row)).transpose().map(Option::flatten)
}

/// Those that wait for the bridge.
pub(crate) async fn asked(client: &Client, bridge: &str, tables: &Tables) -> Result<Requests> {
    let sql = format!(
        "SELECT name, number, value FROM pontoon.control
        WHERE bridge = $1 AND (starts_with(name, $2) AND number = {ASKED} OR starts_with(name, $3)) ORDER BY name"
    );
    let mut requests = Requests::default();
    for row in client.query(&sql, &[&bridge, &new_key::NAMES, &repair::NAMES]).await.map_err(failed)? {
        let value: Option<String> = get(&row, 2)?;
        requests.add(&text(&row, 0)?, get(&row, 1)?, &value.unwrap_or_default(), tables);
    }
    Ok(requests)
}

/// Asks for keys to be made equal.
pub(crate) async fn ask_repairs(client: &mut Client, bridge: &str, tables: &Tables, repairs: &[Repair]) -> Result<()> {
    let sql = format!("INSERT INTO pontoon.control (bridge, name, number, value) VALUES ($1, $2, {ASKED}, $3)");
    let transaction = client.transaction().await.map_err(failed)?;
    for repair in repairs {
        let Some(table) = tables.get(repair.table.index()) else { continue };
        transaction.execute(&sql, &[&bridge, &repair.name(), &repair.value(table)]).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// Removes one of them.
pub(crate) async fn repaired(client: &Client, bridge: &str, request: &Repair) -> Result<()> {
    const SQL: &str = "DELETE FROM pontoon.control WHERE bridge = $1 AND name = $2";
    client.execute(SQL, &[&bridge, &request.name()]).await.map_err(failed)?;
    Ok(())
}

fn read(row: &Row) -> Result<Option<Request>> {
    let value: Option<String> = get(row, 2)?;
    Ok(Request::read(&text(row, 0)?, get(row, 1)?, &value.unwrap_or_default()))
}

/// Answers a request for another key that is as it was.
pub(crate) async fn answer_new_key(
    client: &Client,
    bridge: &str,
    table: &MappedTable,
    request: &NewKey,
    answer: &Answer,
) -> Result<bool> {
    let as_it_was = format!("bridge = $1 AND name = $2 AND number = {ASKED} AND value = $3");
    let (name, asked) = (request.of.name(), request.request(table, None).row());
    let answered = request.request(table, Some(answer.clone())).row();
    let (Some((_, asked)), Some((number, value))) = (asked, answered) else { return Ok(false) };
    let done = match request.of {
        Of::Entry(_) => {
            let sql = format!("DELETE FROM pontoon.control WHERE {as_it_was}");
            client.execute(&sql, &[&bridge, &name, &asked]).await
        }
        Of::Record(_) => {
            let sql =
                format!("UPDATE pontoon.control SET number = $4, value = $5, updated_at = now() WHERE {as_it_was}");
            client.execute(&sql, &[&bridge, &name, &asked, &number, &value]).await
        }
    };
    Ok(done.map_err(failed)? == 1)
}
