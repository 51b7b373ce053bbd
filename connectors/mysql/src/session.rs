//! Conditional writes, one transaction at a time.
//!
//! Beginning takes no round trip of its own: the transaction, the lease row held shared with its token, and the
//! checkpoint row, whose row event so leads the transaction in the log, go with what comes first in it. The server stops at the first
//! of these statements that fails. A token that is not ours comes back in the same answer and everything is rolled back before
//! anything else can be done.
//!
//! While a transaction is open the session's `wait_timeout` is short, so that a host that dies does not
//! leave locks behind; between two it is long.
//!
//! Durability of a commit is a setting of the server alone here (`innodb_flush_log_at_trx_commit`,
//! `sync_binlog`), which no session can change; `check` looks at it. So each commit is, also one that need only be in order.

use std::{borrow::Borrow, collections::HashMap, iter::Peekable};

use async_trait::async_trait;
use pontoon_core::{
    Code, CopyState, Error, Key, MappedTable, Position, Resolution, Result, Row, TableId, Tag, Value,
    history::Retention,
    new_key::{Answer, NewKey},
    node::{Applied, Applier, Session, TableBatch, Tables, Tried},
    quarantine::{Stored, StoredWrite},
    repair::Repair,
    schema::Reference,
};

use crate::{
    catalog,
    connect::{self, Client, Field, IDLE_SECONDS, Purpose, Script, TRANSACTION_SECONDS, number},
    decode, encode, error, files, gtids, history, lease,
    load::{self, Files},
    node::MysqlNode,
    quarantine,
    record::Records,
    requests,
    row_list::{BYTES_MAX, Expecting, Large, ROWS_MAX},
    state,
    statement::{TableSql, Unmade},
    tables::LEASE,
    ties,
};

/// A session.
pub(crate) struct ApplySession {
    client: Client,
    bridge: String,
    applier: Applier,
    token: i64,
    tables: Prepared,
    files: Files,
    /// The transaction is to begin with what comes first in it, and with this tag.
    told: Option<Option<Tag>>,
    /// A transaction has begun on the server.
    is_open: bool,
    is_bloated: bool,
}

/// A packet stands in a buffer of the driver's connection that stays as large as it ever was (`Framed` of tokio-util). From so many
/// bytes of a value on that is too much to be kept.
const BLOAT_BYTES: usize = 16 << 20;

/// Statements go together in one packet up to so many bytes: what more there is, is made while the server works on them.
const PACKET_BYTES: usize = 128 << 10;

/// Statements that go to the server together, and the rows that each must find.
struct Packet {
    script: Script,
    expected: Vec<u64>,
    large: Vec<Large>,
}

impl Packet {
    /// The next one; a statement that is larger, or has large values, goes by itself.
    fn next(
        statements: &mut Peekable<impl Iterator<Item = Result<Expecting, Unmade>>>,
    ) -> Option<Result<Packet, Unmade>> {
        let Expecting { sql, rows, large } = match statements.next()? {
            Ok(first) => first,
            Err(unmade) => return Some(Err(unmade)),
        };
        let mut packet = Packet { script: Script::from(sql), expected: vec![rows], large };
        let mut room = PACKET_BYTES.saturating_sub(packet.script.bytes());
        let joins = |next: &Result<Expecting, Unmade>, room: usize| {
            next.as_ref().is_ok_and(|next| next.large.is_empty() && next.sql.len() <= room)
        };
        while packet.large.is_empty()
            && let Some(Ok(more)) = statements.next_if(|next| joins(next, room))
        {
            room -= more.sql.len();
            packet.script.push(more.sql);
            packet.expected.push(more.rows);
        }
        Some(Ok(packet))
    }
}

/// The statements that a transaction begins with.
struct Opening {
    script: Script,
    bridge: String,
    token: i64,
}

impl Opening {
    async fn send(&mut self, client: &mut Client) -> Result<()> {
        let answers = client.run(std::mem::take(&mut self.script)).await.map_err(state::not_set_up)?;
        self.judge(&answers)
    }

