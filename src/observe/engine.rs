//! What the engine tells becomes events: [`Metrics`] is the engine's observer.

use std::time::Duration;

use pontoon_core::{Change, Code, Fault, Fragment, LogEvent, Origin};

use super::{
    ConflictKind, ConversionReason, DirectionState, Metrics, Outcome, QuarantineReason, RowCounts, SkipReason, Stage,
    events::{
        Active, Begins, ConflictHeld, ConflictSettled, EchoSuppressed, Failed, HalfDoneCompleted, HeldBack,
        Interrupted, Missed, Passed, Paused, Quarantined, Released, RendezvousDone, RendezvousRetrying, Retrying,
        RowsCopied, RowsSkipped, ServerPromoted, SpillFull, StandingBy, StateChanged, TablesBridged, Throttled,
        TransactionApplied, TransactionReceived, ValuesConverted,
    },
    now_micros,
};
use crate::{
    event::{self, EngineEvent, LeftOut, Observer, Rows},
    side::Side,
};

/// Behind by more than the first it is catching up, by less than the second it streams again: the gap
/// keeps the state from flapping.
const CATCHING_UP_SECONDS: (f64, f64) = (10.0, 3.0);

impl Observer for Metrics {
    fn observe(&self, event: &EngineEvent<'_>) {
        match *event {
            EngineEvent::StandingBy { holder } => StandingBy { holder }.emit(self),
            EngineEvent::Begins { source, position } => Begins { source, position }.emit(self),
            EngineEvent::Promoted { source, was, is, fork } => ServerPromoted { source, was, is, fork }.emit(self),
            EngineEvent::Active => {
                Active.emit(self);
                for source in Side::BOTH {
                    if self.direction(source).is_used() {
                        StateChanged { source, state: DirectionState::CatchingUp }.emit(self);
                    }
                }
            }
            EngineEvent::Paused { source, until } => Paused { source, until }.emit(self),
            EngineEvent::Resumed { source } => {
                StateChanged { source, state: DirectionState::CatchingUp }.emit(self);
            }
            EngineEvent::Throttled { source, rows_per_second } => Throttled { source, rows_per_second }.emit(self),
            EngineEvent::HeldBack { source, why } => HeldBack { source, why }.emit(self),
            EngineEvent::Tables { bridged, aside } => TablesBridged { bridged, aside }.emit(self),
            EngineEvent::Interrupted { stage, source, error, pause } => {
                Interrupted { stage: stage.into(), source, error, pause }.emit(self);
            }
            EngineEvent::Failed { stage, source, error } => Failed { stage: stage.into(), source, error }.emit(self),
            EngineEvent::Received { source, event } => self.received(source, event),
            EngineEvent::Decided { source, fragment, rows, bytes } => self.decided(source, fragment, rows, bytes),
            EngineEvent::SpillFull { source } => SpillFull { source }.emit(self),
            EngineEvent::Queued { memory_bytes, spill_bytes, limits } => {
                for source in Side::BOTH {
                    self.direction(source).set_queue_bytes(memory_bytes[source] as u64, limits.memory_max as u64);
                }
                self.set_spill_bytes(spill_bytes, 2 * limits.spill_max);
            }
            EngineEvent::Applied { source, transactions, rows, bytes, position, commit_time, took } => {
                let rows = rows.into();
                TransactionApplied { source, transactions, rows, bytes, position, commit_time, took }.emit(self);
            }
            EngineEvent::Passed { source, position, time, .. } => {
                Passed { source, position, time }.emit(self);
                self.follow(source);
            }
            EngineEvent::Skipped { source, why, changes } => {
                RowsSkipped { source, reason: why.into(), rows: changes }.emit(self);
            }
            EngineEvent::Converted { source, fault, values } => {
                ValuesConverted { source, reason: fault.into(), values }.emit(self);
            }
            EngineEvent::Early { .. } => {}
            EngineEvent::Missed { source } => Missed { source }.emit(self),
            EngineEvent::Stored { source, changes } => {
                RowsSkipped { source, reason: SkipReason::Quarantined, rows: changes }.emit(self);
            }
            EngineEvent::Quarantined { source, table, what, error } => {
                Quarantined { source, table, reason: reason(what, error.code()), error }.emit(self);
            }
            EngineEvent::Released { source, table, discarded } => Released { source, table, discarded }.emit(self),
            EngineEvent::Quarantine { keys, oldest } => {
                for source in Side::BOTH {
                    self.direction(source).set_quarantined(keys[source] as u64);
                }
                let micros = |age: Duration| i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
                self.set_quarantined_since(oldest.map(|age| now_micros().saturating_sub(micros(age))));
            }
            EngineEvent::Retried { source, error } => Retrying { source, error }.emit(self),
            EngineEvent::RendezvousRetried { source, error } => RendezvousRetrying { source, error }.emit(self),
            EngineEvent::Conflict { source: Some(source), conflict } => ConflictSettled {
                source,
                table: conflict.table,
                kind: conflict.kind.into(),
                outcome: match conflict.winner {
                    _ if conflict.merged => Outcome::Merged,
                    winner if winner == source => Outcome::Source,
                    _ => Outcome::Target,
                },
                tie: conflict.tie,
                rule: conflict.rule,
            }
            .emit(self),
            EngineEvent::Conflict { source: None, conflict } => {
                HalfDoneCompleted { table: conflict.table, rule: conflict.rule }.emit();
            }
            EngineEvent::ConflictHeld { source, table, kind } => {
                ConflictHeld { source, table, kind: kind.into() }.emit(self);
            }
            EngineEvent::Copied { source, table, rows, state, took } => {
                RowsCopied { source, table, rows, state, took }.emit(self);
                let state = if state.done { DirectionState::CatchingUp } else { DirectionState::Copying };
                if self.direction(source).state() != state {
                    StateChanged { source, state }.emit(self);
                }
                self.follow(source);
            }
            EngineEvent::Rendezvous { source: Some(source), took } => RendezvousDone { source, took }.emit(self),
            EngineEvent::Rendezvous { source: None, .. } => {}
        }
    }
}

