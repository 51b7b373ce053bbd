//! What the server or the driver says, as an error with a code. The one place where it is decided.
//!
//! Numbers are from the error references of both servers; where they mean different things on the two
//! (above 1900), the table says which. A message of the server is only passed on where it holds no
//! value of a row.

use mysql_async::{DriverError, Error as Driver, IoError, ServerError, TlsError};
use pontoon_core::{Code, Error};
use pontoon_tls::{MYSQL, Mode, Tls, cause_in, explain};

use crate::connect::PACKET_BYTES_MAX;

/// An entry is a duplicate of another in a unique key.
pub(crate) const DUPLICATE_ENTRY: u16 = 1062;
/// The log cannot be read from there, or another reader has the same server id.
pub(crate) const MASTER_FATAL: u16 = 1236;
/// There is no such table.
pub(crate) const NO_SUCH_TABLE: u16 = 1146;
/// There is no such database.
pub(crate) const NO_SUCH_DATABASE: u16 = 1049;
/// There is no such column.
pub(crate) const NO_SUCH_COLUMN: u16 = 1054;

/// What TLS says, if it is that.
fn refusal_in(error: &Driver) -> Option<&rustls::Error> {
    match error {
        Driver::Io(IoError::Io(io)) => cause_in(io),
        Driver::Io(IoError::Tls(TlsError::Tls(refusal))) => Some(refusal),
        _ => None,
    }
}

/// Whether the server's certificate is not accepted.
pub(crate) fn is_of_certificate(error: &Driver) -> bool {
    matches!(refusal_in(error), Some(rustls::Error::InvalidCertificate(_)))
}

/// An error of a statement on an open connection.
pub(crate) fn convert(error: &Driver) -> Error {
    if let Some(refusal) = refusal_in(error) {
        return explain(refusal, None, &MYSQL);
    }
    match error {
        Driver::Server(server) => of_server(server),
        Driver::Io(IoError::Tls(tls)) => Error::new(Code::TlsFailed, format!("TLS failed: {tls}")),
        Driver::Io(IoError::Io(io)) => Error::new(Code::ConnectionLost, format!("the connection broke: {io}")),
        Driver::Driver(driver) => of_driver(driver),
        Driver::Url(url) => Error::new(Code::Config, format!("the URL cannot be used: {url}")),
        Driver::Other(other) => Error::new(Code::ConnectionLost, format!("the connection broke: {other}")),
    }
}

/// An error while a connection was being made. Where is said by who made it.
pub(crate) fn at_login(error: &Driver, tls: &Tls) -> Error {
    match error {
        Driver::Server(server) => match server.code {
            NO_SUCH_DATABASE | 1044 => Error::new(
                Code::LoginRefused,
                format!("the server refused the database: {}", server.message),
            )
            .hint(
                "check the database's name in the url; `pontoon setup --print-sql` prints the grants that are needed",
            ),
            code => match login_hint(code, tls) {
                Some(hint) => of_server(server).hint(hint),
                None => of_server(server),
            },
        },
        _ if refusal_in(error).is_some() => convert(error),
        Driver::Io(IoError::Io(io)) if is_garbage(io.kind()) => stranger(),
        Driver::Driver(DriverError::UnexpectedPacket { .. } | DriverError::PacketOutOfOrder) => stranger(),
        Driver::Io(IoError::Io(io)) => Error::new(Code::Unreachable, format!("no connection: {io}"))
            .hint("does the server run, and is this its address?"),
        other => match convert(other) {
            error if error.code() == Code::ConnectionLost => {
                Error::new(Code::Unreachable, format!("no connection: {}", error.message()))
                    .hint("the server ended the connection during the login; its log may say why")
            }
            error => error,
        },
    }
}

/// Bytes that are no packet, or the end in the middle of one.
fn is_garbage(kind: std::io::ErrorKind) -> bool {
    matches!(kind, std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput)
}

