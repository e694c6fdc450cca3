//! Work on a whole filesystem that is not mounted: its repair, and its growth where the kernel can't grow it
//! while it is mounted. It takes as long as the filesystem is large. After a power cut many repairs are due
//! at once, so that a volume waits for its turn without a place in its pool, and keeps none in its turn: pods
//! of other volumes start and end meanwhile. The volume's own lock is kept.
//!
//! A stage that meets such work ends there, with the volume attached; the work is done, and the stage begins
//! anew. A caller that gives up while its volume waits leaves what any stage leaves that is cut off there; in
//! the middle of the work, that goes on to its end.

use std::{path::Path, sync::Arc};

use super::{
    Engine,
    core::{Core, PATIENCE},
    locks::Held,
    opening::not_answering,
    overhauls::{Overhaul, Staged, Subject, Turn},
};
use crate::{Change, Error, StageRequest, VolumeId};

impl Engine {
    /// Stages a volume whose lock is held, with a place in its pool except while its filesystem is overhauled.
    pub(super) async fn stage_held(
        &self,
        mut held: Held,
        id: &VolumeId,
        staging: &Path,
        request: &StageRequest,
    ) -> Result<Change<()>, Error> {
        let call = Arc::new((id.clone(), staging.to_owned(), request.clone()));
        let mut done = Vec::new();
        loop {
            let pass = self.core.enter(id).await?;
            let (call, so_far) = (Arc::clone(&call), done.clone());
            // The lock moves along: a caller that gives up must not let the next one in while this one works.
            let (staged, still_held) = self
                .run(move |core| {
                    let (id, staging, request) = call.as_ref();
                    let staged = core.stage(id, staging, request, &so_far);
                    drop(pass);
                    (staged, held)
                })
                .await;
            let (overhaul, subject) = match staged? {
                Staged::Done(change) => return Ok(change),
                Staged::Needs(overhaul, subject) => (overhaul, subject),
            };
            let turn = self.core.turn_to_overhaul(&subject).await?;
            let (result, still_held) = self
                .run(move |core| {
                    let result = core.overhaul(overhaul, &subject);
                    drop(turn);
                    (result, still_held)
                })
                .await;
            result?;
            done.push(overhaul);
            held = still_held;
        }
    }
}

impl Core {
    /// Waits until the turn of that filesystem has come to be overhauled.
    async fn turn_to_overhaul(&self, subject: &Subject) -> Result<Turn, Error> {
        let config = subject.pool.config();
        let turn = self.overhauls.begin(&config.name, |pool| self.answers(pool)).await;
        turn.ok_or_else(|| not_answering(config, PATIENCE).into())
    }

    fn overhaul(&self, overhaul: Overhaul, subject: &Subject) -> Result<(), Error> {
        let Subject { id, device, filesystem, .. } = subject;
        match overhaul {
            Overhaul::Repair => self.host.repair(device),
            Overhaul::Growth => {
                if let Err(error) = self.host.grow_unmounted(device, *filesystem) {
                    // A volume that is smaller than promised is still better than none.
                    tracing::warn!(volume = %id, %error, "the filesystem did not grow");
                }
                Ok(())
            }
        }
    }
}
