//! Every key of the file: the parser knows no other, and the reference page and the sample are held
//! against this table.

/// What is used where a key is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preset {
    /// It has to be written.
    Required,
    /// Nothing, or what the text says.
    None(&'static str),
    /// This value, as it is written in TOML.
    Value(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What kind of value it takes, for people.
    pub(super) takes: &'static str,
    pub(super) preset: Preset,
    pub(super) text: &'static str,
}

/// A table of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    /// As it stands in the file.
    pub(super) header: &'static str,
    pub(super) text: &'static str,
    pub(super) keys: &'static [Key],
}

const fn key(name: &'static str, takes: &'static str, preset: Preset, text: &'static str) -> Key {
    Key { name, takes, preset, text }
}

pub(super) const ROOT: Section = Section {
    header: "",
    text: "One file is one bridge between exactly two nodes.",
    keys: &[
        key(
            "bridge",
            "text",
            Preset::Required,
            "The name of the bridge: the origin tag of everything that it writes. a-z, 0-9, _ and -, at most 32 characters. \
             Never change it while changes are on their way.",
        ),
        key("nodes", "tables", Preset::Required, "The two databases, each a table `[nodes.NAME]`."),
        key("defaults", "table", Preset::None("as below"), "What holds for every table that does not say otherwise."),
        key("tables", "list of tables", Preset::Required, "What is bridged: at least one `[[tables]]`."),
        key("limits", "table", Preset::None("as below"), "What the bridge may use of its own host and of the servers."),
        key("server", "table", Preset::None("as below"), "The status page, the metrics and the probes."),
    ],
};

pub(super) const NODE: Section = Section {
    header: "[nodes.NAME]",
    text: "A database. NAME is yours to choose: letters, digits, _ and -, at most 32 characters. The node whose name comes first in \
           the alphabet is committed first when a conflict is settled.",
    keys: &[
        key(
            "url",
            "text",
            Preset::Required,
            "`postgresql://USER@HOST:PORT/DATABASE` or `mysql://USER@HOST:PORT/DATABASE` (also `postgres://` and `mariadb://`; \
             MySQL and MariaDB are told apart by asking the server). `sslmode`, `sslrootcert`, `sslcert` and `sslkey`, or `ssl-mode`, `ssl-ca`, `ssl-cert` and `ssl-key`, \
             after a question mark (PostgreSQL: also host, a socket's folder, port, user, dbname and connect_timeout; MySQL: \
             also socket and connect_timeout); without them `verify-full` to any host but a loopback address or a Unix socket. The files are in PEM \
             form; their paths are made as that of password_file is. `docs/tls.md` tells more. `${VARIABLE}` is replaced from the environment: a part, or the whole url; \
             what it holds is put in as it is, so that / ? # @ : % in a user or a password are written %2F %3F %23 %40 %3A %25 there too. A `${` \
             of a password's own is written %24%7B.",
        ),
        key(
            "password_file",
            "path",
            Preset::None("no password"),
            "A file that holds the password; a line end after it does not count. `${VARIABLE}` is replaced from the environment. \
             A relative path starts at the folder of the configuration file.",
        ),
        key(
            "password_env",
            "text",
            Preset::None("no password"),
            "The environment variable that holds the password. Either this or password_file, not both.",
        ),
        key(
            "priority",
            "whole number",
            Preset::Value("0"),
            "The higher wins where two writes have the same commit time; where these are equal too, the first node by name.",
        ),
        key(
            "replicas",
            "list of texts",
            Preset::Value("[]"),
            "`HOST:PORT` of each replica of a MySQL or MariaDB server whose lag counts for target_replica_lag: only they know it. The bridge logs in to them as \
             to the server, by the same user, password and TLS. A PostgreSQL server knows its standbys itself.",
        ),
    ],
};

