//! What the bridge keeps in the database `pontoon`, read and written.
//!
//! Rows are kept as JSON that a person can read and that reads back exactly ([`pontoon_core::record`]).

use std::sync::Arc;

use pontoon_core::{
    Checkpoint, Code, CopyState, Error, LogIdentity, MappedTable, Position, Resolution, Result,
    neighbours::Carried,
    node::{Applier, SetUp, Tables},
    record::{key_from_text, stored_row},
    state::{Arrangement, NodeState, NotedLogs, UnmappedResolution},
};

use crate::{
    connect::{Client, Field, Script, number, text},
    encode, quarantine,
    tables::{ASIDE, COPY, EPOCH, FORMAT, OTHER_EPOCH, PAIR, SINCE, SKIP, TABLE},
};

/// The numbers of the two appliers that apply the other node's log.
const FIRST: i32 = Applier::Direction.number();
const BESIDE: i32 = Applier::Beside.number();

/// The tables are not there.
pub(crate) fn missing(node: &str) -> Error {
    Error::new(Code::NotSetUp, format!("{node}: the bridge is not set up here")).hint("run `pontoon setup`")
}

/// An error of a statement on the bridge's own tables: where they are not there, setup is missing.
pub(crate) fn not_set_up(error: Error) -> Error {
    match error.code() {
        Code::SchemaChanged => {
            Error::new(Code::NotSetUp, format!("the bridge is not set up here: {}", error.message()))
                .hint("run `pontoon setup`")
        }
        // Without any privilege on a database the servers do not say whether it is there.
        Code::PrivilegeMissing => error,
        _ => error,
    }
}

/// Fails where the tables are of another version.
pub(crate) async fn check_format(client: &mut Client) -> Result<()> {
    pontoon_core::state::check_format(format(client).await?.map(i64::from))
}

/// The format of the tables; `None` where they do not say. Errors: among others, they are not there.
pub(crate) async fn format(client: &mut Client) -> Result<Option<i32>> {
    let statement = format!("SELECT number FROM `pontoon`.`control` WHERE bridge = '' AND name = '{FORMAT}'");
    let found = client.scalar(statement).await.map_err(not_set_up)?;
    Ok(found.and_then(|text| text.parse().ok()))
}

/// Everything of one bridge.
pub(crate) async fn load(client: &mut Client, bridge: &str, tables: &Tables) -> Result<NodeState> {
    check_format(client).await?;
    let name = encode::text(bridge);
    let mut script = Script::from(format!(
        "SELECT `position`, `log` FROM `pontoon`.`checkpoint` WHERE bridge = {name} AND applier IN ({FIRST}, {BESIDE}) \
         ORDER BY applier"
    ));
    script.push(format!("{} AND in_force = 1 ORDER BY id", resolutions_of(bridge)));
    script.push(format!("SELECT name FROM `pontoon`.`control` WHERE bridge = {name} AND name LIKE '{SKIP}%'"));
    script.push(carried(bridge));
    for prefix in [SINCE, ASIDE] {
        script.push(format!(
            "SELECT name, value FROM `pontoon`.`control` WHERE bridge = {name} AND name LIKE '{prefix}%' ORDER BY name"
        ));
    }
    script.push(format!("SELECT DISTINCT bridge FROM `pontoon`.`checkpoint` WHERE bridge <> {name} ORDER BY bridge"));
    for statement in quarantine::keys_statements(bridge) {
        script.push(statement);
    }
    script.push(quarantine::highest_id(bridge));
    script.push(format!("SELECT COALESCE(MAX(id), 0) FROM `pontoon`.`resolution` WHERE bridge = {name}"));
    let number_of = |row| format!("(SELECT number FROM `pontoon`.`control` WHERE bridge = {name} AND name = '{row}')");
    script.push(format!("SELECT COALESCE({}, 0), COALESCE({}, 0)", number_of(EPOCH), number_of(OTHER_EPOCH)));
    script.push(format!("SELECT 1 FROM `pontoon`.`checkpoint` WHERE bridge = {name} AND `sequence` > 0"));
    let answers = client.run(script).await.map_err(not_set_up)?;
    let [
        checkpoint,
        resolutions,
        skips,
        carried,
        since,
        aside,
        others,
        quarantined,
        ties,
        highest,
        last,
        epochs,
        applied,
    ] = answers.as_slice()
    else {
        return Err(Error::new(Code::Protocol, "the server left answers out"));
    };
    let mut state = NodeState::default();
    if let Some(row) = checkpoint.rows.first()
        && let (Some(position), Some(log)) = (text(row, 0), text(row, 1))
    {
        let beside = checkpoint.rows.get(1).and_then(|row| text(row, 0)).map(|text| text.parse()).transpose()?;
        state.checkpoint = Some(Checkpoint::later(position.parse()?, beside, LogIdentity(log.into())));
    }
    for row in &resolutions.rows {
        match resolution(row, &**tables)? {
            Some(resolution) => state.resolutions.push(resolution),
            None => state.unmapped.resolutions.push(unmapped(row)?),
        }
    }
    for row in &skips.rows {
        let name = text(row, 0).unwrap_or_default();
        state.skips.push(name.strip_prefix(SKIP).unwrap_or_default().parse()?);
    }
    state.tables = set_up(&carried.rows);
    for row in &since.rows {
        let (label, place) = (label(row, SINCE), text(row, 1).unwrap_or_default().parse()?);
        match tables.iter().find(|table| table.label == label) {
            Some(table) => state.since.push((table.id, place)),
            None => state.unmapped.since.push((label, place)),
        }
    }
    for row in &aside.rows {
        state.aside.push((label(row, ASIDE), text(row, 1).unwrap_or_default().parse()?));
    }
    state.quarantine = quarantine::keys(&quarantined.rows, &ties.rows, tables)?;
    state.last_record = last.rows.first().and_then(|row| number(row, 0)).unwrap_or(0);
    state.highest_id = highest.rows.first().and_then(|row| number(row, 0)).unwrap_or(0);
    let epoch = |at| epochs.rows.first().and_then(|row| number(row, at)).unwrap_or(0);
    (state.epoch, state.other_epoch) = (epoch(0), epoch(1));
    state.applied = !applied.rows.is_empty();
    state.other_bridges = others.rows.iter().filter_map(|row| text(row, 0)).collect();
    Ok(state)
}

