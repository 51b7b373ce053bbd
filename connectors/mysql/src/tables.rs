//! The bridge's own tables: what setup creates in the database `pontoon`.
//!
//! InnoDB, so that they commit with the rows they describe; utf8mb4 with a binary collation, so that a
//! name is itself and nothing else. Every table is keyed by bridge. Times are microseconds since 1970
//! UTC. The format version is the row of `control` without a bridge: another one than this binary's is refused
//! ([`crate::state::check_format`]), and an older one is brought up to it by [`migration`].

use pontoon_core::state::FORMAT_VERSION;

use crate::encode;

/// The database.
pub(crate) const DATABASE: &str = "pontoon";
/// The table whose row leads every transaction of a bridge.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// The table of everything that is one per bridge.
pub(crate) const CONTROL: &str = "control";
/// All of them, in the order in which they are created.
pub(crate) const ALL: [&str; 4] = [CHECKPOINT, "resolution", "quarantine", CONTROL];

/// The row of `control` that every transaction holds shared.
pub(crate) const LEASE: &str = "lease";
/// The row of `control` that is written to mark a place in the log.
pub(crate) const BARRIER: &str = "barrier";
/// The row of `control` that names the two nodes and their logs.
pub(crate) const PAIR: &str = "pair";
/// How rows of `control` begin that say which tables a bridge carries.
pub(crate) const TABLE: &str = "table:";
/// How rows of `control` begin that say up to where the other node's log is passed over for a table.
pub(crate) const SINCE: &str = "since:";
/// How rows of `control` begin that say up to where the other node's log is applied for a table that waits until both sides agree on it.
pub(crate) const ASIDE: &str = "aside:";
/// The row of `control`, without a bridge, that holds the format version.
pub(crate) const FORMAT: &str = "format";
/// The row of `control` whose number is raised while the bridge works: files that are older have a lower one.
pub(crate) const EPOCH: &str = "epoch";
/// The row of `control` that holds the other node's, as it was last seen.
pub(crate) const OTHER_EPOCH: &str = "other_epoch";
/// The row of `control` that says that nothing is to be applied here, and until when.
pub(crate) const PAUSE: &str = "pause";
/// The row of `control` that says how many rows are to be applied here in a second.
pub(crate) const THROTTLE: &str = "throttle";
/// The row of `control` that says that the configuration is to be taken up anew, and what came of that.
pub(crate) const RELOAD: &str = "reload";
/// How rows of `control` begin that name a transaction to pass over.
pub(crate) const SKIP: &str = "skip:";
/// How rows of `control` begin that say how far the copy of a table has come.
pub(crate) const COPY: &str = "copy:";
/// The row of `control` whose commit shows that those before it in the log are visible.
pub(crate) const VISIBLE: &str = "visible";

/// A timestamp of these tables as microseconds since 1970 UTC. (Exact: for an argument with fractions the function gives a
/// decimal number.)
pub(crate) fn micros(expression: &str) -> String {
    format!("CAST(UNIX_TIMESTAMP({expression}) * 1000000 AS SIGNED)")
}