    /// Errors: lease lost, where the token is another; not set up. Nothing may be committed then.
    fn judge(&self, answers: &[connect::Answer]) -> Result<()> {
        let token: Option<i64> = answers.get(2).and_then(|answer| answer.rows.first()).and_then(|row| number(row, 0));
        let is_moved = answers.get(3).is_none_or(|answer| answer.affected == 1);
        match token {
            Some(token) if token != self.token => Err(lease::lost()),
            Some(_) if is_moved => Ok(()),
            _ => Err(state::missing(&self.bridge)),
        }
    }
}

/// The SQL of the mapped tables. Errors: one is gone, or its columns are.
pub(crate) async fn prepare(client: &mut Client, tables: &[MappedTable]) -> Result<Vec<TableSql>> {
    let names: Vec<_> = tables.iter().map(|table| table.name.clone()).collect();
    let found = catalog::load(client, &names).await?;
    let server = client.server.clone();
    tables
        .iter()
        .zip(found)
        .map(|(table, native)| {
            let changed = |what: String| {
                Error::new(Code::SchemaChanged, format!("{}: {what}", table.name))
                    .hint("start again once it is mended")
                    .of_table(&table.label)
            };
            let native = native.ok_or_else(|| changed("the table is not there".into()))?;
            for mapped in &table.columns {
                let kind = native.column(&mapped.column.name).and_then(|native| native.column.kind.as_ref());
                if kind != Some(&mapped.kind) {
                    return Err(changed(format!("the column {} is no longer what it was", mapped.column.name)));
                }
            }
            Ok(TableSql::new(table, &native, &server))
        })
        .collect()
}

/// The mapped tables, and the SQL of each from when it is first needed: of thousands of tables a server takes seconds to tell what they are, and a
/// session mostly writes to few.
struct Prepared {
    tables: Tables,
    sql: Vec<Option<TableSql>>,
}

impl Prepared {
    fn new(tables: &Tables) -> Prepared {
        Prepared { tables: tables.clone(), sql: tables.iter().map(|_| None).collect() }
    }

    fn mapped(&self, table: TableId) -> Result<&MappedTable> {
        self.tables.get(table.index()).ok_or_else(not_mapped)
    }

    /// The SQL of a table, which is made unless it is there.
    async fn make(&mut self, client: &mut Client, table: TableId) -> Result<&TableSql> {
        if self.sql.get(table.index()).is_some_and(Option::is_none) {
            let made = prepare(client, std::slice::from_ref(self.mapped(table)?)).await?;
            self.sql[table.index()] = made.into_iter().next();
        }
        self.sql(table)
    }

    /// That of a table for which it was made.
    fn sql(&self, table: TableId) -> Result<&TableSql> {
        self.sql.get(table.index()).and_then(Option::as_ref).ok_or_else(not_mapped)
    }

    /// A table and the one that its reference is to, and the reference.
    async fn tied(
        &mut self,
        client: &mut Client,
        table: TableId,
        reference: usize,
    ) -> Result<((&TableSql, &TableSql), &Reference)> {
        let parent = self.mapped(table)?.references.get(reference).ok_or_else(not_mapped)?.parent;
        self.make(client, table).await?;
        self.make(client, parent).await?;
        let (child, parent) = (self.sql(table)?, self.sql(parent)?);
        Ok(((child, parent), child.table.references.get(reference).ok_or_else(not_mapped)?))
    }
}

/// The rows of keys, in their order.
pub(crate) async fn rows_of(client: &mut Client, sql: &TableSql, keys: &[Key], lock: bool) -> Result<Vec<Option<Row>>> {
    let mut found: HashMap<Key, Row> = HashMap::new();
    for keys in keys.chunks(ROWS_MAX) {
        if let Some(statement) = sql.select(keys, lock) {
            let rows = client.rows(statement).await?;
            found.extend(rows.into_iter().map(|row| common(row, sql)).map(|row| (sql.table.key_of(&row), row)));
        }
    }
    Ok(keys.iter().map(|key| found.remove(key)).collect())
}

/// A row of a result in common form.
pub(crate) fn common(row: Vec<Field>, sql: &TableSql) -> Row {
    sql.table.to_common(values(row, sql))
}

/// The same of a row that is to be written to the other side.
pub(crate) fn crossing(row: Vec<Field>, sql: &TableSql) -> Row {
    sql.table.to_cross(values(row, sql))
}

fn values(row: Vec<Field>, sql: &TableSql) -> Vec<Value> {
    let kinds = sql.table.columns.iter().map(|column| &column.kind);
    row.into_iter().zip(kinds).map(|(field, kind)| decode::value(field, kind)).collect()
}

