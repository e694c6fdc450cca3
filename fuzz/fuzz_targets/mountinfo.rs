//! The kernel's table of mounts, with paths that users have a say in.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

// The parser is no part of its crate's interface, and needs one type of it.
#[path = "../../engine/src/mount/mountinfo.rs"]
mod mountinfo;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber {
    pub major: u32,
    pub minor: u32,
}

fuzz_target!(|text: &[u8]| {
    let given = || text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    match mountinfo::parse(text) {
        Ok(lines) => {
            assert_eq!(lines.len(), given().count(), "a mount was dropped or made up");
            assert!(lines.iter().flat_map(mountinfo::Line::layers).all(|layer| !layer.as_os_str().is_empty()));
        }
        Err(line) => {
            let shown = given().any(|given| String::from_utf8_lossy(given) == line);
            assert!(shown, "the error shows a line that is not there: {line}");
        }
    }
});