/// Creates everything that is missing.
pub(crate) fn create() -> Vec<String> {
    const TABLE: &str = "ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin";
    let at = "updated_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)";
    let created = "created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)";
    vec![
        "CREATE DATABASE IF NOT EXISTS `pontoon` DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin".into(),
        format!(
            "CREATE TABLE IF NOT EXISTS `pontoon`.`checkpoint` (\
             bridge varchar(32) NOT NULL COMMENT 'the bridge', \
             applier int NOT NULL COMMENT '0 applies the other node''s log, 1 settles conflicts, 2 works beside the first', \
             source varchar(255) NULL COMMENT 'the other node''s name', \
             `position` varchar(255) NULL COMMENT 'all of the other node''s log up to here is applied here', \
             `log` varchar(255) NULL COMMENT 'which log that is', \
             `sequence` bigint NOT NULL DEFAULT 0 COMMENT 'raised by every transaction of the bridge', \
             commit_time bigint NOT NULL DEFAULT 0 COMMENT 'when the writes brought last were made, microseconds since 1970 UTC', \
             {at} COMMENT 'when this row was written', \
             PRIMARY KEY (bridge, applier)) {TABLE} \
             COMMENT = 'how far each bridge has applied the other node''s log; its row leads every transaction of a bridge'"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS `pontoon`.`resolution` (\
             bridge varchar(32) NOT NULL COMMENT 'the bridge', \
             id bigint NOT NULL COMMENT 'rises with every resolution, the same on both nodes', \
             group_id bigint NOT NULL COMMENT 'keys that were decided as one share it', \
             table_name varchar(255) NOT NULL COMMENT 'the pair of tables', \
             row_key longtext NOT NULL COMMENT 'the key, as a JSON array', \
             in_force tinyint NOT NULL DEFAULT 1 COMMENT '1 until both logs are applied beyond the fences', \
             own_fence varchar(255) NULL COMMENT 'where this node''s log stood', \
             other_fence varchar(255) NULL COMMENT 'changes of the other node''s log up to here are settled', \
             own_row longtext NULL COMMENT 'what this node held, as JSON', \
             other_row longtext NULL COMMENT 'what the other node held, as JSON', \
             verdict longtext NULL COMMENT 'what both hold since, as JSON; null: no row', \
             ancestor longtext NULL COMMENT 'the row on which the first of the writes settled was made, as JSON; null: none', \
             taken longtext NULL COMMENT 'which columns each node gave and which were added up, as JSON; null: it is one node''s row', \
             commit_time bigint NOT NULL COMMENT 'the latest write that was settled, microseconds since 1970 UTC', \
             rule text NOT NULL COMMENT 'which rule decided, and for whom', \
             {created} COMMENT 'when it was settled', \
             PRIMARY KEY (bridge, id), KEY in_force (bridge, in_force)) {TABLE} \
             COMMENT = 'every conflict that was settled'"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS `pontoon`.`quarantine` (\
             bridge varchar(32) NOT NULL COMMENT 'the bridge', \
             id bigint NOT NULL COMMENT 'rises with every entry of the bridge, on either node; never given again', \
             table_name varchar(255) NOT NULL COMMENT 'the pair of tables', \
             row_key longtext NOT NULL COMMENT 'the key, as a JSON array', \
             operation varchar(20) NOT NULL COMMENT 'insert, update, delete; own: the bridge''s own write, which superseded what is stored before it; settlement: what was decided in a conflict', \
             before_row longtext NULL COMMENT 'the row before, as JSON; null: no row', \
             after_row longtext NULL COMMENT 'the row after, as JSON; null: no row', \
             moved_key longtext NULL COMMENT 'the other key of a row that moved from key to key', \
             `position` varchar(255) NULL COMMENT 'the end of its transaction in the other node''s log', \
             source_transaction varchar(255) NULL COMMENT 'the other server''s name of that transaction', \
             commit_time bigint NOT NULL COMMENT 'when it was made, microseconds since 1970 UTC', \
             code varchar(64) NULL COMMENT 'why it was refused; null: it only waits behind another entry of its key', \
             message text NULL COMMENT 'the same in words', \
             constraint_name varchar(255) NULL COMMENT 'the constraint that the server named', \
             attempts int NOT NULL DEFAULT 0 COMMENT 'how often it was tried', \
             next_attempt_at timestamp(6) NULL COMMENT 'when it is tried again, at the latest', \
             request varchar(20) NULL COMMENT 'what an operator asked for and is not yet done: retry, discard, take own or take other; with a new key for the other', \
             {created} COMMENT 'since when', \
             PRIMARY KEY (bridge, id), KEY row_key (bridge, table_name, row_key(200))) {TABLE} \
             COMMENT = 'changes of the other node''s log that were refused here, and those of the same rows that wait behind them'"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS `pontoon`.`control` (\
             bridge varchar(32) NOT NULL COMMENT 'the bridge; empty for the format version of these tables', \
             name varchar(255) NOT NULL COMMENT 'lease, pair, table:TABLE, since:TABLE, aside:TABLE, barrier, visible, epoch, other_epoch, pause, throttle, reload, skip:POSITION, copy:TABLE, key:entry:ID, key:record:ID, repair:ID, verified, format', \
             number bigint NOT NULL DEFAULT 0 COMMENT 'of the lease its token, of barrier and visible a count, of epoch and other_epoch by which older files of this server or the other are known, of the format its version, of pause when it ends in microseconds since 1970 UTC or 0, of throttle rows in a second or 0 for no limit, of reload a count of requests, of a key 0 asked, 1 refused, 2 given, of verified when both sides were last found equal or 0', \
             value text NULL COMMENT 'of the lease its holder, of the pair both nodes and their logs, of a table its name on both, of a copy how far it is, of reload what came of the request, of verified how many rows differed, as JSON', \
             {at} COMMENT 'when this row was written', \
             PRIMARY KEY (bridge, name)) {TABLE} COMMENT = 'one of each per bridge'"
        ),
        format!(
            "INSERT INTO `pontoon`.`control` (bridge, name, number) SELECT '', '{FORMAT}', {FORMAT_VERSION} FROM (SELECT 1) AS one \
             WHERE NOT EXISTS (SELECT 1 FROM `pontoon`.`control` WHERE bridge = '' AND name = '{FORMAT}')"
        ),
    ]
}

