//! A refusal in words: one line that says what is wrong, and the remedy.
//!
//! The words of a certificate come from whoever answered, who may be anybody: they are shown without control
//! characters, and short.

use std::io;

use pontoon_core::{Code, Error, calendar};
use rustls::{AlertDescription, CertificateError, Error as Refusal, PeerIncompatible, pki_types::UnixTime};

use crate::{options::Words, x509::Certificate};

/// Names that are told of a certificate that is for others; one may be for hundreds.
const NAMES_MAX: usize = 5;

/// Characters of a name that are told.
const NAME_MAX: usize = 80;

/// The refusal in an error of a connection, however the driver wraps it.
pub fn cause_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Refusal> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref() {
            return Some(refusal);
        }
        next = match error.downcast_ref::<io::Error>() {
            // The source of an I/O error is that of the error within, not the error within.
            Some(outer) => outer.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Says what a refusal means. `shown` is the server's certificate (DER), where it is known.
pub fn explain(refusal: &Refusal, shown: Option<&[u8]>, words: &Words) -> Error {
    let (message, hint) = match refusal {
        Refusal::InvalidCertificate(reason) => certificate(reason, shown.and_then(Certificate::read).as_ref(), words),
        Refusal::AlertReceived(alert) => alert_of(*alert, words),
        Refusal::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => too_old(),
        Refusal::InvalidMessage(_) | Refusal::InappropriateMessage { .. } => (
            "what answered does not speak TLS".into(),
            "does the url's port belong to the database server, or to something in between?".into(),
        ),
        other => (one_line(&format!("the TLS handshake failed: {other}")), "the server's log may say more".into()),
    };
    Error::new(Code::TlsFailed, message).hint(hint)
}

/// Why the server's certificate is not accepted.
fn certificate(reason: &CertificateError, shown: Option<&Certificate>, words: &Words) -> (String, String) {
    let Words { authority, .. } = words;
    match reason {
        CertificateError::ExpiredContext { time, not_after } => {
            let is_leaf = shown.is_none_or(|shown| shown.not_after == micros(*not_after));
            let whose = if is_leaf { "the server's certificate" } else { "a certificate of the server's authority" };
            (
                format!("{whose} expired on {}", instant(*not_after)),
                format!("renew it on the server; or mend this host's clock, which says {}", instant(*time)),
            )
        }
        CertificateError::NotValidYetContext { time, not_before } => (
            format!("the server's certificate is not valid before {}", instant(*not_before)),
            format!("mend the clock of this host, which says {}, or the certificate", instant(*time)),
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let told: Vec<_> = presented.iter().take(NAMES_MAX).map(|name| bare_name(name)).collect();
            let names = match (told.is_empty(), presented.len() > NAMES_MAX) {
                (true, _) => "names no host (as subjectAltName)".to_owned(),
                (false, false) => format!("is for {}", told.join(", ")),
                (false, true) => format!("is for {} and others", told.join(", ")),
            };
            (
                format!("the server's certificate {names}, not for {}", expected.to_str()),
                format!(
                    "write a host in the url that the certificate names, or have one issued for this host; {} trusts the authority alone",
                    words.setting(crate::Mode::VerifyCa)
                ),
            )
        }
        CertificateError::UnknownIssuer => match shown {
            Some(shown) if shown.self_issued => (
                format!("the server's certificate is self-signed ({}) and is not trusted here", short(&shown.issuer)),
                format!("have one issued by an authority that {authority} names; a self-signed one is none"),
            ),
            Some(shown) => (
                format!(
                    "the server's certificate is of the authority {:?}, which is not trusted here",
                    short(&shown.issuer)
                ),
                format!(
                    "name a file with that authority's certificate as {authority}; does the server send what is in between?"
                ),
            ),
            None => (
                "the server's certificate is of an authority that is not trusted here".into(),
                format!("name a file with the authority's certificate as {authority}"),
            ),
        },
        CertificateError::BadSignature => (
            "the server's certificate was not signed by the authority that it names".into(),
            format!("does {authority} hold an older certificate of that authority?"),
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => (
            "the server's certificate is not one for servers".into(),
            "have one issued with the extended key usage serverAuth".into(),
        ),
        CertificateError::Revoked => {
            ("the server's certificate is revoked".into(), "have a new one issued for the server".into())
        }
        other => {
            let text = format!("{other:?}");
            let what = match () {
                () if text.contains("CaUsedAsEndEntity") => "is an authority's own (CA:TRUE)",
                () if text.contains("UnsupportedCertVersion") => "is of X.509 version 1, which says too little",
                () => {
                    return (
                        one_line(&format!("the server's certificate cannot be verified: {}", short(&text))),
                        "have a usual one issued for the server".into(),
                    );
                }
            };
            (
                format!("the server's certificate {what}"),
                format!("have one issued for the server by an authority that {authority} names"),
            )
        }
    }
}

/// Why the server ended the handshake.
fn alert_of(alert: AlertDescription, words: &Words) -> (String, String) {
    let Words { certificate, key, .. } = words;
    match alert {
        AlertDescription::CertificateRequired => (
            "the server demands a client certificate".into(),
            format!("name the files of one as {certificate} and {key}"),
        ),
        AlertDescription::UnknownCA => (
            "the server does not know the authority of our client certificate".into(),
            format!("name one as {certificate} that the server's authority has issued, with what is in between"),
        ),
        AlertDescription::CertificateExpired => (
            "the server says that our client certificate has expired, or is not valid yet".into(),
            format!("have a new one issued and name it as {certificate}"),
        ),
        AlertDescription::CertificateRevoked => (
            "the server says that our client certificate is revoked".into(),
            format!("have a new one issued and name it as {certificate}"),
        ),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => (
            format!("the server does not accept our client certificate ({alert:?})"),
            format!("name one as {certificate} that is for clients and of the server's authority"),
        ),
        AlertDescription::ProtocolVersion => too_old(),
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => (
            "the server ended the TLS handshake: no cipher in common, or it demands a client certificate".into(),
            format!("name the files of one as {certificate} and {key}; the server's log may say more"),
        ),
        other => (format!("the server ended the TLS handshake ({other:?})"), "the server's log may say more".into()),
    }
}

fn too_old() -> (String, String) {
    (
        "the server has no TLS of version 1.2 or 1.3".into(),
        "permit one of them on the server; older ones are broken, and not spoken here".into(),
    )
}

/// An error of the socket within a handshake.
pub(crate) fn broken(error: &io::Error) -> Error {
    let message = match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the server ended the TLS handshake without a word".to_owned()
        }
        _ => one_line(&format!("the connection broke during the TLS handshake: {error}")),
    };
    Error::new(Code::TlsFailed, message).hint("the server's log may say more; it has to have TLS of version 1.2 or 1.3")
}

