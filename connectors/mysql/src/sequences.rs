//! Counters of `AUTO_INCREMENT`: where they stand, and moving them past the keys that are there.
//!
//! InnoDB moves a counter by itself where a row is inserted with a greater value of its own, as a bridge's rows are, but not where an
//! update changes a value to a greater one (manual, "AUTO_INCREMENT Handling in InnoDB"). `ALTER TABLE ... AUTO_INCREMENT` never
//! goes below the greatest value in the table, and waits for transactions that use it, so that it takes nothing back.
//! The next value is the first one from the counter on that is of the server's steps.
//!
//! MySQL shows the counter as it was up to a day ago, unless told otherwise (`information_schema_stats_expiry`).

use pontoon_core::{
    Result,
    sequences::{GeneratedKey, Standing},
};

use crate::{
    connect::{Client, Flavour, number},
    encode,
    quote::{Ident, Table},
};

/// Where a counter stands.
pub(crate) async fn standing(client: &mut Client, asked: &GeneratedKey) -> Result<Standing> {
    if client.server.flavour == Flavour::Mysql {
        client.run("SET SESSION information_schema_stats_expiry = 0").await?;
    }
    let schema = asked.table.schema.as_deref().unwrap_or_default();
    let rows = client
        .rows(format!(
            "SELECT AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            encode::text(schema),
            encode::text(&asked.table.name)
        ))
        .await?;
    // A table that had no row yet may have none.
    let counter: u64 = rows.first().and_then(|row| number(row, 0)).unwrap_or(1);
    let next = first_from(asked, counter.into());
    let greatest = client.rows(greatest(asked)).await?;
    let greatest: Option<i128> = greatest.first().and_then(|row| number(row, 0));
    let sql = asked.moved(next, greatest).map(|moved| alter(asked, moved));
    Ok(Standing { next, greatest, sql })
}

/// Moves it past the values that are there; where it stands then.
pub(crate) async fn advance(client: &mut Client, asked: &GeneratedKey) -> Result<Standing> {
    if let Some(sql) = standing(client, asked).await?.sql {
        client.run(sql).await?;
    }
    standing(client, asked).await
}

/// The first value of the server's steps that is not below the counter.
fn first_from(asked: &GeneratedKey, counter: i128) -> i128 {
    let (start, step) = (asked.generator.start, asked.generator.step.max(1));
    counter + (start - counter).rem_euclid(step)
}

/// The greatest value that the counter could give: backwards by the index, until one is of its steps.
fn greatest(asked: &GeneratedKey) -> String {
    let column = Ident(&asked.column);
    let steps = match asked.stride() {
        1 => String::new(),
        stride => format!(" AND MOD({column}, {stride}) = {}", asked.generator.start.rem_euclid(stride)),
    };
    format!("SELECT {column} FROM {} WHERE {column} >= 0{steps} ORDER BY {column} DESC LIMIT 1", Table(&asked.table))
}

fn alter(asked: &GeneratedKey, next: i128) -> String {
    format!("ALTER TABLE {} AUTO_INCREMENT = {next}", Table(&asked.table))
}

#[cfg(test)]
mod tests {
    use pontoon_core::{TableName, schema::Generator};

    use super::*;

    #[test]
    fn statements_are_as_meant() {
        let mut asked = GeneratedKey {
            table: TableName::new("shop", "items"),
            column: "i`d".into(),
            generator: Generator { start: 2, step: 2, max: 99 },
            interleaved: true,
        };
        assert_eq!(
            greatest(&asked),
            "SELECT `i``d` FROM `shop`.`items` WHERE `i``d` >= 0 AND MOD(`i``d`, 2) = 0 ORDER BY `i``d` DESC LIMIT 1"
        );
        assert_eq!([first_from(&asked, 1), first_from(&asked, 4), first_from(&asked, 5)], [2, 4, 6]);
        asked.interleaved = false;
        assert!(!greatest(&asked).contains("MOD"));
        assert_eq!(alter(&asked, 8), "ALTER TABLE `shop`.`items` AUTO_INCREMENT = 8");
    }
}
