//! Figures that stay the same for long.

/// Bytes rounded down to the first digit of their binary unit: of 7.5Gi `7Gi`, of 1023Gi `1000Gi`.
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
    use tierce_crds::roughly;

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
    }
}
