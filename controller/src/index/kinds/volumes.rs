//! Volumes: what is remembered of each, and whom its changes concern.

use crate::index::key::Awaited;
use crate::index::news::{Affects, Change, News};
use crate::index::room::{Market, Wish};
use crate::index::topics::{Topic, Wakes};

use crate::index::facts::trimmed::{beginning, named};
use crate::index::{Namespaced, State, Table, Tracked};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use std::sync::Arc;
use tierce_crds::{SharedVolume, Volume, conditions, names, parse_bytes};

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
    let volume = volume.filter(|volume| matches!(wish(&asking(volume)), Wish::Place(..)))?;
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

/// What one asks for, and what its status says of it, whatever its kind.
pub(super) struct Asking<'a> {
    pub(super) meta: &'a ObjectMeta,
    pub(super) size: &'a str,
    pub(super) market: Market,
    /// Generation that the status speaks of, and its conditions.
    pub(super) said: Option<(Option<i64>, &'a [Condition])>,
    /// Whether it is made; what it has then.
    pub(super) made: bool,
    pub(super) capacity: Option<&'a str>,
}

fn asking(volume: &Volume) -> Asking<'_> {
    let status = volume.status.as_ref();
    Asking {
        meta: &volume.metadata,
        size: &volume.spec.size,
        market: Market { tier: volume.spec.tier.clone(), closed: volume.spec.goes_where_it_is_told() },
        said: status.map(|status| (status.observed_generation, status.conditions.as_slice())),
        made: status.is_some_and(|status| status.volume_name.is_some()),
        capacity: status.and_then(|status| status.capacity.as_deref()),
    }
}

/// Keeps what those of this key want.
pub(super) fn wants(state: &mut State, key: &Namespaced) {
    let requested = state.claims.get(key).map_or(0, |claim| claim.requested);
    let of =
        |asking: Option<Asking<'_>>| asking.map_or(Wish::Nothing, |asking| within_reach(&asking, requested));
    let volume = of(state.volumes.get(key).map(|volume| asking(volume)));
    let shared = of(state.shared_volumes.get(key).map(|shared| super::shared_volumes::asking(shared)));
    state.room.of::<Volume>().wants(key, volume);
    state.room.of::<SharedVolume>().wants(key, shared);
}

/// Until its claim asks for the size to which it is to grow, no room is of any use to it.
fn within_reach(asking: &Asking<'_>, requested: u64) -> Wish {
    let wish = wish(asking);
    let out_of_reach = wish == Wish::Growth && requested < parse_bytes(asking.size).unwrap_or(u64::MAX);
    if out_of_reach { Wish::Nothing } else { wish }
}

fn wish(asking: &Asking<'_>) -> Wish {
    let settled = asking.said.is_some_and(|(observed, all)| {
        let ready = conditions::find(all, conditions::READY);
        observed == asking.meta.generation
            && ready.is_some_and(|c| c.status == "True" && c.reason == conditions::volume::PROVISIONED)
    });
    if settled || asking.meta.deletion_timestamp.is_some() {
        return Wish::Nothing;
    }
    let size = parse_bytes(asking.size).unwrap_or(u64::MAX);
    if !asking.made {
        return Wish::Place(asking.market.clone(), size);
    }
    // What else one that is made may lack is not room.
    let has = asking.capacity.and_then(|has| parse_bytes(has).ok()).unwrap_or(0);
    if has < size { Wish::Growth } else { Wish::Nothing }
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
