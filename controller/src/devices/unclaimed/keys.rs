//! A Secret with a key whose NodeVolume or NodeSnapshot never came: the call that made it ended before. A lost key is a lost volume, so one
//! is deleted only if all of this holds, for a grace:
//!
//! - It says itself that it was never tied to an object ([`names::ANNOTATION_UNTIED_KEY`]). Nothing is answered to Kubernetes before a key
//!   is tied, so nothing was ever mounted with it.
//! - It was made when it says so. One that came back from a backup was not, and its volume may come back too.
//! - No NodeVolume or NodeSnapshot of its id exists, no restore speaks of it, and no node reports anything of that id on its disks.
//! - It is still in the version that was looked at: a call that goes on with it touches it first.

use super::need::{may_be_needed, was_never_tied};
use super::{Memory, guard, pages};
use crate::devices::keys::Keys;
use crate::index::{Index, KeySecret};
use crate::run::queue::Next;
use kube::{Api, Client};
use std::sync::Arc;
use std::time::Duration;
use tierce_crds::{NodeSnapshot, NodeVolume, VolumeRestore};
use tierce_runtime::errors::in_words;
use tracing::{info, warn};

/// What is to be done about one Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It belongs to something, or may.
    Leave,
    /// A call may be about to go on with it.
    Wait(Duration),
    /// Its time has come.
    Reap,
}

/// Decides. `may_be_needed`: something has its id, or nobody can know.
fn decide(secret: &KeySecret, may_be_needed: bool, unclaimed_for: Duration, grace: Duration) -> Fate {
    if may_be_needed || !was_never_tied(secret) {
        return Fate::Leave;
    }
    match grace.saturating_sub(unclaimed_for) {
        Duration::ZERO => Fate::Reap,
        rest => Fate::Wait(rest),
    }
}

/// Looks after them.
pub struct UnclaimedKeys {
    client: Client,
    index: Arc<Index>,
    keys: Keys,
    grace: Duration,
    memory: Memory,
    /// What the guard saw gone.
    gone: Memory,
}

impl UnclaimedKeys {
    /// Reaps what was unclaimed for `grace`.
    pub fn new(client: Client, index: Arc<Index>, keys: Keys, grace: Duration) -> Self {
        Self { client, index, keys, grace, memory: Memory::default(), gone: Memory::default() }
    }

    /// Looks at the Secret of one volume or snapshot.
    pub async fn look(&self, id: &str) -> Next {
        let told_after = self.grace.min(guard::TOLD_AFTER);
        match guard::look(&self.client, &self.index, &self.keys, (&self.gone, told_after), id).await {
            Ok(None) => {}
            Ok(Some(rest)) => return Next::After(rest),
            Err(kube::Error::Api(status)) if status.is_conflict() => return Next::Failed,
            Err(error) => {
                warn!(id, "cannot look after the Secret with its key: {}", in_words(&error));
                return Next::Failed;
            }
        }
        let found = self.index.read(|state| {
            let secret = Arc::clone(state.key_secret(id)?);
            Some((secret, may_be_needed(state, id)))
        });
        let Some((secret, needed)) = found.filter(|(secret, needed)| !needed && was_never_tied(secret))
        else {
            self.memory.forget(id);
            return Next::Event;
        };
        match decide(&secret, needed, self.memory.unclaimed_for(id, &secret.resource_version), self.grace) {
            Fate::Leave => Next::Event,
            Fate::Wait(rest) => Next::After(rest),
            Fate::Reap => match self.reap(id, &secret).await {
                Ok(()) => Next::Event,
                // A call goes on with it: looked at again.
                Err(kube::Error::Api(status)) if status.is_conflict() => Next::Failed,
                Err(error) => {
                    warn!(id, "cannot reap the Secret with its key: {}", in_words(&error));
                    Next::Failed
                }
            },
        }
    }

    async fn reap(&self, id: &str, secret: &KeySecret) -> Result<(), kube::Error> {
        if self.is_needed_after_all(id).await? {
            return Ok(());
        }
        match self.keys.read(id).await? {
            Some(held) if held.metadata.resource_version.as_ref() == Some(&secret.resource_version) => {
                info!(id, "nothing was ever made with its key: deleting the Secret");
                self.keys.remove(&held).await
            }
            // A call goes on with it, or it is gone: the watch shows it.
            _ => Ok(()),
        }
    }

    /// A watch may be late; the last word is the API server's.
    async fn is_needed_after_all(&self, id: &str) -> Result<bool, kube::Error> {
        let volumes: Api<NodeVolume> = Api::all(self.client.clone());
        let snapshots: Api<NodeSnapshot> = Api::all(self.client.clone());
        if volumes.get_metadata_opt(id).await?.is_some() || snapshots.get_metadata_opt(id).await?.is_some() {
            return Ok(true);
        }
        let Some(uid) = crate::index::of_before(id) else { return Ok(false) };
        let restores: Api<VolumeRestore> = Api::all(self.client.clone());
        let list = |page| {
            let restores = restores.clone();
            async move { restores.list_metadata(&page).await }
        };
        pages::any(list, |restore| restore.metadata.uid.as_deref() == Some(uid)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(untied_since: Option<&str>, owned: bool) -> KeySecret {
        KeySecret {
            uid: "u".into(),
            resource_version: "1".into(),
            owned,
            owner: None,
            guarded: true,
            leaving: false,
            untied_since: untied_since.map(Into::into),
            created: Some("2026-01-01T12:00:00Z".parse().unwrap()),
        }
    }

    #[test]
    fn only_a_key_that_surely_opens_nothing_is_reaped_and_only_after_the_grace() {
        let seconds = Duration::from_secs;
        let fresh = || secret(Some("2026-01-01T11:59:59.5Z"), false);
        for (what, secret, needed, unclaimed_for, fate) in [
            ("something has its id", fresh(), true, 999, Fate::Leave),
            ("tied", secret(None, true), false, 999, Fate::Leave),
            (
                "tied while it says otherwise",
                secret(Some("2026-01-01T12:00:00Z"), true),
                false,
                999,
                Fate::Leave,
            ),
            ("by hand, or by another version", secret(None, false), false, 999, Fate::Leave),
            ("words", secret(Some("today"), false), false, 999, Fate::Leave),
            ("back from a backup", secret(Some("2025-12-31T12:00:00Z"), false), false, 999, Fate::Leave),
            ("from tomorrow", secret(Some("2026-01-02T12:00:00Z"), false), false, 999, Fate::Leave),
            ("just made", fresh(), false, 0, Fate::Wait(seconds(60))),
            ("a call may still go on", fresh(), false, 59, Fate::Wait(seconds(1))),
            ("its time has come", fresh(), false, 60, Fate::Reap),
        ] {
            assert_eq!(decide(&secret, needed, seconds(unclaimed_for), seconds(60)), fate, "{what}");
        }
    }
}
