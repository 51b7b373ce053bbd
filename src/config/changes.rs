//! In which keys two readings of a configuration differ, and which of them a bridge that runs can take up.
//!
//! It can take up all that a session begins with (`service::plan`): a session ends, and the next one begins with something else, as after any broken
//! connection. What is made once, when the process starts, it cannot: connections are opened with the nodes' keys, metrics and page are theirs, and
//! the spill folder has to be writable by then. The structures are taken apart by name, so that no new key is forgotten.

use super::{Config, Defaults, Limits, NodeConfig, Server};
use crate::side::Side;

/// The keys that differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that a bridge that runs can take up.
    pub taken: Vec<String>,
    /// Those that take a restart.
    pub restart: Vec<String>,
}

impl Config {
    /// What is different in a later reading.
    pub fn changes(&self, now: &Config) -> Changes {
        let Config { file: _, bridge, nodes: _, defaults, tables, limits, server, warnings: _ } = self;
        let mut changes = Changes::default();
        note(&mut changes.restart, &[("bridge", *bridge == now.bridge)]);
        for side in Side::BOTH {
            changes.node(self.node(side), now.node(side));
        }
        changes.defaults(*defaults, now.defaults);
        let same_tables =
            tables.len() == now.tables.len() && tables.iter().zip(&now.tables).all(|(rule, now)| rule.says_as(now));
        note(&mut changes.taken, &[("tables", same_tables)]);
        changes.limits(limits, &now.limits);
        changes.server(server, &now.server);
        changes
    }
}

impl Changes {
    fn node(&mut self, before: &NodeConfig, now: &NodeConfig) {
        let NodeConfig { name, scheme, url, database, password, priority, replicas } = before;
        if *name != now.name {
            self.restart.push(format!("nodes.{}", now.name));
            return;
        }
        let is_there = *scheme == now.scheme && *url == now.url && *database == now.database;
        let keys =
            [("url", is_there), ("password", *password == now.password), ("priority", *priority == now.priority)];
        self.restart.extend(keys.iter().filter(|(_, same)| !same).map(|(key, _)| format!("nodes.{name}.{key}")));
        if *replicas != now.replicas {
            self.taken.push(format!("nodes.{name}.replicas"));
        }
    }

    fn defaults(&mut self, before: Defaults, now: Defaults) {
        let Defaults { conflict, direction, on_error, unique_conflict, foreign_key } = before;
        note(
            &mut self.taken,
            &[
                ("defaults.conflict", conflict == now.conflict),
                ("defaults.direction", direction == now.direction),
                ("defaults.on_error", on_error == now.on_error),
                ("defaults.unique_conflict", unique_conflict == now.unique_conflict),
                ("defaults.foreign_key", foreign_key == now.foreign_key),
            ],
        );
    }

    fn limits(&mut self, before: &Limits, now: &Limits) {
        let Limits {
            memory_bytes,
            spill_bytes,
            spill_dir,
            appliers,
            apply_order,
            retention,
            rows_per_second,
            target_replica_lag,
            target_load,
            windows,
            verify_rows_per_second,
        } = before;
        note(&mut self.restart, &[("limits.spill_dir", *spill_dir == now.spill_dir)]);
        note(
            &mut self.taken,
            &[
                ("limits.memory_mib", *memory_bytes == now.memory_bytes),
                ("limits.spill_gib", *spill_bytes == now.spill_bytes),
                ("limits.appliers", *appliers == now.appliers),
                ("limits.apply_order", *apply_order == now.apply_order),
                ("limits.history_days, limits.history_records", *retention == now.retention),
                ("limits.rows_per_second", *rows_per_second == now.rows_per_second),
                ("limits.target_replica_lag", *target_replica_lag == now.target_replica_lag),
                ("limits.target_load", *target_load == now.target_load),
                ("limits.windows", *windows == now.windows),
                ("limits.verify_rows_per_second", *verify_rows_per_second == now.verify_rows_per_second),
            ],
        );
    }

