//! The first load of a table that holds rows already, while both sides are written.
//!
//! A table is read on the source in chunks, in key order, each in a statement of its own: no long transaction and no
//! lock, so that vacuum, purge and writers go on. A chunk is written on the target by the very task that applies the
//! source's log there, between two runs, as rows whose keys must be absent, in transactions with our tag, the last of
//! which says how far the copy has come. So a copy goes on after any crash at the chunk where it was.
//!
//! Why a chunk's row is right where it arrives. Let the chunk be read between the places `L` and `H` of the source's log.
//!
//! 1. *The source's own writes* (rule `Window`). A statement shows the effect of all that ends before `L`
//!    ([`pontoon_core::node::Scan::settled_chunk`]), and of some of what ends between `L` and `H`. The chunk waits until the log
//!    is applied up to `H`; keys that were written from `L` on to where the applier stands are in doubt. Of the others the row is
//!    what the source held there, and what the log brings later is applied on top.
//! 2. *The target's own writes* (rule `Meanwhile`). A row that is absent here may be one that was removed here while
//!    the chunk was on its way, and would rise again. So when the rows are written and not yet committed, and with that locked,
//!    a fence is taken on the target; once its reader has passed it, a key with a write that the source has not got is in
//!    doubt. A write that the source has got is in the source's log as our own, between `L` and where that log ends now,
//!    and once the source's reader has passed that, it is in doubt as well.
//! 3. *What has been settled* (rule `Covered`). A rendezvous may have covered writes that the source's log has not brought yet, and that
//!    will be left out when it does: the row of the chunk is older than what was settled. Keys with a resolution in force are in doubt.
//! 4. *A key that is there already* (the rows are not absent): equal rows need nothing, unless the target has written them itself
//!    and the source has not got that; these, and rows that differ, are in doubt.
//! 5. *What the log brings meanwhile* (rule `Apart`). The conditional write of [`crate::direction`] takes for granted that
//!    both sides began equal. Until a table is copied they did not, and a before image may fit by chance: one side removes
//!    a row that the other never had, the other adds just that row, and each crosses to where the other has been. So
//!    while a copy is underway, a run in either direction is only committed where the target has no write of its keys that
//!    the source has not got; else they are settled first.
//! 6. The keys are in the registry meanwhile, as those of any run, so no rendezvous comes between.
//!
//! Keys in doubt are settled by a rendezvous, which asks no order of anything; what it finds different without a write
//! in either log to explain it is the arrival of a row, or two rows that the table's rule has to choose from.
//! The rest of the chunk is written before that, and only when they are settled the chunk is noted as arrived.

mod arrive;
mod feed;
mod lane;
mod underway;
mod window;

pub(crate) use feed::{AHEAD_MAX, Chunk, run as feed};
pub(crate) use lane::Lane;
pub(crate) use underway::Underway;
pub(crate) use window::Windows;
