//! Sizes: a limit is written and read as Kubernetes has it (`10Gi`, `500M`), bytes used are shown as Docker shows them (`256.5MB`).

use tierce_crds::{format_bytes, parse_bytes};

/// The allowed form, for messages.
pub(crate) const FORM: &str = "a number and a unit: Ki, Mi, Gi, Ti (1024s) or k, M, G, T (1000s), for example 10Gi; or whole bytes without one";

/// In the order in which a limit is shown by them.
const DECIMAL_UNITS: [(&str, u64); 4] =
    [("T", 1_000_000_000_000), ("G", 1_000_000_000), ("M", 1_000_000), ("k", 1000)];

/// Bytes of a limit. A bare number is of bytes, as on a cluster; whoever means gibibytes by `10` is told that it is too little. Docker's units
/// (`64m`, `64MB`) are refused: it reads them as 1024s here and as 1000s there, and to Kubernetes `64m` is less than a byte.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (first, unit) =
        (text.chars().next()?, text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'));
    let known = unit.is_empty() && !text.contains('.')
        || ["Pi", "Ti", "Gi", "Mi", "Ki"].contains(&unit)
        || DECIMAL_UNITS.iter().any(|(name, _)| *name == unit);
    let bytes = parse_bytes(text).ok()?;
    (first.is_ascii_digit() && known && bytes > 0).then_some(bytes)
}

/// A limit in the largest unit that says it exactly, so that what is shown can be typed again.
pub(crate) fn limit(bytes: u64) -> String {
    match DECIMAL_UNITS.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) if !bytes.is_multiple_of(1024) => format!("{}{unit}", bytes / factor),
        _ => format_bytes(bytes),
    }
}

/// Bytes used, in four digits and decimal units as Docker writes them.
pub(crate) fn used(bytes: u64) -> String {
    const NAMES: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    // Four significant digits by whole numbers: a float would need a lossy cast.
    let mut exponent = usize::try_from(bytes.ilog10() / 3).unwrap_or(0);
    let mut unit = 1000_u64.pow(u32::try_from(exponent).unwrap_or(0));
    let decimals = |bytes: u64, unit: u64| match bytes / unit {
        0..=9 => 3_u32,
        10..=99 => 2,
        _ => 1,
    };
    let rounded = |bytes: u64, unit: u64| {
        let scale = 10_u128.pow(decimals(bytes, unit));
        ((u128::from(bytes) * scale + u128::from(unit) / 2) / u128::from(unit), scale)
    };
    let (mut value, mut scale) = rounded(bytes, unit);
    if value / scale >= 1000 && exponent + 1 < NAMES.len() {
        exponent += 1;
        unit = unit.saturating_mul(1000);
        (value, scale) = rounded(bytes, unit);
        if value == 0 {
            (value, scale) = (1, 1);
        }
    }
    let width = scale.ilog10() as usize;
    let text =
        if width == 0 { value.to_string() } else { format!("{}.{:0width$}", value / scale, value % scale) };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", NAMES[exponent])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_have_a_unit_or_are_whole_bytes() {
        for (text, bytes) in [
            ("10Gi", 10 << 30),
            ("1Ki", 1024),
            ("500M", 500_000_000),
            ("2T", 2_000_000_000_000),
            ("1.5Gi", 3 << 29),
            ("1073741824", 1 << 30),
            ("10", 10),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for bad in [
            "",
            "0",
            "10.5",
            "10GB",
            "64m",
            "64MB",
            "1e3",
            "-1",
            "0Gi",
            "1.5.2Gi",
            ".5Gi",
            "10Ei",
            "Gi",
            " 1Gi",
            "1 Gi",
            "10gi",
            "99999999999Ti",
            "+1Gi",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn bytes_used_read_as_docker_writes_them() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_048_576, "1.049MB"),
            (256_500_000, "256.5MB"),
            (999_960, "1MB"),
            (12_345_678, "12.35MB"),
            (5_000_000_000, "5GB"),
        ] {
            assert_eq!(used(bytes), text, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn a_limit_shown_can_be_typed_again(number in 1_u64..1 << 13, unit in 0_usize..9) {
            let (text, bytes) = [("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)]
                .map(|(name, shift)| (name, 1 << shift))
                .into_iter()
                .chain(DECIMAL_UNITS)
                .nth(unit)
                .map(|(name, factor)| (format!("{number}{name}"), number * factor))
                .unwrap();
            prop_assert_eq!(parse(&text), Some(bytes));
            prop_assert_eq!(parse(&limit(bytes)), Some(bytes));
        }

        #[test]
        fn what_a_disk_has_roughly_can_be_typed_as_a_limit(bytes in 1024_u64..1 << 60) {
            let typed = parse(&tierce_crds::roughly(bytes));
            prop_assert!(typed.is_some_and(|typed| typed <= bytes + 1), "{typed:?}");
        }

        #[test]
        fn any_limit_that_is_shown_can_be_typed_again(bytes in 1_u64..1 << 60) {
            prop_assert_eq!(parse(&limit(bytes)), Some(bytes));
        }

        #[test]
        fn any_amount_has_a_short_text(bytes in any::<u64>()) {
            prop_assert!(used(bytes).len() <= 8, "{}", used(bytes));
        }
    }
}
