//! Row events to changes of mapped tables, and to the origin of their transaction.

use std::sync::Arc;

use pontoon_core::{Change, Code, Error, LogEvent, Operation, Origin, Result, Value, change::FRAGMENT_BYTES};

use super::{
    assemble::Assembler,
    rows::{Plan, Rows, Verb},
    table_map::{self, TableMap},
    target::{Target, key_plan, no_metadata, own_plan, plan},
};
use crate::{charset::Charsets, tables};

/// Table maps remembered by their number, before all are forgotten; every statement sends its own anew.
const MAPS_MAX: usize = 4096;

impl Assembler {
    pub(super) fn table_map(&mut self, body: &[u8]) -> Result<()> {
        let here = self.position();
        let (id, schema, name) = table_map::names(body).map_err(|error| error.at(&here))?;
        if self.maps.get(&id).is_some_and(|(known, _)| known == body) {
            return Ok(());
        }
        if self.maps.len() >= MAPS_MAX {
            self.maps.clear();
        }
        let own = schema == tables::DATABASE;
        let index = self.wanted.get(&(schema, name.clone())).copied();
        let target = match (index, own.then_some(name.as_str())) {
            (Some(index), _) => {
                let (_, map) = table_map::parse(body).map_err(|error| error.at(&here))?;
                let names = map.columns.iter().map(|column| column.name.as_str());
                let shape = self.reading.shapes.get(index).map_or(&[][..], Vec::as_slice);
                let names_are_known = names.eq(shape.iter().map(|name| &**name));
                let plan = plan(&map, &self.reading.tables[index], shape, &self.reading.charsets);
                let is_known = names_are_known && plan.as_ref().is_ok_and(|plan| !plan.reshaped);
                if let Some((_, error)) = self.doubts.remove(&index).filter(|_| !is_known) {
                    self.maps.insert(id, (body.to_vec(), Arc::new(Target::Unfit(error))));
                    return Ok(());
                }
                let table = &self.reading.tables[index];
                match (plan, key_plan(&map, table)) {
                    (Ok(plan), own) => {
                        let own = own.filter(|_| !self.reading.all && !table.by_columns);
                        Target::Mapped { index, map, plan, own }
                    }
                    (Err(error), Some(plan)) => Target::Former { index, map, plan, error },
                    (Err(error), None) => Target::Unfit(error),
                }
            }
            (None, Some(table @ (tables::CHECKPOINT | tables::CONTROL))) => {
                let (_, map) = table_map::parse(body).map_err(|error| error.at(&here))?;
                let second = if table == tables::CHECKPOINT { ("commit_time", 6) } else { ("name", 1) };
                match own_plan(&map, &[("bridge", 0), second]) {
                    Some(plan) if table == tables::CHECKPOINT => Target::Checkpoint(map, plan),
                    Some(plan) => Target::Control(map, plan),
                    None => Target::Unfit(no_metadata("pontoon")),
                }
            }
            _ => Target::Foreign,
        };
        self.maps.insert(id, (body.to_vec(), Arc::new(target)));
        Ok(())
    }

    pub(super) fn rows(&mut self, mut rows: Rows<'_>) -> Result<()> {
        let target = self.maps.get(&rows.table).map(|(_, target)| target.clone());
        let here = self.position();
        let transaction = self.open();
        let leading = !std::mem::replace(&mut transaction.decided, true);
        if transaction.is_passed_over() {
            return Ok(());
        }
        let is_own = transaction.origin == Origin::Own;
        let charsets = self.reading.charsets.clone();
        match target.as_deref() {
            None => return Err(super::malformed("rows come before their table map").at(&here)),
            Some(Target::Foreign) => {}
            Some(Target::Former { index, map, plan, .. }) if is_own => {
                self.mapped(rows, *index, map, plan, &charsets)?;
            }
            Some(Target::Unfit(error) | Target::Former { error, .. }) => self.obstacle(error.clone()),
            Some(Target::Checkpoint(map, plan)) => {
                let row = rows.next(map, plan, &charsets).map_err(|error| error.at(&here))?;
                if let (true, Some((_, Some(row)))) = (leading, row) {
                    self.tagged(&row);
                }
            }
            Some(Target::Control(map, plan)) => {
                let bridge = self.reading.bridge.clone();
                while let Some((_, row)) = rows.next(map, plan, &charsets).map_err(|error| error.at(&here))? {
                    let is = |at: usize, text: &str| {
                        row.as_ref()
                            .is_some_and(|row| matches!(row.get(at), Some(Value::Text(found)) if **found == *text))
                    };
                    if is(0, &bridge) && is(1, tables::BARRIER) {
                        self.open().barrier = true;
                    }
                }
            }
            Some(Target::Mapped { index, map, plan, own }) => {
                let plan = own.as_ref().filter(|_| is_own).unwrap_or(plan);
                self.mapped(rows, *index, map, plan, &charsets)?;
            }
        }
        Ok(())
    }

    fn tagged(&mut self, row: &[Value]) {
        let own = self.reading.bridge.clone();
        let Some(transaction) = &mut self.transaction else { return };
        if let Some(Value::Text(bridge)) = row.first() {
            transaction.origin = if **bridge == *own { Origin::Own } else { Origin::Bridge(bridge.as_str().into()) };
        }
        if let Some(&Value::Integer(time)) = row.get(1)
            && time > 0
        {
            transaction.commit_time = i64::try_from(time).unwrap_or(transaction.commit_time);
        }
    }

    fn mapped(
        &mut self,
        mut rows: Rows<'_>,
        index: usize,
        map: &TableMap,
        plan: &Plan,
        charsets: &Charsets,
    ) -> Result<()> {
        let here = self.position();
        let tables = self.reading.tables.clone();
        let table = &tables[index];
        let full = rows.are_full(plan);
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        transaction.mapped = true;
        if !full {
            let text = format!("{}: a change was logged with a part of its row", table.label);
            self.obstacle(
                Error::new(Code::RowImagePartial, text)
                    .hint("SET GLOBAL binlog_row_image = FULL, and end the sessions that set it otherwise")
                    .of_table(&table.label),
            );
            return Ok(());
        }
        let is_of_before = self.redefined.get(&index).is_some_and(|place| self.begins < *place);
        while let Some((before, after)) = rows.next(map, plan, charsets).map_err(|error| error.at(&here))? {
            let row = |values: Option<Vec<Value>>| table.to_common(values.unwrap_or_default());
            let crossing = |values: Option<Vec<Value>>| table.to_cross(values.unwrap_or_default());
            let operation = match rows.verb {
                Verb::Insert => Operation::Insert { after: crossing(after) },
                Verb::Update => Operation::update(row(before), crossing(after), Vec::new()),
                Verb::Delete => Operation::Delete { before: row(before) },
            };
            self.change(Change { table: table.id, operation, reshaped: plan.reshaped || is_of_before });
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        let Some(transaction) = &mut self.transaction else { return };
        transaction.bytes += change.memory_bytes();
        transaction.changes.push(change);
        if transaction.bytes >= FRAGMENT_BYTES {
            if transaction.xa {
                return self.piece();
            }
            let fragment = transaction.fragment(None);
            match &mut transaction.held {
                Some(held) => held.push(fragment),
                None => self.push(LogEvent::Fragment(fragment)),
            }
        }
    }
}
