//! What the objects of this node say is to be served.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use tierce_crds::{Export, NodeVolume};
use tierce_engine::{Uuid, VolumeId};

/// One volume that other nodes are to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The object's UID: the same for the volume's life, and no other's.
    pub(super) fsid: Uuid,
    pub(super) gid: u32,
    pub(super) export: Export,
}

impl Wanted {
    /// `None`: it is served to nobody. One that is being deleted is served as long as a node is listed: its pods run, whatever somebody else did to the
    /// object.
    pub(super) fn of(me: &str, volume: &NodeVolume) -> Option<(VolumeId, Self)> {
        let export = volume.spec.export.clone().filter(|export| !export.is_to_nobody())?;
        if volume.spec.node_name != me {
            return None;
        }
        let id = volume.name_any().parse().ok()?;
        let fsid = volume.metadata.uid.as_deref().and_then(|uid| uid.parse().ok())?;
        // Kubernetes and the kernel bound it; the API's schema does so too.
        let gid = u32::try_from(export.gid).ok()?;
        Some((id, Self { fsid, gid, export }))
    }

    /// Every node that is to use the volume.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &String> {
        self.export.nodes.iter().chain(&self.export.read_only_nodes)
    }
}

/// The nodes of all volumes, each once.
pub(super) fn nodes(all: &BTreeMap<VolumeId, Wanted>) -> BTreeSet<String> {
    all.values().flat_map(Wanted::nodes).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(export: &Value, more: &Value) -> NodeVolume {
        let mut object = json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume",
            "metadata": {"name": "pvc-1", "uid": "6f4c8a4e-8f0b-4f46-9d1b-2b8f6d9f1f00"},
            "spec": {"nodeName": "n1", "pool": "p", "sizeBytes": 1, "filesystem": "ext4"},
        });
        if !export.is_null() {
            object["spec"]["export"] = export.clone();
        }
        for (field, value) in more.as_object().unwrap() {
            object["metadata"][field] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_somebody_is_to_use_is_served_even_when_it_is_to_go() {
        let nothing = json!({});
        let to_n2 = json!({"gid": 7, "nodes": ["n2"]});
        let (id, wanted) = Wanted::of("n1", &volume(&to_n2, &nothing)).unwrap();
        assert_eq!((id.as_str(), wanted.gid, wanted.export.nodes), ("pvc-1", 7, vec!["n2".to_owned()]));
        assert!(Wanted::of("n1", &volume(&json!({"gid": 7, "readOnlyNodes": ["n2"]}), &nothing)).is_some());
        let going = json!({"deletionTimestamp": "2026-12-01T00:00:00Z"});
        assert!(Wanted::of("n1", &volume(&to_n2, &going)).is_some(), "being listed is being in use");
        for (me, export, more) in [
            ("n2", &to_n2, &nothing),
            ("n1", &json!({"gid": 7}), &nothing),
            ("n1", &json!({"gid": 7}), &going),
            ("n1", &Value::Null, &nothing),
        ] {
            assert_eq!(Wanted::of(me, &volume(export, more)), None, "{me} {export} {more}");
        }
    }
}
