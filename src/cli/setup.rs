//! `pontoon setup`: creates what the bridge needs on both sides, and the tables that one side lacks.

use pontoon_core::{Code, Error, Position, Result, TableDraft, node::SetupPlan};

use super::{Context, DONE, SetupArgs, one_line};
use crate::{
    config::Config,
    create::{self, Creation},
    mapping,
    nodes::{self, Nodes},
    setup,
    side::{Pair, Side},
};

pub(crate) async fn run(arguments: SetupArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?;
    let creation = if arguments.create_tables { Some(creation(&config, &nodes).await?) } else { None };
    if arguments.print_sql {
        print_sql(&config, &nodes, creation, context).await?;
        return Ok(DONE);
    }
    if let Some(creation) = &creation {
        create::make(&nodes, &creation.drafts).await?;
        for side in Side::BOTH {
            for draft in &creation.drafts[side] {
                context.out.line(&one_line(&format!("{}: made {}, empty", nodes.nodes[side].name(), draft.schema.name)))?;
                for text in left_out(draft) {
                    context.out.line(&format!("  {text}"))?;
                }
            }
        }
    }
    let (mapping, places) = match arguments.at.as_slice() {
        [] => (setup::setup(&config, &nodes).await?, Pair::default()),
        at => setup::setup_at(&config, &nodes, &places(&config, at)?).await?,
    };
    for note in &mapping.notes {
        tracing::warn!("{note}");
    }
    for table in mapping.tables[Side::A].iter() {
        let other = &mapping.tables[Side::B][table.id.index()];
        let arrow = match (table.followed, other.followed) {
            (true, true) => "<->",
            (true, false) => "->",
            _ => "<-",
        };
        let names = Side::BOTH.map(|side| nodes.nodes[side].name());
        context.out.line(&format!("{}: {} {arrow} {}: {}", names[0], table.name, names[1], other.name))?;
    }
    for side in Side::BOTH {
        if let Some(position) = &places[side] {
            context.out.line(&format!("{}: its log is taken up at {position}", nodes.nodes[side].name()))?;
        }
    }
    context.out.line(match arguments.at.is_empty() {
        true => "set up: what is committed on either side from now on will cross",
        false => "set up: what was committed behind these places will cross, and what is from now on",
    })?;
    Ok(DONE)
}

/// The places by the sides that they were named for.
fn places(config: &Config, at: &[(String, Position)]) -> Result<Pair<Option<Position>>> {
    let mut places = Pair::<Option<Position>>::default();
    for (name, position) in at {
        let place = &mut places[config.named(name)?];
        if place.replace(position.clone()).is_some() {
            return Err(Error::new(Code::Config, format!("{name:?} is named twice by --at"))
                .hint("its log is taken up at one place"));
        }
    }
    Ok(places)
}

/// What is to be made. Where anything is in the way all of it is told, the first as the error.
async fn creation(config: &Config, nodes: &Nodes) -> Result<Creation> {
    let creation = create::plan(config, nodes).await?;
    let Some(error) = creation.mapping.refusal("nothing was made") else { return Ok(creation) };
    for finding in creation.mapping.blocking().skip(1) {
        let remedy = finding.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        let line = format!("also: {}: {}, needed is {}{remedy}", finding.subject, finding.actual, finding.expected);
        eprintln!("{}", one_line(&line));
    }
    Err(error)
}

/// What does not carry over, each on one line: a name may have several.
fn left_out(draft: &TableDraft) -> impl Iterator<Item = String> {
    draft.left_out.iter().map(|text| one_line(&format!("not carried over: {text}")))
}

async fn print_sql(config: &Config, nodes: &Nodes, creation: Option<Creation>, context: &Context) -> Result<()> {
    let (plans, drafts) = match creation {
        Some(Creation { mapping, drafts }) => (setup::plans(config, &nodes.nodes, &mapping).await?, drafts),
        None => (plans(config, nodes).await?, Pair::default()),
    };
    for side in Side::BOTH {
        let name = nodes.nodes[side].name();
        let mut sql = Vec::new();
        for draft in &drafts[side] {
            sql.extend(left_out(draft).map(|text| format!("-- {text}")));
            sql.extend_from_slice(&draft.statements);
        }
        sql.extend(nodes.admins[side].setup_sql(&plans[side]).await.map_err(|error| error.at(name))?);
        super::print_sql(context, name, &sql)?;
    }
    Ok(())
}

/// What to print the SQL for. A user without any right sees no table, and on MySQL and MariaDB does not even
/// get in: then the configuration's names have to do.
async fn plans(config: &Config, nodes: &Nodes) -> Result<Pair<SetupPlan>> {
    let seen = async {
        setup::connect(&nodes.nodes).await?;
        let mapping = mapping::map(config, &nodes.nodes).await?;
        setup::plans(config, &nodes.nodes, &mapping).await
    };
    match seen.await {
        Err(error) if matches!(error.code(), Code::Config | Code::LoginRefused | Code::PrivilegeMissing) => {
            tracing::warn!(%error, "the tables cannot be seen yet: printed by their names, tables of patterns left out");
            Ok(setup::plans_by_name(config))
        }
        seen => seen,
    }
}