impl Metrics {
    fn received(&self, source: Side, event: &LogEvent) {
        match event {
            LogEvent::Fragment(fragment) if fragment.origin == Origin::Own => {
                if let Some(position) = &fragment.position {
                    EchoSuppressed { source, position }.emit(self);
                }
            }
            LogEvent::Fragment(fragment) => {
                let bytes = fragment.changes.iter().map(|change| Change::memory_bytes(change) as u64).sum();
                let whole = self.direction(source).add_piece(fragment.first, bytes);
                TransactionReceived {
                    source,
                    rows: RowCounts::of(&fragment.changes),
                    bytes,
                    end: fragment.position.as_ref().map(|position| (position, whole)),
                    commit_time: fragment.commit_time,
                }
                .emit(self);
            }
            LogEvent::Progress(progress) => {
                self.direction(source).received_up_to(&progress.position);
                if progress.passed_over > 0 {
                    RowsSkipped { source, reason: SkipReason::Operator, rows: progress.passed_over }.emit(self);
                }
            }
            // The engine ends with its error when it gets there.
            LogEvent::Obstacle(_) => {}
            // Told as a decision.
            LogEvent::Held(_) => {}
        }
    }

    fn decided(&self, source: Side, fragment: &Fragment, rows: Rows, bytes: u64) {
        let Some(position) = &fragment.position else { return };
        if fragment.origin == Origin::Own {
            return EchoSuppressed { source, position }.emit(self);
        }
        let (rows, end, commit_time) = (rows.into(), Some((position, bytes)), fragment.commit_time);
        TransactionReceived { source, rows, bytes, end, commit_time }.emit(self);
    }

    /// Says whether a direction streams or catches up, by its lag; by positions while that is not known.
    fn follow(&self, source: Side) {
        let direction = self.direction(source);
        let lag = direction.lag_seconds();
        let at_the_end = {
            let words = direction.words();
            words.received == words.applied
        };
        let state = match direction.state() {
            DirectionState::Streaming if lag > CATCHING_UP_SECONDS.0 && !at_the_end => DirectionState::CatchingUp,
            DirectionState::CatchingUp | DirectionState::Stopped if at_the_end || lag < CATCHING_UP_SECONDS.1 => {
                DirectionState::Streaming
            }
            _ => return,
        };
        StateChanged { source, state }.emit(self);
    }
}

impl From<Rows> for RowCounts {
    fn from(rows: Rows) -> Self {
        RowCounts { insert: rows.inserts, update: rows.updates, delete: rows.deletes }
    }
}

