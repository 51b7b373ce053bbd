//! Names and times of a certificate, for people to read. Nothing is verified by what is read here.
//!
//! The verifier does not give them out. They are few and at fixed places (RFC 5280, 4.1): a walk over the
//! outermost fields, in DER, whose lengths are definite.

use pontoon_core::calendar;

/// What is shown of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Who signed it.
    pub(crate) issuer: String,
    /// Whether it names itself as who signed it.
    pub(crate) self_issued: bool,
    /// When it ends, in microseconds since 1970 UTC.
    pub(crate) not_after: i64,
}

/// When a certificate (DER) ends, in seconds since 1970 UTC; `None` for what is no certificate.
pub fn expiry_seconds(der: &[u8]) -> Option<i64> {
    Certificate::read(der).map(|certificate| certificate.not_after / 1_000_000)
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `version`, which is left out where it is the first.
const VERSION: u8 = 0xa0;

/// The attributes that name someone best, the best first: common name, organisation, unit.
const NAMING: [&[u8]; 3] = [&[0x55, 0x04, 0x03], &[0x55, 0x04, 0x0a], &[0x55, 0x04, 0x0b]];

impl Certificate {
    /// Reads a certificate in DER.
    pub(crate) fn read(mut der: &[u8]) -> Option<Certificate> {
        let mut certificate = expect(&mut der, SEQUENCE)?;
        let mut fields = expect(&mut certificate, SEQUENCE)?;
        if fields.first() == Some(&VERSION) {
            take(&mut fields)?;
        }
        let _serial_number = take(&mut fields)?;
        let _algorithm = expect(&mut fields, SEQUENCE)?;
        let issuer = expect(&mut fields, SEQUENCE)?;
        let mut validity = expect(&mut fields, SEQUENCE)?;
        let subject = expect(&mut fields, SEQUENCE)?;
        let _not_before = take(&mut validity)?;
        let (kind, text) = take(&mut validity)?;
        Some(Certificate { issuer: name(issuer), self_issued: issuer == subject, not_after: time(kind, text)? })
    }
}

/// The next element: its tag and content.
fn take<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        // Four bytes of length are more than any certificate has.
        if bytes.len() > 4 {
            return None;
        }
        rest = after;
        bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    };
    let (content, after) = rest.split_at_checked(length)?;
    *input = after;
    Some((tag, content))
}

fn expect<'a>(input: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    take(input).filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
}

/// The text that names someone best.
fn name(mut sets: &[u8]) -> String {
    let mut found: [Option<String>; NAMING.len()] = Default::default();
    while let Some(mut attributes) = expect(&mut sets, SET) {
        while let Some(mut attribute) = expect(&mut attributes, SEQUENCE) {
            let kind = expect(&mut attribute, OBJECT_ID).unwrap_or_default();
            let Some(place) = NAMING.iter().position(|naming| *naming == kind) else { continue };
            if let Some((_, text)) = take(&mut attribute) {
                let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
                found[place].get_or_insert(text);
            }
        }
    }
    found.into_iter().flatten().next().unwrap_or_else(|| "nobody".into())
}

/// Times are in UTC and have seconds (RFC 5280, 4.1.2.5); a year of two digits is of 1950 to 2049.
fn time(kind: u8, text: &[u8]) -> Option<i64> {
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match kind {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    if rest.len() != 10 {
        return None;
    }
    calendar::from_civil_parts(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn made(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn what_is_shown_is_read() {
        let der = made(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "Müller AG");
            params.distinguished_name.push(DnType::CommonName, "db.example");
            params.not_after = date_time_ymd(2031, 2, 3);
        });
        let certificate = Certificate::read(&der).unwrap();
        assert_eq!(certificate.issuer, "db.example");
        assert!(certificate.self_issued);
        assert_eq!(calendar::format_instant(certificate.not_after), "2031-02-03T00:00:00Z");
        assert_eq!(expiry_seconds(&der), Some(1_927_843_200));
        // Beyond 2049 years have four digits.
        let der = made(|params| params.not_after = date_time_ymd(2150, 1, 1));
        assert_eq!(calendar::format_instant(Certificate::read(&der).unwrap().not_after), "2150-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Certificate::read(&bytes);
        }

        #[test]
        fn a_broken_certificate_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut der = made(|_| {});
            let at = at.index(der.len());
            der[at] = byte;
            let cut = cut.index(der.len());
            let _ = Certificate::read(&der);
            let _ = Certificate::read(&der[..cut]);
        }
    }
}
