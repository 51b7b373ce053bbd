//! The two sides of a bridge.

use std::ops::{Index, IndexMut};

/// A node's place in the protocol. A is the first by name: rows are locked and resolutions committed
/// on A first, so both processes of a bridge, and every restart, agree on which is which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The first node by name.
    A,
    /// The second.
    B,
}

impl Side {
    /// Both, in the order in which everything is locked and committed.
    pub const BOTH: [Side; 2] = [Side::A, Side::B];

    /// The opposite side.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// One thing for each side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pair<T>([T; 2]);

impl<T> Pair<T> {
    /// A's and B's.
    pub const fn new(a: T, b: T) -> Self {
        Pair([a, b])
    }

    /// Makes one for each side, A's first.
    pub fn from_fn(mut make: impl FnMut(Side) -> T) -> Self {
        Pair([make(Side::A), make(Side::B)])
    }

    /// Both to change, A's first.
    pub fn each_mut(&mut self) -> [&mut T; 2] {
        self.0.each_mut()
    }

    /// Both, A's first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

impl<T> Index<Side> for Pair<T> {
    type Output = T;

    fn index(&self, side: Side) -> &T {
        &self.0[side as usize]
    }
}

impl<T> IndexMut<Side> for Pair<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        &mut self.0[side as usize]
    }
}
