//! `pontoon quarantine retry ID --key NEW`: one of two rows that came to stand under one key is given another.
//!
//! Of an entry it is the other node's row, or with `--take` that of the node that is not named; of a record the row that
//! lost. The key is read in the common form of its columns and looked for on both sides before anything is asked for;
//! the bridge looks again, under its locks.

use std::sync::Arc;

use pontoon_core::{
    Code, Error, Form, Key, MappedTable, Result, Value,
    history::{Filter, Record},
    new_key::{Answer, Of, Request},
    node::Node,
    quarantine::Ask,
    record::key_to_text,
};
use serde_json::Value as Json;

use super::{Context, DONE, NO};
use crate::{
    config::Config,
    conflict::lost::{Settled, rule_given},
    human::printable,
    mapping::{self, Mapping},
    nodes::Nodes,
    operate::quarantine::{Found, Kept, mark, when},
    side::{Pair, Side},
};

/// Records that were settled together with one, of which it matters whether there are any.
const GROUP_LOOK_MAX: usize = 2;

/// What is known of the command.
pub(super) struct Command<'a> {
    pub(super) config: &'a Config,
    pub(super) nodes: &'a Nodes,
    pub(super) context: &'a Context,
    pub(super) found: &'a Found,
    /// The new key, as it was written.
    pub(super) key: &'a str,
}

impl Command<'_> {
    /// Asks for the key of one entry or record.
    pub(super) async fn run(&self, ids: &[i64], take: Option<Side>) -> Result<u8> {
        let [id] = ids else {
            return Err(Error::new(Code::Config, "--key gives one row a key, and there are several ids"));
        };
        match self.found.kept.iter().find(|kept| kept.entry.id == *id) {
            Some(kept) => self.of_entry(kept, take.unwrap_or(kept.side)).await,
            None => self.of_record(*id, take.is_some()).await,
        }
    }

    async fn of_entry(&self, kept: &Kept, keeps: Side) -> Result<u8> {
        let all = self.found.with_ties(&[kept]);
        let keys = self.found.keys(&all).len();
        if keys > 1 || all.iter().any(|kept| kept.entry.moved_key.is_some()) {
            eprintln!("its row was moved from one key to another: decide which one stands with --take alone");
            return Ok(NO);
        }
        let Some(head) = all.iter().find(|kept| kept.entry.code.is_some()) else {
            eprintln!("entry {} waits for one that is not there any more: it is tried before long", kept.entry.id);
            return Ok(NO);
        };
        let Some(request) = self.request(Of::Entry(head.entry.id), &kept.entry.table).await? else { return Ok(NO) };
        self.nodes.admins[Side::A].ask_new_key(&request).await?;
        mark(&self.nodes.admins, &all, |of| if of == keeps { Ask::TakeOwnApart } else { Ask::TakeOtherApart }).await?;
        let [kept_by, other] = [keeps, keeps.other()].map(|side| &self.found.names[side]);
        let (old, new) = (printable(&kept.entry.key), printable(&request.key));
        let when = when(&self.nodes.nodes).await?;
        self.context
            .out
            .line(&format!("the row of {kept_by} is to keep the key {old}, that of {other} to have {new}: {when}"))?;
        Ok(DONE)
    }

    async fn of_record(&self, id: i64, is_taking: bool) -> Result<u8> {
        let Some(record) = self.records(Filter { id: Some(id), ..Filter::default() }, 1).await?.pop() else {
            eprintln!(
                "there is no entry {id} in quarantine and no record {id}; it may have healed, or be older than what is kept"
            );
            return Ok(NO);
        };
        if is_taking {
            return Err(Error::new(
                Code::Config,
                format!("record {id} is settled: --take is for entries in quarantine"),
            )
            .hint("without it the row that lost is given the key"));
        }
        let side = match self.lost(&record).await? {
            Ok(side) => side,
            Err(why) => {
                eprintln!("no row lost in record {id}: {why}");
                return Ok(NO);
            }
        };
        let of = Of::Record(id);
        if let Some(given) = self.given(of).await? {
            return Ok(given);
        }
        let Some(request) = self.request(of, &record.table).await? else { return Ok(NO) };
        let admin = &self.nodes.admins[Side::A];
        admin.ask_new_key(&request).await?;
        // Another command may have been first, and the bridge done with it.
        if let Some(given) = self.given(of).await? {
            return Ok(given);
        }
        let (name, new) = (&self.found.names[side], printable(&request.key));
        let when = match when(&self.nodes.nodes).await? {
            when if when.starts_with("by") => "by the running bridge, within ten seconds",
            when => when,
        };
        let line = format!("the row of {name} that lost in record {id} is to have the key {new}: {when}");
        self.context.out.line(&line)?;
        self.context.out.line(&format!("pontoon conflicts show {id} tells what came of it"))?;
        Ok(DONE)
    }

    async fn records(&self, filter: Filter, limit: usize) -> Result<Vec<Record>> {
        let found = self.nodes.admins[Side::A].records(&filter, limit).await;
        found.map_err(|error| error.at(&self.found.names[Side::A]))
    }

    /// Whose row lost. Errors: an inner one, why there is none that could be given a key.
    async fn lost(&self, record: &Record) -> Result<Result<Side, &'static str>> {
        let side = match settled(record).lost() {
            Ok((side, _)) => side,
            Err(why) => return Ok(Err(why)),
        };
        // What an operator had decided may have been completed, and the row have its key.
        let group = Filter { group: Some(record.group), ..Filter::default() };
        let is_completed = record.rule.starts_with("completed");
        if is_completed && self.records(group, GROUP_LOOK_MAX).await?.len() > 1 {
            return Ok(Err("it was completed together with another key, which the row may have"));
        }
        Ok(Ok(side))
    }

    /// The exit code where the row that lost was given a key before: it is given one once.
    async fn given(&self, of: Of) -> Result<Option<u8>> {
        let (Of::Record(id) | Of::Entry(id)) = of;
        let Some(Request { key, answer: Some(Answer::Given), .. }) = self.nodes.admins[Side::A].new_key(of).await?
        else {
            return Ok(None);
        };
        let by = self.records(Filter { rule: Some(rule_given(id)), ..Filter::default() }, 1).await?;
        let by = by.first().map_or_else(String::new, |record| format!(", record {}", record.id));
        eprintln!("the row that lost in record {id} was given the key {} already{by}", printable(&key));
        Ok(Some(NO))
    }

    /// What is asked for; `None`, said on standard error, where the key is not free. Errors: it is none.
    async fn request(&self, of: Of, label: &str) -> Result<Option<Request>> {
        let Mapping { tables, .. } = mapping::map(self.config, &self.nodes.nodes).await?.require()?;
        let Some(at) = tables[Side::A].iter().position(|table| *table.label == *label) else {
            return Err(Error::new(Code::Config, format!("{label:?} is no table of the bridge any more")));
        };
        let pair = Pair::from_fn(|side| &tables[side][at]);
        if let Some(side) = Side::BOTH.into_iter().find(|side| !pair[*side].followed) {
            let message = format!("{label} does not go from {} to the other side", self.found.names[side]);
            return Err(Error::new(Code::Config, message).hint("a row is given a key where it goes both ways"));
        }
        let key = parse(pair, &self.found.names, self.key)?;
        for side in Side::BOTH {
            let node: &Arc<dyn Node> = &self.nodes.nodes[side];
            let row = node.open_scan(&tables[side]).await?.rows(pair[side].id, std::slice::from_ref(&key)).await?;
            if row.iter().any(Option::is_some) {
                eprintln!("{} has a row under the key {}", node.name(), printable(&key_to_text(&key)));
                return Ok(None);
            }
        }
        Ok(Some(Request { of, table: label.to_owned(), key: key_to_text(&key), answer: None }))
    }
}

