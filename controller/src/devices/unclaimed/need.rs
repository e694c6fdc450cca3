//! Whether a Secret with keys may be needed.

use crate::index::{KeySecret, State};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How far the clocks of the controller and the API server may be apart.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);

/// Whether the Secret says that it was never tied to an object, and was created at the moment that it names.
pub(super) fn was_never_tied(secret: &KeySecret) -> bool {
    let said = secret.untied_since.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    match (said, secret.created) {
        (Some(said), Some(created)) if !secret.owned => created.duration_since(said).abs() <= CLOCKS,
        _ => false,
    }
}

/// Whether anything may have this id, as far as the watches tell.
pub(super) fn may_be_needed(state: &State, id: &str) -> bool {
    state.devices.exists(id)
        || state.snapshots.exists(id)
        || state.has_persistent_volume(id)
        || state.device_with_order(id).is_some()
        || crate::index::of_before(id).is_some_and(|uid| state.has_restore(uid))
        || !state.is_on_no_disk(id)
}
