//! VolumeRestores: what is remembered of each, and whom its changes concern.

use super::tracked::Change;
use super::{Namespaced, State, Table, Tracked, Wakes};
use crate::restore;
use tierce_crds::{VolumeRestore, names};

impl Tracked for VolumeRestore {
    type Key = Namespaced;
    type Facts = Self;

    fn facts(mut self) -> Option<Self> {
        self.metadata.managed_fields = None;
        self.metadata.annotations = None;
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Self> {
        &mut state.restores
    }

    fn connect(state: &mut State, change: &Change<'_, Self>, wakes: &mut Wakes) {
        let Change { key, old, new } = *change;
        wakes.restores.insert(key.clone());
        if new.is_some_and(|restore| !is_over(restore)) {
            state.open_restores.insert(key.clone());
        } else {
            state.open_restores.remove(key);
        }
        if new.is_none() {
            state.wake_untied_keys(wakes);
        }
        // The next restore of the same volume may have waited for this one.
        for restore in old.into_iter().chain(new) {
            state.wake_restores(&Namespaced::new(&key.namespace, &restore.spec.volume), wakes);
        }
    }
}

/// Whether nothing will be done about it any more.
fn is_over(restore: &VolumeRestore) -> bool {
    let ours = restore.metadata.finalizers.iter().flatten().any(|f| f == names::FINALIZER_RESTORE);
    !ours && (restore::is_over(restore) || restore.metadata.deletion_timestamp.is_some())
}

impl State {
    /// Open restores of this Volume are looked at again.
    pub(super) fn wake_restores(&self, volume: &Namespaced, wakes: &mut Wakes) {
        let of_it = |key: &&Namespaced| {
            key.namespace == volume.namespace
                && self.restores.get(*key).is_some_and(|restore| restore.spec.volume == volume.name)
        };
        wakes.restores.extend(self.open_restores.iter().filter(of_it).cloned());
    }
}
