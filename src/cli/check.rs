//! `pontoon check`: can the two databases be bridged?

use pontoon_core::{
    Result, calendar,
    node::{Finding, Node, Peer, Severity},
    pressure::PressureLimits,
};
use serde::Serialize;

use super::{
    CheckArgs, Context, DONE, NO,
    terminal::{Style, Table},
};
use crate::{
    config::{Accept, Config},
    held_back, mapping, nodes, observe, rings, service, setup,
    side::Side,
};

/// A certificate that ends sooner is warned about: time enough to have another issued, and less than the 90 days for
/// which many are.
const CERTIFICATE_DAYS: i64 = 30;

/// What a server is to take in a statement where the other side has no limit of the kind: what MySQL takes by default.
const STATEMENT_BYTES: u64 = 64 << 20;

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
    let peers = setup::connect(&nodes.nodes).await?;
    let mapping = mapping::map(config, &nodes.nodes).await?.with_statements(&nodes).await;
    let plans = setup::plans(config, &nodes.nodes, &mapping).await?;
    let mut findings = mapping.findings.clone();
    for side in Side::BOTH {
        let name = nodes.nodes[side].name();
        findings.extend(certificate(name, &peers[side], observe::now_micros()));
        if plans[side].written {
            findings.extend(statement_size(name, &peers[side], &peers[side.other()]));
            findings.extend(pressure(&*nodes.nodes[side], &service::pressure_limits(config, side)).await);
        }
        for mut finding in nodes.admins[side].findings(&plans[side]).await.map_err(|error| error.at(name))? {
            if !finding.subject.starts_with(name) {
                finding.subject = format!("{name}: {}", finding.subject);
            }
            findings.push(finding);
        }
    }
    findings.extend(rings::look(setup::names(&nodes.nodes), &plans, &nodes.admins).await?.findings());
    for finding in &mut findings {
        if finding.severity == Severity::Blocking && is_accepted(config, finding) {
            finding.severity = Severity::Warning;
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    Ok(findings)
}

/// Whether a node's certificate lasts. Where it has none there is nothing to say: the url says whether that is meant.
fn certificate(name: &str, peer: &Peer, now_micros: i64) -> Option<Finding> {
    let ends = peer.certificate_expiry?.saturating_mul(1_000_000);
    let left_days = (ends - now_micros).div_euclid(calendar::MICROS_PER_DAY);
    let soon = left_days < CERTIFICATE_DAYS;
    Some(Finding {
        code: "tls-certificate",
        severity: if soon { Severity::Warning } else { Severity::Ok },
        subject: name.to_owned(),
        actual: format!("the certificate ends on {}, in {left_days} days", calendar::format_instant(ends)),
        expected: format!("at least {CERTIFICATE_DAYS} days"),
        remedy: soon.then(|| "renew the server's certificate; without it the bridge stands still".to_owned()),
    })
}

/// Whether what one side has fits in a statement to the other; an update takes a row twice, as it was and as it is.
fn statement_size(name: &str, peer: &Peer, other: &Peer) -> Option<Finding> {
    let max = peer.statement_bytes_max?;
    let least = other.statement_bytes_max.unwrap_or(STATEMENT_BYTES);
    let small = max < least;
    let bytes = |bytes: u64| format!("max_allowed_packet = {bytes}");
    Some(Finding {
        code: "max-allowed-packet",
        severity: if small { Severity::Warning } else { Severity::Ok },
        subject: name.to_owned(),
        actual: bytes(max),
        expected: format!("{}: a row that takes more goes into quarantine", bytes(least)),
        remedy: small.then(|| format!("SET GLOBAL max_allowed_packet = {least}, and in the server's configuration")),
    })
}

/// Whether a node says how busy it is, where there are limits: nothing is applied to one that does not. What passes by itself is no reason not to begin.
async fn pressure(node: &dyn Node, limits: &PressureLimits) -> Option<Finding> {
    if limits.is_none() {
        return None;
    }
    let asked = held_back::ask(node, limits).await;
    Some(Finding {
        code: "target-pressure",
        severity: match &asked {
            Ok(_) => Severity::Ok,
            Err(error) if error.is_transient() => Severity::Warning,
            Err(_) => Severity::Blocking,
        },
        subject: node.name().to_owned(),
        actual: match &asked {
            Ok(_) => "told".to_owned(),
            Err(error) => error.message().to_owned(),
        },
        expected: "how busy it is, for limits.target_load and target_replica_lag: else nothing is applied to it".to_owned(),
        remedy: asked.err().and_then(|error| error.remedy().map(str::to_owned)),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_is_warned_about() {
        let ends = |certificate_expiry| Peer { server: "x".into(), certificate_expiry, statement_bytes_max: None };
        let at = |days: i64| ends(Some(1_800_000_000 + days * 86_400));
        let found = |days| certificate("shop", &at(days), 1_800_000_000_000_000).unwrap();
        assert_eq!(found(31).severity, Severity::Ok);
        assert_eq!(found(29).severity, Severity::Warning);
        assert_eq!(found(29).actual, "the certificate ends on 2027-02-13T08:00:00Z, in 29 days");
        assert_eq!(found(-1).severity, Severity::Warning);
        assert_eq!(certificate("shop", &ends(None), 0), None);
    }

    #[test]
    fn what_one_side_takes_in_a_statement_the_other_is_to_take_too() {
        let of = |bytes| Peer { server: "x".into(), certificate_expiry: None, statement_bytes_max: bytes };
        let severity = |own, other| statement_size("shop", &of(own), &of(other)).map(|found| found.severity);
        assert_eq!(severity(None, Some(1 << 20)), None);
        assert_eq!(severity(Some(16 << 20), None), Some(Severity::Warning));
        assert_eq!(severity(Some(64 << 20), None), Some(Severity::Ok));
        assert_eq!(severity(Some(16 << 20), Some(64 << 20)), Some(Severity::Warning));
        assert_eq!(severity(Some(64 << 20), Some(16 << 20)), Some(Severity::Ok));
    }
}