    fn server(&mut self, before: &Server, now: &Server) {
        let Server { listen, metrics_listen, host_names, token, tls, ready_lag_seconds } = before;
        note(
            &mut self.restart,
            &[
                ("server.listen", *listen == now.listen),
                ("server.metrics_listen", *metrics_listen == now.metrics_listen),
                ("server.host_names", *host_names == now.host_names),
                ("server.token_file", *token == now.token),
                ("server.tls_cert, server.tls_key", *tls == now.tls),
                ("server.ready_lag_seconds", *ready_lag_seconds == now.ready_lag_seconds),
            ],
        );
    }
}

/// Notes the keys whose values are not the same.
fn note(list: &mut Vec<String>, keys: &[(&str, bool)]) {
    list.extend(keys.iter().filter(|(_, same)| !same).map(|(key, _)| (*key).to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    const TEXT: &str = "bridge = \"b\"\n[nodes.a]\nurl = \"postgresql://u@127.0.0.1/d\"\n[nodes.b]\nurl = \"mysql://u@127.0.0.1/d\"\n\
        [defaults]\nconflict = \"last_writer_wins\"\n[limits]\nspill_dir = \"/s\"\nmemory_mib = 16\n[server]\nlisten = \"off\"\n[[tables]]\nname = \"t\"\n";

    fn parsed(text: &str) -> Config {
        Config::parse(text, "", &Environment { variable: &|_| None, read: &|_| Ok("secret-of-sixteen".into()) })
            .unwrap()
    }

    fn changed(from: &str, to: &str) -> (Vec<String>, Vec<String>) {
        assert!(TEXT.contains(from));
        let Changes { taken, restart } = parsed(TEXT).changes(&parsed(&TEXT.replace(from, to)));
        (taken, restart)
    }

    #[test]
    fn each_key_is_named_where_it_is_changed() {
        let names = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(changed("[[tables]]", "# Where a table stands is no matter.\n[[tables]]"), (vec![], vec![]));
        for (from, to, taken) in [
            ("name = \"t\"", "name = \"t\"\n[[tables]]\nname = \"u\"", &["tables"][..]),
            (
                "memory_mib = 16",
                "memory_mib = 32\nrows_per_second = 5",
                &["limits.memory_mib", "limits.rows_per_second"],
            ),
            (
                "memory_mib",
                "target_replica_lag = 5\ntarget_load = 9\nwindows = [\"22:00-06:00\"]\nmemory_mib",
                &["limits.target_replica_lag", "limits.target_load", "limits.windows"],
            ),
            ("[defaults]", "replicas = [\"r:3306\"]\n[defaults]", &["nodes.b.replicas"]),
            ("memory_mib", "history_days = 3\nmemory_mib", &["limits.history_days, limits.history_records"]),
        ] {
            assert_eq!(changed(from, to), (names(taken), vec![]));
        }
        let (taken, restart) = changed("\"last_writer_wins\"", "\"prefer:a\"");
        assert!(taken.contains(&"defaults.conflict".to_owned()) && restart.is_empty(), "{taken:?}");
        for (from, to, restart) in [
            ("\"b\"", "\"c\"", &["bridge"][..]),
            ("nodes.b", "nodes.c", &["nodes.c"]),
            ("mysql://u@127.0.0.1/d", "mysql://u@127.0.0.1/e", &["nodes.b.url"]),
            ("[nodes.b]", "password_file = \"f\"\npriority = 2\n[nodes.b]", &["nodes.a.password", "nodes.a.priority"]),
            ("/s", "/t", &["limits.spill_dir"]),
            ("\"off\"", "\"127.0.0.1:1\"\nready_lag_seconds = 3", &["server.listen", "server.ready_lag_seconds"]),
            (
                "\"off\"",
                "\"off\"\nmetrics_listen = \"127.0.0.1:2\"\nhost_names = [\"h\"]\ntoken_file = \"t\"",
                &["server.metrics_listen", "server.host_names", "server.token_file"],
            ),
        ] {
            assert_eq!(changed(from, to), (vec![], names(restart)));
        }
    }
}
