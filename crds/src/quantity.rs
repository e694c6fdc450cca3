//! Kubernetes quantities as bytes (`k8s.io/apimachinery/pkg/api/resource`).

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use std::fmt;
use thiserror::Error;

/// Sizes of volumes are whole multiples of so many bytes.
pub const SIZE_STEP: u64 = 1 << 20;

/// What a volume has that was asked for with so many bytes: as many, rounded up to a whole [`SIZE_STEP`].
pub const fn size_made_of(bytes: u64) -> u64 {
    bytes.div_ceil(SIZE_STEP).saturating_mul(SIZE_STEP)
}

/// Why a text is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseQuantityError {
    /// Not `<number><unit>` with a unit that Kubernetes knows.
    #[error(
        "{0:?} is not a quantity: write a number and one of Ki, Mi, Gi, Ti, Pi, Ei, k, M, G, T, P, E, for example 10Gi"
    )]
    Malformed(String),
    /// Below zero.
    #[error("{0:?} is negative")]
    Negative(String),
    /// More than 2^63-1 bytes, the most that CSI can carry.
    #[error("{0:?} is above 8Ei")]
    TooLarge(String),
}

/// As Kubernetes writes quantities into its schemas: text, or a whole number. A rule on it reads it with `string(self)`.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true, "maxLength": 32})
}

/// Reads text, or a bare number of bytes, and keeps it as text.
pub(crate) fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Quantity;

    impl Visitor<'_> for Quantity {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a quantity of bytes, as text or as a whole number")
        }

        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_string<E>(self, text: String) -> Result<String, E> {
            Ok(text)
        }

        fn visit_u64<E>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_i64<E>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }

    deserializer.deserialize_any(Quantity)
}

/// The same of one that may be left out.
pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Given(String);

    impl<'de> Deserialize<'de> for Given {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            text_or_number(deserializer).map(Self)
        }
    }

    Ok(Option::<Given>::deserialize(deserializer)?.map(|Given(text)| text))
}

const UNITS: [(&str, u128, i32); 15] = [
    ("Ki", 1 << 10, 0),
    ("Mi", 1 << 20, 0),
    ("Gi", 1 << 30, 0),
    ("Ti", 1 << 40, 0),
    ("Pi", 1 << 50, 0),
    ("Ei", 1 << 60, 0),
    ("n", 1, -9),
    ("u", 1, -6),
    ("m", 1, -3),
    ("k", 1, 3),
    ("M", 1, 6),
    ("G", 1, 9),
    ("T", 1, 12),
    ("P", 1, 15),
    ("E", 1, 18),
];

/// Bytes of a quantity, rounded up to a whole byte as Kubernetes does.
pub fn parse_bytes(text: &str) -> Result<u64, ParseQuantityError> {
    let malformed = || ParseQuantityError::Malformed(text.to_owned());
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Some(rest) = unsigned.strip_prefix('-') {
        return match parse_bytes(rest) {
            Ok(0) => Ok(0),
            Ok(_) => Err(ParseQuantityError::Negative(text.to_owned())),
            Err(_) => Err(malformed()),
        };
    }
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (multiplier, exponent) = match suffix {
        "" => (1, 0),
        unit if UNITS.iter().any(|(name, ..)| *name == unit) => UNITS
            .iter()
            .find_map(|(name, factor, power)| (*name == unit).then_some((*factor, *power)))
            .ok_or_else(malformed)?,
        // A decimal exponent: `1e9`, `1E9`.
        other => (1, other.strip_prefix(['e', 'E']).and_then(|e| e.parse().ok()).ok_or_else(malformed)?),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
        return Err(malformed());
    }
    let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| malformed())?;
    let shift = exponent - i32::try_from(fraction.len()).map_err(|_| malformed())?;
    scale(digits, multiplier, shift)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| ParseQuantityError::TooLarge(text.to_owned()))
}

