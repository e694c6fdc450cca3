//! Exchanging a volume's content: [`Copies::roll_back`](crate::pool::Copies::roll_back), and what a crash in
//! it leaves.
//!
//! (1) The new content is made as `n-…`, with the volume's new record and the tag that says it is whole;
//! (2) the volume is renamed to `d-…`, (3) the new one to `v-…`. After a crash between (2) and (3) the pool's
//! opening does (3).

use std::sync::MutexGuard;

use super::{LvmPool, tags, view::Unfinished};
use crate::{Error, VolumeId};

impl LvmPool {
    pub(super) fn finish_swap(&self, turn: &MutexGuard<'_, ()>, name: &str, id: &str) -> Result<(), Error> {
        let new = format!("v-{id}");
        if let Err(error) = self.change(turn, "lvrename", &["-qq", &self.group, name, &new]) {
            // Another process that opened the pool just now found it unfinished and has done it.
            let names = self.view().names.clone();
            if names.iter().any(|left| left == name) || !names.contains(&new) {
                return Err(error.into());
            }
        }
        Ok(self.change(turn, "lvchange", &["-qq", "--deltag", tags::SWAP, &self.full(&new)])?)
    }

    /// The unfinished LVs that are whole and are to take a volume's place.
    pub(super) fn swaps_of(&self, id: &VolumeId) -> Vec<String> {
        let view = self.view();
        let of_it = view.unfinished.iter().filter(|(_, unfinished)| unfinished.swap && unfinished.id == *id);
        of_it.map(|(name, _)| name.clone()).collect()
    }

    /// Completes exchanges that were interrupted where the volume has no name.
    pub(super) fn finish_swaps(&self) -> Result<(), Error> {
        let turn = self.turn();
        let due: Vec<(String, String)> = {
            let view = self.view();
            let nameless = |(_, unfinished): &(&String, &Unfinished)| {
                unfinished.swap && !view.volumes.contains_key(&unfinished.id)
            };
            let due = view.unfinished.iter().filter(nameless);
            due.map(|(name, unfinished)| (name.clone(), unfinished.id.to_string())).collect()
        };
        for (name, id) in &due {
            tracing::info!(volume = id, "ending an exchange of its content that was interrupted");
            self.finish_swap(&turn, name, id)?;
        }
        if due.is_empty() { Ok(()) } else { Ok(self.renew(&turn)?) }
    }
}
