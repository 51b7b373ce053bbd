//! Every case of two sides' writes with its outcome under every rule, as `docs/conflicts.md` has it: the tables there
//! are made here, of what is decided, and held against the page.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use pontoon_core::{Row, Value};

use super::{
    chain::Chain,
    decide::{KeyState, Reason, decide},
    pending::History,
    policy::{ColumnRule, Policy, RowRule},
};
use crate::side::{Pair, Side};

/// What a side does to a row by its key. Columns are the name, the colour and the stock.
#[derive(Clone, Copy)]
enum Step {
    Insert(u8),
    Name(u8),
    Colour(u8),
    Sell(u8),
    Delete(u8),
    Move(u8, u8),
}

use Step::{Colour, Delete, Insert, Move, Name, Sell};

/// What each side does, a first and b a second later, to a row 1 that both have. The text says it for people.
const CASES: &[(&str, &[Step], &str, &[Step])] = &[
    ("inserts 2", &[Insert(2)], "inserts 2", &[Insert(2)]),
    ("writes the name", &[Name(1)], "writes the name", &[Name(1)]),
    ("writes the name", &[Name(1)], "writes the colour", &[Colour(1)]),
    ("writes both", &[Name(1), Colour(1)], "writes the name", &[Name(1)]),
    ("sells one", &[Sell(1)], "sells one", &[Sell(1)]),
    ("writes the name, sells one", &[Name(1), Sell(1)], "writes the name, sells one", &[Name(1), Sell(1)]),
    ("writes the name", &[Name(1)], "sells one", &[Sell(1)]),
    ("writes the name", &[Name(1)], "deletes", &[Delete(1)]),
    ("deletes", &[Delete(1)], "writes the name", &[Name(1)]),
    ("sells one", &[Sell(1)], "deletes", &[Delete(1)]),
    ("deletes", &[Delete(1)], "sells one", &[Sell(1)]),
    ("deletes", &[Delete(1)], "deletes", &[Delete(1)]),
    ("deletes, inserts again", &[Delete(1), Insert(1)], "writes the colour", &[Colour(1)]),
    ("writes the colour", &[Colour(1)], "deletes, inserts again", &[Delete(1), Insert(1)]),
    ("deletes, inserts again", &[Delete(1), Insert(1)], "deletes", &[Delete(1)]),
    ("deletes, inserts again", &[Delete(1), Insert(1)], "deletes, inserts again", &[Delete(1), Insert(1)]),
    ("makes it 2", &[Move(1, 2)], "writes the name", &[Name(1)]),
    ("writes the name", &[Name(1)], "makes it 2", &[Move(1, 2)]),
    ("makes it 2", &[Move(1, 2)], "deletes", &[Delete(1)]),
    ("deletes", &[Delete(1)], "makes it 2", &[Move(1, 2)]),
    ("makes it 2", &[Move(1, 2)], "inserts 2", &[Insert(2)]),
    ("makes it 2", &[Move(1, 2)], "makes it 3", &[Move(1, 3)]),
    ("makes it 2", &[Move(1, 2)], "makes it 2", &[Move(1, 2)]),
];

/// The rules of the columns beside the first table.
const ROW_RULES: [(&str, RowRule); 4] = [
    ("last_writer_wins", RowRule::LastWriterWins),
    ("column_merge", RowRule::ColumnMerge),
    ("prefer:a", RowRule::Prefer(Side::A)),
    ("quarantine", RowRule::Quarantine),
];

const STOCK: usize = 2;

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

/// One side's rows, and its writes of each key.
struct Written {
    rows: BTreeMap<u8, Row>,
    chains: BTreeMap<u8, Chain>,
}

impl Written {
    fn change(&mut self, policy: &Policy, time: i64, key: u8, change: impl FnOnce(Option<Row>) -> Option<Row>) {
        let before = self.rows.remove(&key);
        let after = change(before.clone());
        self.chains.entry(key).or_default().append(Chain::of(time, before, after.clone(), Some(policy)));
        self.rows.extend(after.map(|row| (key, row)));
    }

