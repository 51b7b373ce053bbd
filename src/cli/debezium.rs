//! Events in the envelope that consumers of Debezium read: `pontoon tail --format debezium`.
//!
//! Names and meaning of the fields are those of its connectors for PostgreSQL, MySQL and MariaDB, as JSON without a schema. What differs is
//! in `docs/debezium.md`, which a reader of this output needs: values are written as in the common event.

use std::collections::BTreeMap;

use pontoon_core::{
    Change, Form, Fragment, MappedColumn, MappedTable, Operation, Origin, Position, Row, Value, node::Peer,
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::config::{NodeConfig, Scheme};

/// What stands for a value that the log does not have: Debezium's own default, which consumers look for.
const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// Makes envelopes of the changes of one node's log, in their order.
pub(super) struct Envelopes<'a> {
    node: &'a NodeConfig,
    bridge: &'a str,
    connector: &'static str,
    /// How many events of the transaction there were, by the label of their table.
    events: BTreeMap<String, u64>,
}

/// A change with what is around it in the log.
pub(super) struct Met<'a> {
    /// The transaction's position, or where its piece was met.
    pub(super) position: &'a Position,
    pub(super) fragment: &'a Fragment,
    pub(super) table: &'a MappedTable,
    pub(super) change: &'a Change,
}

/// A message as Debezium's converter to JSON writes it with its schemas enabled, which there is none of.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    schema: (),
    payload: Payload<'a>,
}

#[derive(Serialize)]
struct Payload<'a> {
    before: Option<Image<'a>>,
    after: Option<Image<'a>>,
    source: Source<'a>,
    transaction: Transaction<'a>,
    op: &'static str,
    #[serde(flatten)]
    at: Moment,
}

/// A moment in the three units that an envelope has it in.
#[derive(Serialize)]
struct Moment {
    ts_ms: i64,
    ts_us: i64,
    ts_ns: i64,
}

impl Moment {
    fn of(micros: i64) -> Self {
        Moment { ts_ms: micros.div_euclid(1000), ts_us: micros, ts_ns: micros.saturating_mul(1000) }
    }
}

#[derive(Serialize)]
struct Source<'a> {
    version: &'static str,
    connector: &'static str,
    name: &'a str,
    #[serde(flatten)]
    at: Moment,
    snapshot: &'static str,
    db: &'a str,
    #[serde(flatten)]
    place: Place<'a>,
    origin: Option<&'a str>,
}

/// Where it stands in the log, in the words of the engine's connector.
#[derive(Serialize)]
#[serde(untagged)]
enum Place<'a> {
    Postgres {
        schema: &'a str,
        table: &'a str,
        #[serde(rename = "txId")]
        transaction: Option<u64>,
        lsn: Option<u64>,
        xmin: (),
    },
    Mysql {
        table: &'a str,
        server_id: u64,
        gtid: Option<&'a str>,
        file: Option<String>,
        pos: Option<u64>,
        row: u64,
        thread: (),
        query: (),
    },
}

#[derive(Serialize)]
struct Transaction<'a> {
    id: &'a str,
    total_order: u64,
    data_collection_order: u64,
}

/// A row by the names of its columns.
struct Image<'a> {
    columns: &'a [MappedColumn],
    row: &'a Row,
}

impl Serialize for Image<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.row.0.len()))?;
        for (column, value) in self.columns.iter().zip(&self.row.0) {
            let json = if *value == Value::Unchanged { unavailable(column) } else { value.to_json() };
            map.serialize_entry(&*column.column.name, &json)?;
        }
        map.end()
    }
}

/// It is of the column's type: of bytes in base64, as all bytes are.
fn unavailable(column: &MappedColumn) -> serde_json::Value {
    match column.form {
        Form::Bytes => Value::Bytes(UNAVAILABLE.as_bytes().to_vec().into()).to_json(),
        _ => UNAVAILABLE.into(),
    }
}

impl<'a> Envelopes<'a> {
    pub(super) fn new(node: &'a NodeConfig, bridge: &'a str, peer: &Peer) -> Self {
        let connector = match node.scheme {
            Scheme::Postgres => "postgresql",
            Scheme::Mysql if peer.server.starts_with("MariaDB") => "mariadb",
            Scheme::Mysql => "mysql",
        };
        Envelopes { node, bridge, connector, events: BTreeMap::new() }
    }