pub(super) const DEFAULTS: Section = Section {
    header: "[defaults]",
    text: "What holds for every table that does not say otherwise.",
    keys: &[
        key(
            "conflict",
            "text",
            Preset::Value("\"last_writer_wins\""),
            "Who wins where both sides wrote a row without seeing each other. `last_writer_wins`: the row of the later commit. \
             `column_merge`: each column of the side that changed it, and of both the later one; a delete against an update is \
             decided as a row. `prefer:NODE`: that node's row. `quarantine`: neither side's row is touched until a person decides (`pontoon quarantine retry ID --take NODE`, or `--key NEW` to keep both rows). `docs/conflicts.md` has every case.",
        ),
        key("direction", "text", Preset::Value("\"both\""), "`both`, or `NODE->NODE` for one way only."),
        key(
            "on_error",
            "text",
            Preset::Value("\"quarantine\""),
            "What becomes of a row that the target refuses. `quarantine`: it is stored there with the reason, later changes of its \
             key wait behind it, everything else goes on; it is tried again and again, and at once when either side writes the \
             row. `stop`: the bridge stops before its transaction, exit code 4.",
        ),
        key(
            "unique_conflict",
            "text",
            Preset::Value("\"quarantine\""),
            "What becomes of two rows of different keys that a unique constraint does not let live side by side, each written on \
             a side of its own. `quarantine`: both wait there, with the constraint's name. `rule`: `conflict` decides between them; \
             the other row becomes what it was before, or goes if it is new, and is on record in full.",
        ),
        key(
            "foreign_key",
            "text",
            Preset::Value("\"quarantine\""),
            "What becomes of a row of this table that refers to one which the other side has removed meanwhile. `quarantine`: the removal \
             and the row that refers wait there. `restore_parent`: the row that is referred to is put back. `delete_child`: \
             the row that refers goes as well.",
        ),
    ],
};

pub(super) const TABLE: Section = Section {
    header: "[[tables]]",
    text: "A pair of tables, or a pattern. A pair of tables is governed by exactly one entry: one that names it exactly before a \
           pattern, a pattern with more letters before one with fewer, and of equals the later one. What the entry does not say \
           comes from `[defaults]`.",
    keys: &[
        key(
            "name",
            "text or table",
            Preset::Required,
            "`table` or `schema.table`, the same on both sides, or `{ NODE = \"...\", NODE = \"...\" }`. Literal, case and all; `*` \
             stands for any text, `\\\\.` and `\\\\*` for a dot and a star. Without a schema: `public` on PostgreSQL, the URL's \
             database on MySQL and MariaDB. Where a pattern differs between the nodes it has one star on each side, which stands \
             for the same text.",
        ),
        key("conflict", "text", Preset::None("as in [defaults]"), "As in `[defaults]`, for this entry."),
        key("direction", "text", Preset::None("as in [defaults]"), "As in `[defaults]`, for this entry."),
        key("on_error", "text", Preset::None("as in [defaults]"), "As in `[defaults]`, for this entry."),
        key("unique_conflict", "text", Preset::None("as in [defaults]"), "As in `[defaults]`, for this entry."),
        key("foreign_key", "text", Preset::None("as in [defaults]"), "As in `[defaults]`, for this entry."),
        key(
            "columns",
            "table of texts or tables",
            Preset::None("none"),
            "What is said of single columns, by name. `{ email = { stock = \"e_mail\" } }`: it has another name on that node; the name in front is \
             what the other calls it. `{ note = \"ignore\" }`: nothing of it crosses, whichever side has it, and rows that arrive get its default \
             there (docs/operations.md). And rules, whatever `conflict` says: `{ stock = \"additive\", low = \"min\" }`. A column that \
             one side changed is that side's; where both did, `min` and `max` take the lesser and the greater value, `last_writer_wins` \
             the later and `prefer:NODE` that node's. `additive`: what each side added counts, once, on both; for columns of \
             an exact number. `{ rule = \"additive\", floor = 0 }` reports it where both sides together come below the floor \
             and neither did alone. A table also says what becomes of values that one side cannot hold, beside `\"quarantine\"`: \
             `zero_date = \"null\"`, `infinity = \"null\"` or `\"limit\"`, `nul_byte = \"remove\"` or `\"replace\"`, \
             `out_of_range = \"null\"` or `\"limit\"`, `too_long = \"cut\"` (docs/types.md).",
        ),
        key(
            "accept",
            "list of texts",
            Preset::Value("[]"),
            "Blocking findings of `pontoon check` about this table, by name, that you answer for: `generated-keys`, `key-comparison`, \
             `foreign-key-cascade`, `foreign-key-outside`, `trigger`.",
        ),
    ],
};

