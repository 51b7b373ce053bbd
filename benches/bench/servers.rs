//! Servers to measure with, and what is done to them alike.

use pontoon_servers::{Durability, Kind, Options};

/// Settings of a server that has the machine's memory to itself, or a part of it.
pub(crate) fn options(kind: Kind) -> Options {
    let options = Options::default().durability(Durability::Machine);
    match kind {
        Kind::Postgres => options.setting("shared_buffers", "1GB").setting("max_wal_size", "8GB"),
        Kind::Mariadb => options.setting("innodb-buffer-pool-size", "1G").setting("innodb-log-file-size", "1G"),
        Kind::Mysql => options.setting("innodb-buffer-pool-size", "1G").setting("innodb-redo-log-capacity", "1G"),
    }
}