fn reason(what: event::Refused, code: Code) -> QuarantineReason {
    match (what, code) {
        (_, Code::LoopSuspected) => QuarantineReason::LoopSuspected,
        (event::Refused::Settlement, Code::ConflictHeld) => QuarantineReason::ConflictHeld,
        (event::Refused::Settlement, Code::ReferenceBroken) => QuarantineReason::ReferenceBroken,
        (event::Refused::Settlement, _) => QuarantineReason::Settlement,
        (event::Refused::Change, Code::ValueMisfit) => QuarantineReason::ValueMisfit,
        (event::Refused::Change, _) => QuarantineReason::RowRefused,
    }
}

impl From<Fault> for ConversionReason {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::ZeroDate => ConversionReason::ZeroDate,
            Fault::Infinity => ConversionReason::Infinity,
            Fault::NulByte => ConversionReason::NulByte,
            Fault::OutOfRange => ConversionReason::OutOfRange,
            Fault::TooLong => ConversionReason::TooLong,
        }
    }
}

impl From<LeftOut> for SkipReason {
    fn from(why: LeftOut) -> Self {
        match why {
            LeftOut::Settled => SkipReason::Settled,
            LeftOut::Unchanged => SkipReason::Unchanged,
            LeftOut::PassedOver => SkipReason::Operator,
        }
    }
}

impl From<event::Stage> for Stage {
    fn from(stage: event::Stage) -> Self {
        match stage {
            event::Stage::Connect => Stage::Connect,
            event::Stage::Read => Stage::Read,
            event::Stage::Queue => Stage::Queue,
            event::Stage::Apply => Stage::Apply,
            event::Stage::Rendezvous => Stage::Rendezvous,
        }
    }
}

