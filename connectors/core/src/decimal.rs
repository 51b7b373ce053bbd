//! Canonical text of an exact number: no exponent, no leading or trailing zeros, no `-0`.
//!
//! Equality of canonical texts is equality of numbers: `1.50`, `01.5` and `15e-1` are all `1.5`.

use std::cmp::Ordering;

/// Digits that a canonical text may have; PostgreSQL's numeric ends at 131,072 before the point
/// and 16,383 after it, and an exponent beyond that is no number of either database.
const DIGITS_MAX: i64 = 150_000;

/// The canonical text of a decimal literal; `None` for what is not one (NaN, infinity, rubbish).
pub fn canonical(text: &str) -> Option<String> {
    plain_part(text).map(str::to_owned).or_else(|| Some(Parts::of(text)?.plain()))
}

/// Whether a text is canonical as it is.
pub fn is_canonical(text: &str) -> bool {
    plain_part(text) == Some(text)
}

/// The text without zeros after its last digit, where that is all that is in the way, as it is with nearly every
/// number that a server writes.
fn plain_part(text: &str) -> Option<&str> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    let zeros = fraction.len() - fraction.trim_end_matches('0').len();
    let plain = match unsigned.len() - whole.len() {
        0 => text,
        _ if zeros == fraction.len() => &text[..text.len() - zeros - 1],
        _ => &text[..text.len() - zeros],
    };
    (plain != "-0" && plain.len() as i64 <= DIGITS_MAX).then_some(plain)
}

/// The digits after the point of a canonical text.
pub fn scale(canonical: &str) -> usize {
    canonical.split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

/// The digits before the point of a canonical text, a lone zero not counted.
pub fn integer_digits(canonical: &str) -> usize {
    let whole = canonical.split_once('.').map_or(canonical, |(whole, _)| whole);
    let whole = whole.trim_start_matches('-');
    if whole == "0" { 0 } else { whole.len() }
}

/// The sum of two canonical texts, exactly; `None` where one is none.
pub fn sum(a: &str, b: &str) -> Option<String> {
    let (a, b) = (Parts::of(a)?, Parts::of(b)?);
    let exponent = a.exponent.min(b.exponent);
    let (left, right) = (a.magnitude(exponent)?, b.magnitude(exponent)?);
    let (negative, digits) = if a.negative == b.negative {
        (a.negative, added(&left, &right))
    } else if compared(&left, &right).is_lt() {
        (b.negative, subtracted(&right, &left))
    } else {
        (a.negative, subtracted(&left, &right))
    };
    let digits: String = digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect();
    canonical(&format!("{}{digits}e{exponent}", if negative { "-" } else { "" }))
}

/// A canonical text with the other sign.
pub fn negated(canonical: &str) -> String {
    match canonical.strip_prefix('-') {
        Some(positive) => positive.to_owned(),
        None if canonical == "0" => canonical.to_owned(),
        None => format!("-{canonical}"),
    }
}

/// Which of two canonical texts is the greater number; `None` where one is none.
pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    let difference = sum(a, &negated(b))?;
    Some(match difference.as_str() {
        "0" => Ordering::Equal,
        less if less.starts_with('-') => Ordering::Less,
        _ => Ordering::Greater,
    })
}

/// Digits are the least significant first.
fn compared(a: &[u8], b: &[u8]) -> Ordering {
    let length = |digits: &[u8]| digits.iter().rposition(|digit| *digit != 0).map_or(0, |at| at + 1);
    let (a, b) = (&a[..length(a)], &b[..length(b)]);
    a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()))
}

fn added(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let mut digits: Vec<u8> = (0..a.len().max(b.len()))
        .map(|at| {
            let digit = a.get(at).unwrap_or(&0) + b.get(at).unwrap_or(&0) + carry;
            carry = digit / 10;
            digit % 10
        })
        .collect();
    digits.push(carry);
    digits
}

/// Of a number that is no greater.
fn subtracted(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    a.iter()
        .enumerate()
        .map(|(at, digit)| {
            let less = b.get(at).unwrap_or(&0) + borrow;
            borrow = u8::from(*digit < less);
            digit + 10 * borrow - less
        })
        .collect()
}

/// A number as sign, digits without zeros at either end, and the power of ten of the last digit.
pub(crate) struct Parts {
    pub(crate) negative: bool,
    pub(crate) digits: String,
    pub(crate) exponent: i64,
}

