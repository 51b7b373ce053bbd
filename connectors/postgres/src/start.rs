//! A place at which an operator says that the log is taken up: where a dump was taken.
//!
//! A slot cannot be made for a place that is past: the server has the log in decodable form only from where it made one
//! on. So the slot has to be older than the dump, and the publication too, as pgoutput looks it up as it was at
//! the place that it decodes. Any place from there to the log's end will do: what counts is whether a transaction's commit
//! lies behind it, and the server sends those, whole, wherever they began.

use pontoon_core::{Checkpoint, Code, Error, Position, Result, node::SetupPlan};
use tokio_postgres::Client;

use crate::{
    names::Names,
    slot::{self, Look},
};

/// What has to come before what.
const ORDER: &str = "the slot has to be there before the dump: `pontoon setup`, then the position and the dump, load it, then `pontoon setup --at`";

/// The position's checkpoint, if the slot has the log from there on.
pub(crate) async fn at(client: &Client, names: &Names, plan: &SetupPlan, position: &Position) -> Result<Checkpoint> {
    let Position::Lsn(from) = *position else {
        return Err(Error::new(Code::Config, format!("{position} is no position of a PostgreSQL log"))
            .hint("PostgreSQL: 0/16B3748"));
    };
    let look = Look::take(client, names).await?;
    if from > look.insert_lsn {
        return Err(unfit(position, &format!("it ends at {}", Position::Lsn(look.insert_lsn)))
            .hint("name the position that was noted on this server before the dump"));
    }
    match look.slot_from() {
        None => {
            let text = format!("the slot {:?} is not there, and one cannot be made for {position}", names.slot);
            return Err(Error::new(Code::NotSetUp, text).hint(ORDER));
        }
        Some(confirmed) if confirmed > from => {
            let slot = format!("the slot {:?} has it from {} on", names.slot, Position::Lsn(confirmed));
            return Err(unfit(position, &slot).hint(ORDER));
        }
        Some(_) => look.slot_check(names, from)?,
    }
    slot::publication_check(client, names, slot::followed(&plan.tables)).await.map_err(|error| match error.code() {
        Code::NotSetUp => Error::new(Code::NotSetUp, error.message()).hint(ORDER),
        _ => error,
    })?;
    Ok(Checkpoint { position: position.clone(), log: slot::identity(client).await? })
}

fn unfit(place: &Position, why: &str) -> Error {
    Error::new(Code::PositionUnfit, format!("the log cannot be taken up at {place}: {why}"))
}
