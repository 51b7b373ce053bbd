//! Columns with the names that break an SQL text best, whatever `standard_conforming_strings` says to those who do not pin it.

use crate::support::{Bench, names, tag};

/// Tables for each setting.
const TABLES: usize = 20;

/// Columns of a table; in all there are ten thousand.
const COLUMNS: usize = 250;

#[tokio::test]
async fn names_stay_what_they_are() {
    let mut hostile = pontoon_corpus::hostile_names((2 * TABLES * COLUMNS) as u32, 63);
    for mode in ["on", "off"] {
        let columns: Vec<Vec<String>> = (0..TABLES).map(|_| hostile.by_ref().take(COLUMNS).collect()).collect();
        let mut ddl = format!("ALTER DATABASE \"shop \"\"db'\" SET standard_conforming_strings = {mode}");
        for (table, of) in columns.iter().enumerate() {
            let quoted: Vec<String> = of.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
            let (list, key) = (quoted.join(" int, "), &quoted[0]);
            ddl += &format!("; CREATE TABLE t{table} ({list} int, PRIMARY KEY ({key}))");
            ddl += &format!("; ALTER TABLE t{table} REPLICA IDENTITY FULL");
        }
        let tables: Vec<String> = (0..TABLES).map(|table| format!("t{table}")).collect();
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        let bench = Bench::start_with(&ddl, &names(&tables), &[]).await;
        let described = bench.tables().iter().map(|table| table.columns.iter());
        let described = described.map(|columns| columns.map(|column| column.column.name.to_string()));
        assert_eq!(described.map(Iterator::collect::<Vec<_>>).collect::<Vec<_>>(), columns);
        let mut session = bench.session().await;
        session.begin(Some(&tag(5, 6))).await.unwrap();
        pontoon_corpus::every_column_is_written(&mut *session, bench.tables()).await;
        session.commit().await.unwrap();
    }
    assert_eq!(hostile.next(), None);
}
