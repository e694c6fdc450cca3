//! Bytes that are all zero.

/// What is compared at a time: whole blocks are compared by `memcmp`, single bytes one by one where nothing is optimised.
const BLOCK: [u8; 4096] = [0; 4096];

/// Whether all of these bytes are zero; none are.
#[must_use]
pub fn are_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(BLOCK.len()).all(|chunk| chunk == &BLOCK[..chunk.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_is_seen() {
        for length in [0, 1, 4095, 4096, 4097, 8192, 10_000] {
            let mut bytes = vec![0; length];
            assert!(are_zeros(&bytes), "{length}");
            for at in [0, length / 2, 4095, 4096, length.saturating_sub(1)] {
                let Some(byte) = bytes.get_mut(at) else { continue };
                *byte = 0x80;
                assert!(!are_zeros(&bytes), "{at} of {length}");
                bytes[at] = 0;
            }
        }
    }
}
