//! A node's URL: as much of it as the configuration answers for. The connectors read the rest.
//!
//! No message from here quotes any part of the URL but its scheme and option names, and these only as they stand in the file: anything
//! else may be a password, also where it stands at the wrong place or where it has come from a variable.

use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pontoon_core::node::Secret;

use super::{Scheme, place::did_you_mean};

/// What the connectors know; first those of TLS, in the same order: the mode, then the files.
const POSTGRES_OPTIONS: &[&str] =
    &["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "port", "user", "dbname", "connect_timeout"];
const MYSQL_OPTIONS: &[&str] = &["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket", "connect_timeout"];

/// How many of them are of TLS.
const TLS_OPTIONS: usize = 4;

const POSTGRES_MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const MYSQL_MODES: &[&str] = &["disabled", "preferred", "required", "verify_ca", "verify_identity"];

/// What a URL says.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) scheme: Scheme,
    /// Without password.
    pub(super) url: String,
    pub(super) password: Option<Secret>,
    /// The file holds the password, or a part of it, and not a variable of the environment.
    pub(super) password_is_written: bool,
    pub(super) database: String,
    /// Hosts with ports, for comparing two nodes.
    pub(super) hosts: String,
}

/// Why a URL is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Refusal { message, hint: None }
    }
}

/// Reads a URL. `expand` replaces variables, and `resolve` makes the path of a file as other paths of the configuration are made.
pub(super) fn parse(
    written: &str,
    expand: impl Fn(&str) -> Result<String, Refusal>,
    resolve: impl Fn(&str) -> Result<PathBuf, Refusal>,
) -> Result<Address, Refusal> {
    let text = expanded(written, expand)?;
    let Some((scheme_text, rest)) = text.split_once("://") else {
        return Err("is not a URL; write postgresql://USER@HOST:PORT/DATABASE or mysql://USER@HOST:PORT/DATABASE"
            .to_owned()
            .into());
    };
    let scheme = match scheme_text {
        "postgresql" | "postgres" => Scheme::Postgres,
        "mysql" | "mariadb" => Scheme::Mysql,
        other => {
            let known = ["postgresql", "postgres", "mysql", "mariadb"];
            // What stands before :// can be anything if the text is garbled: quote it only if it looks like a scheme.
            let looks_like_one = other.chars().all(|c| c.is_ascii_alphanumeric()) && other.len() <= 16;
            let shown = if looks_like_one && written.starts_with(other) { other } else { "..." };
            return Err(format!(
                "unknown scheme {shown}://; it is postgresql://, postgres://, mysql:// or mariadb://{}",
                did_you_mean(shown, known)
            )
            .into());
        }
    };
    let (before_query, query) = match rest.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (rest, None),
    };
    let (authority, path) = before_query.split_once('/').unwrap_or((before_query, ""));
    if path.contains('@') || query.is_some_and(|query| query.contains('@')) && !authority.contains('@') {
        let message = "has an @ after the host; / ? # @ : in a user or a password are written %2F %3F %23 %40 %3A";
        return Err(message.to_owned().into());
    }
    if rest.contains(|c: char| c == '#' || c.is_whitespace() || c.is_control()) {
        return Err("holds a # or a blank; they are written %23 and %20".to_owned().into());
    }
    let (user_info, hosts) = match authority.rsplit_once('@') {
        Some((user_info, hosts)) => (Some(user_info), hosts),
        None => (None, authority),
    };
    let (user, mut password) = match user_info.map(|info| info.split_once(':').unwrap_or((info, ""))) {
        Some((user, password)) => (user, (!password.is_empty()).then(|| decode(password)).transpose()?),
        None => ("", None),
    };

    let mut kept = Vec::new();
    let option = |wanted: &str| {
        let found = query.unwrap_or("").split('&').find_map(|pair| pair.strip_prefix(wanted)?.strip_prefix('='));
        found.filter(|value| !value.is_empty())
    };
    let option_database = option("dbname").filter(|_| scheme == Scheme::Postgres);
    let option_user = option("user").filter(|_| scheme == Scheme::Postgres);
    let option_host = option(if scheme == Scheme::Postgres { "host" } else { "socket" });
    for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name == "password" {
            password = Some(decode(value)?);
            continue;
        }
        check_option(scheme, name, value, written)?;
        kept.push(match is_file(name) {
            true => file(name, value, &resolve)?,
            false => pair.to_owned(),
        });
    }

    let database = decode(if path.is_empty() { option_database.unwrap_or("") } else { path })?;
    if database.is_empty() {
        return Err("names no database; write it after the host: /DATABASE".to_owned().into());
    }
    if user.is_empty() && option_user.is_none() {
        return Err("names no user; write USER@ before the host".to_owned().into());
    }
    if hosts.is_empty() && option_host.is_none() {
        return Err("names no host".to_owned().into());
    }
    check_host(hosts)?;

    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    let slash = if path.is_empty() { "" } else { "/" };
    let question = if kept.is_empty() { "" } else { "?" };
    let url = format!("{scheme_text}://{user}{hosts}{slash}{path}{question}{}", kept.join("&"));
    let port = if scheme == Scheme::Postgres { ":5432" } else { ":3306" };
    let hosts = match option_host {
        Some(host) => format!("{hosts} {host}"),
        None if hosts.rsplit(']').next().is_some_and(|end| end.contains(':')) => hosts.to_owned(),
        None => format!("{hosts}{port}"),
    };
    let password_is_written = holds_password(&without_variables(written));
    Ok(Address { scheme, url, password: password.map(Secret::new), password_is_written, database, hosts })
}