fn micros(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

fn instant(time: UnixTime) -> String {
    calendar::format_instant(micros(time))
}

/// Of `DnsName("db.example")` and `IpAddress(127.0.0.1)` what a person would write.
fn bare_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    short(inner.trim_matches('"'))
}

fn short(text: &str) -> String {
    one_line(text).chars().take(NAME_MAX).collect()
}

fn one_line(text: &str) -> String {
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::ServerName;

    use super::*;
    use crate::options::POSTGRES;

    fn said(refusal: &Refusal) -> (String, String) {
        let error = explain(refusal, None, &POSTGRES);
        assert_eq!(error.code(), Code::TlsFailed);
        (error.message().to_owned(), error.remedy().unwrap().to_owned())
    }

    #[test]
    fn a_refusal_is_found_however_it_is_wrapped() {
        let refusal = || Refusal::AlertReceived(AlertDescription::UnknownCA);
        let once = io::Error::new(io::ErrorKind::InvalidData, refusal());
        assert_eq!(cause_in(&once), Some(&refusal()));
        assert_eq!(cause_in(&io::Error::other(once)), Some(&refusal()));
        assert_eq!(cause_in(&io::Error::from(io::ErrorKind::TimedOut)), None);
    }

    #[test]
    fn what_a_stranger_wrote_stays_one_short_line() {
        let presented = vec![format!("DnsName(\"evil\r\nerror: {}\")", "x".repeat(500)); 100];
        let expected = ServerName::try_from("db.example").unwrap();
        let (message, _) =
            said(&Refusal::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }));
        assert!(message.len() < 600 && !message.contains(['\r', '\n']), "{message}");
        assert!(message.ends_with("and others, not for db.example"), "{message}");
    }

    #[test]
    fn each_refusal_has_its_own_words() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let mut seen = std::collections::BTreeSet::new();
        for refusal in [
            Refusal::InvalidCertificate(CertificateError::ExpiredContext { time: at(9), not_after: at(5) }),
            Refusal::InvalidCertificate(CertificateError::NotValidYetContext { time: at(5), not_before: at(9) }),
            Refusal::InvalidCertificate(CertificateError::UnknownIssuer),
            Refusal::InvalidCertificate(CertificateError::BadSignature),
            Refusal::InvalidCertificate(CertificateError::InvalidPurpose),
            Refusal::InvalidCertificate(CertificateError::Revoked),
            Refusal::InvalidCertificate(CertificateError::BadEncoding),
            Refusal::AlertReceived(AlertDescription::CertificateRequired),
            Refusal::AlertReceived(AlertDescription::UnknownCA),
            Refusal::AlertReceived(AlertDescription::CertificateExpired),
            Refusal::AlertReceived(AlertDescription::CertificateRevoked),
            Refusal::AlertReceived(AlertDescription::BadCertificate),
            Refusal::AlertReceived(AlertDescription::ProtocolVersion),
            Refusal::AlertReceived(AlertDescription::HandshakeFailure),
            Refusal::AlertReceived(AlertDescription::InternalError),
            Refusal::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
            Refusal::General("odd".into()),
        ] {
            let (message, hint) = said(&refusal);
            assert!(!message.contains('\n') && !hint.is_empty());
            assert!(seen.insert(message.clone()), "{message} twice");
        }
        assert!(seen.contains("the server's certificate expired on 1970-01-01T00:00:05Z"), "{seen:?}");
    }
}
