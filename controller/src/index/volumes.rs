//! Volumes: what is remembered of each, and whom its changes concern.

use super::room::Wish;
use super::tracked::Change;
use super::{Namespaced, State, Table, Tracked, Wakes};
use tierce_crds::{Volume, conditions, names, parse_bytes};

impl Tracked for Volume {
    type Key = Namespaced;
    type Facts = Self;

    fn facts(mut self) -> Option<Self> {
        self.metadata.managed_fields = None;
        let rotate = |key: &String| key == names::ANNOTATION_ROTATE_KEY;
        self.metadata.annotations.iter_mut().for_each(|all| all.retain(|key, _| rotate(key)));
        self.metadata.labels = None;
        self.metadata.owner_references = None;
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Self> {
        &mut state.volumes
    }

    fn connect(state: &mut State, change: &Change<'_, Self>, wakes: &mut Wakes) {
        let Change { key, new, .. } = *change;
        state.room.wants(key, new.map_or(Wish::Nothing, |volume| wish(volume)));
        if new.is_some_and(|volume| volume.spec.source.is_some() && matches!(wish(volume), Wish::Place(..))) {
            state.copies.insert(key.clone());
        } else {
            state.copies.remove(key);
        }
        state.wake_restores(key, wakes);
        if new.is_some_and(|volume| rotates(volume)) {
            wakes.rotations.insert(key.clone());
        }
        wakes.volumes.insert(key.clone());
    }
}

/// Whether somebody asked for a new key.
pub(super) fn rotates(volume: &Volume) -> bool {
    volume.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(names::ANNOTATION_ROTATE_KEY))
}

fn wish(volume: &Volume) -> Wish {
    let status = volume.status.clone().unwrap_or_default();
    let settled = status.observed_generation == volume.metadata.generation
        && conditions::find(&status.conditions, conditions::READY)
            .is_some_and(|c| c.status == "True" && c.reason == conditions::volume::PROVISIONED);
    if settled || volume.metadata.deletion_timestamp.is_some() {
        Wish::Nothing
    } else if status.volume_name.is_some() {
        Wish::Mend
    } else {
        let size = parse_bytes(&volume.spec.size).unwrap_or(u64::MAX);
        Wish::Place(volume.spec.tier.clone(), size)
    }
}

impl State {
    /// Volumes of the namespace that wait for what they start with are looked at again.
    pub(super) fn wake_copies(&self, namespace: &str, wakes: &mut Wakes) {
        wakes.volumes.extend(self.copies.iter().filter(|key| key.namespace == namespace).cloned());
    }
}