/// The URL with its variables replaced, but for those of the paths of files, which may hold what has to be escaped in a URL.
fn expanded(written: &str, expand: impl Fn(&str) -> Result<String, Refusal>) -> Result<String, Refusal> {
    let Some((head, query)) = written.split_once('?') else { return expand(written) };
    let mut text = expand(head)?;
    // A variable may hold a whole URL with options of its own.
    let mut separator = if text.contains('?') { '&' } else { '?' };
    for pair in query.split('&') {
        let is_file = is_file(pair.split('=').next().unwrap_or_default());
        text.push(separator);
        text += &if is_file { pair.to_owned() } else { expand(pair)? };
        separator = '&';
    }
    Ok(text)
}

/// A URL as it is written, with its variables, but without a password that stands in it.
pub(crate) fn without_written_password(written: &str) -> String {
    let is_written = |password: &str| !without_variables(password).is_empty();
    let (head, query) = written.split_once('?').map_or((written, None), |(head, query)| (head, Some(query)));
    let begins = head.find("://").map_or(0, |at| at + 3);
    let ends = head[begins..].find('/').map_or(head.len(), |at| begins + at);
    let mut authority = head[begins..ends].to_owned();
    if let Some((info, hosts)) = authority.rsplit_once('@')
        && let Some((user, password)) = info.split_once(':')
        && is_written(password)
    {
        authority = format!("{user}@{hosts}");
    }
    let kept = |pair: &&str| !pair.strip_prefix("password=").is_some_and(is_written);
    let query = query.map(|query| query.split('&').filter(kept).collect::<Vec<_>>().join("&"));
    let query = query.filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{authority}{}{query}", &head[..begins], &head[ends..])
}

/// What the file itself says.
fn without_variables(written: &str) -> String {
    let mut parts = written.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('}').map_or("", |(_, after)| after))
}

fn holds_password(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let user_info = before.split('/').next().and_then(|authority| authority.rsplit_once('@'));
    let password = user_info.and_then(|(info, _)| info.split_once(':')).map(|(_, password)| password);
    let of_the_query = query.split('&').filter_map(|pair| pair.strip_prefix("password="));
    password.into_iter().chain(of_the_query).any(|password| !password.is_empty())
}

fn check_option(scheme: Scheme, name: &str, value: &str, written: &str) -> Result<(), String> {
    let (known, others, modes) = match scheme {
        Scheme::Postgres => (POSTGRES_OPTIONS, MYSQL_OPTIONS, POSTGRES_MODES),
        Scheme::Mysql => (MYSQL_OPTIONS, POSTGRES_OPTIONS, MYSQL_MODES),
    };
    let mode = known[0];
    if name == "sslpassword" {
        return Err("option sslpassword is of no use, since encrypted keys are not read; write the key without a password: openssl pkey -in KEY -out KEY.plain".into());
    }
    if !known.contains(&name) {
        // Of the TLS options each kind of server has its own name.
        if let Some(at) = others.iter().take(TLS_OPTIONS).position(|other| *other == name) {
            return Err(format!("option {name} is of the other kind of server; did you mean {:?}?", known[at]));
        }
        let readable = name.len() <= 32 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let shown = if readable && written.contains(name) { format!(" {name}") } else { String::new() };
        let near = did_you_mean(name, known.iter().copied());
        return Err(format!("has an unknown option{shown}{near}; there are {}", known.join(", ")));
    }
    if name == mode && !modes.contains(&value.to_ascii_lowercase().as_str()) {
        return Err(format!(
            "option {name} is one of {}{}",
            modes.join(", "),
            did_you_mean(value, modes.iter().copied())
        ));
    }
    if is_file(name) && value.is_empty() {
        return Err(format!("option {name} needs the path of a file"));
    }
    if matches!(name, "port" | "connect_timeout") && value.parse::<u16>().map_or(true, |number| number == 0) {
        return Err(format!("option {name} is no number from 1 to 65535"));
    }
    Ok(())
}