/// The statement that asks for the tables that the bridge is set up for here.
pub(crate) fn carried(bridge: &str) -> String {
    let bridge = encode::text(bridge);
    format!(
        "SELECT name, value FROM `pontoon`.`control` WHERE bridge = {bridge} AND name LIKE '{TABLE}%' ORDER BY name"
    )
}

/// Those tables.
pub(crate) fn set_up(rows: &[Vec<Field>]) -> Vec<SetUp> {
    let arrives = |row: &Vec<Field>| Carried::from_text(&text(row, 1)?).map(|carried| carried.arrives);
    rows.iter().map(|row| (label(row, TABLE), arrives(row).unwrap_or(true))).collect()
}

/// The name of a row of `control`, without what it begins with.
fn label(row: &[Field], prefix: &str) -> Arc<str> {
    text(row, 0).as_deref().and_then(|name| name.strip_prefix(prefix)).unwrap_or_default().into()
}

/// The statement that sets the checkpoint, wherever it was.
pub(crate) fn set_checkpoint(bridge: &str, other: &Checkpoint) -> String {
    let (position, log) = (encode::text(&other.position.durable()), encode::text(&other.log.0));
    format!(
        "UPDATE `pontoon`.`checkpoint` SET `position` = IF(applier = {FIRST}, {position}, NULL), \
         `log` = IF(applier = {FIRST}, {log}, NULL) WHERE bridge = {} AND applier IN ({FIRST}, {BESIDE})",
        encode::text(bridge)
    )
}

/// The statement that sets it where there is none.
pub(crate) fn begin_checkpoint(bridge: &str, other: &Checkpoint) -> String {
    format!(
        "UPDATE `pontoon`.`checkpoint` SET `position` = {}, `log` = {} \
         WHERE bridge = {} AND applier = {FIRST} AND `log` IS NULL",
        encode::text(&other.position.durable()),
        encode::text(&other.log.0),
        encode::text(bridge)
    )
}

/// The statement that asks which pair of databases the bridge joins.
pub(crate) fn pair(bridge: &str) -> String {
    format!("SELECT value FROM `pontoon`.`control` WHERE bridge = {} AND name = '{PAIR}'", encode::text(bridge))
}

/// The statements that note which logs the pair has now, and end the transaction.
pub(crate) fn note_logs(bridge: &str, pair: &str, noted: &NotedLogs) -> Script {
    let (name, pair) = (encode::text(bridge), encode::text(pair));
    let mut script = Script::from(format!(
        "UPDATE `pontoon`.`control` SET value = {pair} WHERE bridge = {name} AND name = '{PAIR}'"
    ));
    if let Some(arrangement) = &noted.arrangement {
        script = script.followed_by(arranged(bridge, arrangement));
    }
    for (column, fences) in [("own_fence", &noted.own_fences), ("other_fence", &noted.other_fences)] {
        for (id, fence) in fences {
            let fence = encode::text(&fence.durable());
            script.push(format!(
                "UPDATE `pontoon`.`resolution` SET {column} = {fence} WHERE bridge = {name} AND id = {id}"
            ));
        }
    }
    if let Some(place) = &noted.stored_before {
        let place = encode::text(&place.to_string());
        script.push(format!(
            "UPDATE `pontoon`.`quarantine` SET `position` = {place} WHERE bridge = {name} AND `position` IS NOT NULL"
        ));
    }
    if noted.forget_skips {
        script.push(format!("DELETE FROM `pontoon`.`control` WHERE bridge = {name} AND name LIKE '{SKIP}%'"));
    }
    script.push("COMMIT");
    script
}

