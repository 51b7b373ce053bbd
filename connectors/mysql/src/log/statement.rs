//! What kind of statement a text in the log is, as far as a bridge must know. Not a parser: it looks at
//! the first words and at whether a table's name occurs.
//!
//! The log holds what the client sent, comments and all, in the client's charset.

use pontoon_core::TableName;

/// A kind of statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statement {
    /// Begins a transaction of rows.
    Begin,
    /// Ends one.
    Commit,
    /// Ends one whose transactional part is undone (it changed tables without transactions too).
    Rollback,
    /// A savepoint: no change.
    Savepoint,
    /// Undoes what came after a savepoint, though the log holds it.
    RollbackTo,
    /// An XA statement.
    Xa,
    /// Takes a table's rows away without logging them: truncates or drops it, or a part of it.
    Removal,
    /// May change a table's definition.
    Definition,
    /// Changes rows: it was logged as a statement.
    Rows,
    /// Anything else: users, privileges, maintenance.
    Other,
}

/// Reads the first words. MariaDB logs the settings of one statement with it, which are passed over, however many there
/// are: by a loop, since a text may hold more of them than a stack has room for.
pub(crate) fn classify(mut sql: &str) -> Statement {
    loop {
        let mut words = Words(sql);
        if words.next().as_deref() != Some("SET") || words.next().as_deref() != Some("STATEMENT") {
            return without_settings(sql);
        }
        match after_settings(words.0) {
            Some(after) => sql = after,
            None => return Statement::Rows,
        }
    }
}

fn without_settings(sql: &str) -> Statement {
    let mut words = Words(sql);
    let first = words.next().unwrap_or_default();
    match first.as_str() {
        "BEGIN" => Statement::Begin,
        "COMMIT" => Statement::Commit,
        "SAVEPOINT" | "RELEASE" => Statement::Savepoint,
        "ROLLBACK" => match words.next().as_deref() {
            Some("TO") => Statement::RollbackTo,
            Some("WORK") if words.next().as_deref() == Some("TO") => Statement::RollbackTo,
            _ => Statement::Rollback,
        },
        "XA" => Statement::Xa,
        "TRUNCATE" => Statement::Removal,
        "ALTER" | "CREATE" | "DROP" | "RENAME" => match (first.as_str(), words.next().as_deref()) {
            (
                _,
                Some(
                    "USER" | "ROLE" | "TEMPORARY" | "VIEW" | "EVENT" | "SERVER" | "PROCEDURE" | "FUNCTION" | "LOGFILE"
                    | "RESOURCE" | "SEQUENCE",
                ),
            ) => Statement::Other,
            ("DROP", Some("TABLE" | "TABLES" | "DATABASE" | "SCHEMA")) => Statement::Removal,
            ("CREATE", Some("OR")) if words.any(|word| word == "TABLE") => Statement::Removal,
            ("ALTER", _) if removes_part(sql) => Statement::Removal,
            _ => Statement::Definition,
        },
        "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "WITH" | "CALL" | "DO" | "SELECT" => Statement::Rows,
        _ => Statement::Other,
    }
}

/// What follows `SET STATEMENT ... FOR`.
fn after_settings(sql: &str) -> Option<&str> {
    let mut ends = sql.split_inclusive(char::is_whitespace).scan(0, |end, word| {
        *end += word.len();
        Some((*end, word.trim_end()))
    });
    ends.find(|(_, word)| word.eq_ignore_ascii_case("FOR")).map(|(end, _)| &sql[end..])
}

/// Whether an ALTER takes rows away by the piece: `DROP PARTITION p`, `EXCHANGE PARTITION`, `IMPORT TABLESPACE`.
fn removes_part(sql: &str) -> bool {
    let mut before = String::new();
    sql.split_whitespace().any(|word| {
        let word = word.to_ascii_uppercase();
        let found = matches!(before.as_str(), "DROP" | "TRUNCATE" | "EXCHANGE" | "DISCARD" | "IMPORT")
            && matches!(word.as_str(), "PARTITION" | "TABLESPACE");
        before = word;
        found
    })
}

