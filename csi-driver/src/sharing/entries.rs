//! One volume in the table of what is served: from what is wanted of it, and from what is known of nodes.

use std::net::IpAddr;

use kube::core::ObjectMeta;
use tierce_engine::{Access, Export, Uuid, VolumeId};

use super::wanted::Wanted;

/// The entry of a volume. `of`: a node's addresses; where there are none nobody knows who that node is.
pub(super) fn of<'a>(
    id: &VolumeId,
    wanted: &Wanted,
    open: bool,
    of: impl Fn(&str) -> &'a [IpAddr],
) -> Export {
    let resolved = |nodes: &[String], access: Access| -> Vec<(IpAddr, Access)> {
        nodes.iter().flat_map(|node| of(node)).map(|address| (*address, access)).collect()
    };
    let mut clients = resolved(&wanted.export.nodes, Access::Write);
    clients.extend(resolved(&wanted.export.read_only_nodes, Access::Read));
    let complete = wanted.nodes().all(|node| !of(node).is_empty());
    Export { id: id.clone(), fsid: wanted.fsid, gid: wanted.gid, clients, complete, open }
}

/// Which volume it is whose object can't be read.
pub(super) fn who(metadata: &ObjectMeta) -> Option<(VolumeId, Uuid)> {
    let id = metadata.name.as_deref()?.parse().ok()?;
    Some((id, metadata.uid.as_deref()?.parse().ok()?))
}

/// The entry of a volume whose object is there and can't be read, as one that a later version wrote: what it was before. Of what was never read
/// nobody knows who may have it, so that all wait; `is_asked_for`: somebody may have come to ask for it.
pub(super) fn unread(
    id: &VolumeId,
    fsid: Uuid,
    before: Option<&Export>,
    open: bool,
    is_asked_for: bool,
) -> Option<Export> {
    if let Some(before) = before.filter(|before| !before.clients.is_empty()) {
        return Some(Export { open, ..before.clone() });
    }
    let silent = Export { id: id.clone(), fsid, gid: 0, clients: Vec::new(), complete: false, open: false };
    is_asked_for.then_some(silent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_nobody_knows_leaves_the_entry_incomplete() {
        let id: VolumeId = "pvc-1".parse().unwrap();
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let export = tierce_crds::Export { gid: 7, nodes: list(&["n2"]), read_only_nodes: list(&["n3"]) };
        let wanted = Wanted { fsid: Uuid::nil(), gid: 7, export };
        let known: [IpAddr; 1] = ["10.0.0.2".parse().unwrap()];
        let all = of(&id, &wanted, true, |_| &known);
        assert!(all.complete && all.open);
        let one = of(&id, &wanted, true, |node| if node == "n2" { &known } else { &[] });
        assert_eq!((one.clients.as_slice(), one.complete), (&[(known[0], Access::Write)][..], false));
    }

    #[test]
    fn what_cannot_be_read_stays_as_it_was_or_gets_silence() {
        let id: VolumeId = "pvc-1".parse().unwrap();
        let clients = vec![("10.0.0.2".parse().unwrap(), Access::Write)];
        let before =
            Export { id: id.clone(), fsid: Uuid::nil(), gid: 7, clients, complete: true, open: false };
        let now = unread(&id, Uuid::nil(), Some(&before), true, false).unwrap();
        assert_eq!(now, Export { open: true, ..before });
        let silent = unread(&id, Uuid::nil(), None, true, true).unwrap();
        assert!(!silent.complete && !silent.open && silent.clients.is_empty());
        // Nobody starts a server for what may never have been shared.
        assert_eq!(unread(&id, Uuid::nil(), Some(&silent), true, false), None);
    }
}
