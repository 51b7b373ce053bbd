//! The one quoting type: every identifier that goes into a statement passes through here.
//!
//! Between backticks any character of a name stands for itself, a backtick is doubled, whatever
//! `sql_mode` says (MySQL manual, "Schema Object Names"; MariaDB, "Identifier Names"). Names of up to
//! 64 characters of the Basic Multilingual Plane exist; NUL is in none.

use std::fmt;

use pontoon_core::TableName;

/// An identifier between backticks.
pub(crate) struct Ident<'a>(pub(crate) &'a str);

impl fmt::Display for Ident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        for (index, part) in self.0.split('`').enumerate() {
            if index > 0 {
                f.write_str("``")?;
            }
            f.write_str(part)?;
        }
        f.write_str("`")
    }
}

/// A table with its database.
pub(crate) struct Table<'a>(pub(crate) &'a TableName);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.0.schema {
            write!(f, "{}.", Ident(schema))?;
        }
        Ident(&self.0.name).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the servers' own lexer makes of a quoted identifier and what follows it.
    fn unquote(text: &str) -> Option<(String, &str)> {
        let mut name = String::new();
        let mut rest = text.strip_prefix('`')?;
        loop {
            let at = rest.find('`')?;
            name.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            match rest.strip_prefix('`') {
                Some(more) => {
                    name.push('`');
                    rest = more;
                }
                None => return Some((name, rest)),
            }
        }
    }

    #[test]
    fn a_million_hostile_names_round_trip() {
        for name in pontoon_corpus::hostile_names(1_000_000, 64) {
            let text = format!("{}, rest", Ident(&name));
            assert_eq!(unquote(&text), Some((name, ", rest")));
        }
    }

    proptest! {
        #[test]
        fn any_name_round_trips(name in ".{0,20}", after in "[^`].{0,5}|") {
            let text = format!("{}{after}", Ident(&name));
            prop_assert_eq!(unquote(&text), Some((name, after.as_str())));
        }

        #[test]
        fn tables_keep_their_dots(schema in ".{1,10}", name in ".{1,10}") {
            let text = Table(&TableName::new(schema.as_str(), name.as_str())).to_string();
            let (first, rest) = unquote(&text).unwrap();
            let (second, rest) = unquote(rest.strip_prefix('.').unwrap()).unwrap();
            prop_assert_eq!((first, second, rest), (schema, name, ""));
        }
    }
}
