//! What an operator asks of a bridge, once: the commands say it on a terminal, the page in a browser.
//!
//! All of it is left in the databases, where whichever process of the bridge works finds it. Each function returns what is said of it.

pub(crate) mod pause;
pub(crate) mod quarantine;