impl From<event::ConflictKind> for ConflictKind {
    fn from(kind: event::ConflictKind) -> Self {
        match kind {
            event::ConflictKind::InsertExists => ConflictKind::InsertExists,
            event::ConflictKind::UpdateOriginDiffers => ConflictKind::UpdateOriginDiffers,
            event::ConflictKind::UpdateMissing => ConflictKind::UpdateMissing,
            event::ConflictKind::UpdateDeleted => ConflictKind::UpdateDeleted,
            event::ConflictKind::DeleteOriginDiffers => ConflictKind::DeleteOriginDiffers,
            event::ConflictKind::DeleteMissing => ConflictKind::DeleteMissing,
            event::ConflictKind::MultipleUniqueConflicts => ConflictKind::MultipleUniqueConflicts,
            event::ConflictKind::ReferenceBroken => ConflictKind::ReferenceBroken,
            event::ConflictKind::FloorCrossed => ConflictKind::FloorCrossed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use pontoon_core::{
        Error, Fragment, Key, Operation, Position, Progress, Row, TableId, Value, node::LogStatus, pressure::Exceeded,
    };

    use super::*;
    use crate::held_back::HeldBack;

    fn fragment(origin: Origin, first: bool, position: Option<Position>) -> LogEvent {
        let insert = Change {
            table: TableId(0),
            operation: Operation::Insert { after: Row(vec![Value::Integer(4711)]) },
            reshaped: false,
        };
        LogEvent::Fragment(Fragment {
            transaction: "7".into(),
            origin,
            commit_time: 5_000_000,
            first,
            changes: vec![insert],
            position,
        })
    }

    #[test]
    fn what_the_engine_tells_is_counted() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        let (a, end) = (Side::A, Position::Lsn(16));
        metrics.observe(&EngineEvent::StandingBy { holder: "host, pid 7" });
        metrics.observe(&EngineEvent::Active);
        assert!(metrics.is_active() && metrics.direction(a).state() == DirectionState::CatchingUp);
        let received = |event: &LogEvent| metrics.observe(&EngineEvent::Received { source: a, event });
        received(&fragment(Origin::Local, true, None));
        received(&fragment(Origin::Local, false, Some(end.clone())));
        received(&fragment(Origin::Own, true, Some(Position::Lsn(17))));
        let rows = Rows { inserts: 2, ..Rows::default() };
        metrics.observe(&EngineEvent::Applied {
            source: a,
            transactions: 1,
            rows,
            bytes: 7,
            position: &end,
            commit_time: 5_000_000,
            took: event::Took { commit: Duration::from_millis(3), ..event::Took::default() },
        });
        metrics.observe(&EngineEvent::Passed { source: a, position: &Position::Lsn(17), time: None, echoes: 1 });
        assert_eq!(metrics.direction(a).state(), DirectionState::Streaming);
        let conflict = event::Conflict {
            table: "items",
            key: &Key(vec![Value::Integer(4711)]),
            kind: event::ConflictKind::InsertExists,
            winner: Side::B,
            winner_name: "stock",
            rule: "last_writer_wins: stock",
            merged: false,
            contended: true,
            tie: false,
        };
        metrics.observe(&EngineEvent::Conflict { source: Some(a), conflict: &conflict });
        metrics.observe(&EngineEvent::Conflict { source: None, conflict: &conflict });
        metrics.observe(&EngineEvent::Rendezvous { source: Some(a), took: Duration::from_millis(9) });
        let merged = event::Conflict { merged: true, ..conflict };
        metrics.observe(&EngineEvent::Conflict { source: Some(a), conflict: &merged });

        let status = metrics.status();
        let direction = &status.directions[0];
        assert_eq!((direction.transactions_received, direction.transactions_applied), (1, 1));
        assert_eq!((direction.rows_received, direction.rows_applied), (2, 2));
        assert_eq!((direction.echo_transactions, direction.conflicts), (1, 2));
        assert_eq!(direction.position.applied.as_deref(), Some("0/11"));
        let LogEvent::Fragment(last) = fragment(Origin::Local, true, Some(Position::Lsn(18))) else { panic!() };
        metrics.observe(&EngineEvent::Decided { source: a, fragment: &last, rows, bytes: 9 });
        let decided = &metrics.status().directions[0];
        assert_eq!((decided.transactions_received, decided.rows_received), (2, 4));
        assert_eq!(decided.position.received.as_deref(), Some("0/12"));
        let page = metrics.encode().unwrap();
        assert!(page.contains(
            "conflicts_total{bridge=\"b\",outcome=\"target\",source=\"shop\",target=\"stock\",type=\"insert_exists\"} 1"
        ));
        assert!(page.contains(
            "conflicts_total{bridge=\"b\",outcome=\"merged\",source=\"shop\",target=\"stock\",type=\"insert_exists\"} 1"
        ));
        assert!(page.contains("transaction_size_bytes_count{bridge=\"b\",source=\"shop\",target=\"stock\"} 2"));
        assert!(!page.contains("4711"));

        let error = Error::new(Code::ConnectionLost, "stock: broken");
        let interrupted = |stage, source, error: &Error| {
            metrics.observe(&EngineEvent::Interrupted { stage, source, error, pause: Duration::from_secs(1) });
        };
        interrupted(event::Stage::Apply, Some(a), &error);
        assert!(!metrics.is_active());
        assert_eq!(metrics.direction(a).state(), DirectionState::Stopped);
        assert_eq!(metrics.status().directions[0].error.as_ref().unwrap().code, "connection-lost");
        interrupted(event::Stage::Connect, None, &error);
        let contention = Error::new(Code::Contention, "shop: a lock");
        metrics.observe(&EngineEvent::Retried { source: a, error: &contention });
        metrics.observe(&EngineEvent::RendezvousRetried { source: Some(Side::B), error: &contention });
        // What is tried again in place is counted, and is no state to be shown.
        assert_eq!(metrics.status().directions[0].error.as_ref().unwrap().code, "connection-lost");
        let page = metrics.encode().unwrap();
        for (stage, from, to, count) in [
            ("apply", "shop", "stock", 2),
            ("apply", "stock", "shop", 0),
            ("connect", "shop", "stock", 1),
            ("connect", "stock", "shop", 1),
            ("rendezvous", "stock", "shop", 1),
        ] {
            let series = format!(
                "errors_total{{bridge=\"b\",class=\"transient\",source=\"{from}\",stage=\"{stage}\",target=\"{to}\"}} {count}\n"
            );
            assert!(page.contains(&series), "{series}{page}");
        }
    }

    #[test]
    fn what_is_left_out_and_what_is_tried_again_is_counted_by_its_reason() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        let source = Side::A;
        for (why, changes) in [(LeftOut::Settled, 2), (LeftOut::Unchanged, 3), (LeftOut::PassedOver, 4)] {
            metrics.observe(&EngineEvent::Skipped { source, why, changes });
        }
        let passed_over = Progress { position: Position::Lsn(9), time: None, barrier: false, passed_over: 5 };
        metrics.observe(&EngineEvent::Received { source, event: &LogEvent::Progress(passed_over) });
        metrics.observe(&EngineEvent::Missed { source });
        for fault in Fault::ALL {
            metrics.observe(&EngineEvent::Converted { source: Side::B, fault, values: 3 + fault as u64 });
        }
        for (stage, code) in [
            (event::Stage::Apply, Code::ConnectionLost),
            (event::Stage::Apply, Code::ServerBusy),
            (event::Stage::Apply, Code::LeaseLost),
            (event::Stage::Read, Code::ConnectionLost),
        ] {
            let error = Error::new(code, "stock: no more");
            let pause = Duration::from_secs(1);
            metrics.observe(&EngineEvent::Interrupted { stage, source: Some(source), error: &error, pause });
        }
        for (code, source) in
            [(Code::TruncateSeen, Some(source)), (Code::SchemaChanged, Some(source)), (Code::LogLost, None)]
        {
            let error = Error::new(code, "shop: that cannot go on");
            metrics.observe(&EngineEvent::Failed { stage: event::Stage::Read, source, error: &error });
        }
        let page = metrics.encode().unwrap();
        for (name, labels, count) in [
            ("rows_skipped_total", "reason=\"settled\",source=\"shop\"", 2),
            ("rows_skipped_total", "reason=\"unchanged\",source=\"shop\"", 3),
            ("rows_skipped_total", "reason=\"operator\",source=\"shop\"", 9),
            ("values_converted_total", "reason=\"zero_date\",source=\"stock\"", 3),
            ("values_converted_total", "reason=\"infinity\",source=\"stock\"", 4),
            ("values_converted_total", "reason=\"nul_byte\",source=\"stock\"", 5),
            ("values_converted_total", "reason=\"out_of_range\",source=\"stock\"", 6),
            ("values_converted_total", "reason=\"too_long\",source=\"stock\"", 7),
            ("values_converted_total", "reason=\"too_long\",source=\"shop\"", 0),
            ("apply_retries_total", "reason=\"conflict\",source=\"shop\"", 1),
            ("apply_retries_total", "reason=\"connection_lost\",source=\"shop\"", 1),
            ("apply_retries_total", "reason=\"server_busy\",source=\"shop\"", 1),
            ("apply_retries_total", "reason=\"other\",source=\"shop\"", 1),
            ("errors_total", "class=\"definite\",source=\"shop\",stage=\"read\"", 1),
            ("errors_total", "class=\"fatal\",source=\"shop\",stage=\"read\"", 1),
            ("errors_total", "class=\"fatal\",source=\"stock\",stage=\"read\"", 1),
        ] {
            let series = format!("pontoon_{name}{{bridge=\"b\",{labels},target=");
            let line = page.lines().find(|line| line.starts_with(&series));
            assert!(line.is_some_and(|line| line.ends_with(&format!("}} {count}"))), "{series} {count}: {line:?}");
        }
    }

