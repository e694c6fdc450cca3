//! What is exported to whom, and what of it changed.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::settings::{Access, Export};
use crate::VolumeId;

/// One volume of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) fsid: Uuid,
    pub(super) gid: u32,
    pub(super) clients: BTreeMap<IpAddr, Access>,
    pub(super) complete: bool,
    pub(super) open: bool,
}

/// What is exported to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// The root of what clients see, without symbolic links.
    root: PathBuf,
    volumes: BTreeMap<VolumeId, Entry>,
}

/// Who lost something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    /// The volume is exported to nobody any more, or is about to be unmounted.
    Volume(VolumeId),
    /// That client may use the volume no more.
    Client(VolumeId, IpAddr),
    /// That client may only read it now. What it has open for writing is refused with each write.
    Writing(VolumeId, IpAddr),
}

impl Table {
    pub(super) fn new(root: &Path, exports: Vec<Export>) -> Self {
        let volumes = exports.into_iter().map(|export| {
            let mut clients = BTreeMap::new();
            for (address, access) in export.clients {
                // Somebody who is named twice may do the larger of both.
                let known = clients.entry(address.to_canonical()).or_insert(access);
                *known = access.max(*known);
            }
            let Export { id, fsid, gid, complete, open, .. } = export;
            (id, Entry { fsid, gid, clients, complete, open })
        });
        Self { root: root.to_owned(), volumes: volumes.collect() }
    }

    /// Lets everybody keep what he had in the table before, where it is not known that he may not.
    pub(super) fn keep(&mut self, before: &Self) {
        for (id, entry) in self.volumes.iter_mut().filter(|(_, entry)| !entry.complete) {
            let Some(before) = before.volumes.get(id).filter(|before| before.fsid == entry.fsid) else { continue };
            for (&address, &access) in &before.clients {
                let known = entry.clients.entry(address).or_insert(access);
                *known = access.max(*known);
            }
        }
    }

    /// Whether a volume has clients of whom nothing is known.
    pub(super) fn is_unsure_of(&self, id: &VolumeId) -> bool {
        self.volumes.get(id).is_some_and(|entry| !entry.complete)
    }

