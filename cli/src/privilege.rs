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
    fn only_a_map_of_all_ids_to_themselves_is_the_hosts() {
        assert!(is_whole("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 1000 1\n1 100000 65536\n", "0 100000 65536\n", "0 0 1\n"] {
            assert!(!is_whole(map), "{map:?}");
        }
    }
}
