//! A node of which any one call can be made to fail: every place at which the engine asks a database for something is a
//! call site here, on the way in and on the way back from a failure alike.
//!
//! [`FaultyNode`] stands before any other node, the one in memory or one of a real server, and what it opens
//! (readers, sessions, scans, leases) is wrapped as it is. Calls fail by their number, counted from the first, where a
//! seed gives the same calls again ([`Sites::failing`]); or in a process that runs, where nothing does: the next call of a
//! method, or the one after it ([`Sites::arm`]).
//!
//! What a call that failed leaves behind is what a lost connection leaves: the connection is dropped at that moment, not
//! when the engine comes to it, and the server ends by itself what was under way in it.

mod node;
mod sites;

pub use node::FaultyNode;
pub use sites::{Armed, Fault, Site, Sites};