    /// The messages of a change: a row that moves to another key is one that is deleted and one that is created, as in
    /// Debezium. `now` is in microseconds since 1970 UTC.
    pub(super) fn messages<'m>(&mut self, met: &Met<'m>, now: i64) -> Vec<Message<'m>>
    where
        'a: 'm,
    {
        let image = |row| Some(Image { columns: &met.table.columns, row });
        match &met.change.operation {
            Operation::Insert { after } => vec![self.message(met, "c", [None, image(after)], now)],
            Operation::Delete { before } => vec![self.message(met, "d", [image(before), None], now)],
            Operation::Update { before, after, .. } => {
                if met.table.key.iter().all(|&at| before.0.get(at) == after.0.get(at)) {
                    return vec![self.message(met, "u", [image(before), image(after)], now)];
                }
                vec![
                    self.message(met, "d", [image(before), None], now),
                    self.message(met, "c", [None, image(after)], now),
                ]
            }
        }
    }

    /// All of a transaction has been passed.
    pub(super) fn transaction_ends(&mut self) {
        self.events.clear();
    }

    fn message<'m>(
        &mut self,
        met: &Met<'m>,
        op: &'static str,
        [before, after]: [Option<Image<'m>>; 2],
        now: i64,
    ) -> Message<'m>
    where
        'a: 'm,
    {
        let of_the_table = self.events.entry(met.table.name.to_string()).or_default();
        *of_the_table += 1;
        let data_collection_order = *of_the_table;
        let total_order = self.events.values().sum();
        let transaction = Transaction { id: &met.fragment.transaction, total_order, data_collection_order };
        let source = self.source(met, total_order);
        Message { schema: (), payload: Payload { before, after, source, transaction, op, at: Moment::of(now) } }
    }

    fn source<'m>(&self, met: &Met<'m>, total_order: u64) -> Source<'m>
    where
        'a: 'm,
    {
        let schema = met.table.name.schema.as_deref().unwrap_or(self.node.default_schema());
        let (table, name) = (&*met.table.name.name, &*met.fragment.transaction);
        let (db, place) = match self.node.scheme {
            Scheme::Postgres => {
                let lsn = if let Position::Lsn(lsn) = met.position { Some(*lsn) } else { None };
                let transaction = name.parse().ok();
                (self.node.database.as_str(), Place::Postgres { schema, table, transaction, lsn, xmin: () })
            }
            Scheme::Mysql => {
                let pos = if let Position::Binlog { offset, .. } = met.position { Some(*offset) } else { None };
                // A transaction without a GTID has the name of its place.
                let gtid = name.parse::<Position>().is_err().then_some(name);
                let (file, server_id, row) = (met.position.binlog_file(), server_id(gtid), total_order - 1);
                (schema, Place::Mysql { table, server_id, gtid, file, pos, row, thread: (), query: () })
            }
        };
        let origin = match &met.fragment.origin {
            Origin::Local => None,
            Origin::Bridge(name) => Some(&**name),
            Origin::Own => Some(self.bridge),
        };
        let at = Moment::of(met.fragment.commit_time);
        let (version, name) = (env!("CARGO_PKG_VERSION"), self.node.name.as_str());
        Source { version, connector: self.connector, name, at, snapshot: "false", db, place, origin }
    }
}

