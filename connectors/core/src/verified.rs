//! What the last comparison of both sides came to: a row of `control` on node A, written by whoever compared and read by the bridge, which
//! shows it.

use serde_json::{Value as Json, json};

/// The row of `control`: its number is [`Verified::equal_at`], or 0, its value the rest.
pub const NAME: &str = "verified";

/// How many rows a comparison of all tables found to differ, and when one last found none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// When a comparison last found both sides equal, in microseconds since 1970 UTC. `None`: never yet; or, where it is noted, this one did not.
    pub equal_at: Option<i64>,
    /// Rows that both sides have, and not alike.
    pub different: u64,
    /// Rows that only node A has.
    pub only_a: u64,
    /// Rows that only node B has.
    pub only_b: u64,
}

impl Verified {
    /// The value that is kept.
    pub fn value(&self) -> String {
        json!({"different": self.different, "only_a": self.only_a, "only_b": self.only_b}).to_string()
    }

    /// Reads it back; `None` where it is not that.
    pub fn read(number: i64, value: &str) -> Option<Verified> {
        let json: Json = serde_json::from_str(value).ok()?;
        let count = |name: &str| json.get(name)?.as_u64();
        Some(Verified {
            equal_at: (number != 0).then_some(number),
            different: count("different")?,
            only_a: count("only_a")?,
            only_b: count("only_b")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back() {
        let verified = Verified { equal_at: Some(7), different: 1, only_a: 2, only_b: 3 };
        assert_eq!(Verified::read(7, &verified.value()), Some(verified));
        assert_eq!(Verified::read(0, &verified.value()), Some(Verified { equal_at: None, ..verified }));
        for other in ["", "{}", "{\"different\": 1, \"only_a\": -1, \"only_b\": 0}"] {
            assert_eq!(Verified::read(7, other), None, "{other:?}");
        }
    }
}