    #[test]
    fn where_a_session_begins_is_known_before_anything_is_applied() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        let positions = || metrics.status().directions[0].position.clone();
        assert_eq!((positions().received, positions().applied), (None, None));
        metrics.observe(&EngineEvent::Begins { source: Side::A, position: &Position::Lsn(16) });
        assert_eq!(positions().applied.as_deref(), Some("0/10"));
        metrics.observe(&EngineEvent::Received {
            source: Side::A,
            event: &fragment(Origin::Local, true, Some(Position::Lsn(32))),
        });
        assert_eq!((positions().received.as_deref(), positions().applied.as_deref()), (Some("0/20"), Some("0/10")));
        // Another session reads again what was not applied.
        metrics.observe(&EngineEvent::Begins { source: Side::A, position: &Position::Lsn(16) });
        assert_eq!(positions().received.as_deref(), Some("0/10"));
        assert_eq!(metrics.status().directions[1].position.applied, None, "of the other direction nothing is said");
    }

    #[test]
    fn the_lag_is_by_the_clock_of_the_source() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        // The source's clock is an hour ahead of ours.
        let clock = || now_micros() + 3_600_000_000;
        let end = Position::Lsn(1);
        let passed = |time: i64| {
            let progress =
                LogEvent::Progress(Progress { position: Position::Lsn(9), time: None, barrier: false, passed_over: 0 });
            metrics.observe(&EngineEvent::Received { source: Side::A, event: &progress });
            metrics.observe(&EngineEvent::Passed { source: Side::A, position: &end, time: Some(time), echoes: 0 });
        };
        passed(clock());
        assert!(metrics.direction(Side::A).lag_seconds().is_nan());
        let status = LogStatus {
            end: end.clone(),
            behind_bytes: None,
            retained_bytes: None,
            headroom_bytes: None,
            clock: clock(),
        };
        metrics.node(Side::A).log_status(&status, 0.0);
        metrics.observe(&EngineEvent::Active);
        passed(clock() - 20_000_000);
        let lag = metrics.direction(Side::A).lag_seconds();
        assert!((lag - 20.0).abs() < 1.0, "{lag}");
        assert_eq!(metrics.direction(Side::A).state(), DirectionState::CatchingUp);
        passed(clock() - 1_000_000);
        assert_eq!(metrics.direction(Side::A).state(), DirectionState::Streaming);
        passed(clock() - 60_000_000);
        assert_eq!(metrics.direction(Side::A).state(), DirectionState::CatchingUp);
    }

    #[test]
    fn what_is_held_back_says_so_until_it_is_not() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        let source = Side::A;
        let told = |rows| metrics.observe(&EngineEvent::Throttled { source, rows_per_second: NonZeroU64::new(rows) });
        let shown = || {
            let [direction, _] = metrics.status().directions;
            (direction.in_words(), direction.throttled_rows_per_second)
        };
        told(5);
        assert_eq!(shown(), ("stopped".to_owned(), None), "who does not work is not held back");
        metrics.observe(&EngineEvent::Active);
        told(5);
        assert_eq!(shown(), ("throttled to 5 rows/s".to_owned(), Some(5)));
        told(7);
        let position = Position::Lsn(9);
        metrics.observe(&EngineEvent::Passed { source, position: &position, time: None, echoes: 0 });
        assert_eq!(shown(), ("throttled to 7 rows/s".to_owned(), Some(7)));
        told(0);
        assert_eq!(shown(), ("catching up".to_owned(), None));
        // A pause says more.
        metrics.observe(&EngineEvent::Paused { source, until: None });
        told(5);
        assert_eq!(shown(), ("paused".to_owned(), None));
    }

    #[test]
    fn what_else_holds_back_is_told_with_its_reason() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        let source = Side::A;
        let told = |why: Option<&HeldBack>| metrics.observe(&EngineEvent::HeldBack { source, why });
        let shown = || {
            let [direction, _] = metrics.status().directions;
            (direction.state, direction.held_back)
        };
        let gauges = || {
            let page = metrics.encode().unwrap();
            let of = |line: &&str| line.starts_with("pontoon_direction_held_back") && line.ends_with(" 1");
            let reason =
                |line: &str| line.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
            page.lines().filter(of).filter_map(reason).collect::<Vec<_>>()
        };
        let load = HeldBack::Pressure("stock".into(), Exceeded::Load(26, 25));
        let window = HeldBack::Window { opens: 0 };
        metrics.observe(&EngineEvent::Active);
        told(Some(&load));
        let words = "stock: it carries out 26 statements, more than 25".to_owned();
        assert_eq!(shown(), ("throttled".to_owned(), Some(words.clone())));
        assert!(metrics.not_ready().contains(&format!("shop->stock is held back: {words}")));
        assert_eq!(gauges(), ["load"]);
        // A limit on rows that holds nothing back ends neither the state nor the reason.
        metrics.observe(&EngineEvent::Throttled { source, rows_per_second: None });
        assert_eq!(shown().0, "throttled");
        told(Some(&window));
        assert_eq!(shown().1.as_deref(), Some("the next window opens at 1970-01-01T00:00:00Z"));
        assert_eq!(gauges(), ["window"]);
        // A pause says more, and goes on into what holds back still.
        metrics.observe(&EngineEvent::Paused { source, until: None });
        told(Some(&window));
        assert_eq!(shown(), ("paused".to_owned(), None));
        metrics.observe(&EngineEvent::Resumed { source });
        told(Some(&window));
        assert_eq!(shown().0, "throttled");
        told(None);
        assert_eq!((shown(), gauges().len()), (("catching_up".to_owned(), None), 0));
        // Who does not work is not held back.
        told(Some(&load));
        let error = Error::new(Code::Unreachable, "no answer");
        let (stage, pause) = (event::Stage::Connect, Duration::ZERO);
        metrics.observe(&EngineEvent::Interrupted { stage, source: None, error: &error, pause });
        assert_eq!((shown(), gauges().len()), (("stopped".to_owned(), None), 0));
    }
}