/// A null for a counter or a timestamp that takes none is not refused by the servers but replaced: by the next
/// number, or by the time.
fn no_null_is_replaced<'a>(sql: &TableSql, written: impl Iterator<Item = (usize, &'a Value)>) -> Result<()> {
    let columns = &sql.table.columns;
    for (at, value) in written {
        if *value == Value::Null && columns.get(at).is_some_and(|mapped| !mapped.column.nullable) {
            let name = &columns[at].column.name;
            return Err(Error::new(Code::RowRefused, format!("{}: the column {name} cannot be null", sql.table.name)));
        }
    }
    Ok(())
}

/// Every value of a row with its place.
fn all_of(row: &Row) -> impl Iterator<Item = (usize, &Value)> {
    row.0.iter().enumerate()
}

fn no_literal(sql: &TableSql, rows: &[impl Borrow<Row>]) -> Error {
    let column = sql.without_literal(rows).unwrap_or("?");
    let message = format!("{}: the column {column} holds a value that this server has no literal for", sql.table.name);
    Error::new(Code::ValueMisfit, message)
}

fn not_mapped() -> Error {
    Error::new(Code::Internal, "a table or a constraint that is not mapped")
}

impl ApplySession {
    pub(crate) async fn open(node: &MysqlNode, applier: Applier, token: i64, tables: &Tables) -> Result<ApplySession> {
        let mut client = node.client(Purpose::Apply).await?;
        // A DELETE by an alias wants some default database, though it names the table's (error 1046).
        client.run("USE `pontoon`").await.map_err(state::not_set_up)?;
        gtids::is_noted(&mut client, node.bridge()).await?;
        Ok(ApplySession {
            client,
            bridge: node.bridge().to_owned(),
            applier,
            token,
            tables: Prepared::new(tables),
            files: Files::default(),
            told: None,
            is_open: false,
            is_bloated: false,
        })
    }

    fn tag_statement(&self, tag: &Tag) -> String {
        let position =
            tag.position.as_ref().map_or(String::new(), |at| format!("`position` = {}, ", encode::text(&at.durable())));
        format!(
            "UPDATE `pontoon`.`checkpoint` SET {position}`sequence` = `sequence` + 1, commit_time = {} \
             WHERE bridge = {} AND applier = {}",
            tag.commit_time,
            encode::text(&self.bridge),
            self.applier.number()
        )
    }

    /// What the transaction begins with that is to begin, if one is. Errors: internal, where none has begun: the server would commit each statement by
    /// itself, and without a tag.
    fn opening(&mut self) -> Result<Option<Opening>> {
        let Some(tag) = self.told.take() else {
            let outside = || Error::new(Code::Internal, "a statement without a transaction that it could be part of");
            return if self.is_open { Ok(None) } else { Err(outside()) };
        };
        self.is_open = true;
        let mut script = Script::from(format!("SET SESSION wait_timeout = {TRANSACTION_SECONDS}"));
        script.push("START TRANSACTION");
        script.push(format!(
            "SELECT number FROM `pontoon`.`control` WHERE bridge = {} AND name = '{LEASE}' LOCK IN SHARE MODE",
            encode::text(&self.bridge)
        ));
        if let Some(tag) = &tag {
            script.push(self.tag_statement(tag));
        }
        Ok(Some(Opening { script, bridge: self.bridge.clone(), token: self.token }))
    }

    /// Begins the transaction that is to begin, if one is.
    async fn started(&mut self) -> Result<()> {
        match self.opening()? {
            Some(mut opening) => opening.send(&mut self.client).await,
            None => Ok(()),
        }
    }

