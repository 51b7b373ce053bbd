//! What a table's entry and `[defaults]` say of conflicts and of what a target refuses.

use super::{
    Conflict, Defaults, Direction,
    parse::{Names, Parser},
    place::did_you_mean,
    reader::{Fields, Item},
};
use crate::conflict::{
    policy::{ForeignKeyRule, UniqueRule},
    quarantine::OnError,
};

/// A key whose value is one of some words, and what each stands for.
struct Words<T: 'static> {
    key: &'static str,
    /// Of which it says what becomes of it.
    of: &'static str,
    words: &'static [(&'static str, T)],
}

const ON_ERROR: Words<OnError> = Words {
    key: "on_error",
    of: "a refused row",
    words: &[("quarantine", OnError::Quarantine), ("stop", OnError::Stop)],
};

const UNIQUE_CONFLICT: Words<UniqueRule> = Words {
    key: "unique_conflict",
    of: "two rows that cannot both live",
    words: &[("quarantine", UniqueRule::Quarantine), ("rule", UniqueRule::Rule)],
};

const FOREIGN_KEY: Words<ForeignKeyRule> = Words {
    key: "foreign_key",
    of: "a row that refers to a removed one",
    words: &[
        ("quarantine", ForeignKeyRule::Quarantine),
        ("restore_parent", ForeignKeyRule::RestoreParent),
        ("delete_child", ForeignKeyRule::DeleteChild),
    ],
};

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            conflict: Conflict::LastWriterWins,
            direction: Direction::Both,
            on_error: OnError::Quarantine,
            unique_conflict: UniqueRule::Quarantine,
            foreign_key: ForeignKeyRule::Quarantine,
        }
    }
}

impl Parser<'_, '_> {
    /// What a section says of them; what it does not say is as otherwise.
    pub(super) fn rules(&mut self, fields: &Fields<'_, '_>, names: Option<Names<'_>>, otherwise: Defaults) -> Defaults {
        Defaults {
            conflict: fields.get("conflict").and_then(|item| self.conflict(&item, names)).unwrap_or(otherwise.conflict),
            direction: fields
                .get("direction")
                .and_then(|item| self.direction(&item, names))
                .unwrap_or(otherwise.direction),
            on_error: self.word(fields, &ON_ERROR).unwrap_or(otherwise.on_error),
            unique_conflict: self.word(fields, &UNIQUE_CONFLICT).unwrap_or(otherwise.unique_conflict),
            foreign_key: self.word(fields, &FOREIGN_KEY).unwrap_or(otherwise.foreign_key),
        }
    }

    /// What the word of a key stands for.
    fn word<T: Copy>(&mut self, fields: &Fields<'_, '_>, Words { key, of, words }: &Words<T>) -> Option<T> {
        let item = fields.get(key)?;
        let text = item.text(&mut self.problems)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let near = did_you_mean(text, words.iter().map(|(word, _)| *word));
            let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            item.refuse_with(
                &mut self.problems,
                format!("{text:?} does not say what becomes of {of}{near}"),
                format!("it is {}", known.join(" or ")),
            );
        }
        found.map(|(_, meaning)| *meaning)
    }

    fn conflict(&mut self, item: &Item<'_, '_>, names: Option<Names<'_>>) -> Option<Conflict> {
        let text = item.text(&mut self.problems)?;
        match text {
            "last_writer_wins" => return Some(Conflict::LastWriterWins),
            "column_merge" => return Some(Conflict::ColumnMerge),
            "quarantine" => return Some(Conflict::Quarantine),
            _ => {}
        }
        if let Some(node) = text.strip_prefix("prefer:") {
            return self.node_name(item, node, names).map(Conflict::Prefer);
        }
        let known = ["last_writer_wins", "prefer:NODE", "column_merge", "quarantine"];
        item.refuse_with(
            &mut self.problems,
            format!("{text:?} is no rule for conflicts{}", did_you_mean(text, known)),
            "it is \"last_writer_wins\", \"column_merge\", \"prefer:NODE\" or \"quarantine\"",
        );
        None
    }

    fn direction(&mut self, item: &Item<'_, '_>, names: Option<Names<'_>>) -> Option<Direction> {
        let text = item.text(&mut self.problems)?;
        if text == "both" {
            return Some(Direction::Both);
        }
        let Some((source, target)) = text.split_once("->") else {
            item.refuse_with(
                &mut self.problems,
                format!("{text:?} is no direction{}", did_you_mean(text, ["both"])),
                "it is \"both\" or \"NODE->NODE\"",
            );
            return None;
        };
        let source_side = self.node_name(item, source.trim(), names);
        let target_side = self.node_name(item, target.trim(), names);
        let (source_side, target_side) = (source_side?, target_side?);
        if source_side == target_side {
            item.refuse(&mut self.problems, format!("{text:?} goes from a node to itself"));
            return None;
        }
        Some(Direction::From(source_side))
    }
}
