//! Secrets and marks that nobody can guess.

use std::fs::File;
use std::io::Read as _;

use anyhow::Result;

use crate::cache;

/// 128 random bits in hexadecimal.
pub fn token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(cache::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ() {
        assert_ne!(token().unwrap(), token().unwrap());
    }
}