    fn write(&mut self, policy: &Policy, side: &str, time: i64, write: Step) {
        let set = |at: usize, value: Value| {
            move |row: Option<Row>| {
                row.map(|mut row| {
                    row.0[at] = value;
                    row
                })
            }
        };
        match write {
            Insert(key) => {
                let row = Row(vec![text(side), text(side), Value::Integer(1)]);
                self.change(policy, time, key, |_| Some(row));
            }
            Name(key) => self.change(policy, time, key, set(0, text(side))),
            Colour(key) => self.change(policy, time, key, set(1, text(side))),
            Sell(key) => {
                let less = self.rows[&key].0[STOCK].plus(&Value::Integer(-1)).unwrap();
                self.change(policy, time, key, set(STOCK, less));
            }
            Delete(key) => self.change(policy, time, key, |_| None),
            Move(from, to) => {
                let row = self.rows[&from].clone();
                self.change(policy, time, from, |_| None);
                self.change(policy, time, to, |_| Some(row));
            }
        }
    }
}

/// What stands of each key that was written, `None` where a person is to decide; `sides` are those on which a and b
/// write.
fn outcome(policy: &Policy, writes: [&[Step]; 2], sides: [Side; 2]) -> Option<BTreeMap<u8, Option<Row>>> {
    let first = Row(vec![text("x"), text("x"), Value::Integer(5)]);
    let side = |name: &str, time: i64, writes: &[Step]| {
        let mut written = Written { rows: BTreeMap::from([(1, first.clone())]), chains: BTreeMap::new() };
        writes.iter().for_each(|write| written.write(policy, name, time, *write));
        written
    };
    let written = [side("a", 1, writes[0]), side("b", 2, writes[1])];
    let written = Pair::from_fn(|side| &written[usize::from(side != sides[0])]);
    let keys: BTreeSet<u8> = written.iter().flat_map(|side| side.chains.keys().copied()).collect();
    let state = |key: &u8| KeyState {
        rows: Pair::from_fn(|side| written[side].rows.get(key).cloned()),
        pending: Pair::from_fn(|side| {
            let chain = written[side].chains.get(key).cloned().unwrap_or_default();
            History { all: chain.clone(), unseen: chain, ..History::default() }
        }),
    };
    let group: Vec<KeyState> = keys.iter().map(state).collect();
    let decision = decide(&group, policy, Side::A, None);
    let rows = keys.into_iter().zip(decision.keys.into_iter().map(|outcome| outcome.row));
    (decision.reason != Reason::Held).then(|| rows.collect())
}

/// `1: a, x, 4` for a row, nothing where there is none.
fn shown(rows: Option<BTreeMap<u8, Option<Row>>>) -> String {
    let Some(rows) = rows else { return "held".to_owned() };
    let value = |value: &Value| match value {
        Value::Text(text) => text.to_string(),
        Value::Integer(n) => n.to_string(),
        _ => "null".to_owned(),
    };
    let row = |(key, row): (&u8, &Option<Row>)| {
        let values: Vec<String> = row.as_ref()?.0.iter().map(value).collect();
        Some(format!("{key}: {}", values.join(", ")))
    };
    let rows: Vec<String> = rows.iter().filter_map(row).collect();
    if rows.is_empty() { "no row".to_owned() } else { rows.join("; ") }
}

fn rows_table() -> String {
    let rules = ROW_RULES.map(|(name, _)| format!("`{name}`")).join(" | ");
    let mut table = format!("| `a` | `b`, later | {rules} |\n| --- | --- | --- | --- | --- | --- |\n");
    for (text_a, a, text_b, b) in CASES {
        let outcomes = ROW_RULES.map(|(_, row)| {
            let columns = vec![None, None, Some(ColumnRule::Additive { floor: None })];
            shown(outcome(&Policy { columns, ..Policy::of_rows(row) }, [a, b], Side::BOTH))
        });
        writeln!(table, "| {text_a} | {text_b} | {} |", outcomes.join(" | ")).unwrap();
    }
    table
}

