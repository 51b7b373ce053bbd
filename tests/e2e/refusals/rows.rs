//! A row that the target refuses stops the bridge before it, where the table says so.

use super::*;

first_pairing!(refused_rows);

/// A row that the target refuses.
struct Refused<'a> {
    table: &'a str,
    from_postgres: bool,
    /// The column `v` and what may follow it: on PostgreSQL, on the other.
    columns: [&'a str; 2],
    /// Values that all can hold, and the one that is refused: as SQL of the source.
    good: &'a str,
    bad: &'a str,
    code: &'a str,
    /// On the target, or else passed over and made good on the source by this value.
    mend: Mend<'a>,
}

enum Mend<'a> {
    Target(&'a str),
    PassOver(&'a str),
    /// Passed over, and the row written on the target, with this value: that comes back and wins, but the losing row
    /// cannot be compared, and so not be overwritten unseen. It is made good on the source.
    Overwrite(&'a str),
}

impl Refused<'_> {
    async fn stops(&self, link: &Link) {
        let (postgres, mysql) = (link.postgres(), link.mysql());
        let ((source, name), (target, _)) = if self.from_postgres { (postgres, mysql) } else { (mysql, postgres) };
        let table = self.table;
        let insert = |id: i32, v: &str| format!("INSERT INTO {table} (id, v) VALUES ({id}, {v})");
        let mut session = source.client().await;
        if source.kind != Kind::Postgres {
            session.run("SET sql_mode = ''").await;
        }
        session.run(&insert(1, self.good)).await;
        session.run("BEGIN").await;
        session.run(&insert(2, &self.good.replace("good", "fine"))).await;
        session.run(&insert(3, self.bad)).await;
        session.run("COMMIT").await;
        session.run(&insert(4, &self.good.replace("good", "well"))).await;

        let refusal = run_refused(link, 4, self.code).await;
        assert!(refusal.message.contains(table), "no table: {refusal:?}");
        assert!(refusal.message.contains("key (3)"), "no key: {refusal:?}");
        let position = position_in(&refusal.message);
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
        assert_eq!(ids(target, table).await, ["1"], "what came before, and nothing of it: {refusal:?}");
        match &self.mend {
            Mend::Target(sql) => target.run(sql).await,
            Mend::PassOver(value) => {
                let shown = link.succeed(&["skip", name, &position, "--execute"]).await;
                assert!(shown.lines().count() >= 3, "both rows are shown: {shown}");
                session.run(&format!("UPDATE {table} SET v = {value} WHERE id = 3")).await;
                // Its neighbour was passed over with it.
                session.run(&format!("DELETE FROM {table} WHERE id = 2")).await;
            }
            Mend::Overwrite(value) => {
                link.succeed(&["skip", name, &position, "--execute"]).await;
                target.run(&format!("INSERT INTO {table} (id, v) VALUES (2, {value}), (3, {value})")).await;
                let refusal = run_refused(link, 4, "value-misfit").await;
                assert!(refusal.message.starts_with(&format!("{name}: {table} key (3)")), "{refusal:?}");
                assert!(refusal.hint.contains(&format!("on {name}")), "{refusal:?}");
                session.run(&format!("UPDATE {table} SET v = {value} WHERE id = 3")).await;
            }
        }
        link.catch_up().await;
        let held = ids(target, table).await;
        assert_eq!(held, ids(source, table).await);
        assert!(held.contains(&"3".to_owned()) && held.contains(&"4".to_owned()));
    }
}

async fn refused_rows(kinds: [Kind; 2]) {
    let out_of_u64 = "18446744073709551616";
    let all = [
        Refused {
            table: "unique_there",
            from_postgres: true,
            columns: ["varchar(20)", "varchar(20), CONSTRAINT only_one UNIQUE (v)"],
            good: "'good'",
            bad: "'good'",
            code: "row-refused",
            mend: Mend::Target("ALTER TABLE unique_there DROP INDEX only_one"),
        },
        Refused {
            table: "unique_back",
            from_postgres: false,
            columns: ["varchar(20), CONSTRAINT only_one UNIQUE (v)", "varchar(20)"],
            good: "'good'",
            bad: "'good'",
            code: "row-refused",
            mend: Mend::Target("ALTER TABLE unique_back DROP CONSTRAINT only_one"),
        },
        Refused {
            table: "check_there",
            from_postgres: true,
            columns: ["int", "int, CONSTRAINT positive CHECK (v > 0)"],
            good: "1",
            bad: "-1",
            code: "row-refused",
            mend: Mend::Target("ALTER TABLE check_there DROP CONSTRAINT positive"),
        },
        Refused {
            table: "check_back",
            from_postgres: false,
            columns: ["int, CONSTRAINT positive CHECK (v > 0)", "int"],
            good: "1",
            bad: "-1",
            code: "row-refused",
            mend: Mend::Target("ALTER TABLE check_back DROP CONSTRAINT positive"),
        },
        Refused {
            table: "null_there",
            from_postgres: true,
            columns: ["int", "int NOT NULL"],
            good: "1",
            bad: "NULL",
            code: "row-refused",
            mend: Mend::Target("ALTER TABLE null_there MODIFY v int NULL"),
        },
        Refused {
            table: "big_there",
            from_postgres: true,
            columns: ["numeric(20,0)", "bigint unsigned"],
            good: "18446744073709551615",
            bad: out_of_u64,
            code: "value-misfit",
            mend: Mend::Target("ALTER TABLE big_there MODIFY v decimal(20,0)"),
        },
        Refused {
            table: "big_back",
            from_postgres: false,
            columns: ["bigint", "bigint unsigned"],
            good: "9223372036854775807",
            bad: "18446744073709551615",
            code: "value-misfit",
            mend: Mend::Target("ALTER TABLE big_back ALTER v TYPE numeric(20,0)"),
        },
        Refused {
            table: "long_there",
            from_postgres: true,
            columns: ["varchar(20)", "varchar(5)"],
            good: "'good'",
            bad: "'too long'",
            code: "value-misfit",
            mend: Mend::Target("ALTER TABLE long_there MODIFY v varchar(20)"),
        },
        Refused {
            table: "long_back",
            from_postgres: false,
            columns: ["varchar(5)", "varchar(20)"],
            good: "'good'",
            bad: "'too long'",
            code: "value-misfit",
            mend: Mend::Target("ALTER TABLE long_back ALTER v TYPE varchar(20)"),
        },
        Refused {
            table: "nan_there",
            from_postgres: true,
            columns: ["double precision", "double"],
            good: "1.5",
            bad: "'NaN'",
            code: "value-misfit",
            mend: Mend::PassOver("2.5"),
        },
        Refused {
            table: "infinite_there",
            from_postgres: true,
            columns: ["timestamp", "datetime(6)"],
            good: "'2026-01-01'",
            bad: "'infinity'",
            code: "value-misfit",
            mend: Mend::PassOver("'2026-01-02'"),
        },
        Refused {
            table: "infinite_won_there",
            from_postgres: true,
            columns: ["date", "date"],
            good: "'2026-01-01'",
            bad: "'-infinity'",
            code: "value-misfit",
            mend: Mend::Overwrite("'2026-01-02'"),
        },
        Refused {
            table: "zero_date_won_back",
            from_postgres: false,
            columns: ["timestamp", "datetime"],
            good: "'2026-01-01'",
            bad: "'0000-00-00 00:00:00'",
            code: "value-misfit",
            mend: Mend::Overwrite("'2026-01-02'"),
        },
        Refused {
            table: "nul_back",
            from_postgres: false,
            columns: ["varchar(20)", "varchar(20)"],
            good: "'good'",
            bad: "'n\\0ul'",
            code: "value-misfit",
            mend: Mend::PassOver("'mended'"),
        },
        Refused {
            table: "zero_date_back",
            from_postgres: false,
            columns: ["date", "date"],
            good: "'2026-01-01'",
            bad: "'0000-00-00'",
            code: "value-misfit",
            mend: Mend::PassOver("'2026-01-02'"),
        },
        Refused {
            table: "part_date_back",
            from_postgres: false,
            columns: ["timestamp", "datetime"],
            good: "'2026-01-01'",
            bad: "'2026-00-00 10:00:00'",
            code: "value-misfit",
            mend: Mend::PassOver("'2026-01-02'"),
        },
        Refused {
            table: "span_back",
            from_postgres: false,
            columns: ["time", "time"],
            good: "'10:00:00'",
            bad: "'-10:00:00'",
            code: "value-misfit",
            mend: Mend::PassOver("'11:00:00'"),
        },
    ];
    let tables: String = all.iter().map(|refused| format!("[[tables]]\nname = \"{}\"\n", refused.table)).collect();
    let configuration = format!("[defaults]\non_error = \"stop\"\n{tables}");
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    let [postgres, mysql] = [link.postgres().0, link.mysql().0];
    for Refused { table, columns: [on_postgres, on_mysql], .. } in &all {
        postgres.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v {on_postgres})")).await;
        postgres.run(&format!("ALTER TABLE {table} REPLICA IDENTITY FULL")).await;
        mysql.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v {on_mysql})")).await;
    }
    link.succeed(&["setup"]).await;
    for refused in &all {
        refused.stops(&link).await;
    }
    link.succeed(&["verify"]).await;
    // Only what was passed over had to be settled.
    for Refused { table, mend, .. } in &all {
        let settled = format!("SELECT count(*) FROM pontoon.resolution WHERE table_name = '{table}'");
        for node in link.nodes() {
            // The row and its neighbour.
            let expected = match mend {
                Mend::Target(_) => "0",
                Mend::PassOver(_) | Mend::Overwrite(_) => "2",
            };
            assert_eq!(node.value(&settled).await, expected, "{table}");
        }
    }
}
