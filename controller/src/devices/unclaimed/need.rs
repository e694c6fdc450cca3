//! Whether a Secret with keys may be needed.

use crate::index::{KeySecret, State};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How far the clocks of the controller and the API server may be apart.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);

/// Whether the Secret says that it was never tied to an object, and was created at the moment that it names.
pub(super) fn was_never_tied(secret: &KeySecret) -> bool {
    let said = secret.untied_since.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    !secret.owned && is_of_its_word(said, secret.created)
}

/// Whether an object was created when it says so itself. One that came back from a backup was not.
pub(super) fn is_of_its_word(said: Option<Timestamp>, created: Option<Timestamp>) -> bool {
    said.zip(created).is_some_and(|(said, created)| created.duration_since(said).abs() <= CLOCKS)
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
