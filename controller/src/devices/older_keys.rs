//! Secrets that an older version left. It wrote the entry `next-key` for two things that mean the opposite: the key that a rotation is to put
//! into force, and the key of a snapshot that the volume went back to, which a rotation may have revoked long ago. Read alone, `next-key` is
//! the wanted one. So each such Secret is looked at once, before anything else is done with keys: where no rotation is under way, both keys
//! stay, and another one is wanted.
//!
//! It is a fresh one, and not the one that `key` names: a stage that got the Secret as it was may be at work now, and put `next-key` into
//! force. Only a key that nobody had before tells that the node has seen what the Secret says now.

use super::keys::{Held, Keys, random_key};
use crate::index::Device;
use kube::{Api, Client};
use std::time::Duration;
use tierce_crds::{NodeVolume, names};
use tierce_runtime::errors::in_words;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often all is tried before the controller goes on with what is left.
const ATTEMPTS: u32 = 5;

/// Looks at all Secrets.
pub async fn convert_all(client: &Client, keys: &Keys, shutdown: &CancellationToken) {
    for attempt in 1..=ATTEMPTS {
        match try_all(client, keys).await {
            Ok(()) => return,
            Err(error) => {
                warn!(attempt, "cannot look through the Secrets of an older version: {}", in_words(&error));
            }
        }
        if attempt == ATTEMPTS {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1 << attempt)) => {}
        }
    }
}

async fn try_all(client: &Client, keys: &Keys) -> Result<(), kube::Error> {
    let volumes: Api<NodeVolume> = Api::all(client.clone());
    for id in keys.in_older_form().await? {
        let Some(mut held) = keys.read(&id).await? else { continue };
        let device = volumes.get_opt(&id).await?.map(Device::of);
        if convert(&mut held, device.as_ref())? {
            keys.replace(&held).await?;
            info!(id, "the Secret of an older version says which of its keys is wanted now");
        }
    }
    Ok(())
}

/// Makes a Secret say which of its keys is wanted, where that is in doubt. Whether it has changed.
pub fn convert(held: &mut Held, device: Option<&Device>) -> Result<bool, kube::Error> {
    if !held.in_older_form || held.ring.others().next().is_none() {
        return Ok(false);
    }
    let Some(device) = device else {
        // Nothing stages a snapshot: what is made from it goes on with the key that it was taken with.
        let first = held.ring.others().next().map(|(_, digits)| digits.clone());
        return Ok(first.is_some_and(|digits| held.ring.want(&digits)));
    };
    let begun = held.metadata.annotations.as_ref().and_then(|all| all.get(names::ANNOTATION_ROTATE_KEY));
    // A rotation that is under way says what it wants; while a restore is, the Secret stays as it is.
    if begun != device.rotated.as_ref() || device.restore.is_some() {
        return Ok(false);
    }
    held.ring.want(&random_key()?);
    Ok(true)
}
