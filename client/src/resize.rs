//! Making a volume larger.

use kube::api::{Patch, PatchParams};
use serde_json::json;
use tierce_crds::{Volume, format_bytes, parse_bytes, size_made_of};

use crate::{
    Cluster, Error, MANAGER,
    wait::{self, Outcome, Patience, State},
};

/// Makes a Volume that large, and looks what becomes of it.
pub async fn resize(
    cluster: &Cluster,
    name: &str,
    size: &str,
    patience: Patience<'_>,
) -> Result<Outcome, Error> {
    let asked = parse_bytes(size)
        .map_err(|_| Error::InvalidArgument(format!("'{size}' is no size: write 10Gi, for example")))?;
    let volume = cluster.volume(name).await?;
    // A growth that did not happen yet can be taken back.
    let has = volume.status.as_ref().and_then(|status| status.capacity.as_deref());
    let has = has.and_then(|text| parse_bytes(text).ok()).unwrap_or(0);
    let same = parse_bytes(&volume.spec.size).is_ok_and(|size| size == asked);
    if !same && size_made_of(asked) < has {
        return Err(Error::Refused(format!(
            "Volume '{name}' has {}, and a volume can't shrink: make a new, smaller one and copy the data",
            format_bytes(has)
        )));
    }
    if !same {
        let change = json!({"spec": {"size": size}});
        let by_us = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let changed = cluster.here::<Volume>().patch(name, &by_us, &Patch::Merge(&change)).await;
        changed.map_err(|error| cluster.failed(&format!("resize volume '{name}'"), error))?;
    }
    let what = format!("volume '{name}' to have {}", format_bytes(asked));
    let look = |volume: Option<&Volume>| grown(volume, asked);
    wait::follow(cluster, cluster.here::<Volume>(), name, &what, patience, look).await
}

/// Whether the Volume has so many bytes.
fn grown(volume: Option<&Volume>, bytes: u64) -> State {
    let Some(volume) = volume else { return State::Hopeless("somebody removed it".to_owned()) };
    let Some((_, _, message)) = wait::ready(volume) else {
        return State::Waiting("the controller has not looked at it yet".to_owned());
    };
    let capacity = volume.status.as_ref().and_then(|status| status.capacity.as_deref());
    match capacity.and_then(|text| parse_bytes(text).ok()) {
        Some(has) if has >= bytes => State::Done(None),
        // Nothing is there yet: the first pod gets it with the new size.
        None => State::Done(None),
        Some(_) => State::Waiting(message.to_owned()),
    }
}
