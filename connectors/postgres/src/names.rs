//! What the bridge's things are called on a server.

use pontoon_core::{Code, Error, Origin, Result};

/// The longest name of a bridge; with prefix and mask a slot's name stays below the 63 bytes that the
/// server takes.
const BRIDGE_CHARS_MAX: usize = 32;

/// The names that belong to one bridge.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// The bridge.
    pub(crate) bridge: String,
    /// Its slot, and its publication.
    pub(crate) slot: String,
    /// The key of its advisory lock.
    pub(crate) lock: i64,
    /// The prefix of its logical messages.
    pub(crate) message_prefix: String,
}

impl Names {
    /// Of a bridge. Errors: [`Code::Config`] for what is no bridge's name.
    pub(crate) fn new(bridge: &str) -> Result<Names> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if bridge.is_empty() || bridge.len() > BRIDGE_CHARS_MAX || !bridge.chars().all(good) {
            return Err(Error::new(Code::Config, format!("bridge = {bridge:?} is no name of a bridge"))
                .hint("small letters, digits, - and _, at most 32 characters"));
        }
        Ok(Names {
            bridge: bridge.into(),
            slot: slot(bridge),
            lock: fnv1a(format!("pontoon:{bridge}").as_bytes()).cast_signed(),
            message_prefix: format!("pontoon:{bridge}"),
        })
    }

    /// The origin of an applier: one session at a time can use it.
    pub(crate) fn origin(&self, applier: i32) -> String {
        format!("pontoon:{}:{applier}", self.bridge)
    }

    /// Whose origin a name is.
    pub(crate) fn origin_of(&self, name: &str) -> Origin {
        let bridge = name
            .strip_prefix("pontoon:")
            .and_then(|rest| rest.rsplit_once(':'))
            .filter(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
            .map(|(bridge, _)| bridge);
        match bridge {
            Some(bridge) if bridge == self.bridge => Origin::Own,
            Some(bridge) => Origin::Bridge(bridge.into()),
            None => Origin::Local,
        }
    }
}

/// `pontoon_BRIDGE` with each dash as an underscore, since a slot's name has none. So that `a-b` and
/// `a_b` do not meet, a name that has underscores of its own begins `pontoonu` and says in hexadecimal
/// which places they are at: the one form never has a letter after `pontoon`, the other always has.
fn slot(bridge: &str) -> String {
    let flat = bridge.replace('-', "_");
    let mask = bridge.bytes().enumerate().filter(|&(_, b)| b == b'_').fold(0_u64, |mask, (at, _)| mask | 1 << at);
    if mask == 0 { format!("pontoon_{flat}") } else { format!("pontoonu{mask:x}_{flat}") }
}

/// The hash of Fowler, Noll and Vo: stable for ever, as two versions of pontoon must meet at one lock.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slots_of_two_bridges_differ(a in "[ab1_-]{1,5}", b in "[ab1_-]{1,5}") {
            prop_assert_eq!(slot(&a) == slot(&b), a == b);
        }

        #[test]
        fn slots_are_names_that_the_server_takes(bridge in "[a-z0-9_-]{1,32}") {
            let slot = Names::new(&bridge).unwrap().slot;
            prop_assert!(slot.len() <= 63);
            prop_assert!(slot.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        }

        #[test]
        fn arbitrary_origins_never_panic(name in ".{0,20}") {
            Names::new("b").unwrap().origin_of(&name);
        }
    }

    #[test]
    fn origins_are_matched_exactly() {
        let names = Names::new("shop").unwrap();
        assert_eq!(names.slot, "pontoon_shop");
        assert_eq!(names.origin_of(&names.origin(1)), Origin::Own);
        assert_eq!(names.origin_of("pontoon:shop-2:0"), Origin::Bridge("shop-2".into()));
        for other in ["pontoon:shop", "pontoon:shop:x", "pontoon:shop:", "pg_16390", "xpontoon:shop:0"] {
            assert_eq!(names.origin_of(other), Origin::Local, "{other}");
        }
        assert!(Names::new("Shop").is_err());
        assert!(Names::new(&"x".repeat(33)).is_err());
    }
}
