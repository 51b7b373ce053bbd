//! The table that is measured with: a primary key and about 150 bytes of what a shop's row is made of.

use pontoon_servers::Kind;

use crate::database::{Database, insert_numbered};

/// Its name.
pub(crate) const NAME: &str = "items";

fn columns(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => {
            "id bigint PRIMARY KEY, sku varchar(20) NOT NULL, name varchar(60) NOT NULL, quantity int NOT NULL, \
             price numeric(12,2) NOT NULL, note varchar(120), changed timestamp(6) NOT NULL"
        }
        Kind::Mariadb | Kind::Mysql => {
            "id bigint PRIMARY KEY, sku varchar(20) NOT NULL, name varchar(60) NOT NULL, quantity int NOT NULL, \
             price decimal(12,2) NOT NULL, note varchar(120), changed datetime(6) NOT NULL"
        }
    }
}

/// Makes it, empty.
pub(crate) async fn create(node: &Database) {
    node.run(&format!("DROP TABLE IF EXISTS {NAME}")).await;
    let collation = if node.is_postgres() { "" } else { " COLLATE utf8mb4_bin" };
    node.run(&format!("CREATE TABLE {NAME} ({}){collation}", columns(node.kind))).await;
    if node.is_postgres() {
        node.run(&format!("ALTER TABLE {NAME} REPLICA IDENTITY FULL")).await;
    }
}

/// Fills it with so many rows.
pub(crate) async fn fill(node: &Database, rows: u64) {
    node.run(&insert_numbered(node.kind, NAME, rows, |n| values(node.kind, n))).await;
}

/// The row of a number, as a list of expressions.
pub(crate) fn values(kind: Kind, n: &str) -> String {
    let moment = match kind {
        Kind::Postgres => format!("timestamp '2026-01-01' + {n} * interval '1 second'"),
        Kind::Mariadb | Kind::Mysql => format!("TIMESTAMP'2026-01-01 00:00:00' + INTERVAL {n} SECOND"),
    };
    format!(
        "{n}, concat('SKU-', {n} * 7919 % 1000003), concat('a thing of the kind number ', {n}), {n} % 1000, \
         ({n} % 100000) / 100.0, concat('what somebody wrote about the thing with the number ', {n}, ' in passing'), {moment}"
    )
}

/// What two tables have in common only if each row is there once and whole.
pub(crate) async fn digest(node: &Database) -> String {
    let changed = match node.kind {
        Kind::Postgres => "to_char(changed, 'YYYY-MM-DD HH24:MI:SS.US')",
        Kind::Mariadb | Kind::Mysql => "date_format(changed, '%Y-%m-%d %H:%i:%s.%f')",
    };
    let text = format!("concat(id, '|', sku, '|', name, '|', quantity, '|', price, '|', note, '|', {changed})");
    let number = match node.kind {
        Kind::Postgres => {
            format!("('x' || left(encode(sha256(convert_to({text}, 'UTF8')), 'hex'), 15))::bit(60)::bigint")
        }
        // MySQL 9.6 and later have no `md5`.
        Kind::Mariadb | Kind::Mysql => format!("conv(left(sha2({text}, 256), 15), 16, 10)"),
    };
    let sql = match node.kind {
        Kind::Postgres => format!("SELECT concat(count(*), ' rows, ', sum({number})) FROM {NAME}"),
        Kind::Mariadb | Kind::Mysql => {
            format!("SELECT concat(count(*), ' rows, ', sum(cast({number} AS decimal(40)))) FROM {NAME}")
        }
    };
    node.value(&sql).await
}
