//! The statement that adds a column to the side that lacks it: as `setup --create-tables` would have made it.

use pontoon_core::Result;

use super::Mapping;
use crate::{
    config::{TableChoice, name_across},
    nodes::Nodes,
    side::Side,
};

/// A column that one side alone has.
pub(crate) struct Missing {
    /// The place of what was found of it.
    pub(super) finding: usize,
    pub(super) choice: TableChoice,
    pub(super) lacking: Side,
    /// What it would be called there.
    pub(super) name: String,
}

impl Mapping {
    /// The same, where the remedy for each column that one side lacks has the statement that adds it. It is help and no more: where a node does not
    /// tell, the remedy stays as it is.
    pub(crate) async fn with_statements(mut self, nodes: &Nodes) -> Mapping {
        for missing in std::mem::take(&mut self.missing) {
            let Some(remedy) = self.findings.get_mut(missing.finding).and_then(|finding| finding.remedy.as_mut())
            else {
                continue;
            };
            let node = nodes.nodes[missing.lacking].name();
            match missing.statement(nodes).await {
                Ok(Some(statement)) => {
                    *remedy = remedy.replacen(&add_it_on(node), &format!("on {node}: {statement}"), 1)
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, column = missing.name, "no statement can be told"),
            }
        }
        self
    }
}

/// The words for which the statement stands, where there is one.
pub(super) fn add_it_on(node: &str) -> String {
    format!("add it on {node}")
}

impl Missing {
    async fn statement(&self, nodes: &Nodes) -> Result<Option<String>> {
        let having = self.lacking.other();
        let names = &self.choice.names;
        let mut defined = nodes.admins[having].define_tables(&[names[having as usize].clone()]).await?;
        let Some(definition) = defined.pop().flatten() else { return Ok(None) };
        let mut definition = definition.renamed(|name| name_across(&self.choice.columns, having, name).map(Into::into));
        definition.schema.name = names[self.lacking as usize].clone();
        let drafts = nodes.admins[self.lacking].draft_tables(&[definition]).await?;
        let mut additions = drafts.into_iter().flat_map(|draft| draft.additions);
        Ok(additions.find(|(name, _)| **name == *self.name).map(|(_, statement)| statement))
    }
}
