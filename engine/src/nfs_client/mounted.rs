//! What is mounted where: from the kernel's table, which asks no server.

use std::{fs, io, path::Path};

use super::error::{NfsError, Trying};
use crate::mountinfo::{self, Line};

/// The table of mounts.
pub(super) fn table() -> Result<Vec<Line>, NfsError> {
    let read = || -> io::Result<Vec<Line>> {
        let text = fs::read("/proc/thread-self/mountinfo")?;
        mountinfo::parse(&text).map_err(io::Error::other)
    };
    read().trying(|| "read the table of mounts".to_owned())
}

/// The uppermost mount at a place, which the table lists after those that it covers.
pub(super) fn top<'a>(table: &'a [Line], at: &Path) -> Option<&'a Line> {
    table.iter().rfind(|line| line.point == at)
}

/// Whether a mount carries that export, of whatever server.
pub(super) fn carries(line: &Line, export: &str) -> bool {
    let source = line.source.to_string_lossy();
    let path = source.rsplit_once(":/").map(|(_, path)| path);
    line.fstype == "nfs4" && line.root == Path::new("/") && path == Some(export.trim_start_matches('/'))
}

/// In words.
pub(super) fn what(line: Option<&Line>) -> String {
    line.map_or("nothing is mounted there".to_owned(), |line| {
        format!("{} of {} is mounted there", line.fstype, line.source.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        mountinfo::parse(text.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn a_mount_is_known_by_its_kind_and_export() {
        let at = |kind: &str, root: &str, source: &str| {
            line(&format!("36 35 0:52 {root} /shared/x rw - {kind} {source} rw,vers=4.2\n"))
        };
        assert!(carries(&at("nfs4", "/", "10.0.0.1:/pvc-1"), "/pvc-1"));
        assert!(carries(&at("nfs4", "/", "[fd00::1]:/pvc-1"), "/pvc-1"));
        for other in [
            at("nfs4", "/", "10.0.0.1:/pvc-2"),
            at("nfs4", "/sub", "10.0.0.1:/pvc-1"),
            at("ext4", "/", "10.0.0.1:/pvc-1"),
            at("nfs4", "/", "10.0.0.1:/x/pvc-1"),
        ] {
            assert!(!carries(&other, "/pvc-1"), "{other:?}");
        }
        assert_eq!(what(None), "nothing is mounted there");
    }

    #[test]
    fn what_was_mounted_last_at_a_place_is_uppermost() {
        let table = [
            line("36 35 0:52 / /shared/x rw - nfs4 a:/1 rw\n"),
            line("37 36 0:53 / /shared/x rw - nfs4 a:/2 rw\n"),
        ];
        assert_eq!(top(&table, Path::new("/shared/x")).unwrap().id, 37);
        assert!(top(&table, Path::new("/shared")).is_none());
    }
}