    /// Runs the statements of a batch in packets, each made while the server works on the one before, and compares what they found. `inserts` are
    /// all of the batch's, or none where a file brings them.
    async fn carry_out(
        &mut self,
        table: TableId,
        batch: &TableBatch,
        inserts: &[Row],
    ) -> Result<Result<Applied, mysql_async::Error>> {
        let mut opening = if batch.is_empty() { None } else { self.opening()? };
        let ApplySession { client, tables, is_bloated, .. } = self;
        let sql = tables.sql(table)?;
        let mut statements = sql.changes(batch).chain(sql.inserted(inserts)).peekable();
        let mut next = Packet::next(&mut statements);
        while let Some(packet) = next {
            let Packet { mut script, expected, large } = match packet {
                Ok(packet) => packet,
                Err(Unmade::NotThere) => return Ok(Ok(Applied::Missed)),
                Err(Unmade::NoLiteral) => return Err(no_literal(sql, &batch.inserts)),
            };
            let mut opening = opening.take();
            match &mut opening {
                // What is as large as the server takes stays so.
                Some(opening) if !large.is_empty() || script.bytes() > PACKET_BYTES => opening.send(client).await?,
                Some(opening) => script = std::mem::take(&mut opening.script).followed_by(script),
                None => {}
            }
            let largest = large.iter().map(Large::packet_bytes).chain([script.bytes()]).max().unwrap_or(0);
            client.ensure_fits(largest).map_err(|error| error.at(&sql.table.name))?;
            *is_bloated |= large.iter().any(|large| large.bytes.len() >= BLOAT_BYTES);
            let (answers, made) = tokio::join!(client.run_with(script, large), async { Packet::next(&mut statements) });
            let answers = match answers {
                Ok(answers) => answers,
                Err(error) => return Ok(Err(error)),
            };
            let beside = answers.len().saturating_sub(expected.len());
            if let Some(opening) = opening.filter(|_| beside > 0) {
                opening.judge(&answers)?;
            }
            if !answers[beside..].iter().map(|answer| answer.affected).eq(expected) {
                return Ok(Ok(Applied::Missed));
            }
            next = made;
        }
        // What a file follows.
        if let Some(mut opening) = opening {
            opening.send(client).await?;
        }
        Ok(Ok(Applied::All))
    }

    /// Adds rows by a file that the server takes, in the transaction that has begun. [`Applied::Missed`]: it does not take it, or not all that is in it; statements
    /// say what is the matter, in another transaction.
    async fn load_by_file(&mut self, table: TableId, rows: &[impl Borrow<Row> + Sync]) -> Result<Applied> {
        let written = load::by_file(&mut self.client, self.tables.sql(table)?, rows).await;
        match &written {
            Ok(Applied::Missed) => self.files.no_more_of(table),
            Err(error) if load::is_refused(error) => {
                self.files.no_more();
                return Ok(Applied::Missed);
            }
            _ => {}
        }
        self.written(table, written, rows).await
    }

    /// What became of statements on one table, the last of which insert these rows.
    async fn written(
        &mut self,
        table: TableId,
        written: Result<Applied, mysql_async::Error>,
        inserts: &[impl Borrow<Row> + Sync],
    ) -> Result<Applied> {
        let error = match written {
            Ok(applied) => return Ok(applied),
            Err(error) => error,
        };
        if let mysql_async::Error::Server(server) = &error
            && server.code == error::DUPLICATE_ENTRY
            && self.duplicate(table, inserts, &server.message).await?
        {
            return Ok(Applied::Missed);
        }
        Err(error::convert(&error).at(&self.tables.mapped(table)?.name))
    }

    /// A duplicate in the key of a row to insert is a row that was not expected; in any other unique key it is
    /// one that the table refuses.
    async fn duplicate(&mut self, table: TableId, inserts: &[impl Borrow<Row>], message: &str) -> Result<bool> {
        let key = error::duplicate_key(message);
        let sql = self.tables.sql(table)?;
        if sql.by_primary {
            return Ok(error::is_primary(key));
        }
        let keys: Vec<Key> = inserts.iter().map(|row| sql.table.key_of(row.borrow())).collect();
        Ok(rows_of(&mut self.client, sql, &keys, false).await?.iter().any(Option::is_some))
    }
}

#[async_trait]
impl Session for ApplySession {
    async fn begin(&mut self, tag: Option<&Tag>) -> Result<()> {
        self.told = Some(tag.cloned());
        Ok(())
    }

    async fn tag(&mut self, tag: &Tag) -> Result<()> {
        self.started().await?;
        let answers = self.client.run(self.tag_statement(tag)).await?;
        match answers.first().map(|answer| answer.affected) {
            Some(1) => Ok(()),
            _ => Err(state::missing(&self.bridge)),
        }
    }

