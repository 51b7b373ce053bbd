//! Canonical text of a JSON document: keys sorted, no blanks, numbers by value, the last of
//! duplicate keys (as PostgreSQL's jsonb and MySQL's JSON keep it).

use serde_json::{Number, Value as Json};

use crate::decimal::Parts;

/// Zeros written out before an exponent is used: beyond it a number's text would be longer than any
/// document that holds it (`1e300`).
const PLAIN_ZEROS_MAX: i64 = 20;

/// The canonical text of a document; `None` where it is no JSON, or nests too deeply for the parser
/// (128 levels, serde_json's limit; MySQL's own is 100).
pub fn canonical(text: &str) -> Option<String> {
    let mut document: Json = serde_json::from_str(text).ok()?;
    canonicalize(&mut document)?;
    serde_json::to_string(&document).ok()
}

/// Whether every number survives a double, which is what MySQL's JSON keeps of a number that is
/// neither a 64-bit integer nor written by a CAST.
pub fn fits_double(text: &str) -> bool {
    serde_json::from_str(text).is_ok_and(|document| numbers_fit(&document))
}

fn canonicalize(document: &mut Json) -> Option<()> {
    match document {
        Json::Number(number) => *number = canonical_number(number)?,
        Json::Array(items) => {
            for item in items {
                canonicalize(item)?;
            }
        }
        Json::Object(members) => {
            for (_, member) in members.iter_mut() {
                canonicalize(member)?;
            }
        }
        Json::Null | Json::Bool(_) | Json::String(_) => {}
    }
    Some(())
}

fn canonical_number(number: &Number) -> Option<Number> {
    let parts = Parts::of(number.as_str())?;
    let text = if parts.exponent.abs() <= PLAIN_ZEROS_MAX {
        parts.plain()
    } else {
        format!("{}{}e{}", if parts.negative { "-" } else { "" }, parts.digits, parts.exponent)
    };
    text.parse().ok()
}

fn numbers_fit(document: &Json) -> bool {
    match document {
        Json::Number(number) => number.is_i64() || number.is_u64() || survives_double(number.as_str()),
        Json::Array(items) => items.iter().all(numbers_fit),
        Json::Object(members) => members.values().all(numbers_fit),
        Json::Null | Json::Bool(_) | Json::String(_) => true,
    }
}

fn survives_double(text: &str) -> bool {
    let Ok(double) = text.parse::<f64>() else {
        return false;
    };
    double.is_finite()
        && crate::decimal::canonical(&format!("{double:?}"))
            .is_some_and(|back| Some(back) == crate::decimal::canonical(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_document_has_one_text() {
        let expected = r#"{"a":[1,1.5,1000],"b":{"x":null,"y":"é"}}"#;
        for text in [
            r#"{"b":{"y":"é","x":null},"a":[1.0,1.50,1e3]}"#,
            r#" { "a" : [ 1 , 15e-1 , 1000.0 ], "b" : { "x" : null, "y" : "\u00e9" } } "#,
            r#"{"a":0,"a":[1,1.5,1000],"b":{"x":null,"y":"é"}}"#,
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(canonical("1e300").as_deref(), Some("1e+300"));
        assert_eq!(canonical("1.0e300"), canonical(&format!("1{}", "0".repeat(300))));
        assert_eq!(canonical("{"), None);
    }

    #[test]
    fn doubles_lose_long_numbers() {
        assert!(fits_double("[18446744073709551615, 0.1, -5, 1e300]"));
        assert!(!fits_double("[0.12345678901234567890123]"));
        assert!(!fits_double("18446744073709551616.5"));
    }
}