/// `digits * multiplier * 10^shift`, rounded up; `None` when it does not fit.
fn scale(digits: u128, multiplier: u128, shift: i32) -> Option<u64> {
    let product = digits.checked_mul(multiplier)?;
    if product == 0 {
        return Some(0);
    }
    let power = 10u128.checked_pow(shift.unsigned_abs());
    let bytes = match (shift >= 0, power) {
        (true, Some(power)) => product.checked_mul(power)?,
        (true, None) => return None,
        (false, Some(power)) => product.div_ceil(power),
        (false, None) => 1,
    };
    u64::try_from(bytes).ok()
}

const BINARY_UNITS: [(&str, u32); 5] = [("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];

/// Bytes as a quantity: in the largest binary unit of which they are a whole number, or a whole number and a half (`7.5Gi`); else plain bytes.
/// [`parse_bytes`] reads it back.
pub fn format_bytes(bytes: u64) -> String {
    for (unit, shift) in BINARY_UNITS {
        let (whole, rest) = (bytes >> shift, bytes & ((1 << shift) - 1));
        if whole > 0 && rest == 0 {
            return format!("{whole}{unit}");
        }
        if whole > 0 && rest == 1 << (shift - 1) {
            return format!("{whole}.5{unit}");
        }
    }
    bytes.to_string()
}

/// Bytes for people, as a quantity that does not change with every megabyte: rounded down to a tenth of the largest binary unit that they
/// reach (`7.5Gi`, `300Mi`, `0`).
pub fn roughly(bytes: u64) -> String {
    if bytes == 0 {
        return "0".to_owned();
    }
    let (unit, shift) = BINARY_UNITS.into_iter().find(|(_, shift)| bytes >> shift > 0).unwrap_or(("Ki", 10));
    let tenths = (u128::from(bytes) * 10) >> shift;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}{unit}"),
        (whole, tenth) => format!("{whole}.{tenth}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("10Gi", 10 << 30),
            ("1.5Gi", 3 << 29),
            (".5Ki", 512),
            ("5.", 5),
            ("1k", 1000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("100m", 1),
            ("1500m", 2),
            ("1n", 1),
            ("-0", 0),
            ("+1Ki", 1024),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_says_so() {
        for text in ["", "Gi", "10Gb", "10 Gi", "1..5", "1.2.3Gi", "0x10", "1eX", "ten", "--1", "-x", "."] {
            assert_eq!(parse_bytes(text), Err(ParseQuantityError::Malformed(text.into())), "{text}");
        }
        assert_eq!(parse_bytes("-1Gi"), Err(ParseQuantityError::Negative("-1Gi".into())));
        for text in ["8Ei", "9223372036854775808", "1e30", "1e-2147483648"] {
            assert!(parse_bytes(text).is_err() || text == "1e-2147483648", "{text}");
        }
    }

    #[test]
    fn sizes_read_well() {
        for (bytes, exactly, about) in [
            (0, "0", "0"),
            (512, "512", "0.5Ki"),
            (1536, "1.5Ki", "1.5Ki"),
            (1 << 20, "1Mi", "1Mi"),
            ((7 << 30) + (1 << 29), "7.5Gi", "7.5Gi"),
            ((7 << 30) + (1 << 20), "7169Mi", "7Gi"),
            ((1 << 40) - 1, "1099511627775", "1023.9Gi"),
            (3 << 50, "3Pi", "3Pi"),
        ] {
            assert_eq!((format_bytes(bytes).as_str(), roughly(bytes).as_str()), (exactly, about));
        }
    }

    proptest! {
        #[test]
        fn a_rough_size_is_a_quantity_at_most_a_tenth_below(bytes in 0..=u64::MAX / 4) {
            let read = parse_bytes(&roughly(bytes)).unwrap();
            // Quantities are rounded up to whole bytes, so half a byte may come on top.
            prop_assert!(read <= bytes.max(103) + 1 && bytes - read.min(bytes) <= bytes / 10 + 103);
        }

        #[test]
        fn formatting_and_parsing_are_inverse(bytes in 0..=u64::try_from(i64::MAX).unwrap()) {
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = parse_bytes(&text);
        }

        #[test]
        fn nothing_that_looks_like_a_quantity_makes_it_panic(text in "[-+]?[0-9.]{0,32}[a-zA-Z]{0,2}[-0-9]{0,11}") {
            let _ = parse_bytes(&text);
        }
    }
}