/// Whether an option names a file.
fn is_file(name: &str) -> bool {
    [POSTGRES_OPTIONS, MYSQL_OPTIONS].iter().any(|options| options[1..TLS_OPTIONS].contains(&name))
}

/// An option with its path resolved; as it was where that changes nothing.
fn file(name: &str, value: &str, resolve: impl Fn(&str) -> Result<PathBuf, Refusal>) -> Result<String, Refusal> {
    let written = decode(value)?;
    let path = resolve(&written)
        .map_err(|refusal| Refusal { message: format!("option {name} {}", refusal.message), ..refusal })?;
    let path = path.to_str().ok_or_else(|| format!("option {name} names a file whose folder is not UTF-8"))?;
    Ok(match path == written {
        true => format!("{name}={value}"),
        false => format!("{name}={}", utf8_percent_encode(path, NON_ALPHANUMERIC)),
    })
}

fn check_host(host: &str) -> Result<(), String> {
    if host.contains(',') {
        return Err("has several hosts; a node is one server".into());
    }
    let port = match host.strip_prefix('[') {
        Some(address) => match address.split_once(']') {
            Some((_, "")) => None,
            Some((_, after)) => Some(after.strip_prefix(':').unwrap_or(after)),
            None => return Err("has a [ without ]".into()),
        },
        None => match host.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("has an IPv6 address; write it in brackets: [::1]:5432".into());
            }
            other => other.map(|(_, port)| port),
        },
    };
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err("has a port that is no number from 1 to 65535".into());
    }
    Ok(())
}