/// A record as the engine sees it.
pub(super) fn settled(record: &Record) -> Settled<'_, String> {
    Settled {
        rule: &record.rule,
        is_merged: record.taken.is_some(),
        a: record.own_row.as_ref(),
        b: record.other_row.as_ref(),
        verdict: record.verdict.as_ref(),
    }
}

/// A key as it is written: the value of one column as it is, or those of all as a JSON array. Errors: it is none of the
/// table, or a side cannot hold it.
fn parse(tables: Pair<&MappedTable>, names: &Pair<String>, text: &str) -> Result<Key> {
    let table = tables[Side::A];
    let invalid = |why: String| Error::new(Code::Config, format!("{text:?} is no key of {}: {why}", table.label));
    let written = serde_json::from_str(text).ok();
    let values = written.as_ref().and_then(Json::as_array);
    let columns: Vec<&str> = table.key.iter().map(|&at| &*table.columns[at].column.name).collect();
    let count = values.map_or(1, Vec::len);
    if count != columns.len() {
        let value = vec!["VALUE"; columns.len()].join(", ");
        let form = if columns.len() == 1 { value } else { format!("'[{value}]'") };
        let why = format!("{} in number, for {}", count, columns.len());
        return Err(invalid(why).hint(format!("its key is {}: --key {form}", columns.join(", "))));
    }
    let mut key = Vec::new();
    for (number, &at) in table.key.iter().enumerate() {
        let (column, form) = (&table.columns[at].column.name, table.columns[at].form);
        let value = match values.and_then(|values| values.get(number)) {
            Some(value) => from_json(value.clone(), form),
            None => from_text(text, form),
        };
        let value = value.ok_or_else(|| invalid(format!("{column} is of the form {form}")))?;
        for side in Side::BOTH {
            let mapped = &tables[side].columns[at];
            mapped.kind.fits(&value).map_err(|why| {
                invalid(format!("{column} on {} does not hold it: {why} ({})", names[side], mapped.column.native))
            })?;
        }
        key.push(value);
    }
    Ok(Key(key))
}