    async fn apply(&mut self, table: TableId, batch: &TableBatch) -> Result<Applied> {
        let sql = self.tables.make(&mut self.client, table).await?;
        let updated = batch.updates.iter().flat_map(|group| {
            group.rows.iter().flat_map(|(_, after)| group.changed.iter().map(|&at| (at, &after.0[at])))
        });
        no_null_is_replaced(sql, batch.inserts.iter().flat_map(all_of).chain(updated))?;
        let by_file =
            batch.inserts.len() >= load::ROWS_MIN && self.files.take(&mut self.client, table, &batch.inserts).await?;
        let inserts = if by_file { &[][..] } else { &batch.inserts[..] };
        let written = self.carry_out(table, batch, inserts).await?;
        match self.written(table, written, inserts).await? {
            Applied::All if by_file => self.load_by_file(table, &batch.inserts).await,
            applied => Ok(applied),
        }
    }

    async fn lock(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        self.started().await?;
        let sql = self.tables.make(&mut self.client, table).await?;
        rows_of(&mut self.client, sql, keys, true).await
    }

    async fn read(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        self.started().await?;
        let sql = self.tables.make(&mut self.client, table).await?;
        rows_of(&mut self.client, sql, keys, false).await
    }

    async fn holders(&mut self, table: TableId, unique: usize, rows: &[Row]) -> Result<Vec<Option<Key>>> {
        self.started().await?;
        let sql = self.tables.make(&mut self.client, table).await?;
        let unique = sql.table.uniques.get(unique).ok_or_else(not_mapped)?;
        ties::holders(&mut self.client, sql, unique, rows).await
    }

    async fn orphans(&mut self, table: TableId, reference: usize, keys: &[Key]) -> Result<Vec<Key>> {
        self.started().await?;
        let (sql, reference) = self.tables.tied(&mut self.client, table, reference).await?;
        ties::orphans(&mut self.client, sql, reference, keys).await
    }

    async fn children(&mut self, table: TableId, reference: usize, parents: &[Row], limit: usize) -> Result<Vec<Key>> {
        self.started().await?;
        let (sql, reference) = self.tables.tied(&mut self.client, table, reference).await?;
        ties::children(&mut self.client, sql, reference, parents, limit).await
    }

    async fn fence(&mut self) -> Result<Position> {
        self.started().await?;
        files::log_end(&mut self.client).await
    }