/// What answers does not speak the protocol.
pub(crate) fn stranger() -> Error {
    Error::new(Code::Unreachable, "what answers there is no MySQL or MariaDB server")
        .hint("is this the server's port, and not that of its X protocol?")
}

/// One number stands for wrong passwords, unknown users, and accounts that ask more of TLS than there is.
fn login_hint(number: u16, tls: &Tls) -> Option<String> {
    Some(match number {
        1045 | 1698 => {
            let more = match tls.mode() {
                Mode::Disable => "an account that REQUIREs SSL wants ssl-mode=required or more",
                _ if !tls.has_identity() => "an account that REQUIREs X509 wants ssl-cert and ssl-key",
                _ => "an account that REQUIREs a SUBJECT or an ISSUER wants a certificate of just that",
            };
            format!("check the user, the password and the host that the account is for; {more}")
        }
        1129 => {
            "FLUSH HOSTS lets this host in again; max_connect_errors says after how many failures it is shut out".into()
        }
        1820 | 1862 => "the password has expired: ALTER USER ... IDENTIFIED BY gives the account a new one".into(),
        3118 | 4151 => "ALTER USER ... ACCOUNT UNLOCK lets the account in again".into(),
        3159 => "the server wants TLS of everybody (require_secure_transport): write ssl-mode=required or more".into(),
        _ => return None,
    })
}

const LOGIN_METHODS: &str =
    "give the bridge's user another one: caching_sha2_password (MySQL), ed25519 (MariaDB) or mysql_native_password";

fn of_driver(error: &DriverError) -> Error {
    match error {
        DriverError::NoClientSslFlagFromServer => Error::new(Code::TlsFailed, "the server has no TLS").hint(
            "give the server a certificate; or ssl-mode=disabled in the url, of a link that nobody can listen to",
        ),
        DriverError::UnknownAuthPlugin { name } => {
            Error::new(Code::LoginRefused, format!("the server asks for the unknown login method {name}"))
                .hint(LOGIN_METHODS)
        }
        DriverError::CleartextPluginDisabled => Error::new(
            Code::LoginRefused,
            "the server asks for the password in the clear, by the login method mysql_clear_password",
        )
        .hint(LOGIN_METHODS),
        DriverError::MysqlOldPasswordDisabled => Error::new(
            Code::LoginRefused,
            "the server asks for the login method mysql_old_password, which anybody who listens can break",
        )
        .hint(LOGIN_METHODS),
        // The driver's own limit is the largest that there is.
        DriverError::PacketTooLarge => too_large(PACKET_BYTES_MAX + 1, PACKET_BYTES_MAX),
        DriverError::ConnectionClosed => Error::new(Code::ConnectionLost, "the server closed the connection"),
        DriverError::UnexpectedPacket { .. } | DriverError::PacketOutOfOrder => {
            Error::new(Code::Protocol, "the server sent a packet that is out of place")
        }
        other => Error::new(Code::ConnectionLost, format!("the connection broke: {other}")),
    }
}

/// A statement of one row that the server would not take: it answers with error 1153 and hangs up.
pub(crate) fn too_large(bytes: usize, bytes_max: usize) -> Error {
    let needed = (bytes + 1).next_power_of_two();
    let text = format!("a row takes {bytes} bytes in a statement, of which the server takes {bytes_max}");
    if needed > PACKET_BYTES_MAX {
        return Error::new(Code::RowRefused, format!("{text}; no server takes more than {PACKET_BYTES_MAX}"))
            .hint("make the row smaller on the source; or pass over the transaction with pontoon skip");
    }
    Error::new(Code::RowRefused, format!("{text} (max_allowed_packet); {needed} would do"))
        .hint(format!("SET GLOBAL max_allowed_packet = {needed}, and in the server's configuration"))
}

