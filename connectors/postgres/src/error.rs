//! What a server or the driver reports, as an error of the bridge. One table says which SQLSTATE means
//! what (manual, appendix A); nothing else in this crate looks at one.
//!
//! A message never holds a row's value: the server's own message does for errors of class 22 (`invalid
//! input syntax for type integer: "..."`) and its DETAIL does for class 23 (`Key (id)=(5) ...`), so the
//! former is replaced by words of ours and the latter left out.

use pontoon_core::{Code, Error};
use pontoon_tls::{POSTGRES, cause_in, explain};
use postgres_protocol::message::backend::ErrorFields;
use tokio_postgres::error::DbError;

/// What the server said, whichever connection it came from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) sqlstate: String,
    pub(crate) message: String,
    pub(crate) table: Option<String>,
    pub(crate) column: Option<String>,
    pub(crate) constraint: Option<String>,
}

impl Report {
    /// Of an ErrorResponse on our own wire.
    pub(crate) fn from_fields(mut fields: ErrorFields<'_>) -> Report {
        use fallible_iterator::FallibleIterator;
        let mut report = Report::default();
        // A field that cannot be read ends the list: what was read still says what happened.
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => report.sqlstate = value,
                b'M' => report.message = value,
                b't' => report.table = Some(value),
                b'c' => report.column = Some(value),
                b'n' => report.constraint = Some(value),
                _ => {}
            }
        }
        report
    }

    fn from_driver(error: &DbError) -> Report {
        Report {
            sqlstate: error.code().code().into(),
            message: error.message().into(),
            table: error.table().map(Into::into),
            column: error.column().map(Into::into),
            constraint: error.constraint().map(Into::into),
        }
    }

    /// As an error of the bridge.
    pub(crate) fn into_error(self) -> Error {
        let code = code_of(&self.sqlstate);
        let text = match code {
            Code::RowRefused => self.refusal(),
            _ => format!("{} ({})", one_line(&self.message), self.sqlstate),
        };
        let error = Error::new(code, text).by_constraint(self.constraint.filter(|_| code == Code::RowRefused));
        match hint_of(&self.sqlstate, &self.message) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn refusal(&self) -> String {
        let what = match self.sqlstate.as_str() {
            "22001" => "a text is too long for its column",
            "22003" => "a number is out of its column's range",
            "22007" | "22008" => "a date or time is out of range",
            "22021" => "a text has a character that the server's encoding lacks",
            "22P02" => "a value is none of its column's type",
            "22P05" | "22030" | "22032" => "a document that the server cannot store",
            "23502" => "a null in a column that forbids it",
            "23503" => "a foreign key",
            "23505" => "a unique constraint",
            "23514" => "a check constraint",
            "23P01" => "an exclusion constraint",
            _ => "the server refuses the row",
        };
        let mut text = what.to_string();
        if let Some(constraint) = &self.constraint {
            text.push_str(&format!(" {constraint:?}"));
        }
        if let Some(column) = &self.column {
            text.push_str(&format!(" (column {column:?})"));
        }
        if let Some(table) = &self.table {
            text.push_str(&format!(" of table {table:?}"));
        }
        format!("{text} ({})", self.sqlstate)
    }
}

/// The class of an SQLSTATE.
pub(crate) fn code_of(sqlstate: &str) -> Code {
    match sqlstate {
        // 25P03, 57P05: our own idle time-outs, by which a dead host's session ends.
        "57P01" | "57P02" | "57P05" | "25P03" | "40003" => Code::ConnectionLost,
        "40001" | "40P01" | "55P03" | "55006" | "57014" => Code::Contention,
        // 25006: the server has become a standby, or is set read only while it is worked on.
        "57P03" | "25006" => Code::ServerBusy,
        "3D000" => Code::LoginRefused,
        "42501" => Code::PrivilegeMissing,
        "3F000" | "42P01" | "42704" => Code::NotSetUp,
        "55000" | "0A000" => Code::SettingWrong,
        // A trigger that fires always; a column that only the server may write.
        "P0001" | "428C9" => Code::RowRefused,
        _ => match sqlstate.get(..2) {
            Some("08") => Code::ConnectionLost,
            Some("53" | "58") => Code::ServerBusy,
            Some("28") => Code::LoginRefused,
            Some("22" | "23") => Code::RowRefused,
            Some("40") => Code::Contention,
            _ => Code::Internal,
        },
    }
}