/// Whether a statement may speak of a table: its name occurs, and its database's, or that is the default.
/// Names of databases alone (`DROP DATABASE d`) speak of all tables in them.
pub(crate) fn may_concern(sql: &str, default: &str, table: &TableName) -> bool {
    let schema = table.schema.as_deref().unwrap_or_default();
    if let Some(named) = named_tables(sql) {
        return named.iter().any(|(of, name)| {
            name.eq_ignore_ascii_case(&table.name) && of.as_deref().unwrap_or(default).eq_ignore_ascii_case(schema)
        });
    }
    let mut words = Words(sql);
    let whole = words.next().is_some() && words.next().is_some_and(|word| word == "DATABASE" || word == "SCHEMA");
    let schema_occurs = may_mention(sql, &TableName { schema: None, name: schema.into() });
    schema_occurs && whole || (schema_occurs || schema.eq_ignore_ascii_case(default)) && may_mention(sql, table)
}

/// Whether a definition may put a column in another one's place under its name: one is taken away, or a name is.
pub(crate) fn may_exchange_columns(sql: &str) -> bool {
    let words = sql.split(|c: char| !c.is_alphanumeric() && c != '_');
    let takes_away = |word: &str| ["DROP", "CHANGE", "RENAME"].iter().any(|known| word.eq_ignore_ascii_case(known));
    words.into_iter().any(takes_away)
}

/// The tables that a statement takes rows from or changes, with their databases where they are named; `None` where
/// it is of another build, or in another charset.
fn named_tables(sql: &str) -> Option<Vec<(Option<String>, String)>> {
    let mut words = Words(sql);
    match words.next()?.as_str() {
        "TRUNCATE" => words.skip_word("TABLE"),
        "DROP" | "ALTER" | "CREATE" => {
            words.skip_word("OR");
            words.skip_word("REPLACE");
            words.skip_word("ONLINE");
            words.skip_word("IGNORE");
            if !matches!(words.next()?.as_str(), "TABLE" | "TABLES") {
                return None;
            }
        }
        _ => return None,
    }
    words.skip_word("IF");
    words.skip_word("NOT");
    words.skip_word("EXISTS");
    let mut tables = Vec::new();
    loop {
        let first = words.identifier()?;
        tables.push(if words.skip_mark('.') { (Some(first), words.identifier()?) } else { (None, first) });
        if !words.skip_mark(',') {
            return Some(tables);
        }
    }
}

/// Whether a table's name may occur in a text: without case and quotes. A name beyond ASCII may be there
/// in any charset and is taken to occur.
pub(crate) fn may_mention(sql: &str, table: &TableName) -> bool {
    if !table.name.is_ascii() {
        return true;
    }
    let plain = |text: &str| text.chars().filter(|c| !matches!(c, '`' | '"')).collect::<String>().to_ascii_lowercase();
    plain(sql).contains(&plain(&table.name))
}

/// The words at the beginning of a statement, in capitals, comments left out.
struct Words<'a>(&'a str);

impl Words<'_> {
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.0.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';');
            self.0 = if let Some(comment) = rest.strip_prefix("/*") {
                // `/*!50000 ... */` and `/*M! ... */` are code: only the opening is passed over.
                let code = comment.strip_prefix('!').or_else(|| comment.strip_prefix("M!"));
                match code {
                    Some(code) => code.trim_start_matches(|c: char| c.is_ascii_digit()),
                    None => comment.split_once("*/").map_or("", |(_, after)| after),
                }
            } else if rest.starts_with('#')
                || rest.strip_prefix("--").is_some_and(|c| c.starts_with(char::is_whitespace))
            {
                rest.split_once('\n').map_or("", |(_, after)| after)
            } else {
                self.0 = rest;
                return;
            };
        }
    }
}

