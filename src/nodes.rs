//! The one place that names the engines: a URL becomes a node.

use std::sync::Arc;

use pontoon_core::{
    Result,
    node::{Admin, Node},
};

use crate::{
    config::{Config, Scheme},
    side::{Pair, Side},
};

/// Variables of the environment that a process has to have from its start, for a driver and the allocator to keep within bounds.
///
/// The allocator keeps what is let go, for a second and then until somebody frees a page of its own: a row of 100 MB on its way is a dozen blocks, never two at
/// once of the same thread, and half as much again was kept as was in use (tried). So what is larger than any but such a value is had from the
/// system and given back to it, at once and whichever thread lets go of it: a page that is full belongs to no thread (`page_full_retain`, `arena_max_object_size`
/// of mimalloc 3, its `options.c`). Nothing is taken ahead of its use, and of smaller pages what is let go is given back after a quarter of a
/// second: a backlog of small transactions took up to 97 MiB without that and takes 62, at the same speed. At once it is 43, and one large transaction takes half as long
/// again (`arena_eager_commit`, `purge_delay`).
pub const ENVIRONMENT: [(&str, &str); 5] = [
    pontoon_mysql::BUFFERS_KEPT,
    ("MIMALLOC_ARENA_MAX_OBJECT_SIZE", "16MiB"),
    ("MIMALLOC_PAGE_FULL_RETAIN", "0"),
    ("MIMALLOC_PURGE_DELAY", "250"),
    ("MIMALLOC_ARENA_EAGER_COMMIT", "0"),
];

/// The two databases of a bridge.
#[derive(Clone)]
pub struct Nodes {
    /// What the engine works with.
    pub nodes: Pair<Arc<dyn Node>>,
    /// What an operator does to them.
    pub admins: Pair<Arc<dyn Admin>>,
}

/// The nodes of a configuration. Connects to nothing. Errors: a URL that the connector refuses.
pub fn open(config: &Config) -> Result<Nodes> {
    let (node_a, admin_a) = one(config, Side::A)?;
    let (node_b, admin_b) = one(config, Side::B)?;
    Ok(Nodes { nodes: Pair::new(node_a, node_b), admins: Pair::new(admin_a, admin_b) })
}

fn one(config: &Config, side: Side) -> Result<(Arc<dyn Node>, Arc<dyn Admin>)> {
    let options = config.node_options(side);
    let name = options.name.clone();
    Ok(match config.node(side).scheme {
        Scheme::Postgres => {
            let node = pontoon_postgres::node(options).map_err(|error| error.at(name))?;
            (node.clone(), node)
        }
        Scheme::Mysql => {
            let node = pontoon_mysql::node(options).map_err(|error| error.at(name))?;
            (node.clone(), node)
        }
    })
}
