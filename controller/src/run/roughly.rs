//! Sizes for people, that do not change with every megabyte: a Kubernetes quantity, rounded down to a tenth of its unit.

/// `7.5Gi`, `300Mi`, `0`.
pub fn roughly(bytes: u64) -> String {
    let (unit, shift) = match bytes {
        0 => return "0".to_owned(),
        b if b >= 1 << 50 => ("Pi", 50),
        b if b >= 1 << 40 => ("Ti", 40),
        b if b >= 1 << 30 => ("Gi", 30),
        b if b >= 1 << 20 => ("Mi", 20),
        _ => ("Ki", 10),
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}{unit}"),
        (whole, tenth) => format!("{whole}.{tenth}{unit}"),
    }
}

/// Rounded down to the first digit of its unit, where a figure is to stay the same for long: of 7.5Gi `7Gi`, of 1023Gi `1000Gi`.
pub fn coarse(bytes: u64) -> u64 {
    let unit = [50, 40, 30, 20, 10].into_iter().find(|shift| bytes >> shift > 0).unwrap_or(0);
    let whole = bytes >> unit;
    let digit = 10_u64.pow(whole.checked_ilog10().unwrap_or(0));
    (whole / digit * digit) << unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tierce_crds::parse_bytes;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0"),
            (512, "0.5Ki"),
            (1 << 20, "1Mi"),
            ((7 << 30) + (1 << 29), "7.5Gi"),
            ((1 << 40) - 1, "1023.9Gi"),
            (3 << 50, "3Pi"),
        ] {
            assert_eq!(roughly(bytes), text);
        }
    }

    #[test]
    fn a_coarse_figure_keeps_one_digit() {
        for (bytes, figure) in [
            (0, "0"),
            (7 << 10, "7Ki"),
            (1 << 30, "1Gi"),
            ((7 << 30) + (1 << 29), "7Gi"),
            (79 << 30, "70Gi"),
            ((1 << 40) - 1, "1000Gi"),
            (u64::MAX, "10000Pi"),
        ] {
            assert_eq!(roughly(coarse(bytes)), figure);
        }
    }

    proptest! {
        #[test]
        fn a_coarse_figure_is_never_more_than_there_is(bytes in 0..=u64::MAX) {
            let figure = coarse(bytes);
            prop_assert!(figure <= bytes && bytes / 2 <= figure);
            prop_assert_eq!(coarse(figure), figure);
        }

        #[test]
        fn it_is_a_quantity_at_most_a_tenth_below(bytes in 0..=u64::MAX / 4) {
            let read = parse_bytes(&roughly(bytes)).unwrap();
            // Quantities are rounded up to whole bytes, so half a byte may come on top.
            prop_assert!(read <= bytes.max(103) + 1 && bytes - read.min(bytes) <= bytes / 10 + 103);
        }
    }
}