impl Words<'_> {
    fn skip_word(&mut self, word: &str) {
        let before = self.0;
        if self.next().as_deref() != Some(word) {
            self.0 = before;
        }
    }

    fn skip_mark(&mut self, mark: char) -> bool {
        self.skip_blanks();
        let rest = self.0.strip_prefix(mark);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// A name, quoted or bare.
    fn identifier(&mut self) -> Option<String> {
        self.skip_blanks();
        let quote = self.0.chars().next()?;
        let mut name = String::new();
        if matches!(quote, '`' | '"') {
            let mut rest = &self.0[1..];
            loop {
                let at = rest.find(quote)?;
                name.push_str(&rest[..at]);
                rest = &rest[at + 1..];
                match rest.strip_prefix(quote) {
                    Some(more) => {
                        name.push(quote);
                        rest = more;
                    }
                    None => break,
                }
            }
            self.0 = rest;
        } else {
            let end = self
                .0
                .find(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' && c != '$')
                .unwrap_or(self.0.len());
            name.push_str(&self.0[..end]);
            self.0 = &self.0[end..];
        }
        (!name.is_empty() && !name.contains('\u{fffd}')).then_some(name)
    }
}

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.skip_blanks();
        let end = self.0.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then(|| word.to_ascii_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_number_of_settings_is_passed_over() {
        let settings = "SET STATEMENT a = 1 FOR ".repeat(200_000);
        assert_eq!(classify(&format!("{settings}TRUNCATE t")), Statement::Removal);
        assert_eq!(classify(&settings), Statement::Other);
        assert_eq!(classify("SET STATEMENT a = 1"), Statement::Rows);
    }

    #[test]
    fn statements_are_told_by_their_first_words() {
        for (sql, kind) in [
            ("BEGIN", Statement::Begin),
            ("/* app=x */ truncate table t", Statement::Removal),
            ("-- a\n# b\n TRUNCATE t", Statement::Removal),
            ("ALTER TABLE t DROP PARTITION p", Statement::Removal),
            ("/*!40000 ALTER TABLE t DISABLE KEYS */", Statement::Definition),
            ("create or replace table t (a int)", Statement::Removal),
            ("create or replace view t as select 1", Statement::Definition),
            ("alter table t add column c int", Statement::Definition),
            ("CREATE TEMPORARY TABLE t (a int)", Statement::Other),
            ("DROP TABLE `t` /* generated by server */", Statement::Removal),
            ("ROLLBACK TO `s`", Statement::RollbackTo),
            ("ROLLBACK", Statement::Rollback),
            ("XA COMMIT X'61',X'',1", Statement::Xa),
            ("insert into t values (1)", Statement::Rows),
            ("SET STATEMENT binlog_format = 'STATEMENT' for update t set a = 1", Statement::Rows),
            ("SET STATEMENT max_statement_time=1 FOR SELECT 1", Statement::Rows),
            ("SET STATEMENT a=1 FOR TRUNCATE t", Statement::Removal),
            ("SET PASSWORD FOR u = 'x'", Statement::Other),
            ("GRANT SELECT ON t TO u", Statement::Other),
            ("/* never ends", Statement::Other),
            ("", Statement::Other),
        ] {
            assert_eq!(classify(sql), kind, "{sql}");
        }
    }

    #[test]
    fn names_are_found_however_they_are_quoted() {
        let table = TableName::new("shop", "we`ird \"T\"");
        assert!(may_mention("ALTER TABLE `we``ird \"t\"` ADD c INT", &table));
        assert!(!may_mention("ALTER TABLE other ADD c INT", &table));
        assert!(may_mention("ALTER TABLE \u{fffd}", &TableName::new("shop", "straße")));
        assert!(may_concern("TRUNCATE items", "shop", &TableName::new("shop", "items")));
        assert!(may_concern("TRUNCATE `shop`.`items`", "", &TableName::new("shop", "items")));
        assert!(!may_concern("TRUNCATE items", "other", &TableName::new("shop", "items")));
        assert!(may_concern(
            "DROP TABLE IF EXISTS a, `shop` . `it``em's` /* x */",
            "",
            &TableName::new("shop", "it`em's")
        ));
        assert!(!may_concern("DROP TABLE `shop`.other", "", &TableName::new("shop", "größe")));
        assert!(may_concern("DROP TABLE `shop`.gr\u{fffd}", "", &TableName::new("shop", "größe")));
        assert!(may_concern("ALTER TABLE items ADD x int", "shop", &TableName::new("shop", "items")));
        assert!(may_concern("DROP DATABASE shop", "", &TableName::new("shop", "items")));
        assert!(!may_concern("DROP DATABASE other", "", &TableName::new("shop", "items")));
    }

    proptest! {
        #[test]
        fn any_text_is_something(sql in ".{0,60}|[/*!#; a-z-]{0,30}") {
            let _ = (classify(&sql), may_concern(&sql, "d", &TableName::new("d", "t")));
        }
    }
}