/// A GTID of MariaDB has it between its domain and its number; one of MySQL has not, and then it is 0, as in a snapshot of Debezium.
fn server_id(gtid: Option<&str>) -> u64 {
    let mut parts = gtid.unwrap_or_default().split('-');
    let (_, id, sequence, end) = (parts.next(), parts.next(), parts.next(), parts.next());
    let is_of_mariadb = sequence.is_some() && end.is_none();
    id.filter(|_| is_of_mariadb).and_then(|id| id.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use pontoon_core::{Column, Kind, TableId, TableName, calendar};
    use serde_json::{Value as Json, json};

    use super::*;

    fn node(scheme: Scheme, database: &str) -> NodeConfig {
        let (name, url) = ("shop".to_owned(), String::new());
        NodeConfig {
            name,
            scheme,
            url,
            database: database.to_owned(),
            password: None,
            priority: 0,
            replicas: Vec::new(),
        }
    }

    fn peer(server: &str) -> Peer {
        Peer { server: server.to_owned(), certificate_expiry: None, statement_bytes_max: None }
    }

    fn table(schema: &str) -> MappedTable {
        let column = |name: &str, kind: Kind, form| {
            MappedColumn::new(Column { nullable: true, ..Column::plain(name, "x", kind.clone()) }, kind, form)
        };
        let text = Form::Text { padded: false };
        MappedTable::plain(
            TableName::new(schema, "items"),
            vec![
                column("id", Kind::Integer { min: 0, max: 100 }, Form::Integer),
                column("note", Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: false }, text),
                column("photo", Kind::Bytes { bytes_max: None, fixed: false }, Form::Bytes),
            ],
        )
    }

    fn row(id: i128, note: &str) -> Row {
        Row(vec![Value::Integer(id), Value::Text(note.into()), Value::Bytes(vec![1, 2].into())])
    }

    fn fragment(transaction: &str, origin: Origin) -> Fragment {
        Fragment {
            transaction: transaction.into(),
            origin,
            commit_time: calendar::parse_instant("2026-11-23T10:00:00.123456Z").unwrap(),
            first: true,
            changes: Vec::new(),
            position: None,
        }
    }

    const NOW: i64 = 1_800_000_000_654_321;

    fn told(
        envelopes: &mut Envelopes<'_>,
        table: &MappedTable,
        at: (&Position, &Fragment),
        op: Operation,
    ) -> Vec<Json> {
        let change = Change { table: TableId(0), operation: op, reshaped: false };
        let met = Met { position: at.0, fragment: at.1, table, change: &change };
        envelopes.messages(&met, NOW).iter().map(|message| serde_json::to_value(message).unwrap()).collect()
    }

    #[test]
    fn an_update_on_postgresql_is_as_documented() {
        let (node, table) = (node(Scheme::Postgres, "shopdb"), table("public"));
        let mut envelopes = Envelopes::new(&node, "b", &peer("PostgreSQL 15.18"));
        // What the log left out is in the image before, as `REPLICA IDENTITY FULL` has it; of the bridge's own writes it is nowhere.
        let mut after = row(7, "long");
        after.0[2] = Value::Unchanged;
        let operation = Operation::Update { before: row(7, "long"), after, unchanged: vec![1, 2] };
        let (position, fragment) = (Position::Lsn(24_023_128), fragment("761", Origin::Own));
        let found = told(&mut envelopes, &table, (&position, &fragment), operation);
        let expected = json!([{
            "schema": null,
            "payload": {
                "before": { "id": 7, "note": "long", "photo": "AQI=" },
                "after": {
                    "id": 7,
                    "note": "long",
                    "photo": "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
                },
                "source": {
                    "version": env!("CARGO_PKG_VERSION"),
                    "connector": "postgresql",
                    "name": "shop",
                    "ts_ms": 1_795_428_000_123_i64,
                    "ts_us": 1_795_428_000_123_456_i64,
                    "ts_ns": 1_795_428_000_123_456_000_i64,
                    "snapshot": "false",
                    "db": "shopdb",
                    "schema": "public",
                    "table": "items",
                    "txId": 761,
                    "lsn": 24_023_128,
                    "xmin": null,
                    "origin": "b",
                },
                "transaction": { "id": "761", "total_order": 1, "data_collection_order": 1 },
                "op": "u",
                "ts_ms": 1_800_000_000_654_i64,
                "ts_us": NOW,
                "ts_ns": NOW * 1000,
            },
        }]);
        assert_eq!(Json::from(found), expected);
    }

    #[test]
    fn binary_logs_tell_file_offset_and_gtid() {
        let (node, table) = (node(Scheme::Mysql, "shop"), table("shop"));
        let position = "binlog.000003:1234".parse().unwrap();
        for (server, connector, name, gtid, server_id) in [
            ("MariaDB 10.11.19", "mariadb", "0-12-77", json!("0-12-77"), 12),
            (
                "MySQL 9.7.4",
                "mysql",
                "3e11fa47-71ca-11e1-9e33-c80aa9429562:23",
                json!("3e11fa47-71ca-11e1-9e33-c80aa9429562:23"),
                0,
            ),
            ("MySQL 9.7.4", "mysql", "binlog.000003:900", Json::Null, 0),
        ] {
            let mut envelopes = Envelopes::new(&node, "b", &peer(server));
            let fragment = fragment(name, Origin::Local);
            let insert = || Operation::Insert { after: row(1, "a") };
            told(&mut envelopes, &table, (&position, &fragment), insert());
            let found = told(&mut envelopes, &table, (&position, &fragment), insert()).remove(0);
            let source = &found["payload"]["source"];
            assert_eq!(source["connector"], connector);
            assert_eq!((&source["gtid"], &source["server_id"]), (&gtid, &server_id.into()));
            assert_eq!(
                (&source["file"], &source["pos"], &source["row"]),
                (&"binlog.000003".into(), &1234.into(), &1.into())
            );
            assert_eq!(
                (&source["db"], &source["table"], source.get("schema")),
                (&"shop".into(), &"items".into(), None)
            );
            assert_eq!((&found["payload"]["op"], &found["payload"]["before"]), (&"c".into(), &Json::Null));
            assert_eq!(source["origin"], Json::Null);
        }
    }

    #[test]
    fn a_row_that_moves_is_deleted_and_created() {
        let (node, table) = (node(Scheme::Postgres, "shop"), table("public"));
        let mut envelopes = Envelopes::new(&node, "b", &peer("PostgreSQL 15.18"));
        let (position, fragment) = (Position::Lsn(1), fragment("761", Origin::Local));
        let moved = Operation::Update { before: row(7, "a"), after: row(8, "a"), unchanged: vec![1] };
        let found = told(&mut envelopes, &table, (&position, &fragment), moved);
        let said = |at: usize| {
            let payload = &found[at]["payload"];
            let note = if payload["after"].is_null() { &payload["before"]["note"] } else { &payload["after"]["note"] };
            (payload["op"].clone(), note.clone(), payload["transaction"]["total_order"].clone())
        };
        assert_eq!(said(0), ("d".into(), "a".into(), 1.into()));
        assert_eq!(said(1), ("c".into(), "a".into(), 2.into()));
        assert_eq!((&found[0]["payload"]["after"], &found[1]["payload"]["before"]), (&Json::Null, &Json::Null));

        // Counted by transaction.
        envelopes.transaction_ends();
        let found = told(&mut envelopes, &table, (&position, &fragment), Operation::Delete { before: row(8, "a") });
        assert_eq!(found[0]["payload"]["transaction"]["total_order"], 1);
        assert_eq!((&found[0]["payload"]["op"], &found[0]["payload"]["before"]["id"]), (&"d".into(), &8.into()));
    }
}
