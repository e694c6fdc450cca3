//! VolumeRestores: what is remembered of each, and whom its changes concern.

use super::pods::claims_of;
use crate::index::key::Awaited;
use crate::index::news::{Affects, Change, News};
use crate::index::topics::{Topic, Wakes};

use crate::index::facts::trimmed::named;
use crate::index::{Namespaced, State, Table, Tracked};
use std::sync::Arc;
use tierce_crds::conditions::{self, volume_restore};
use tierce_crds::{VolumeRestore, names};

impl Tracked for VolumeRestore {
    type Key = Namespaced;
    type Facts = Self;

    fn facts(mut self) -> Option<Self> {
        self.metadata = named(self.metadata, names::FINALIZER_RESTORE);
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Self> {
        &mut state.restores
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        let Change { key, old, new } = *change;
        state.open_restores.change(key, awaited(key, old), awaited(key, new));
        let uid = |restore: &Arc<Self>| restore.metadata.uid.clone();
        state.restores_of_uid.change(key, old.and_then(uid), new.and_then(uid));
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Restore(change)
    }
}

/// What it waits for until it is over.
fn awaited(key: &Namespaced, restore: Option<&Arc<VolumeRestore>>) -> Vec<Awaited> {
    let Some(restore) = restore.filter(|restore| !is_done_with(restore)) else { return Vec::new() };
    let of = |name: &str| Namespaced::new(&key.namespace, name);
    vec![Awaited::Volume(of(&restore.spec.volume)), Awaited::Snapshot(of(restore.spec.snapshot()))]
}

/// Whether nothing will be done about it any more.
fn is_done_with(restore: &VolumeRestore) -> bool {
    !is_ours(restore) && (is_over(restore) || restore.metadata.deletion_timestamp.is_some())
}

fn is_ours(restore: &VolumeRestore) -> bool {
    restore.metadata.finalizers.iter().flatten().any(|f| f == names::FINALIZER_RESTORE)
}

/// Whether nothing more will happen for it.
pub(crate) fn is_over(restore: &VolumeRestore) -> bool {
    restore.status.as_ref().is_some_and(|status| {
        let ready = conditions::find(&status.conditions, conditions::READY);
        ready.is_some_and(|ready| ready.status == "True" || ready.reason == volume_restore::CALLED_OFF)
    })
}

/// Id of the snapshot that keeps what a volume had before the restore of this UID.
pub(crate) fn before_id(uid: &str) -> String {
    format!("{BEFORE}{uid}")
}

/// Name of the `VolumeSnapshotContent` of that.
pub(crate) fn before_content_name(uid: &str) -> String {
    format!("snapcontent-{uid}")
}

/// UID of the restore whose safety has this id.
pub(crate) fn of_before(id: &str) -> Option<&str> {
    id.strip_prefix(BEFORE)
}

const BEFORE: &str = "before-";

/// VolumeRestores, by namespace and name.
#[derive(Debug)]
pub struct Restores;

impl Topic for Restores {
    type Key = Namespaced;

    fn all(state: &State) -> Vec<Namespaced> {
        state.restores.iter().map(|(key, _)| key.clone()).collect()
    }