impl Parts {
    pub(crate) fn of(text: &str) -> Option<Parts> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let mut exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let trimmed = all.trim_start_matches('0');
        let digits = trimmed.trim_end_matches('0');
        exponent = exponent.checked_add(i64::try_from(trimmed.len() - digits.len()).ok()?)?;
        if digits.is_empty() {
            return Some(Parts { negative: false, digits: "0".into(), exponent: 0 });
        }
        (exponent.abs() <= DIGITS_MAX).then(|| Parts { negative, digits: digits.into(), exponent })
    }

    /// The digits as a multiple of ten to the `exponent`, which is no greater than the number's own, the least
    /// significant first.
    fn magnitude(&self, exponent: i64) -> Option<Vec<u8>> {
        let zeros = usize::try_from(self.exponent.checked_sub(exponent)?).ok()?;
        let digits = self.digits.bytes().rev().map(|digit| digit - b'0');
        Some(std::iter::repeat_n(0, zeros).chain(digits).collect())
    }

    pub(crate) fn plain(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let count = self.digits.len() as i64;
        if self.digits == "0" {
            "0".into()
        } else if self.exponent >= 0 {
            format!("{sign}{}{}", self.digits, "0".repeat(self.exponent as usize))
        } else if -self.exponent < count {
            let (whole, fraction) = self.digits.split_at((count + self.exponent) as usize);
            format!("{sign}{whole}.{fraction}")
        } else {
            format!("{sign}0.{}{}", "0".repeat((-self.exponent - count) as usize), self.digits)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_number_has_one_text() {
        for text in ["1.50", "01.5", "+1.5", "15e-1", "0.15E1", "1.5000"] {
            assert_eq!(canonical(text).as_deref(), Some("1.5"), "{text}");
        }
        assert_eq!(canonical("-0.00").as_deref(), Some("0"));
        assert_eq!(canonical("1e3").as_deref(), Some("1000"));
        assert_eq!(canonical(".05").as_deref(), Some("0.05"));
        assert_eq!(canonical("5.").as_deref(), Some("5"));
        for text in ["NaN", "Infinity", "", "-", ".", "1e", "1.2.3", "0x10", "1e999999999999", "é"] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_of_any_length_are_added() {
        let nines = "9".repeat(100);
        assert_eq!(sum(&nines, "0.01").unwrap(), format!("{nines}.01"));
        assert_eq!(sum(&nines, "1").unwrap(), format!("1{}", "0".repeat(100)));
        assert_eq!(sum("1000", "-999.5").unwrap(), "0.5");
        assert_eq!(sum("0.3", "-0.3").unwrap(), "0");
        assert_eq!(sum("NaN", "1"), None);
        assert_eq!(compare("10", "9.5"), Some(Ordering::Greater));
        assert_eq!(compare("-10", "9"), Some(Ordering::Less));
    }

    proptest! {
        #[test]
        fn canonical_is_a_fixed_point(text in "[-+]?[0-9]{0,30}(\\.[0-9]{0,30})?(e[-+]?[0-9]{1,3})?") {
            if let Some(once) = canonical(&text) {
                prop_assert_eq!(canonical(&once).unwrap(), once);
            }
        }

        #[test]
        fn what_is_only_cut_is_what_is_made_anew(text in "-?[0-9]{0,6}(\\.[0-9]{0,6})?") {
            prop_assert_eq!(canonical(&text), Parts::of(&text).map(|parts| parts.plain()));
            if let Some(plain) = canonical(&text) {
                prop_assert!(is_canonical(&plain));
            }
        }

        #[test]
        fn sums_are_exact(a in -10_000_000_i64..10_000_000, b in -10_000_000_i64..10_000_000, scale in 0usize..9) {
            let text = |n: i64| canonical(&format!("{n}e-{scale}")).unwrap();
            prop_assert_eq!(sum(&text(a), &text(b)).unwrap(), text(a + b));
            prop_assert_eq!(compare(&text(a), &text(b)).unwrap(), a.cmp(&b));
        }

        #[test]
        fn integers_keep_their_text(n in any::<i128>()) {
            prop_assert_eq!(canonical(&n.to_string()).unwrap(), n.to_string());
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,30}") {
            let _ = canonical(&text);
        }
    }
}