    async fn savepoint(&mut self) -> Result<()> {
        self.started().await?;
        self.client.run("SAVEPOINT `row`").await?;
        Ok(())
    }

    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        self.client.run("ROLLBACK TO SAVEPOINT `row`").await?;
        Ok(())
    }

    async fn store(&mut self, entries: &[Stored]) -> Result<()> {
        self.started().await?;
        for entry in entries {
            let table = self.tables.mapped(entry.table)?;
            let mut statement = quarantine::store(&self.bridge, table, entry);
            if self.client.ensure_fits(statement.len()).is_err() {
                statement = quarantine::store(&self.bridge, table, &quarantine::without_large_values(entry));
            }
            self.client.run(statement).await?;
        }
        Ok(())
    }

    async fn stored(&mut self, table: TableId, key: &Key, after: i64) -> Result<Vec<StoredWrite>> {
        self.started().await?;
        quarantine::stored(&mut self.client, &self.bridge, self.tables.mapped(table)?, key, after).await
    }

    async fn release(&mut self, table: TableId, keys: &[Key]) -> Result<()> {
        self.started().await?;
        for key in keys {
            let statement = quarantine::release(&self.bridge, self.tables.mapped(table)?, key);
            self.client.run(statement).await?;
        }
        Ok(())
    }

    async fn tried(&mut self, table: TableId, key: &Key, tried: &Tried) -> Result<()> {
        self.started().await?;
        for statement in quarantine::tried(&self.bridge, self.tables.mapped(table)?, key, tried) {
            self.client.run(statement).await?;
        }
        Ok(())
    }

    async fn highest_id(&mut self) -> Result<i64> {
        self.started().await?;
        let highest = self.client.scalar(quarantine::highest_id(&self.bridge)).await?;
        Ok(highest.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    async fn recorded(&mut self, id: i64) -> Result<Option<Resolution>> {
        self.started().await?;
        let rows = self.client.rows(state::recorded(&self.bridge, id)).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        state::resolution(row, self.tables.tables.iter())
    }

    async fn answer_new_key(&mut self, request: &NewKey, answer: &Answer) -> Result<bool> {
        self.started().await?;
        let statement = requests::answer_new_key(&self.bridge, self.tables.mapped(request.table)?, request, answer);
        let Some(statement) = statement else { return Ok(false) };
        let answers = self.client.run(statement).await?;
        Ok(answers.first().is_some_and(|answer| answer.affected == 1))
    }

    async fn repaired(&mut self, request: &Repair) -> Result<()> {
        self.started().await?;
        self.client.run(requests::repaired(&self.bridge, request)).await.map(|_| ())
    }

    async fn record(&mut self, resolutions: &[Resolution]) -> Result<()> {
        self.started().await?;
        let bytes_max = BYTES_MAX.min(self.client.server.packet_bytes_max / 4);
        let mut records = resolutions.iter().peekable();
        while let Some(first) = records.peek() {
            let table = &self.tables.mapped(first.table)?.name;
            let mut together = Records::default();
            while together.bytes() < bytes_max
                && let Some(record) = records.next()
            {
                together.push(&self.bridge, record, self.tables.mapped(record.table)?);
            }
            let [retire, record] = together.statements(&self.bridge);
            let kept = |error: Error| error.at(format_args!("the record of a conflict over {table}"));
            let mut script = Script::from(retire);
            script.push(record);
            self.client.ensure_fits(script.bytes()).map_err(kept)?;
            self.client.run(script).await?;
        }
        Ok(())
    }

    async fn load(&mut self, table: TableId, rows: &[&Row]) -> Result<Applied> {
        self.started().await?;
        let sql = self.tables.make(&mut self.client, table).await?;
        no_null_is_replaced(sql, rows.iter().copied().flat_map(all_of))?;
        if self.files.take(&mut self.client, table, rows).await? {
            return self.load_by_file(table, rows).await;
        }
        let mut written = Ok(Applied::All);
        let mut statements = sql.inserts(rows);
        let mut next = statements.next();
        while let (Some(statement), Ok(Applied::All)) = (next.take(), &written) {
            let statement = statement.map_err(|_| no_literal(sql, rows))?;
            self.client.ensure_fits(statement.packet_bytes()).map_err(|error| error.at(&sql.table.name))?;
            let Expecting { sql: text, rows: expected, large } = statement;
            // The server works on one while the next is made.
            let (answers, made) = tokio::join!(self.client.run_with(text, large), async { statements.next() });
            next = made;
            written = answers.map(|answers| match answers.first() {
                Some(answer) if answer.affected == expected => Applied::All,
                _ => Applied::Missed,
            });
        }
        drop(statements);
        self.written(table, written, rows).await
    }

    async fn note_copy(&mut self, copy: &CopyState) -> Result<()> {
        self.started().await?;
        let statement = state::note_copy(&self.bridge, self.tables.mapped(copy.table)?, copy);
        self.client.run(statement).await.map(|_| ())
    }

    async fn retire(&mut self, ids: &[i64]) -> Result<()> {
        self.started().await?;
        if ids.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = ids.iter().map(i64::to_string).collect();
        self.client
            .run(format!(
                "UPDATE `pontoon`.`resolution` SET in_force = 0 WHERE bridge = {} AND id IN ({})",
                encode::text(&self.bridge),
                list.join(", ")
            ))
            .await?;
        Ok(())
    }

    async fn forget(&mut self, keep: &Retention, limit: usize) -> Result<u64> {
        self.started().await?;
        let answers = self.client.run(history::forget(&self.bridge, keep, limit)).await?;
        Ok(answers.iter().map(|answer| answer.affected).sum())
    }

    async fn commit(&mut self) -> Result<()> {
        self.started().await?;
        self.is_open = false;
        let mut script = Script::from(format!("SET SESSION wait_timeout = {IDLE_SECONDS}"));
        script.push("COMMIT");
        self.client.run(script).await?;
        Ok(())
    }

    async fn rollback(&mut self) -> Result<()> {
        self.is_open = false;
        if self.told.take().is_some() {
            return Ok(());
        }
        let mut script = Script::from("ROLLBACK");
        script.push(format!("SET SESSION wait_timeout = {IDLE_SECONDS}"));
        self.client.run(script).await?;
        Ok(())
    }

    fn is_bloated(&self) -> bool {
        self.is_bloated
    }
}