    /// Whether every client of every volume is known.
    pub(super) fn is_complete(&self) -> bool {
        self.volumes.values().all(|entry| entry.complete)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn is_empty(&self) -> bool {
        self.volumes.is_empty()
    }

    pub(super) fn volumes(&self) -> &BTreeMap<VolumeId, Entry> {
        &self.volumes
    }

    pub(super) fn path(&self, id: &VolumeId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// The volume that is mounted at a path.
    pub(super) fn at(&self, path: &Path) -> Option<(&VolumeId, &Entry)> {
        let name = path.strip_prefix(&self.root).ok()?.to_str()?;
        self.volumes.iter().find(|(id, _)| id.as_str() == name)
    }

    pub(super) fn with_fsid(&self, fsid: Uuid) -> Option<(&VolumeId, &Entry)> {
        self.volumes.iter().find(|(_, entry)| entry.fsid == fsid)
    }

    /// Whether that address may mount anything.
    pub(super) fn knows(&self, address: IpAddr) -> bool {
        self.volumes.values().any(|entry| entry.clients.contains_key(&address))
    }

    /// What somebody had by this table and has no more by the next one.
    pub(super) fn losses(&self, next: &Self) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (id, before) in &self.volumes {
            // Another id of the filesystem is another volume to clients.
            let Some(after) = next.volumes.get(id).filter(|after| after.fsid == before.fsid) else {
                losses.push(Loss::Volume(id.clone()));
                continue;
            };
            if before.open && (!after.open || after.clients.is_empty()) && !before.clients.is_empty() {
                losses.push(Loss::Volume(id.clone()));
                continue;
            }
            for (&address, &access) in &before.clients {
                match after.clients.get(&address) {
                    None => losses.push(Loss::Client(id.clone(), address)),
                    Some(now) if *now < access => losses.push(Loss::Writing(id.clone(), address)),
                    Some(_) => {}
                }
            }
        }
        losses
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    pub(in super::super) fn export(id: &str, clients: &[(&str, Access)], open: bool) -> Export {
        let number = u128::from_le_bytes(*b"a volume's fsid.") + id.len() as u128;
        Export {
            id: id.parse().unwrap(),
            fsid: Uuid::from_u128(number),
            gid: 1_600_000_012,
            clients: clients.iter().map(|(text, access)| (address(text), *access)).collect(),
            complete: true,
            open,
        }
    }

    fn table(exports: &[Export]) -> Table {
        Table::new(Path::new("/exports"), exports.to_vec())
    }

    #[test]
    fn what_somebody_lost_is_named_and_what_was_gained_is_not() {
        let (id, other) = ("pvc-1", "pvc-22");
        let before = table(&[export(id, &[("10.0.0.2", Access::Write), ("10.0.0.3", Access::Read)], true)]);
        let name = || id.parse::<VolumeId>().unwrap();
        for (after, expected) in [
            (vec![], vec![Loss::Volume(name())]),
            (vec![export(id, &[], true)], vec![Loss::Volume(name())]),
            (
                vec![export(id, &[("10.0.0.2", Access::Write)], true)],
                vec![Loss::Client(name(), address("10.0.0.3"))],
            ),
            (
                vec![export(id, &[("10.0.0.2", Access::Read), ("10.0.0.3", Access::Write)], true)],
                vec![Loss::Writing(name(), address("10.0.0.2"))],
            ),
            (
                vec![
                    export(
                        id,
                        &[
                            ("10.0.0.2", Access::Write),
                            ("10.0.0.3", Access::Read),
                            ("10.0.0.4", Access::Write),
                        ],
                        true,
                    ),
                    export(other, &[("10.0.0.2", Access::Write)], true),
                ],
                vec![],
            ),
            (
                vec![export(id, &[("10.0.0.2", Access::Write), ("10.0.0.3", Access::Read)], false)],
                vec![Loss::Volume(name())],
            ),
        ] {
            assert_eq!(before.losses(&table(&after)), expected);
        }
        let closed = table(&[export(id, &[("10.0.0.2", Access::Write)], false)]);
        assert_eq!(closed.losses(&table(&[export(id, &[("10.0.0.2", Access::Write)], true)])), vec![]);
        let mut renamed = export(id, &[("10.0.0.2", Access::Write)], true);
        renamed.fsid = Uuid::nil();
        assert_eq!(closed.losses(&table(&[renamed])), vec![Loss::Volume(name())]);
    }

    #[test]
    fn whoever_may_be_one_that_nobody_knows_now_keeps_what_he_had() {
        let before = table(&[export("pvc-1", &[("10.0.0.2", Access::Write), ("10.0.0.3", Access::Write)], true)]);
        let mut unsure = export("pvc-1", &[("10.0.0.3", Access::Read)], true);
        unsure.complete = false;
        let mut after = table(&[unsure.clone()]);
        after.keep(&before);
        assert_eq!(before.losses(&after), vec![]);
        // Once all are known again, who is not among them loses it.
        let certain = table(&[export("pvc-1", &[("10.0.0.3", Access::Write)], true)]);
        let id: VolumeId = "pvc-1".parse().unwrap();
        assert_eq!(after.losses(&certain), vec![Loss::Client(id.clone(), address("10.0.0.2"))]);
        assert!(after.is_unsure_of(&id) && !certain.is_unsure_of(&id) && !after.is_complete());
        // Another volume of that name is another volume.
        let mut renamed = table(&[Export { fsid: Uuid::nil(), ..unsure }]);
        renamed.keep(&before);
        assert_eq!(renamed.volumes()[&id].clients.len(), 1);
    }

    #[test]
    fn who_is_named_twice_may_do_the_larger_of_both() {
        let table = table(&[export(
            "pvc-1",
            &[("10.0.0.2", Access::Write), ("10.0.0.2", Access::Read), ("::ffff:10.0.0.3", Access::Read)],
            true,
        )]);
        let entry = &table.volumes()[&"pvc-1".parse::<VolumeId>().unwrap()];
        assert_eq!(entry.clients[&address("10.0.0.2")], Access::Write);
        assert!(table.knows(address("10.0.0.3")), "an IPv4 address in IPv6's clothes is the same");
        assert!(!table.knows(address("10.0.0.4")));
    }

    #[test]
    fn a_path_is_a_volumes_only_right_below_the_root() {
        let table = table(&[export("pvc-1", &[], true)]);
        assert!(table.at(Path::new("/exports/pvc-1")).is_some());
        for no in ["/exports", "/exports/pvc-1/sub", "/exports/pvc-2", "/pvc-1", "/"] {
            assert!(table.at(Path::new(no)).is_none(), "{no}");
        }
    }
}
