//! `pontoon check`: can the two databases be bridged?

use pontoon_core::{
    Result,
    node::{Finding, Severity},
};
use serde::Serialize;

use super::{
    CheckArgs, Context, DONE, NO,
    terminal::{Style, Table},
};
use crate::{
    config::{Accept, Config},
    mapping, nodes, setup,
    side::Side,
};

/// The version of the document's form.
const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    bridge: &'a str,
    blocking: usize,
    warnings: usize,
    findings: &'a [Finding],
}

pub(crate) async fn run(arguments: CheckArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let findings = findings(&config).await?;
    let count = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (blocking, warnings) = (count(Severity::Blocking), count(Severity::Warning));
    if arguments.json {
        let bridge = config.bridge.as_str();
        let document = Document { schema_version: SCHEMA_VERSION, bridge, blocking, warnings, findings: &findings };
        context.out.line(&super::json(&document)?)?;
    } else {
        print(&findings, blocking, warnings, context)?;
    }
    Ok(if blocking > 0 { NO } else { DONE })
}

/// Everything that is found on both nodes and between them, what blocks first.
async fn findings(config: &Config) -> Result<Vec<Finding>> {
    let nodes = nodes::open(config)?;
    setup::connect(&nodes.nodes).await?;
    let mapping = mapping::map(config, &nodes.nodes).await?;
    let plans = setup::plans(config, &nodes.nodes, &mapping).await?;
    let mut findings = mapping.findings.clone();
    for side in Side::BOTH {
        let name = nodes.nodes[side].name();
        for mut finding in nodes.admins[side].findings(&plans[side]).await.map_err(|error| error.at(name))? {
            if !finding.subject.starts_with(name) {
                finding.subject = format!("{name}: {}", finding.subject);
            }
            findings.push(finding);
        }
    }
    for finding in &mut findings {
        if finding.severity == Severity::Blocking && is_accepted(config, finding) {
            finding.severity = Severity::Warning;
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    Ok(findings)
}

/// Whether the operator answers for a finding: it is accepted for the table that it speaks of.
fn is_accepted(config: &Config, finding: &Finding) -> bool {
    let Some(accept) = Accept::ALL.into_iter().find(|accept| accept.as_str() == finding.code) else { return false };
    let speaks_of =
        |name: &str| finding.subject.split([' ', ':']).any(|word| word == name || word.ends_with(&format!(".{name}")));
    config.tables.iter().any(|rule| rule.accept.contains(&accept) && rule.written.iter().any(|name| speaks_of(name)))
}

fn print(findings: &[Finding], blocking: usize, warnings: usize, context: &Context) -> Result<()> {
    let out = &context.out;
    let mut table = Table::new(["", "code", "subject", "found", "needed"]);
    for finding in findings {
        let (word, style) = match finding.severity {
            Severity::Blocking => ("blocks", Style::Bad),
            Severity::Warning => ("warns", Style::Warning),
            Severity::Ok => ("ok", Style::Good),
        };
        let cells = [word, finding.code, &finding.subject, &finding.actual, &finding.expected];
        table.row(cells).style(0, style);
    }
    out.print(&out.table(&table))?;
    for finding in findings.iter().filter(|finding| finding.severity != Severity::Ok) {
        if let Some(remedy) = &finding.remedy {
            out.line(&format!("{} ({}): {remedy}", finding.subject, finding.code))?;
        }
    }
    out.line(&format!("{blocking} blocking, {warnings} warnings, {} looked at", findings.len()))
}