fn hint_of(sqlstate: &str, message: &str) -> Option<&'static str> {
    Some(match sqlstate {
        "28000" => hint_of_refusal(message),
        "28P01" => "check the user and the password, and whether the role is still there and valid",
        "3D000" => "check the database's name in the url",
        "42501" => "`pontoon setup --print-sql` prints the grants that are needed",
        "3F000" | "42P01" | "42704" => "run `pontoon setup`; it is safe to repeat",
        "53300" => "raise max_connections, or give the bridge's user a reserved connection",
        "53400" => "raise max_replication_slots and max_wal_senders",
        "25006" => "is this server a standby, or default_transaction_read_only set?",
        _ => return None,
    })
}

/// One SQLSTATE stands for every refusal but that of a password. The messages are the server's
/// (`src/backend/libpq/auth.c`, `src/backend/utils/init/postinit.c`); in another language the last hint is given.
fn hint_of_refusal(message: &str) -> &'static str {
    match message {
        // `connection requires a valid client certificate`, `certificate authentication failed for user ...`
        _ if message.contains("certificate") => {
            "sslcert and sslkey name the files of a client certificate; it has to be issued for this user, or pg_ident.conf to map it"
        }
        _ if message.contains("no encryption") => {
            "pg_hba.conf may let this user in by TLS alone: sslmode=require, or verify-full"
        }
        _ if message.contains("not permitted to log in") => "ALTER ROLE ... LOGIN lets the role in again",
        _ => "pg_hba.conf has to let this user in from this host",
    }
}

/// [`of_statement`], for `map_err`.
pub(crate) fn failed(error: tokio_postgres::Error) -> Error {
    of_statement(&error)
}

/// An error of a statement.
pub(crate) fn of_statement(error: &tokio_postgres::Error) -> Error {
    if let Some(report) = error.as_db_error() {
        return Report::from_driver(report).into_error();
    }
    if let Some(refusal) = cause_in(error) {
        return explain(refusal, None, &POSTGRES);
    }
    let text = chain(error);
    if error.is_closed() || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>()) {
        return Error::new(Code::ConnectionLost, text);
    }
    Error::new(Code::Protocol, text)
}

/// The SQLSTATE and the constraint's name, where the server gave them.
pub(crate) fn sqlstate(error: &tokio_postgres::Error) -> Option<(&str, Option<&str>)> {
    error.as_db_error().map(|report| (report.code().code(), report.constraint()))
}

/// An error of a socket that was connected.
pub(crate) fn of_socket(error: &std::io::Error) -> Error {
    if let Some(refusal) = cause_in(error) {
        return explain(refusal, None, &POSTGRES);
    }
    match error.kind() {
        std::io::ErrorKind::InvalidData => Error::new(Code::Protocol, error.to_string()),
        _ => Error::new(Code::ConnectionLost, error.to_string()),
    }
}

/// Bytes that are not what the protocol says.
pub(crate) fn protocol(text: impl Into<String>) -> Error {
    Error::new(Code::Protocol, text)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    one_line(&text)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use pontoon_core::Class;

    use super::*;

    #[test]
    fn each_sqlstate_has_its_class() {
        for (states, class) in [
            (
                "08000 08003 08006 08001 40001 40P01 55P03 55006 53000 53100 53200 53300 53400 57P01 57P02 57P03 57P05 25P03 58030 40003 57014",
                Class::Transient,
            ),
            ("22001 22003 22008 22P02 23502 23503 23505 23514 23P01 P0001", Class::Definite),
            ("42501 42P01 3F000 42704 0A000 XX000 42601", Class::Fatal),
        ] {
            for state in states.split(' ') {
                assert_eq!(code_of(state).class(), class, "{state}");
            }
        }
        assert_eq!(code_of("28P01"), Code::LoginRefused);
        assert_eq!(code_of("53100"), Code::ServerBusy);
        assert_eq!(code_of(""), Code::Internal);
        assert_eq!(code_of("é"), Code::Internal);
    }

    #[test]
    fn refusals_hold_no_values() {
        let report = Report {
            sqlstate: "22P02".into(),
            message: "invalid input syntax for type integer: \"secret\"".into(),
            ..Report::default()
        };
        assert!(!report.into_error().to_string().contains("secret"));
        let report = Report {
            sqlstate: "23505".into(),
            message: "duplicate key value violates unique constraint \"email\"".into(),
            table: Some("people".into()),
            constraint: Some("email".into()),
            ..Report::default()
        };
        let error = report.into_error();
        assert_eq!(error.message(), "a unique constraint \"email\" of table \"people\" (23505)");
        let (sqlstate, column) = ("23502".into(), Some("age".into()));
        let report = Report { sqlstate, column, table: Some("people".into()), ..Report::default() };
        let text = "a null in a column that forbids it (column \"age\") of table \"people\" (23502)";
        assert_eq!(report.into_error().message(), text);
    }
}