/// Percent decoding.
fn decode(text: &str) -> Result<String, String> {
    let bad = || {
        "has a % that is not followed by two hexadecimal digits of a character; a % itself is written %25".to_owned()
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(bad()) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| bad())?);
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, String> {
        super::parse(
            text,
            |part| {
                let part = part.replace("${HOST}", "db:5433").replace("${PW}", "s%40cret");
                let part = part.replace("${URL}", "postgresql://ann:s%40cret@db/shop?sslmode=require");
                Ok(part.replace("${BAD}", "hunter2&x=@db/shop?hunter2=1"))
            },
            |path| Ok(std::path::Path::new("/etc/my pontoon").join(path.replace("${HOST}", "a b&c"))),
        )
        .map_err(|refusal| refusal.message)
    }

    #[test]
    fn variables_stand_for_any_part() {
        for (written, url, is_written) in [
            ("postgresql://ann@${HOST}/shop", "postgresql://ann@db:5433/shop", None),
            ("postgresql://ann:${PW}@${HOST}/shop", "postgresql://ann@db:5433/shop", Some(false)),
            ("postgresql://ann@${HOST}/shop?password=${PW}", "postgresql://ann@db:5433/shop", Some(false)),
            ("postgresql://ann:s%40cret@${HOST}/shop", "postgresql://ann@db:5433/shop", Some(true)),
            ("postgresql://ann@${HOST}/shop?password=s%40cret", "postgresql://ann@db:5433/shop", Some(true)),
            ("${URL}", "postgresql://ann@db/shop?sslmode=require", Some(false)),
            ("${URL}?connect_timeout=5", "postgresql://ann@db/shop?sslmode=require&connect_timeout=5", Some(false)),
            // The path of a file may have in it what a URL cannot.
            (
                "postgresql://ann@${HOST}/shop?sslcert=/${HOST}/c.pem",
                "postgresql://ann@db:5433/shop?sslcert=%2Fa%20b%26c%2Fc%2Epem",
                None,
            ),
        ] {
            let address = parse(written).unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!(address.url, url, "{written}");
            assert_eq!(address.password.as_ref().map(Secret::reveal), is_written.map(|_| "s@cret"), "{written}");
            assert_eq!(address.password_is_written, is_written.unwrap_or(false), "{written}");
        }
    }

    #[test]
    fn what_a_variable_holds_is_not_told() {
        for written in [
            "mysql://ann:${BAD}@db/shop",
            "mysql://ann@db/shop?${BAD}",
            "mysql://ann@db/shop?connect_timeout=${BAD}",
            "mysql://ann@db/${BAD}",
            "mysql://ann@${BAD}/shop",
            "${BAD}://ann@db/shop",
            "${BAD}",
        ] {
            let error = parse(written).unwrap_err();
            assert!(!error.contains("hunt"), "{written}: {error}");
        }
    }

    #[test]
    fn a_relative_file_is_one_of_the_configurations_folder() {
        let address = parse("postgresql://ann@db/shop?sslcert=a%20b.pem&sslkey=/run/key.pem").unwrap();
        assert_eq!(
            address.url,
            "postgresql://ann@db/shop?sslcert=%2Fetc%2Fmy%20pontoon%2Fa%20b%2Epem&sslkey=/run/key.pem"
        );
    }

    #[test]
    fn the_password_is_taken_out() {
        for url in [
            "postgresql://ann:s%40cret@db:5432/shop?sslmode=require",
            "postgresql://ann@db:5432/shop?password=s%40cret&sslmode=require",
        ] {
            let address = parse(url).unwrap();
            assert_eq!(address.url, "postgresql://ann@db:5432/shop?sslmode=require");
            assert_eq!(address.password.unwrap().reveal(), "s@cret");
            assert_eq!(address.database, "shop");
        }
    }

    #[test]
    fn what_is_written_again_keeps_its_variables_and_loses_its_password() {
        for (written, kept) in [
            ("${URL}", "${URL}"),
            ("postgresql://ann@${HOST}/shop?sslmode=require", "postgresql://ann@${HOST}/shop?sslmode=require"),
            ("postgresql://ann:hunter2@${HOST}:5433/${DB}", "postgresql://ann@${HOST}:5433/${DB}"),
            ("postgresql://ann:hun${TER}@db/shop", "postgresql://ann@db/shop"),
            ("postgresql://ann:${PW}@db/shop?password=hunter2", "postgresql://ann:${PW}@db/shop"),
            (
                "mysql://${WHO}/shop?password=${PW}&ssl-mode=disable",
                "mysql://${WHO}/shop?password=${PW}&ssl-mode=disable",
            ),
        ] {
            assert_eq!(without_written_password(written), kept);
        }
    }

    #[test]
    fn what_is_whole_stays_as_it_is() {
        for url in [
            "postgresql://pontoon@127.0.0.1:5432/shop?sslmode=verify-full",
            "postgres://ann@/shop?host=/run/postgresql",
            "mysql://ann@[::1]:3306/shop?ssl-mode=VERIFY_CA&ssl-ca=/etc/ca.pem&ssl-cert=/etc/me.pem&ssl-key=/etc/me.key",
            "mariadb://ann@db/my%2Fshop",
        ] {
            let address = parse(url).unwrap();
            assert_eq!(address.url, url);
            assert!(address.password.is_none());
        }
        assert_eq!(parse("mariadb://ann@db/my%2Fshop").unwrap().database, "my/shop");
        assert_eq!(parse("mariadb://ann@db/a").unwrap().hosts, "db:3306");
    }

    #[test]
    fn no_refusal_tells_a_password() {
        for (url, says) in [
            ("http://ann:hunter2@db/shop", "unknown scheme http://"),
            ("postgresq://ann:hunter2@db/shop", "did you mean \"postgresql\"?"),
            ("ann:hunter2@db/shop", "is not a URL"),
            ("mysql://ann:hunt/er2@db/shop", "@ after the host"),
            ("mysql://ann:hunt#er2@db/shop", "#"),
            ("mysql://ann:hunt?er2@db/shop", "@ after the host"),
            ("mysql://ann:%hunter2@db/shop", "%"),
            ("mysql://ann:hunter2@db:hunter2/shop", "port"),
            ("mysql://ann:hunter2@db:99999/shop", "port"),
            ("mysql://ann:hunter2@db", "names no database"),
            ("mysql://:hunter2@db/shop", "names no user"),
            ("mysql://ann:hunter2@/shop", "names no host"),
            ("mysql://ann:hunter2@::1/shop", "brackets"),
            ("mysql://ann:hunter2@db/shop?sslmode=require", "did you mean \"ssl-mode\"?"),
            ("mysql://ann:hunter2@db/shop?ssl-mod=required", "option ssl-mod; did you mean \"ssl-mode\"?"),
            ("mysql://ann:hunter2@db/shop?sslkey=/k", "did you mean \"ssl-key\"?"),
            ("mysql://ann:hunter2@db/shop?ssl-key=", "option ssl-key needs the path of a file"),
            ("postgres://ann:hunter2@db/shop?sslpassword=hunter2", "option sslpassword is of no use"),
            (
                "mysql://ann:hunter2@db/shop?hunter2%20=1",
                "has an unknown option; there are ssl-mode, ssl-ca, ssl-cert, ssl-key, socket, connect_timeout",
            ),
            ("postgres://ann:hunter2@db1,db2/shop", "several hosts"),
            ("postgres://ann:hunter2@db/shop?connect_timeout=soon", "option connect_timeout is no number"),
            ("postgres://ann:hunter2@db/shop?sslmode=verify_full", "did you mean \"verify-full\"?"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("hunt"), "{url}: {error}");
        }
    }
}
