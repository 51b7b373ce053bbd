//! Tables that one node has and the other lacks: how the other gets them.
//!
//! Everything that can be known is known before anything is made. The node that has a table tells its
//! definition, the other drafts its like and says how it will be described, and the pair of the two is judged as
//! `check` judges one that is there. Only when no table of all is refused is the first of them made; and where a
//! server refuses one all the same, what was made before it is taken back.

use std::collections::HashSet;

use pontoon_core::{Result, TableDefinition, TableDraft, TableName, node::Finding};

use crate::{
    config::{Absent, Config, name_across},
    mapping::{self, Mapping, Survey},
    nodes::Nodes,
    setup,
    side::{Pair, Side},
};

/// What is to be made.
pub struct Creation {
    /// The pairs as they will be then.
    pub mapping: Mapping,
    /// The tables to be made on each node.
    pub drafts: Pair<Vec<TableDraft>>,
}

/// Finds out what is missing and how it would be made; changes nothing. What cannot be made or bridged is among the
/// mapping's findings.
pub async fn plan(config: &Config, nodes: &Nodes) -> Result<Creation> {
    setup::connect(&nodes.nodes).await?;
    let mut survey = mapping::survey(config, &nodes.nodes, Absent::Chosen).await?;
    let mut drafts = Pair::<Vec<TableDraft>>::default();
    let mut refusals = Vec::new();
    let mut refused = HashSet::new();
    for side in Side::BOTH {
        let (places, definitions) = definitions(nodes, &survey, side).await?;
        if definitions.is_empty() {
            continue;
        }
        let node = nodes.nodes[side].name();
        let drafted = nodes.admins[side].draft_tables(&definitions).await.map_err(|error| error.at(node))?;
        for (place, draft) in places.into_iter().zip(drafted) {
            if draft.refusals.is_empty() {
                survey.pairs[place].schemas[side] = Some(draft.schema.clone());
                drafts[side].push(draft);
            } else {
                let named = |finding: Finding| Finding { subject: format!("{node}: {}", finding.subject), ..finding };
                refusals.extend(draft.refusals.into_iter().map(named));
                refused.insert(place);
            }
        }
    }
    let mut place = 0..;
    survey.pairs.retain(|_| place.next().is_none_or(|place| !refused.contains(&place)));
    let mut mapping = survey.map(config);
    mapping.findings.extend(refusals);
    Ok(Creation { mapping, drafts })
}

/// The definitions of what `side` lacks, under the names that the tables will have there, with their places among
/// the pairs. A table that went away meanwhile is left to the mapping.
async fn definitions(nodes: &Nodes, survey: &Survey, side: Side) -> Result<(Vec<usize>, Vec<TableDefinition>)> {
    let lacking = || survey.pairs.iter().map(|pair| &pair.choice).enumerate().filter(|(_, c)| c.absent == Some(side));
    let other = side.other();
    let names: Vec<TableName> = lacking().map(|(_, choice)| choice.names[other as usize].clone()).collect();
    if names.is_empty() {
        return Ok(Default::default());
    }
    let defined = nodes.admins[other].define_tables(&names).await;
    let defined = defined.map_err(|error| error.at(nodes.nodes[other].name()))?;
    let found = lacking().zip(defined).filter_map(|((place, choice), defined)| {
        let mut definition = defined?.renamed(|name| name_across(&choice.columns, other, name).map(Into::into));
        definition.schema.name = choice.names[side as usize].clone();
        Some((place, definition))
    });
    Ok(found.unzip())
}

/// Makes the tables on both nodes, or none. Errors: as of [`pontoon_core::node::Admin::create_tables`].
pub async fn make(nodes: &Nodes, drafts: &Pair<Vec<TableDraft>>) -> Result<()> {
    for side in Side::BOTH {
        if drafts[side].is_empty() {
            continue;
        }
        let Err(error) = nodes.admins[side].create_tables(&drafts[side]).await else { continue };
        let error = error.at(nodes.nodes[side].name());
        if side == Side::A || drafts[Side::A].is_empty() {
            return Err(error);
        }
        let hint = error.remedy().unwrap_or_default().to_owned();
        let left = match nodes.admins[Side::A].remove_new_tables(&drafts[Side::A]).await {
            Ok(left) => left,
            Err(_) => drafts[Side::A].iter().map(|draft| draft.schema.name.to_string()).collect(),
        };
        if left.is_empty() {
            return Err(error);
        }
        let name = nodes.nodes[Side::A].name();
        return Err(error.hint(format!("{hint}; but on {name}, left there is {}", left.join(", "))));
    }
    Ok(())
}
