//! Sizes that users write.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../crds/src/quantity.rs"]
mod quantity;

fuzz_target!(|text: &str| {
    if let Ok(bytes) = quantity::parse_bytes(text) {
        let again = quantity::parse_bytes(&quantity::format_bytes(bytes));
        assert_eq!(again.ok(), Some(bytes), "{text:?}");
    }
});
