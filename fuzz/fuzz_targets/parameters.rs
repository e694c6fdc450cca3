//! Parameters of StorageClasses.
#![no_main]
#![allow(dead_code)]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;

// The parser is no part of its crate's interface, and needs one type of another.
extern crate self as tierce_crds;
#[path = "../../controller/src/storage_class/parameters.rs"]
mod parameters;
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimReference {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

fuzz_target!(|input: (BTreeMap<String, String>, String)| {
    let (map, name) = input;
    match parameters::Parameters::parse(&map) {
        Ok(parsed) => {
            assert!(map.len() <= 5, "a parameter that nobody knows was accepted: {map:?}");
            if let Some(claim) = parsed.claim(&name) {
                assert_eq!(name, format!("pvc-{}", claim.uid));
            }
        }
        Err(error) => assert!(!map.is_empty(), "nothing is wrong with nothing: {error}"),
    }
});