pub(super) const LIMITS: Section = Section {
    header: "[limits]",
    text: "What the bridge may use of its own host and of the servers.",
    keys: &[
        key(
            "memory_mib",
            "whole number, 1 to 65536",
            Preset::Value("16"),
            "Memory for the queues of both directions together.",
        ),
        key(
            "spill_gib",
            "number above 0",
            Preset::Value("10"),
            "What does not fit in memory goes to files in spill_dir, of this much in all. When they are full the reader stops and says so.",
        ),
        key(
            "spill_dir",
            "path",
            Preset::None("$STATE_DIRECTORY, else ${XDG_STATE_HOME:-~/.local/state}/pontoon"),
            "The folder for these files, made if it is missing. They are disposable: all durable state is in the databases. \
             `${VARIABLE}` is replaced from the environment. A relative path starts at the folder of the configuration file.",
        ),
        key(
            "appliers",
            "whole number, 1 to 64",
            Preset::Value("4"),
            "Sessions that apply at the same time, per direction. This version uses one whatever is written here.",
        ),
        key(
            "apply_order",
            "text",
            Preset::Value("\"commit\""),
            "`commit`: transactions become visible on the target in the order of the source. `key`: only changes of one row do. \
             This version keeps the order of the source in both cases.",
        ),
        key(
            "history_days",
            "whole number, 1 to 36500",
            Preset::Value("365"),
            "Records of settled conflicts that are older are removed from `pontoon.resolution` on both sides.",
        ),
        key(
            "history_records",
            "whole number, 1 to 1000000000",
            Preset::Value("1000000"),
            "So many records are kept on each side, the last ones, whatever their age.",
        ),
        key(
            "rows_per_second",
            "whole number, 1 to 1000000000",
            Preset::None("as many as the servers can"),
            "Rows that each direction applies in a second, so that the target has room for its own work; a transaction is never cut. \
             `pontoon throttle` says otherwise, of one direction or both, without a restart.",
        ),
        key(
            "target_replica_lag",
            "number above 0",
            Preset::None("however far they are"),
            "Seconds. Nothing is applied in a direction while a replica of its target is further behind: of PostgreSQL the standbys that are connected, of MySQL \
             and MariaDB those that `replicas` names. `docs/operations.md` tells what it takes.",
        ),
        key(
            "target_load",
            "whole number, 1 to 1000000",
            Preset::None("however many there are"),
            "Nothing is applied in a direction while its target carries out more statements than this: of PostgreSQL clients that are active, but for this \
             bridge's; of MySQL and MariaDB Threads_running, which is 1 and more at rest.",
        ),
        key(
            "windows",
            "list of texts",
            Preset::None("at all hours"),
            "The hours, in UTC, in which is applied: `22:00-06:00`, `Mon-Fri 22:00-06:00`, `Sun 00:00-24:00`, where a day is the one on which the hours begin. \
             At others nothing is, in either direction, and the logs are read within the limits above.",
        ),
        key(
            "verify_rows_per_second",
            "whole number, 1 to 1000000000",
            Preset::None("as many as the servers can"),
            "Rows of each side that `pontoon verify` looks at in a second, so that it leaves room for what else the servers do.",
        ),
    ],
};

