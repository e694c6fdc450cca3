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

    proptest! {
        #[test]
        fn it_is_a_quantity_at_most_a_tenth_below(bytes in 0..=u64::MAX / 4) {
            let read = parse_bytes(&roughly(bytes)).unwrap();
            // Quantities are rounded up to whole bytes, so half a byte may come on top.
            prop_assert!(read <= bytes.max(103) + 1 && bytes - read.min(bytes) <= bytes / 10 + 103);
        }
    }
}
