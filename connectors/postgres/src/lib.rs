//! Pontoon's connector to PostgreSQL.

use std::sync::Arc;

use pontoon_core::{Result, node::NodeOptions};

mod admin;
mod catalog;
mod connect;
mod decode;
mod encode;
mod error;
mod findings;
mod lease;
mod log;
mod names;
mod node;
mod quote;
mod reader;
mod resolution;
mod scan;
mod session;
mod shape;
mod slot;
mod socket;
mod statement;
mod tables;
mod tls;

pub use node::PostgresNode;

/// A node at a URL. Connects to nothing yet. Errors: configuration.
pub fn node(options: NodeOptions) -> Result<Arc<PostgresNode>> {
    PostgresNode::new(options).map(Arc::new)
}