/// The code that a server error number stands for.
pub(crate) fn code_of(number: u16, state: &str) -> Code {
    match number {
        // Login: refused user, password, host; locked or expired.
        1045 | 1129 | 1130 | 1251 | 1275 | 1698 | 1820 | 1862 | 3118 | 3159 | 3955 | 4151 => Code::LoginRefused,
        // No room: connections, memory, disk, a table space; shutting down; read only while roles change.
        3 | 1021 | 1037 | 1038 | 1040 | 1041 | 1053 | 1114 | 1135 | 1203 | 1226 | 1290 | 1836 | 3032 | 3168 => {
            Code::ServerBusy
        }
        // The connection: network errors, killed, idle for too long, a packet larger than is taken (which is looked at
        // before it is sent, but the limit can be lowered meanwhile).
        1152 | 1153 | 1158..=1161 | 1184 | 1317 | 1927 | 2006 | 2013 | 3024 | 3169 | 4031 => Code::ConnectionLost,
        1969 | 1970 => Code::ConnectionLost,
        // Somebody else has it: lock time-out, deadlock, a moved row, a table being changed.
        1020 | 1205 | 1206 | 1213 | 1412 | 1614 | 1637 | 3058 | 3101 | 3572 => Code::Contention,
        // 1401 is what XA RECOVER says without XA_RECOVER_ADMIN; nothing else of XA is ever asked for.
        1044 | 1142 | 1143 | 1227 | 1370 | 1401 | 1410 | 1095 => Code::PrivilegeMissing,
        NO_SUCH_DATABASE | NO_SUCH_TABLE | NO_SUCH_COLUMN | 1051 | 1072 | 1136 => Code::SchemaChanged,
        // The row: null, duplicate, out of range, too long, no such character, a constraint, a trigger's word.
        1022
        | 1048
        | DUPLICATE_ENTRY
        | 1118
        | 1138
        | 1169
        | 1216
        | 1217
        | 1263
        | 1264
        | 1265
        | 1292
        | 1364
        | 1366
        | 1367
        | 1369
        | 1406
        | 1411
        | 1441
        | 1451
        | 1452
        | 1525
        | 1526
        | 1557
        | 1586
        | 1644
        | 1690
        | 1748
        | 1761
        | 1762
        | 3105
        | 3140..=3146
        | 3819
        | 3903..=3907
        | 4025
        | 4078 => Code::RowRefused,
        MASTER_FATAL => Code::LogLost,
        _ => match state.get(..2) {
            Some("08") => Code::ConnectionLost,
            Some("40") => Code::Contention,
            Some("22" | "23") => Code::RowRefused,
            Some("28") => Code::LoginRefused,
            Some("42") => Code::Internal,
            // The general class: what is there and unknown may pass, and is said at each try.
            _ => Code::ServerBusy,
        },
    }
}

