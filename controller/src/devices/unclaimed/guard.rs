//! The finalizer on each Secret with keys: whoever deletes the Secret, or the namespace that it is in, does not get at the keys as long as
//! something is there that they open. It comes with the Secret, or later to one that an older controller made, and goes when the object
//! is gone that the Secret belongs to. A Secret that is being deleted can be read until then.

use super::need::{may_be_needed, was_never_tied};
use crate::devices::keys::Keys;
use crate::index::{Index, KeySecret, State};
use kube::{Api, Client};
use std::sync::Arc;
use tierce_crds::{NodeSnapshot, NodeVolume};
use tracing::info;

/// What is to be done about the finalizer of one Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// Nothing.
    Leave,
    /// It is missing.
    Set,
    /// What the keys opened is gone.
    Lift,
}

/// Decides. `exists`: what the Secret belongs to, or something of its id; `needed`: something has its id, or nobody can know.
fn decide(secret: &KeySecret, exists: bool, needed: bool) -> Guard {
    match (secret.guarded, secret.owned) {
        (true, true) if !exists => Guard::Lift,
        // Somebody deletes one that was never in use.
        (true, false) if secret.leaving && was_never_tied(secret) && !needed => Guard::Lift,
        (false, _) if exists && !secret.leaving => Guard::Set,
        _ => Guard::Leave,
    }
}

/// What it belongs to, or something of its id, is there as far as the watches tell.
fn exists(state: &State, id: &str, secret: &KeySecret) -> bool {
    let is_there = |name: &str| state.devices.exists(name) || state.snapshots.exists(name);
    is_there(id) || secret.owner.as_deref().is_some_and(is_there)
}

/// Sets or lifts the finalizer of the Secret of this id, where that is to be done.
pub(super) async fn look(client: &Client, index: &Index, keys: &Keys, id: &str) -> Result<(), kube::Error> {
    let found = index.read(|state| {
        let secret = state.key_secret(id)?;
        Some((Arc::clone(secret), exists(state, id, secret), may_be_needed(state, id)))
    });
    let Some((secret, exists, needed)) = found else { return Ok(()) };
    match decide(&secret, exists, needed) {
        Guard::Leave => Ok(()),
        Guard::Set => keys.guard(id, &secret.resource_version, true).await,
        Guard::Lift => {
            // A watch may be late; the last word is the API server's.
            for name in [Some(id), secret.owner.as_deref()].into_iter().flatten() {
                let volumes: Api<NodeVolume> = Api::all(client.clone());
                let snapshots: Api<NodeSnapshot> = Api::all(client.clone());
                if volumes.get_metadata_opt(name).await?.is_some()
                    || snapshots.get_metadata_opt(name).await?.is_some()
                {
                    return Ok(());
                }
            }
            info!(id, "nothing is there any more that its keys open: the Secret may go");
            keys.guard(id, &secret.resource_version, false).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_let_go_only_when_what_it_belongs_to_is_gone() {
        let secret = |guarded, owned, leaving, untied: bool| KeySecret {
            uid: "u".into(),
            resource_version: "1".into(),
            owned,
            owner: owned.then(|| "pvc-1".into()),
            guarded,
            leaving,
            untied_since: untied.then(|| "2026-01-01T12:00:00Z".into()),
            created: Some("2026-01-01T12:00:00Z".parse().unwrap()),
        };
        for (what, secret, exists, needed, guard) in [
            ("as it should be", secret(true, true, false, false), true, true, Guard::Leave),
            ("its namespace is deleted", secret(true, true, true, false), true, true, Guard::Leave),
            ("its volume is gone", secret(true, true, true, false), false, false, Guard::Lift),
            (
                "its volume is gone, and nobody tells the Secret",
                secret(true, true, false, false),
                false,
                false,
                Guard::Lift,
            ),
            ("of an older controller", secret(false, true, false, false), true, true, Guard::Set),
            ("it can't get one any more", secret(false, true, true, false), true, true, Guard::Leave),
            ("let go, and not gone yet", secret(false, true, false, false), false, false, Guard::Leave),
            ("a call may go on with it", secret(true, false, false, true), false, false, Guard::Leave),
            ("never in use, and deleted", secret(true, false, true, true), false, false, Guard::Lift),
            ("a disk has something of its id", secret(true, false, true, true), false, true, Guard::Leave),
            ("from a backup, and deleted", secret(true, false, true, false), false, false, Guard::Leave),
        ] {
            assert_eq!(decide(&secret, exists, needed), guard, "{what}");
        }
    }
}