/// What becomes of one column, which has a rule of its own.
fn column(rule: &ColumnRule, writes: [Option<Value>; 2]) -> String {
    let policy = Policy { columns: vec![Some(rule.clone())], ..Policy::of_rows(RowRule::LastWriterWins) };
    let first = Row(vec![Value::Integer(5)]);
    let written = |value: &Option<Value>, time| match value {
        Some(value) => {
            let after = Row(vec![value.clone()]);
            (after.clone(), Chain::of(time, Some(first.clone()), Some(after), Some(&policy)))
        }
        // Another column, which is not shown, is written.
        None => (first.clone(), Chain::of(time, Some(first.clone()), Some(first.clone()), Some(&policy))),
    };
    let ((row_a, a), (row_b, b)) = (written(&writes[0], 1), written(&writes[1], 2));
    let history = |chain: Chain| History { all: chain.clone(), unseen: chain, ..History::default() };
    let state = KeyState { rows: Pair::new(Some(row_a), Some(row_b)), pending: Pair::new(history(a), history(b)) };
    let decided = decide(&[state], &policy, Side::A, None).keys.remove(0).row;
    match decided.map(|row| row.0[0].clone()) {
        Some(Value::Integer(n)) => n.to_string(),
        other => other.map_or("no row", |_| "null").to_owned(),
    }
}

fn columns_table() -> String {
    let rules = [
        ("last_writer_wins", ColumnRule::LastWriterWins),
        ("prefer:a", ColumnRule::Prefer(Side::A)),
        ("min", ColumnRule::Min),
        ("max", ColumnRule::Max),
        ("additive", ColumnRule::Additive { floor: None }),
    ];
    let number = |n: i128| Some(Value::Integer(n));
    let cases = [
        ("5 to 3", number(3), "5 to 9", number(9)),
        ("5 to 9", number(9), "5 to 3", number(3)),
        ("5 to 3", number(3), "another column", None),
        ("another column", None, "5 to 9", number(9)),
        ("5 to null", Some(Value::Null), "5 to 9", number(9)),
        ("5 to 3", number(3), "5 to null", Some(Value::Null)),
    ];
    let names = rules.each_ref().map(|(name, _)| format!("`{name}`")).join(" | ");
    let mut table = format!("| `a` | `b`, later | {names} |\n| --- | --- | --- | --- | --- | --- | --- |\n");
    for (text_a, a, text_b, b) in cases {
        let outcomes = rules.each_ref().map(|(_, rule)| column(rule, [a.clone(), b.clone()]));
        writeln!(table, "| {text_a} | {text_b} | {} |", outcomes.join(" | ")).unwrap();
    }
    table
}

/// The page with its tables made anew.
fn page(text: &str) -> String {
    let mut page = text.to_owned();
    for (name, table) in [("rows", rows_table()), ("columns", columns_table())] {
        let (begin, end) =
            (format!("<!-- {name}: made by src/conflict/cases.rs -->\n"), format!("<!-- end of {name} -->"));
        let (before, rest) = page.split_once(&begin).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        page = format!("{before}{begin}{table}{end}{after}");
    }
    page
}

#[test]
fn the_page_says_what_is_decided() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/conflicts.md");
    let text = std::fs::read_to_string(file).unwrap();
    let page = page(&text);
    if std::env::var_os("PONTOON_WRITE_DOCS").is_some() {
        std::fs::write(file, &page).unwrap();
        return;
    }
    for (made, written) in page.lines().zip(text.lines()) {
        assert_eq!(made, written, "PONTOON_WRITE_DOCS=1 makes the tables anew");
    }
    assert_eq!(page.len(), text.len(), "PONTOON_WRITE_DOCS=1 makes the tables anew");
}

/// Whichever of the two nodes is called A, what stands is the same.
#[test]
fn no_case_depends_on_which_side_is_called_a() {
    for (_, a, _, b) in CASES {
        for row in [RowRule::LastWriterWins, RowRule::ColumnMerge, RowRule::Quarantine] {
            let columns = vec![None, None, Some(ColumnRule::Additive { floor: None })];
            let policy = Policy { columns, ..Policy::of_rows(row) };
            assert_eq!(outcome(&policy, [a, b], [Side::A, Side::B]), outcome(&policy, [a, b], [Side::B, Side::A]));
        }
    }
}
