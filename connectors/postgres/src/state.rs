//! What the bridge keeps of a first load: how far it has come, in `pontoon.control`.

use pontoon_core::{Code, CopyState, Error, Result, node::Tables};
use tokio_postgres::Client;

use crate::{
    catalog::{get, text},
    error,
    names::Names,
};

/// How far the copies to this node have come; those of tables that are no longer mapped are left out.
pub(crate) async fn copies(client: &Client, names: &Names, tables: &Tables) -> Result<Vec<CopyState>> {
    const SQL: &str = "SELECT substr(name, 6), value FROM pontoon.control
        WHERE bridge = $1 AND name LIKE 'copy:%' ORDER BY name";
    let rows = client.query(SQL, &[&names.bridge]).await.map_err(|error| error::of_statement(&error))?;
    let mut copies = Vec::new();
    for row in &rows {
        let label = text(row, 0)?;
        let Some(table) = tables.iter().find(|table| *table.label == *label) else { continue };
        let state = get::<Option<String>>(row, 1)?.and_then(|text| CopyState::from_text(&text, table));
        let unreadable = || Error::new(Code::Internal, format!("pontoon.control: the copy of {label} cannot be read"));
        copies.push(state.ok_or_else(unreadable)?);
    }
    Ok(copies)
}

/// Writes how far a copy has come.
pub(crate) async fn note_copy(client: &Client, names: &Names, tables: &Tables, copy: &CopyState) -> Result<()> {
    const SQL: &str = "INSERT INTO pontoon.control (bridge, name, value) VALUES ($1, 'copy:' || $2::text, $3)
        ON CONFLICT (bridge, name) DO UPDATE SET value = excluded.value, updated_at = now()";
    let label = &*tables[copy.table.index()].label;
    let noted = client.execute(SQL, &[&names.bridge, &label, &copy.to_text()]).await;
    noted.map(|_| ()).map_err(|error| error::of_statement(&error))
}