    fn is_settled(state: &State, key: &Namespaced) -> bool {
        state.restores.get(key).is_some_and(|restore| is_over(restore) && !is_ours(restore))
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<Namespaced>) {
        let volumes = match *news {
            News::Restore(Change { key, old, new }) => {
                wakes.now(key.clone());
                // The next restore of the same volume may have waited for this one to be over.
                let open = |restore: &&Arc<VolumeRestore>| !is_done_with(restore);
                let over = old.filter(open).filter(|_| new.is_none_or(|new| is_done_with(new)));
                over.map(|old| Namespaced::new(&key.namespace, &old.spec.volume)).into_iter().collect()
            }
            News::Volume(change) => vec![change.key.clone()],
            News::Claim(change) => vec![change.key.clone()],
            News::Pod(Change { key, old, new }) => {
                for volume in [claims_of(key, old), claims_of(key, new)].concat() {
                    // The first that comes and the last that goes concern all; any other changes what the oldest says.
                    if state.has_at_most_one_pod(&volume) {
                        wakes.all(state.open_restores.of(&Awaited::Volume(volume)).cloned());
                    } else if let Some(oldest) = state.oldest_restore_of(&volume) {
                        wakes.now(oldest.clone());
                    }
                }
                return;
            }
            News::Device(change) => {
                let orders = change.both().filter_map(|device| device.restore.as_ref());
                let ordered = orders.flat_map(|order| state.restores_of_uid.of(&order.uid));
                ordered.for_each(|key| wakes.now(key.clone()));
                change.both().flat_map(|device| state.claims_of(device)).collect()
            }
            News::Snapshot(change) => {
                for snapshot in change.both().flat_map(|snapshot| state.names_of(snapshot)) {
                    wakes.all(state.open_restores.of(&Awaited::Snapshot(snapshot)).cloned());
                }
                return;
            }
            News::Content(change) => {
                for snapshot in change.both().filter_map(|content| content.of.clone()) {
                    wakes.all(state.open_restores.of(&Awaited::Snapshot(snapshot)).cloned());
                }
                return;
            }
            // One that is called off waits for its node's word, and not for ever.
            News::Node(Change { key, old, new }) if old.is_some() != new.is_some() => {
                let orders = state.devices_on(key).filter_map(|device| device.restore.as_ref());
                orders
                    .flat_map(|order| state.restores_of_uid.of(&order.uid))
                    .for_each(|key| wakes.now(key.clone()));
                return;
            }
            _ => return,
        };
        for volume in volumes {
            wakes.all(state.open_restores.of(&Awaited::Volume(volume)).cloned());
        }
    }
}

impl State {
    /// The open restore of this Volume that was made first.
    pub fn oldest_restore_of(&self, volume: &Namespaced) -> Option<&Namespaced> {
        let open = self.open_restores.of(&Awaited::Volume(volume.clone()));
        open.min_by_key(|key| {
            let restore = self.restores.get(*key);
            let made = restore.and_then(|restore| restore.metadata.creation_timestamp.as_ref());
            (made.map(|time| time.0), *key)
        })
    }

    /// Whether there is a VolumeRestore of this UID.
    pub fn has_restore(&self, uid: &str) -> bool {
        self.restores_of_uid.has(uid)
    }

    /// Whether there is one, and something may still happen for it.
    pub fn has_open_restore(&self, uid: &str) -> bool {
        let mut all = self.restores_of_uid.of(uid).filter_map(|key| self.restores.get(key));
        all.any(|restore| !is_over(restore))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_user_writes_into_a_restore_takes_no_room_here() {
        let many: Vec<_> = (0..10_000).map(|n| format!("example.org/finalizer-{n}")).collect();
        let labels: std::collections::BTreeMap<_, _> = many.iter().map(|name| (name, "x")).collect();
        let mut finalizers = many.clone();
        finalizers.push(names::FINALIZER_RESTORE.to_owned());
        let owners: Vec<_> = many
            .iter()
            .map(|name| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": name}))
            .collect();
        let object: VolumeRestore = serde_json::from_value(json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "VolumeRestore",
            "metadata": {"name": "r", "namespace": "n", "uid": "u", "labels": labels, "finalizers": finalizers,
                "ownerReferences": owners, "annotations": {"x": "x".repeat(200_000)}},
            "spec": {"volume": "v", "snapshot": "s"}
        }))
        .unwrap();
        let facts = object.facts().unwrap();
        assert!(is_ours(&facts) && facts.metadata.uid.as_deref() == Some("u"));
        let takes = serde_json::to_string(&facts).unwrap().len();
        assert!(takes < 4096, "{takes} bytes");
    }
}
