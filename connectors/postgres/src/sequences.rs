//! Sequences and identities: where they stand, and moving them past the keys that are there.
//!
//! `nextval` holds a lock on its sequence that `ALTER SEQUENCE` waits for and keeps away (`init_sequence` of sequence.c takes
//! RowExclusiveLock since version 10, `AlterSequence` ShareRowExclusiveLock). So between the look at a sequence and `setval`,
//! which would as well move it back, nobody takes a value: it is altered first, to what it is. What sessions have cached (`CACHE`)
//! are values from before.

use pontoon_core::{
    Code, Error, Result,
    sequences::{GeneratedKey, Standing},
};
use tokio_postgres::Client;

use crate::{
    catalog::{ITS_SEQUENCE, get, one, text},
    error,
    quote::{Ident, Literal, Table},
};

const FIND: &str = "SELECT sn.nspname::text, sc.relname::text, s.seqincrement FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $3";

/// Where a generator stands. Errors: it counts down, or may not be read.
pub(crate) async fn standing(client: &Client, asked: &GeneratedKey) -> Result<Standing> {
    let (sequence, next, greatest) = look(client, asked).await?;
    let sql = asked.moved(next, greatest).map(|moved| setval(&sequence, moved));
    Ok(Standing { next, greatest, sql })
}

/// Moves it past the values that are there, never back; where it stands then.
pub(crate) async fn advance(client: &mut Client, asked: &GeneratedKey) -> Result<Standing> {
    let failed = |error: tokio_postgres::Error| error::of_statement(&error);
    let transaction = client.transaction().await.map_err(failed)?;
    let (sequence, step) = find(transaction.client(), asked).await?;
    transaction.batch_execute(&format!("ALTER SEQUENCE {sequence} INCREMENT BY {step}")).await.map_err(failed)?;
    let Standing { sql, .. } = standing(transaction.client(), asked).await?;
    if let Some(sql) = sql {
        transaction.batch_execute(&sql).await.map_err(failed)?;
    }
    let now = standing(transaction.client(), asked).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(now)
}

async fn look(client: &Client, asked: &GeneratedKey) -> Result<(String, i128, Option<i128>)> {
    let (sequence, step) = find(client, asked).await?;
    let row = one(client, &format!("SELECT last_value, is_called FROM {sequence}"), &[]).await?;
    let (last, is_called): (i64, bool) = (get(&row, 0)?, get(&row, 1)?);
    let next = i128::from(last) + if is_called { i128::from(step) } else { 0 };
    let row = one(client, &greatest(asked, next), &[]).await?;
    Ok((sequence, next, get::<Option<i64>>(&row, 0)?.map(i128::from)))
}

/// The greatest value that the sequence could give: backwards by the index, until one is of its steps.
fn greatest(asked: &GeneratedKey, next: i128) -> String {
    let column = Ident(&asked.column);
    let steps = match asked.stride() {
        1 => String::new(),
        stride => format!(" AND mod({column} - {next}::numeric, {stride}) = 0"),
    };
    format!(
        "SELECT (SELECT {column} FROM {} WHERE {column} <= {}{steps} ORDER BY {column} DESC LIMIT 1)::int8",
        Table(&asked.table),
        asked.generator.max
    )
}

async fn find(client: &Client, asked: &GeneratedKey) -> Result<(String, i64)> {
    let schema = asked.table.schema.as_deref().unwrap_or_default();
    let row = one(
        client,
        &format!("{FIND} {ITS_SEQUENCE} WHERE c.relname = $2"),
        &[&schema, &&*asked.table.name, &&*asked.column],
    )
    .await?;
    let name = pontoon_core::TableName::new(text(&row, 0)?, text(&row, 1)?);
    let step: i64 = get(&row, 2)?;
    if step < 1 {
        return Err(Error::new(
            Code::TableUnfit,
            format!("{}.{}: its sequence {name} counts down", asked.table, asked.column),
        )
        .hint("set it by hand to a value below the least key"));
    }
    Ok((Table(&name).to_string(), step))
}

fn setval(sequence: &str, next: i128) -> String {
    format!("SELECT setval({}, {next}, false)", Literal(sequence))
}

#[cfg(test)]
mod tests {
    use pontoon_core::{TableName, schema::Generator};

    use super::*;

    #[test]
    fn statements_are_as_meant() {
        let mut asked = GeneratedKey {
            table: TableName::new("public", "items"),
            column: "i\"d".into(),
            generator: Generator { start: 1, step: 2, max: 99 },
            interleaved: true,
        };
        assert_eq!(
            greatest(&asked, 5),
            "SELECT (SELECT \"i\"\"d\" FROM \"public\".\"items\" WHERE \"i\"\"d\" <= 99 AND mod(\"i\"\"d\" - 5::numeric, 2) = 0 \
             ORDER BY \"i\"\"d\" DESC LIMIT 1)::int8"
        );
        asked.interleaved = false;
        assert!(!greatest(&asked, 5).contains("mod"));
        assert_eq!(setval("\"s\".\"it's\"", 7), "SELECT setval('\"s\".\"it''s\"', 7, false)");
    }
}
