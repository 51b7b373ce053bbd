//! The records of settled conflicts, written as many at a time as come: a backlog on both sides may have met in thousands of rows.
//!
//! Older records of their keys are looked for once for all of them, since the index has only which are in force: a statement for each key would
//! read all of these every time.

use pontoon_core::{
    MappedTable, Position, Resolution, Row,
    record::{key_to_text, row_to_text},
};

use crate::encode;

/// Records that are written together.
#[derive(Default)]
pub(crate) struct Records {
    /// The rows to insert.
    rows: String,
    /// The pairs of table and key that they are about.
    keys: String,
}

impl Records {
    /// How long the statements are, but for what stands around these.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.len() + self.keys.len()
    }

    /// Adds a record in force; its key is that of no other.
    pub(crate) fn push(&mut self, bridge: &str, record: &Resolution, table: &MappedTable) {
        let (label, key) = (encode::text(&table.label), encode::text(&key_to_text(&record.key)));
        let position = |of: &Option<Position>| of.as_ref().map_or("NULL".into(), |at| encode::text(&at.durable()));
        let row = |of: &Option<Row>| of.as_ref().map_or("NULL".into(), |row| encode::text(&row_to_text(table, row)));
        for list in [&mut self.rows, &mut self.keys] {
            list.push_str(if list.is_empty() { "" } else { ", " });
        }
        self.keys.push_str(&format!("({label}, {key})"));
        self.rows.push_str(&format!(
            "({}, {}, {}, {label}, {key}, 1, {}, {}, {}, {}, {}, {}, {}, {}, {})",
            encode::text(bridge),
            record.id,
            record.group,
            position(&record.own_fence),
            position(&record.other_fence),
            row(&record.own_row),
            row(&record.other_row),
            row(&record.verdict),
            row(&record.ancestor),
            record.columns.as_deref().map_or("NULL".into(), encode::text),
            record.commit_time,
            encode::text(&record.rule),
        ));
    }

    /// The statements: older ones go out of force, and these come.
    pub(crate) fn statements(self, bridge: &str) -> [String; 2] {
        [
            format!(
                "UPDATE `pontoon`.`resolution` SET in_force = 0 \
                 WHERE bridge = {} AND in_force = 1 AND (table_name, row_key) IN ({})",
                encode::text(bridge),
                self.keys
            ),
            format!(
                "INSERT INTO `pontoon`.`resolution` (bridge, id, group_id, table_name, row_key, in_force, own_fence, \
                 other_fence, own_row, other_row, verdict, ancestor, taken, commit_time, rule) VALUES {}",
                self.rows
            ),
        ]
    }
}
