//! Volumes: what is remembered of each, and whom its changes concern.

use super::wishes::{wants, wish};
use crate::index::key::Awaited;
use crate::index::news::{Affects, Change, News};
use crate::index::room::Wish;
use crate::index::topics::{Topic, Wakes};

use crate::index::facts::trimmed::{beginning, named};
use crate::index::{Namespaced, State, Table, Tracked};
use std::sync::Arc;
use tierce_crds::{Volume, names};

impl Tracked for Volume {
    type Key = Namespaced;
    type Facts = Self;

    fn facts(mut self) -> Option<Self> {
        let asked =
            self.metadata.annotations.as_mut().and_then(|all| all.remove(names::ANNOTATION_ROTATE_KEY));
        self.metadata = named(self.metadata, names::FINALIZER_VOLUME);
        let asked = asked.map(|value| (names::ANNOTATION_ROTATE_KEY.to_owned(), beginning(value)));
        self.metadata.annotations = asked.map(|asked| [asked].into());
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Self> {
        &mut state.volumes
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        let Change { key, old, new } = *change;
        wants(state, key);
        state.copies.of::<Self>().change(key, awaited(key, old), awaited(key, new));
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Volume(change)
    }
}

/// What it is to start with, until it is made.
fn awaited(key: &Namespaced, volume: Option<&Arc<Volume>>) -> Option<Awaited> {
    let volume = volume.filter(|volume| matches!(wish(&volume.as_ref().into()), Wish::Place(..)))?;
    let source = volume.spec.source.as_ref()?;
    let of = |name: &String| Namespaced::new(&key.namespace, name);
    let snapshot = source.snapshot.as_ref().map(|name| Awaited::Snapshot(of(name)));
    snapshot.or_else(|| source.volume.as_ref().map(|name| Awaited::Volume(of(name))))
}

/// Bytes of the value with which a new key is asked for. It is written into other objects, and kept in memory.
pub const MOST_ASKED: usize = 253;

/// With which value somebody asked for a new key. One that is too long counts for nothing.
pub fn asked_key(volume: &Volume) -> Option<&str> {
    let asked = volume.metadata.annotations.as_ref()?.get(names::ANNOTATION_ROTATE_KEY)?;
    (asked.len() <= MOST_ASKED).then_some(asked)
}

/// Whether somebody asked for a new key.
fn rotates(volume: &Volume) -> bool {
    asked_key(volume).is_some()
}

/// Volumes whose key is to change, by namespace and name.
#[derive(Debug)]
pub struct Rotations;

impl Topic for Rotations {
    type Key = Namespaced;

    fn all(state: &State) -> Vec<Namespaced> {
        let rotating = state.volumes.iter().filter(|(_, volume)| rotates(volume));
        rotating.map(|(key, _)| key.clone()).collect()
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<Namespaced>) {
        match *news {
            News::Volume(Change { key, new: Some(new), .. }) if rotates(new) => wakes.now(key.clone()),
            News::Device(change) => {
                let claims = change.both().flat_map(|device| state.claims_of(device));
                let rotating =
                    claims.filter(|claim| state.volumes.get(claim).is_some_and(|volume| rotates(volume)));
                wakes.all(rotating);
            }
            // Until then it held the keys.
            News::Restore(Change { key, old: Some(old), .. }) => {
                let volume = Namespaced::new(&key.namespace, &old.spec.volume);
                if state.volumes.get(&volume).is_some_and(|volume| rotates(volume)) {
                    wakes.now(volume);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts(rotate: &str) -> Volume {
        let many: Vec<_> = (0..10_000).map(|n| format!("example.org/finalizer-{n}")).collect();
        let labels: std::collections::BTreeMap<_, _> = many.iter().map(|name| (name, "x")).collect();
        let mut finalizers = many.clone();
        finalizers.push(names::FINALIZER_VOLUME.to_owned());
        let object: Volume = serde_json::from_value(json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume",
            "metadata": {"name": "v", "namespace": "n", "uid": "u", "labels": labels, "finalizers": finalizers,
                "annotations": {"x": "x".repeat(50_000), names::ANNOTATION_ROTATE_KEY: rotate}},
            "spec": {"size": "1Gi", "tier": "ssd"}
        }))
        .unwrap();
        object.facts().unwrap()
    }

    #[test]
    fn what_a_user_writes_into_a_volume_takes_no_room_here() {
        let volume = facts(&"é".repeat(100_000));
        let takes = serde_json::to_string(&volume).unwrap().len();
        assert!(takes < 4096, "{takes} bytes");
        assert_eq!(volume.metadata.finalizers.as_deref(), Some(&[names::FINALIZER_VOLUME.to_owned()][..]));
        assert!(asked_key(&volume).is_none() && !rotates(&volume));
        assert_eq!(asked_key(&facts("monday")), Some("monday"));
    }
}
