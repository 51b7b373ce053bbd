//! A server that is lost, and a standby of it that goes on in its place, at the same address.
//!
//! A standby holds what was committed up to some moment, of everything: rows, the log, and what the bridges keep. What is committed between that moment
//! and the promotion is lost. Whoever was connected to the server that is gone finds that out at the next call, and nothing that was under way there
//! comes to anything.

use std::collections::BTreeMap;

use pontoon_core::{Code, Error, LogIdentity, Position, Result};

use crate::database::{Database, Inner};

/// What a standby holds.
pub struct Standby(Inner);

impl Database {
    /// A standby that has come as far as this.
    pub fn standby(&self) -> Standby {
        Standby(self.inner().clone())
    }

    /// The server is lost, and a standby of it is promoted. Returns how many entries of the log are lost with it.
    pub fn promote(&self, Standby(mut next): Standby) -> usize {
        let mut inner = self.inner();
        let lost = inner.log.len() - next.log.len();
        next.ancestors.push((self.identity_in(&next), next.log.len() as u64));
        next.go_on_from(&inner);
        // What was under way is rolled back.
        let undecided: Vec<u64> = next.undecided.keys().copied().collect();
        undecided.into_iter().for_each(|transaction| next.undo_early(transaction));
        (next.locks, next.values) = (BTreeMap::new(), BTreeMap::new());
        for bridge in next.bridges.values_mut() {
            bridge.lease_shared.clear();
            bridge.holder = None;
        }
        *inner = next;
        drop(inner);
        self.changed.notify_waiters();
        lost
    }

    /// Up to where the log is the same as another one, which it goes on from.
    pub(crate) fn forked_from(&self, log: &LogIdentity) -> Option<Position> {
        let inner = self.inner();
        let ancestor = inner.ancestors.iter().find(|(ancestor, _)| ancestor == log);
        ancestor.map(|(_, at)| Position::Index(*at))
    }

    /// Which server is at this address now.
    pub(crate) fn server(&self) -> usize {
        self.inner().server()
    }

    /// A call over a connection to a server: fails where that is gone.
    pub(crate) async fn call(&self, server: usize) -> Result<()> {
        self.dice.call().await?;
        if self.server() == server { Ok(()) } else { Err(gone(self)) }
    }
}

impl Inner {
    /// Which server this is: the number of promotions so far.
    pub(crate) fn server(&self) -> usize {
        self.ancestors.len()
    }
}

fn gone(database: &Database) -> Error {
    Error::new(Code::ConnectionLost, format!("{}: the server is gone", database.name))
}