/// The statements that set tables aside or take them back, and end the transaction.
pub(crate) fn arrange(bridge: &str, arrangement: &Arrangement) -> Script {
    let mut script = arranged(bridge, arrangement);
    script.push("COMMIT");
    script
}

fn arranged(bridge: &str, arrangement: &Arrangement) -> Script {
    let Arrangement { checkpoint, since, aside } = arrangement;
    let name = encode::text(bridge);
    let mut script = Script::from(set_checkpoint(bridge, checkpoint));
    script.push(format!("DELETE FROM `pontoon`.`control` WHERE bridge = {name} AND name LIKE '{ASIDE}%'"));
    let rows = since.iter().map(|row| (SINCE, row)).chain(aside.iter().map(|row| (ASIDE, row)));
    for (prefix, (label, position)) in rows {
        script.push(format!(
            "INSERT INTO `pontoon`.`control` (bridge, name, value) VALUES ({name}, {}, {}) \
             ON DUPLICATE KEY UPDATE value = VALUES(value)",
            encode::text(&format!("{prefix}{label}")),
            encode::text(&position.durable())
        ));
    }
    script
}

/// How far the copies to this node have come; those of tables that are no longer mapped are left out.
pub(crate) async fn copies(client: &mut Client, bridge: &str, tables: &Tables) -> Result<Vec<CopyState>> {
    let rows = client
        .rows(format!(
            "SELECT name, value FROM `pontoon`.`control` WHERE bridge = {} AND name LIKE '{COPY}%' ORDER BY name",
            encode::text(bridge)
        ))
        .await
        .map_err(not_set_up)?;
    let mut copies = Vec::new();
    for row in &rows {
        let name = text(row, 0).unwrap_or_default();
        let label = name.strip_prefix(COPY).unwrap_or_default();
        let Some(table) = tables.iter().find(|table| *table.label == *label) else { continue };
        let state = text(row, 1).and_then(|text| CopyState::from_text(&text, table));
        copies
            .push(state.ok_or_else(|| Error::new(Code::Protocol, format!("the copy of {label} cannot be read back")))?);
    }
    Ok(copies)
}

/// Writes how far a copy has come.
pub(crate) fn note_copy(bridge: &str, table: &MappedTable, copy: &CopyState) -> String {
    format!(
        "INSERT INTO `pontoon`.`control` (bridge, name, value) VALUES ({}, {}, {}) ON DUPLICATE KEY UPDATE value = VALUES(value)",
        encode::text(bridge),
        encode::text(&format!("{COPY}{}", table.label)),
        encode::text(&copy.to_text())
    )
}

fn resolutions_of(bridge: &str) -> String {
    format!(
        "SELECT id, group_id, table_name, row_key, own_fence, other_fence, own_row, other_row, verdict, commit_time, rule, \
         ancestor, taken FROM `pontoon`.`resolution` WHERE bridge = {}",
        encode::text(bridge)
    )
}

/// The statement that asks for the resolution of this id, in force or not.
pub(crate) fn recorded(bridge: &str, id: i64) -> String {
    format!("{} AND id = {id}", resolutions_of(bridge))
}

/// A resolution of a table that is not mapped.
fn unmapped(row: &[Field]) -> Result<UnmappedResolution> {
    Ok(UnmappedResolution {
        id: number(row, 0).unwrap_or_default(),
        label: text(row, 2).unwrap_or_default().into(),
        key: text(row, 3).unwrap_or_default(),
        own_fence: fence(row, 4)?,
        other_fence: fence(row, 5)?,
    })
}

fn fence(row: &[Field], at: usize) -> Result<Option<Position>> {
    text(row, at).map(|text| text.parse()).transpose()
}

/// A resolution; `None` for one of a table that is not mapped.
pub(crate) fn resolution<'a>(
    row: &[Field],
    tables: impl IntoIterator<Item = &'a MappedTable>,
) -> Result<Option<Resolution>> {
    let label = text(row, 2).unwrap_or_default();
    let Some(table) = tables.into_iter().find(|table| *table.label == *label) else { return Ok(None) };
    let id: i64 = number(row, 0).unwrap_or_default();
    let broken = || Error::new(Code::Protocol, format!("resolution {id} of {label} cannot be read back"));
    let side = |at| stored_row(table, text(row, at).as_deref(), broken);
    Ok(Some(Resolution {
        id,
        group: number(row, 1).unwrap_or(id),
        table: table.id,
        key: text(row, 3).and_then(|json| key_from_text(table, &json)).ok_or_else(broken)?,
        own_fence: fence(row, 4)?,
        other_fence: fence(row, 5)?,
        own_row: side(6)?,
        other_row: side(7)?,
        verdict: side(8)?,
        commit_time: number(row, 9).unwrap_or_default(),
        rule: text(row, 10).unwrap_or_default(),
        ancestor: side(11)?,
        columns: text(row, 12).map(Into::into),
    }))
}
