//! The finalizer on each Secret with keys: whoever deletes the Secret, or the namespace that it is in, does not get at the keys as long as
//! something is there that they open. It comes with the Secret, or later to one that an older controller made, and goes when the object
//! is gone that the Secret belongs to, and no node has anything of that id on its disks: an object that was taken away by force, or that a
//! backup has not brought back yet, leaves data that only these keys open. A Secret that is being deleted can be read until then.

use super::Memory;
use super::need::{may_be_needed, was_never_tied};
use crate::devices::keys::Keys;
use crate::index::{Index, KeySecret, State};
use kube::{Api, Client};
use std::sync::Arc;
use std::time::Duration;
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

/// How long a node is given to tell what it has on its disks of something whose object is gone.
pub(super) const TOLD_AFTER: Duration = Duration::from_secs(5);

/// What may need the keys of a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    /// What the Secret belongs to, or something of its id, is there.
    exists: bool,
    /// A node may have something of it on its disks.
    on_a_disk: bool,
    /// Something has its id, or nobody can know.
    may_be: bool,
}

/// Decides.
fn decide(secret: &KeySecret, need: Need) -> Guard {
    match (secret.guarded, secret.owned) {
        (true, true) if !need.exists && !need.on_a_disk => Guard::Lift,
        // Somebody deletes one that was never in use.
        (true, false) if secret.leaving && was_never_tied(secret) && !need.may_be => Guard::Lift,
        (false, _) if need.exists && !secret.leaving => Guard::Set,
        _ => Guard::Leave,
    }
}

/// As far as the watches tell.
fn need(state: &State, id: &str, secret: &KeySecret) -> Need {
    let any = |is_it: &dyn Fn(&str) -> bool| is_it(id) || secret.owner.as_deref().is_some_and(is_it);
    Need {
        exists: any(&|name| state.devices.exists(name) || state.snapshots.exists(name)),
        on_a_disk: any(&|name| state.is_said_to_be_on_a_disk(name)),
        may_be: may_be_needed(state, id),
    }
}

/// Sets or lifts the finalizer of the Secret of this id. Returns how long to wait where it may not be lifted yet: nothing may have needed the
/// Secret for `told_after`, and `gone` remembers since when nothing does.
pub(super) async fn look(
    client: &Client,
    index: &Index,
    keys: &Keys,
    (gone, told_after): (&Memory, Duration),
    id: &str,
) -> Result<Option<Duration>, kube::Error> {
    let found = index.read(|state| {
        let secret = state.key_secret(id)?;
        Some((Arc::clone(secret), need(state, id, secret)))
    });
    let fate = found.as_ref().map_or(Guard::Leave, |(secret, need)| decide(secret, *need));
    if fate != Guard::Lift {
        gone.forget(id);
    }
    let Some((secret, _)) = found else { return Ok(None) };
    match fate {
        Guard::Leave => Ok(None),
        Guard::Set => keys.guard(id, &secret.resource_version, true).await.map(|()| None),
        Guard::Lift => {
            let rest = told_after.saturating_sub(gone.unclaimed_for(id, &secret.uid));
            if !rest.is_zero() {
                return Ok(Some(rest));
            }
            // A watch may be late; the last word is the API server's.
            for name in [Some(id), secret.owner.as_deref().filter(|owner| *owner != id)].into_iter().flatten()
            {
                let volumes: Api<NodeVolume> = Api::all(client.clone());
                let snapshots: Api<NodeSnapshot> = Api::all(client.clone());
                if volumes.get_metadata_opt(name).await?.is_some()
                    || snapshots.get_metadata_opt(name).await?.is_some()
                {
                    return Ok(None);
                }
            }
            info!(id, "nothing is there any more that its keys open: the Secret may go");
            keys.guard(id, &secret.resource_version, false).await.map(|()| None)
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
        for (what, secret, exists, on_a_disk, guard) in [
            ("as it should be", secret(true, true, false, false), true, false, Guard::Leave),
            ("its namespace is deleted", secret(true, true, true, false), true, false, Guard::Leave),
            ("its volume is gone", secret(true, true, true, false), false, false, Guard::Lift),
            (
                "its volume is gone, and a disk has it",
                secret(true, true, true, false),
                false,
                true,
                Guard::Leave,
            ),
            (
                "its volume is gone, and nobody tells the Secret",
                secret(true, true, false, false),
                false,
                false,
                Guard::Lift,
            ),
            ("of an older controller", secret(false, true, false, false), true, false, Guard::Set),
            ("it can't get one any more", secret(false, true, true, false), true, false, Guard::Leave),
            ("let go, and not gone yet", secret(false, true, false, false), false, false, Guard::Leave),
            ("a call may go on with it", secret(true, false, false, true), false, false, Guard::Leave),
            ("never in use, and deleted", secret(true, false, true, true), false, false, Guard::Lift),
            ("a disk has something of its id", secret(true, false, true, true), false, true, Guard::Leave),
            ("from a backup, and deleted", secret(true, false, true, false), false, false, Guard::Leave),
        ] {
            let need = Need { exists, on_a_disk, may_be: exists || on_a_disk };
            assert_eq!(decide(&secret, need), guard, "{what}");
        }
    }
}