/// A value as it is, without quotes.
fn from_text(text: &str, form: Form) -> Option<Value> {
    let json = match form {
        Form::Boolean | Form::Integer | Form::Float32 | Form::Float64 => serde_json::from_str(text).ok()?,
        _ => Json::String(text.to_owned()),
    };
    from_json(json, form)
}

/// A value as records and entries write it, in the common form; an exact number may stand without quotes.
fn from_json(json: Json, form: Form) -> Option<Value> {
    let json = match json {
        Json::Number(number) if form == Form::Decimal => Json::String(number.to_string()),
        json => json,
    };
    match form.convert(Value::from_json(&json, form)?) {
        Value::Null | Value::Unmapped(_) => None,
        value => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use pontoon_core::{Column, Kind, MappedColumn, TableName};

    use super::*;

    /// A table with a key of these columns.
    fn table(columns: &[(&str, Kind, Form)]) -> MappedTable {
        let column = |(name, kind, form): &(&str, Kind, Form)| {
            MappedColumn::new(
                Column { nullable: false, ..Column::plain(*name, "any", kind.clone()) },
                kind.clone(),
                *form,
            )
        };
        MappedTable {
            key: (0..columns.len()).collect(),
            ..MappedTable::plain(TableName::new("main", "items"), columns.iter().map(column).collect())
        }
    }

    fn read(columns: &[(&str, Kind, Form)], text: &str) -> Result<Vec<Value>, String> {
        let names = Pair::new("shop".to_owned(), "stock".to_owned());
        let (a, mut b) = (table(columns), table(columns));
        // One side holds less.
        if let Kind::Integer { max, .. } = &mut b.columns[0].kind {
            *max = 2_000;
        }
        parse(Pair::new(&a, &b), &names, text).map(|key| key.0).map_err(|error| error.message().to_owned())
    }

    const BIGINT: Kind = Kind::Integer { min: -9_000_000, max: 9_000_000 };
    const TEXT: Kind = Kind::Text { chars_max: Some(4), bytes_max: None, padded: false, nul: false };
    const ID: (&str, Kind, Form) = ("id", BIGINT, Form::Integer);
    const CODE: (&str, Kind, Form) = ("code", TEXT, Form::Text { padded: false });

    #[test]
    fn a_key_of_one_column_is_its_value() {
        assert_eq!(read(&[ID], "1017").unwrap(), [Value::Integer(1017)]);
        assert_eq!(read(&[ID], "[-7]").unwrap(), [Value::Integer(-7)]);
        for text in ["17", "null", "true", "{}", "[x]", "é"] {
            assert_eq!(read(&[CODE], text).unwrap(), [Value::Text(text.into())], "{text}");
        }
        assert_eq!(read(&[CODE], r#"["17"]"#).unwrap(), [Value::Text("17".into())]);
        let price = ("price", Kind::Decimal { digits: Some((5, 2)) }, Form::Decimal);
        for text in ["1.50", "[1.50]", r#"["1.5"]"#] {
            assert_eq!(read(std::slice::from_ref(&price), text).unwrap(), [Value::Decimal("1.5".into())], "{text}");
        }
        let uuid = ("id", Kind::Uuid, Form::Uuid);
        assert!(read(std::slice::from_ref(&uuid), "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11").is_ok());
        assert!(read(&[uuid], "a0eebc99").unwrap_err().ends_with("id is of the form uuid"));
    }

    #[test]
    fn a_key_of_several_columns_is_an_array() {
        assert_eq!(read(&[ID, CODE], r#"[17, "x"]"#).unwrap(), [Value::Integer(17), Value::Text("x".into())]);
        for (text, why) in [("17", "1 in number, for 2"), ("[1, \"x\", 2]", "3 in number, for 2")] {
            assert!(read(&[ID, CODE], text).unwrap_err().ends_with(why), "{text}");
        }
        assert!(read(&[ID], "[1, 2]").unwrap_err().ends_with("2 in number, for 1"));
    }

    #[test]
    fn what_is_no_key_is_named() {
        for text in ["x", "1.5", "", "null", "[null]", r#"["7"]"#] {
            assert!(read(&[ID], text).unwrap_err().ends_with("id is of the form integer"), "{text}");
        }
        assert!(read(&[CODE], "[17]").unwrap_err().ends_with("code is of the form text"));
        let why = read(&[ID], "2001").unwrap_err();
        assert!(why.contains("id on stock does not hold it: outside -9000000 to 2000 (any)"), "{why}");
        assert!(
            read(&[CODE], "too long").unwrap_err().contains("code on shop does not hold it: 8 characters, at most 4")
        );
    }
}
