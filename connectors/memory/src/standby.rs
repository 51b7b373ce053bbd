//! A server that is lost, and a standby of it that goes on in its place, at the same address.
//!
//! A standby holds what was committed up to some moment, of everything: rows, the log, and what the bridges keep. What is committed between that moment
//! and the promotion is lost. Whoever was connected to the server that is gone finds that out at the next call, and nothing that was under way there
//! comes to anything.
//!
//! Positions are the same ones in both logs up to the fork, or all are others ([`Database::relocates`]): then they are files and offsets, and those of
//! a later server stand before all of an earlier one, so that whoever takes one for the other is found out. What is the same is the name of the last
//! transaction before the place.

use std::collections::BTreeMap;

use pontoon_core::{Beside, Code, Error, Gtid, LogIdentity, Position, Result, node::CarriedOver};

use crate::database::{Database, Inner};

/// What a standby holds.
pub struct Standby(Inner);

/// The file of the first server's log; each later one's is the one before.
const FIRST_FILE: u64 = 1_000_000;

/// How many entries of the log stand before a position, of whichever server.
pub fn entries(position: &Position) -> u64 {
    match position {
        Position::Index(entries) | Position::Binlog { offset: entries, .. } => *entries,
        Position::Lsn(_) => 0,
    }
}

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

    /// From now on a standby's positions are others.
    pub fn relocates(&self) {
        self.inner().relocates = true;
    }

    /// The position behind so many entries, as it is called now.
    pub fn place(&self, entries: u64) -> Position {
        let inner = self.inner();
        inner.place(inner.server(), entries)
    }

    /// Where the log ends now.
    pub fn end(&self) -> Position {
        let entries = self.inner().log.len();
        self.place(entries as u64)
    }

    /// Where the places of another log are, which this one goes on from.
    pub(crate) fn carried_over(&self, log: &LogIdentity, places: &[Position]) -> Option<CarriedOver> {
        let inner = self.inner();
        let (_, fork) = inner.ancestors.iter().find(|(ancestor, _)| ancestor == log)?;
        let here = |place: &Position| {
            let entries = entries(place);
            let made_by = match place.gtid() {
                Some(Gtid::Mysql { server: [server, ..], .. }) => usize::from(server),
                _ if inner.relocates => return None,
                _ => inner.ancestors.iter().position(|(ancestor, _)| ancestor == log)?,
            };
            let is_here = inner.ancestors.iter().skip(made_by).all(|(_, at)| entries <= *at);
            is_here.then(|| inner.place(inner.server(), entries))
        };
        Some(CarriedOver { fork: inner.place(inner.server(), *fork), places: places.iter().map(here).collect() })
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

    /// What one of the servers calls the place behind so many entries.
    pub(crate) fn place(&self, server: usize, entries: u64) -> Position {
        if !self.relocates {
            return Position::Index(entries);
        }
        // Who made the last of them.
        let maker = self.ancestors.iter().take(server).filter(|(_, at)| *at < entries).count();
        let gtid = Gtid::Mysql { server: [u8::try_from(maker).unwrap_or(u8::MAX); 16], number: entries };
        let beside = Beside { gtid: Some(gtid), ..Beside::default() };
        Position::Binlog { base: "log".into(), file: FIRST_FILE - server as u64, offset: entries, beside }
    }
}

fn gone(database: &Database) -> Error {
    Error::new(Code::ConnectionLost, format!("{}: the server is gone", database.name))
}