fn of_server(error: &ServerError) -> Error {
    let code = code_of(error.code, &error.state);
    let message = if code == Code::RowRefused { without_values(error) } else { error.message.clone() };
    let constraint = constraint(error).filter(|_| code == Code::RowRefused);
    let converted =
        Error::new(code, format!("{} (error {})", one_line(&message), error.code)).by_constraint(constraint);
    match code {
        Code::LoginRefused => converted.hint("check the user, the password and the host that the account is for"),
        Code::PrivilegeMissing => converted.hint("run what `pontoon setup --print-sql` prints as an administrator"),
        _ => converted,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The name of the unique key in the message of a duplicate entry, which ends with it between quotes:
/// `Duplicate entry '7' for key 'items.PRIMARY'` (MySQL), `... for key 'PRIMARY'` (MariaDB).
pub(crate) fn duplicate_key(message: &str) -> &str {
    message.trim_end().strip_suffix('\'').and_then(|rest| rest.rsplit_once('\'')).map_or("", |(_, key)| key)
}

/// The constraint that the server names: a unique key, or a check (`Check constraint 'c' is violated.` on MySQL,
/// ``CONSTRAINT `c` failed for `d`.`t` `` on MariaDB).
fn constraint(error: &ServerError) -> Option<String> {
    let quoted = |quote: char| error.message.split(quote).nth(1);
    let name = match error.code {
        DUPLICATE_ENTRY | 1022 | 1169 => Some(duplicate_key(&error.message)),
        3819 => quoted('\''),
        4025 => quoted('`'),
        _ => None,
    };
    name.filter(|name| !name.is_empty()).map(Into::into)
}

/// Whether it is the primary key.
pub(crate) fn is_primary(key: &str) -> bool {
    key == "PRIMARY" || key.ends_with(".PRIMARY")
}

/// Data errors whose message names no value, as they stand; of the others the constraint alone.
fn without_values(error: &ServerError) -> String {
    match error.code {
        1048 | 1118 | 1216 | 1217 | 1264 | 1265 | 1364 | 1369 | 1406 | 1451 | 1452 | 1586 | 1748 | 3105 | 3819
        | 4025 => error.message.clone(),
        DUPLICATE_ENTRY | 1022 | 1169 => format!("the unique key {} holds such a row", duplicate_key(&error.message)),
        _ => match error.message.rsplit_once(" for column ") {
            Some((_, column)) => format!("the value does not fit the column {column}"),
            None => "the server refuses the row".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use pontoon_core::Class;

    use super::*;

    fn server(code: u16, state: &str, message: &str) -> Error {
        convert(&Driver::Server(ServerError { code, message: message.into(), state: state.into() }))
    }

    #[test]
    fn numbers_have_their_class() {
        for transient in [3, 1020, 1021, 1040, 1041, 1053, 1114, 1205, 1213, 1290, 1317, 1927, 2006, 2013, 3024, 4031] {
            assert_eq!(code_of(transient, "HY000").class(), Class::Transient, "{transient}");
        }
        for definite in [1048, 1062, 1264, 1366, 1406, 1452, 1526, 1644, 3819, 4025] {
            assert_eq!(code_of(definite, "HY000"), Code::RowRefused, "{definite}");
        }
        for fatal in [1044, 1142, 1143, 1227] {
            assert_eq!(code_of(fatal, "42000"), Code::PrivilegeMissing, "{fatal}");
        }
        assert_eq!(code_of(1045, "28000"), Code::LoginRefused);
        assert_eq!(code_of(1205, "HY000"), Code::Contention);
        assert_eq!(code_of(1064, "42000"), Code::Internal);
        assert_eq!(code_of(9999, "23000"), Code::RowRefused);
        assert_eq!(code_of(9999, ""), Code::ServerBusy);
    }

    #[test]
    fn constraints_are_named() {
        let named = |code, message| server(code, "23000", message).constraint().map(str::to_owned);
        assert_eq!(named(1062, "Duplicate entry 'se'cret' for key 'items.code'").as_deref(), Some("items.code"));
        assert_eq!(named(3819, "Check constraint 'positive' is violated.").as_deref(), Some("positive"));
        assert_eq!(named(4025, "CONSTRAINT `positive` failed for `shop`.`items`").as_deref(), Some("positive"));
        assert_eq!(named(1406, "Data too long for column 'c' at row 1"), None);
        assert_eq!(named(3819, "odd"), None);
    }

    #[test]
    fn messages_hold_no_values() {
        let error = server(1062, "23000", "Duplicate entry 'se'cret' for key 'items.code'");
        assert!(!error.message().contains("cret"), "{error}");
        assert!(error.message().contains("items.code"));
        let error = server(1366, "HY000", "Incorrect string value: '\\xF0\\x9F' for column `d`.`t`.`c` at row 1");
        assert!(!error.message().contains("xF0"), "{error}");
        assert!(error.message().contains("`d`.`t`.`c`"));
        assert_eq!(duplicate_key("Duplicate entry 'a' for key 'PRIMARY'"), "PRIMARY");
        assert!(is_primary("items.PRIMARY") && is_primary("PRIMARY") && !is_primary("items.code"));
        assert_eq!(duplicate_key(""), "");
    }
}
