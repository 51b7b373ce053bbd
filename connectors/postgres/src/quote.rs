//! The one place where a name becomes part of an SQL text.
//!
//! An identifier is put in double quotes and each double quote within is doubled; that is the whole
//! rule, whatever the server's settings (manual, 4.1.1 "Identifiers and Key Words"). A literal is only
//! ever needed in statements that take no parameters (`CREATE PUBLICATION`, `START_REPLICATION`,
//! comments) and relies on `standard_conforming_strings`, which every session here pins to `on`.
//! Neither can hold a NUL byte, which no name of the catalogs has.

use std::fmt;

use pontoon_core::TableName;

/// An identifier that prints itself quoted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ident<'a>(pub(crate) &'a str);

impl fmt::Display for Ident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        surround(f, self.0, '"')
    }
}

/// A literal that prints itself quoted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Literal<'a>(pub(crate) &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        surround(f, self.0, '\'')
    }
}

fn surround(f: &mut fmt::Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    use fmt::Write;
    f.write_char(quote)?;
    for c in text.chars() {
        if c == quote {
            f.write_char(quote)?;
        }
        f.write_char(c)?;
    }
    f.write_char(quote)
}

/// A table with its schema, quoted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a>(pub(crate) &'a TableName);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.0.schema {
            write!(f, "{}.", Ident(schema))?;
        }
        write!(f, "{}", Ident(&self.0.name))
    }
}

/// Several identifiers with commas between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List<'a, T>(pub(crate) &'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, item) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads one quoted token from the front as the server's scanner does, and returns it with the rest.
    fn scan(text: &str, quote: char) -> Option<(String, &str)> {
        let mut out = String::new();
        let mut rest = text.strip_prefix(quote)?.char_indices().peekable();
        let inner = &text[quote.len_utf8()..];
        while let Some((at, c)) = rest.next() {
            if c != quote {
                out.push(c);
            } else if rest.peek().is_some_and(|&(_, next)| next == quote) {
                rest.next();
                out.push(quote);
            } else {
                return Some((out, &inner[at + quote.len_utf8()..]));
            }
        }
        None
    }

    #[test]
    fn a_million_hostile_names_round_trip() {
        for name in pontoon_corpus::hostile_names(1_000_000, 63) {
            let text = format!("{}, rest", Ident(&name));
            assert_eq!(scan(&text, '"'), Some((name.clone(), ", rest")));
            let text = format!("{}, rest", Literal(&name));
            assert_eq!(scan(&text, '\''), Some((name, ", rest")));
        }
    }

    proptest! {
        #[test]
        fn any_name_round_trips(name in ".{0,20}") {
            let text = format!("{}; rest", Ident(&name));
            prop_assert_eq!(scan(&text, '"'), Some((name.clone(), "; rest")));
            let text = format!("{}; rest", Literal(&name));
            prop_assert_eq!(scan(&text, '\''), Some((name, "; rest")));
        }
    }

    #[test]
    fn tables_keep_their_dots() {
        let name = TableName::new("a.b", "c\"d");
        assert_eq!(Table(&name).to_string(), "\"a.b\".\"c\"\"d\"");
        assert_eq!(List(&[Ident("a"), Ident("b")]).to_string(), "\"a\", \"b\"");
    }
}