/// What each format has that the one before has not, the first excepted. Statements of these servers that define something commit by themselves: so they
/// can be repeated, and are no hindrance for an older binary.
const STEPS: [(i32, &[&str]); 2] = [
    // What is new is a kind of rows.
    (2, &[]),
    // And a column that counts in one more row.
    (3, &[]),
];

/// What brings tables of an older format up to this one. The last statements, in one transaction, shut out whoever works with the older one: each holds the
/// lease row of its bridge shared in all that it writes, and looks at the format before it takes the lease again. Nothing where they are of this one.
pub(crate) fn migration(found: i32) -> Vec<String> {
    if found >= FORMAT_VERSION {
        return Vec::new();
    }
    let later = STEPS.iter().filter(|(version, _)| *version > found);
    let steps = later.flat_map(|(_, statements)| statements.iter().map(|sql| (*sql).to_owned()));
    let last = [
        "START TRANSACTION".to_owned(),
        format!("UPDATE `pontoon`.`control` SET number = number + 1 WHERE name = '{LEASE}'"),
        format!(
            "UPDATE `pontoon`.`control` SET number = {FORMAT_VERSION} \
             WHERE bridge = '' AND name = '{FORMAT}' AND number < {FORMAT_VERSION}"
        ),
        "COMMIT".to_owned(),
    ];
    steps.chain(last).collect()
}

/// Creates the rows of a bridge that are missing. Those of the lease and the barrier are there before
/// anybody locks them.
pub(crate) fn create_rows(bridge: &str) -> Vec<String> {
    let bridge = encode::text(bridge);
    let control = |name: &str| {
        format!(
            "INSERT INTO `pontoon`.`control` (bridge, name) SELECT {bridge}, '{name}' FROM (SELECT 1) AS one \
             WHERE NOT EXISTS (SELECT 1 FROM `pontoon`.`control` WHERE bridge = {bridge} AND name = '{name}')"
        )
    };
    let applier = |number: i32| {
        format!(
            "INSERT INTO `pontoon`.`checkpoint` (bridge, applier) SELECT {bridge}, {number} FROM (SELECT 1) AS one \
             WHERE NOT EXISTS (SELECT 1 FROM `pontoon`.`checkpoint` WHERE bridge = {bridge} AND applier = {number})"
        )
    };
    vec![applier(0), applier(1), applier(2), control(LEASE), control(BARRIER), control(VISIBLE)]
}

/// Removes the rows of a bridge.
pub(crate) fn remove_rows(bridge: &str) -> Vec<String> {
    let bridge = encode::text(bridge);
    ALL.iter().map(|table| format!("DELETE FROM `pontoon`.`{table}` WHERE bridge = {bridge}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_step() {
        assert!(STEPS.iter().map(|(version, _)| *version).eq(2..=FORMAT_VERSION));
    }
}
