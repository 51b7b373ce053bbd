//! What else moves rows to or from a node, as far as the node itself tells: other bridges that are set up on it, and
//! servers that it replicates from natively.
//!
//! Each bridge leaves on both of its nodes which databases it joins ([`Joined`]), and which tables ([`Carried`]).

use serde_json::{Value as Json, json};

use crate::{node::SetupPlan, position::LogIdentity, schema::TableId};

/// Which two databases a bridge joins, from one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// This node's name in the bridge's configuration.
    pub node: String,
    /// Its log.
    pub log: LogIdentity,
    /// Its database.
    pub database: String,
    /// The other node's name.
    pub other: String,
    /// The other node's log.
    pub other_log: LogIdentity,
    /// The database there.
    pub other_database: String,
}

impl Joined {
    /// What `setup` leaves on a node of this name and log.
    pub fn of(node: &str, log: &LogIdentity, plan: &SetupPlan) -> Joined {
        Joined {
            node: node.to_owned(),
            log: log.clone(),
            database: plan.database.clone(),
            other: plan.other_name.clone(),
            other_log: plan.other_log.clone(),
            other_database: plan.other_database.clone(),
        }
    }

    /// The text that is kept. It is compared as a whole, so it never changes.
    pub fn to_text(&self) -> String {
        json!({
            "node": self.node,
            "log": self.log.to_string(),
            "database": self.database,
            "other": self.other,
            "other_log": self.other_log.to_string(),
            "other_database": self.other_database,
        })
        .to_string()
    }

    /// The same text with the logs that the nodes have now; `None` where it is none.
    pub fn with_logs(text: &str, own: &LogIdentity, other: &LogIdentity) -> Option<String> {
        let joined = Joined::from_text(text)?;
        Some(Joined { log: own.clone(), other_log: other.clone(), ..joined }.to_text())
    }

    /// Reads back what [`Joined::to_text`] wrote; `None` where it is not that.
    pub fn from_text(text: &str) -> Option<Joined> {
        let json: Json = serde_json::from_str(text).ok()?;
        let field = |name: &str| json.get(name)?.as_str().map(str::to_owned);
        Some(Joined {
            node: field("node")?,
            log: LogIdentity(field("log")?.into()),
            database: field("database")?,
            other: field("other")?,
            other_log: LogIdentity(field("other_log")?.into()),
            other_database: field("other_database")?,
        })
    }
}

/// A table that a bridge carries, from one of its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The table on this node.
    pub here: String,
    /// The table on the other one.
    pub there: String,
    /// Its changes come here from the other one.
    pub arrives: bool,
}

impl Carried {
    /// The tables of a plan, each with what the bridge calls the pair.
    pub fn of(plan: &SetupPlan) -> Vec<(&str, Carried)> {
        let tables = plan.tables.iter().zip(&plan.other_tables).zip(&plan.arrives);
        let carried = tables.map(|((table, there), arrives)| {
            let carried = Carried { here: table.name.to_string(), there: there.to_string(), arrives: *arrives };
            (&*table.label, carried)
        });
        carried.collect()
    }

    /// The text that is kept.
    pub fn to_text(&self) -> String {
        json!({"here": self.here, "there": self.there, "arrives": self.arrives}).to_string()
    }

    /// Reads back what [`Carried::to_text`] wrote; `None` where it is not that.
    pub fn from_text(text: &str) -> Option<Carried> {
        let json: Json = serde_json::from_str(text).ok()?;
        let field = |name: &str| json.get(name)?.as_str().map(str::to_owned);
        let arrives = json.get("arrives").and_then(Json::as_bool).unwrap_or(true);
        Some(Carried { here: field("here")?, there: field("there")?, arrives })
    }
}

/// Another bridge that is set up on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name.
    pub bridge: String,
    /// Which databases it joins.
    pub joined: Joined,
    /// Its tables. None at all where it was set up by a version that did not tell.
    pub carried: Vec<Carried>,
}

/// A server from which a node replicates natively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// What it is, for people: `the replica of 10.0.0.1:3306`.
    pub name: String,
    /// By what its source may be known, in the words of [`Surroundings::serves`].
    pub sources: Vec<String>,
    /// The mapped tables that it writes; `None` for all that there are.
    pub tables: Option<Vec<TableId>>,
    /// It stands still, or filters that nobody has looked into may keep the mapped tables out.
    pub unsure: bool,
    /// The statement that stops it.
    pub stop: String,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// The other bridges.
    pub bridges: Vec<Neighbour>,
    /// What is replicated to the node natively.
    pub feeds: Vec<Feed>,
    /// By what a feed of another server would know this one as its source.
    pub serves: Vec<String>,
    /// What the bridge's user may not see, and the statement that mends it.
    pub unseen: Option<(&'static str, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_on_a_node_reads_back() {
        let joined = Joined {
            node: "shop".into(),
            log: LogIdentity("postgres:7:1".into()),
            database: "shop".into(),
            other: "stock".into(),
            other_log: LogIdentity("mysql:0a".into()),
            other_database: "st\"ock".into(),
        };
        // As it has stood in databases since the first version.
        let text = r#"{"database":"shop","log":"postgres:7:1","node":"shop","other":"stock","other_database":"st\"ock","other_log":"mysql:0a"}"#;
        assert_eq!(joined.to_text(), text);
        assert_eq!(Joined::from_text(text), Some(joined));
        let carried = Carried { here: "public.items".into(), there: r"shop.it\.ems".into(), arrives: false };
        assert_eq!(Carried::from_text(&carried.to_text()), Some(carried));
        assert_eq!(Joined::from_text("{}"), None);
        assert_eq!(Carried::from_text("[]"), None);
    }
}