pub(super) const SERVER: Section = Section {
    header: "[server]",
    text: "The status page, the metrics and the probes.",
    keys: &[
        key(
            "listen",
            "text",
            Preset::Value("\"127.0.0.1:9787\""),
            "Address and port of the page at `/`, of `/api/status`, `/metrics`, `/livez` and `/readyz`; `off` for none. `${VARIABLE}` is replaced from \
             the environment. On a loopback address whoever is on the host may read; another one is refused without token_file, tls_cert and tls_key, and \
             there nothing is read without the token.",
        ),
        key(
            "metrics_listen",
            "text",
            Preset::Value("\"off\""),
            "Another address and port, of `/metrics`, `/livez` and `/readyz` alone: for Prometheus and probes on other hosts. Whoever reaches it may read them, \
             in the clear: they have no rows, but names of nodes and tables, numbers and the last errors. `${VARIABLE}` is replaced from the environment.",
        ),
        key(
            "token_file",
            "path",
            Preset::None("nobody can act"),
            "A file that holds the token: who has it may do from the page what `pontoon pause`, `resume` and `quarantine` do, and see the rows of conflicts. \
             16 characters or more; a line end after it does not count. The path is made as that of password_file is. Read at the start.",
        ),
        key(
            "tls_cert",
            "path",
            Preset::None("HTTP"),
            "The page's certificate in PEM form, then what is between it and its authority. Read for every connection, so that a renewed one needs no restart.",
        ),
        key("tls_key", "path", Preset::None("HTTP"), "Its key in PEM form, readable to pontoon alone."),
        key(
            "host_names",
            "list of texts",
            Preset::Value("[]"),
            "Names by which browsers reach the page, where that is not an address, `localhost` or the name in listen: of the host, or of a proxy before it. \
             A request for another name is refused, so that no other site can have a browser read the page under its own name (DNS rebinding).",
        ),
        key(
            "ready_lag_seconds",
            "number above 0",
            Preset::Value("30"),
            "`/readyz` answers 503 while a direction is further behind than this.",
        ),
    ],
};

/// What has to be there for the page to listen where others reach it.
pub(super) const GUARDS: [&str; 3] = ["token_file", "tls_cert", "tls_key"];

/// All sections in the order of the reference page.
pub(super) const SECTIONS: &[Section] = &[ROOT, NODE, DEFAULTS, TABLE, LIMITS, SERVER];

impl Section {
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }

    /// The header for messages: `[limits]`, or what the top of the file is called.
    pub(super) fn title(&self) -> &'static str {
        if self.header.is_empty() { "the top of the file" } else { self.header }
    }
}

/// The reference page, in Markdown.
pub(super) fn reference() -> String {
    let mut page = String::from(
        "# Configuration\n\n<!-- Generated from src/config/keys.rs by `cargo test --test config`; edit it there. -->\n\n\
         TOML. `--config FILE`, else `$PONTOON_CONFIG`, else `./pontoon.toml`, else `/etc/pontoon/pontoon.toml`. Unknown keys,\n\
         unknown tables and contradictions are errors with file, line and column, before any connection (exit code 2).\n",
    );
    for section in SECTIONS {
        let title = if section.header.is_empty() { "The top of the file" } else { section.header };
        page +=
            &format!("\n## {title}\n\n{}\n\n| key | takes | default | |\n| --- | --- | --- | --- |\n", section.text);
        for key in section.keys {
            let preset = match key.preset {
                Preset::Required => "required".to_owned(),
                Preset::None(text) => text.to_owned(),
                Preset::Value(text) => format!("`{text}`"),
            };
            page += &format!("| `{}` | {} | {preset} | {} |\n", key.name, key.takes, key.text.replace("\\\\", "\\"));
        }
    }
    page += &format!("\n## A sample\n\n```toml\n{}```\n", super::SAMPLE);
    page
}
