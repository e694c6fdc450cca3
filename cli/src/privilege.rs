//! Whether this process is root, and whether that is root of the host: `podman unshare` and its like make any user uid 0 of a namespace.

use std::{fs, os::unix::fs::MetadataExt};

/// The map of a namespace that leaves every id as it is, as the host's own does.
const WHOLE: [&str; 3] = ["0", "0", "4294967295"];

/// Whether root's places are this process's own, and root's rights: uid 0 of the host, or of a container that has a host's folders of its own.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root() && (!is_mapped() || has_root_folder())
}

/// Whether ids here are not the host's: uid 0 may be whoever started this.
pub(crate) fn is_mapped() -> bool {
    // Who can't tell takes no rights for granted.
    fs::read_to_string("/proc/self/uid_map").map_or(true, |map| !is_whole(&map))
}

/// The first namespace of processes has this number on each host (`PROC_PID_INIT_INO`).
const ALL_PROCESSES: &str = "pid:[4026531836]";

/// Whether the kernel shows this process all that runs on the host, whoever's it is. Root of a container sees what runs in it alone.
pub(crate) fn sees_all() -> bool {
    let processes = fs::read_link("/proc/self/ns/pid");
    rustix::process::geteuid().is_root()
        && !is_mapped()
        && processes.is_ok_and(|namespace| namespace.as_os_str() == ALL_PROCESSES)
}

/// The number that this user has on the host, or on whatever this namespace of users was made in.
pub(crate) fn uid_of_host() -> u32 {
    let uid = rustix::process::geteuid().as_raw();
    outside(uid, &fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
}

fn outside(uid: u32, map: &str) -> u32 {
    let outer = |line: &str| {
        let mut numbers = line.split_whitespace().map_while(|number| number.parse::<u32>().ok());
        let (inner, outer, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        uid.checked_sub(inner).filter(|above| *above < count).and_then(|above| outer.checked_add(above))
    };
    map.lines().find_map(outer).unwrap_or(uid)
}

fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(WHOLE)
}

/// Whether `/` belongs to uid 0 as it is seen here: the host's own belongs to nobody in a user's namespace.
fn has_root_folder() -> bool {
    fs::metadata("/").is_ok_and(|folder| folder.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_a_namespace_is_found_in_its_map() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        for (uid, outer) in [(0, 1000), (1, 100_000), (65_536, 165_535), (65_537, 65_537)] {
            assert_eq!(outside(uid, map), outer);
        }
        assert_eq!(outside(7, "0 0 4294967295\n"), 7);
        assert_eq!(outside(7, ""), 7);
    }

    #[test]
    fn only_a_map_of_all_ids_to_themselves_is_the_hosts() {
        assert!(is_whole("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 1000 1\n1 100000 65536\n", "0 100000 65536\n", "0 0 1\n"] {
            assert!(!is_whole(map), "{map:?}");
        }
    }
}
