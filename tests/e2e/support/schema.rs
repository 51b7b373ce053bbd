//! A document held against a JSON schema: as much of the language as `docs/status.schema.json` has, and what is not known here fails. Stricter than the
//! schema in one thing: what the document has and the schema does not describe is an error, for it is ours to describe.

use serde_json::Value as Json;

/// Where the document is not as the schema says, and how.
pub(crate) fn faults(schema: &Json, document: &Json) -> Vec<String> {
    let mut checked = Checked { root: schema, faults: Vec::new() };
    checked.check(schema, document, "$");
    checked.faults
}

struct Checked<'a> {
    root: &'a Json,
    faults: Vec<String>,
}

impl Checked<'_> {
    fn check(&mut self, schema: &Json, value: &Json, at: &str) {
        for (word, rule) in schema.as_object().unwrap() {
            let fits = match word.as_str() {
                "$schema" | "$id" | "$defs" | "title" | "description" | "properties" => true,
                "$ref" => {
                    let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                    self.check(&self.root["$defs"][name].clone(), value, at);
                    true
                }
                "type" => match rule {
                    Json::Array(types) => types.iter().any(|one| is(one, value)),
                    one => is(one, value),
                },
                "const" => value == rule,
                "enum" => rule.as_array().unwrap().contains(value),
                "anyOf" => rule.as_array().unwrap().iter().any(|one| {
                    let mut tried = Checked { root: self.root, faults: Vec::new() };
                    tried.check(one, value, at);
                    tried.faults.is_empty()
                }),
                "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
                "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
                "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
                // The one that there is: the bridge's name.
                "pattern" => {
                    assert_eq!(rule, "^[a-z0-9_-]{1,32}$");
                    value.as_str().is_some_and(|name| {
                        (1..=32).contains(&name.len())
                            && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
                    })
                }
                "required" => {
                    let missing =
                        rule.as_array().unwrap().iter().filter(|name| value.get(name.as_str().unwrap()).is_none());
                    let missing: Vec<String> = missing.map(|name| format!("{at}: {name} is missing")).collect();
                    self.faults.extend(missing);
                    true
                }
                "items" => {
                    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{at}[{number}]"));
                    }
                    true
                }
                other => panic!("{other} is not known here"),
            };
            if !fits {
                self.faults.push(format!("{at}: {value} does not fit {word} {rule}"));
            }
        }
        if let (Some(known), Some(found)) = (schema.get("properties"), value.as_object()) {
            for (name, value) in found {
                match known.get(name) {
                    Some(schema) => self.check(schema, value, &format!("{at}.{name}")),
                    None => self.faults.push(format!("{at}.{name} is not described")),
                }
            }
        }
    }
}

fn is(name: &Json, value: &Json) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}
