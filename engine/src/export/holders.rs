//! Which clients hold what open, as the kernel tells it in `clients/<number>/{info,states}`.

use std::net::{IpAddr, SocketAddr};

use crate::DeviceNumber;

/// What a client holds of one filesystem.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Open files and locks.
    pub(super) files: usize,
    /// The rest: what it keeps in memory, which the server calls back when somebody else wants it.
    pub(super) kept: usize,
}

impl Held {
    pub(super) fn anything(self) -> bool {
        self.files + self.kept > 0
    }
}

/// Whose client that is.
pub(super) fn address(info: &str) -> Option<IpAddr> {
    let text = info.lines().find_map(|line| line.strip_prefix("address: "))?;
    let address: SocketAddr = text.trim().trim_matches('"').parse().ok()?;
    Some(address.ip().to_canonical())
}

/// Whether it holds what it did not give back in time when it was called back. Nobody tells of which filesystem that was, which stays busy
/// until the client has taken note (Linux 7.2).
pub(super) fn has_lost(states: &str) -> bool {
    let lost = |line: &str| line.contains("type: deleg") && !line.contains("superblock: ");
    states.lines().any(|line| lost(line) && !line.contains("admin-revoked"))
}

/// What it holds of the filesystem on a device. What was revoked is still told, and holds nothing.
pub(super) fn held(states: &str, device: DeviceNumber) -> Held {
    let there = format!("superblock: \"{:02x}:{:02x}:", device.major, device.minor);
    let mut held = Held::default();
    for line in states.lines().filter(|line| line.contains(&there) && !line.contains("admin-revoked")) {
        if line.contains("type: deleg") || line.contains("type: layout") {
            held.kept += 1;
        } else {
            held.files += 1;
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: &str = concat!(
        "- 0x01: { type: open, access: rw, deny: --, superblock: \"fe:0a:13\", filename: \"dir/a\", owner: \"open id:x\" }\n",
        "- 0x02: { type: lock, superblock: \"fe:0a:13\", filename: \"dir/a\", owner: \"lock id:x\" }\n",
        "- 0x03: { type: deleg, access: r, superblock: \"fe:0a:14\", filename: \"dir/b\" }\n",
        "- 0x04: { type: open, access: rw, deny: --, superblock: \"fe:0b:13\", filename: \"c\", owner: \"open id:x\" }\n",
        "- 0x05: { type: open, access: rw, deny: --, superblock: \"fe:0a:15\", filename: \"d\", admin-revoked }\n",
    );

    #[test]
    fn what_a_client_holds_is_told_by_filesystem() {
        let on = |minor| held(STATES, DeviceNumber { major: 254, minor });
        assert_eq!(on(10), Held { files: 2, kept: 1 });
        assert_eq!(on(11), Held { files: 1, kept: 0 });
        assert_eq!(on(1), Held::default());
    }

    #[test]
    fn what_was_not_given_back_in_time_is_told_without_its_filesystem() {
        assert!(!has_lost(STATES));
        assert!(has_lost("- 0x06: { type: deleg, access: wa }\n"));
        assert!(!has_lost("- 0x06: { type: deleg, access: wa, admin-revoked }\n"));
    }

    #[test]
    fn a_client_is_known_by_its_address() {
        for (line, expected) in [
            ("address: \"10.0.0.2:876\"", Some("10.0.0.2")),
            ("address: \"[fd00::3]:876\"", Some("fd00::3")),
            ("address: \"[::ffff:10.0.0.2]:876\"", Some("10.0.0.2")),
            ("address: \"nonsense\"", None),
        ] {
            let info = format!("clientid: 0x1\n{line}\nstatus: confirmed\n");
            assert_eq!(address(&info), expected.map(|text| text.parse().unwrap()), "{line}");
        }
        assert_eq!(address(""), None);
    }
}
