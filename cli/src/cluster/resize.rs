//! `volume resize`.

use kube::api::{Patch, PatchParams};
use serde_json::json;
use tierce_crds::{Volume, format_bytes, parse_bytes};

use super::{
    Error,
    access::Cluster,
    create::{self, MANAGER},
    wait::{self, Outcome, Patience, State},
};
use crate::{args::Resize, failure::Failure, output, terminal};

pub(super) async fn resize(cluster: &Cluster, arguments: &Resize) -> Result<(), Failure> {
    let name = &arguments.name;
    let size = create::size(&arguments.size)?;
    let bytes = |text: &str| {
        parse_bytes(text)
            .map_err(|_| Error::Refused(format!("Volume '{name}' has size {text}, which is no size")))
    };
    let asked = bytes(&size)?;
    let has = bytes(&cluster.volume(name).await?.spec.size)?;
    if asked < has {
        return Err(Error::Refused(format!(
            "Volume '{name}' has {}, and a volume can't shrink: make a new, smaller one and copy the data",
            format_bytes(has)
        ))
        .into());
    }
    if asked > has {
        let change = json!({"spec": {"size": size}});
        let by_us = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let changed = cluster.here::<Volume>().patch(name, &by_us, &Patch::Merge(&change)).await;
        changed.map_err(|error| cluster.failed(&format!("resize volume '{name}'"), error))?;
    }
    let what = format!("volume '{name}' to have {}", format_bytes(asked));
    let patience = Patience::of(&arguments.waiting);
    let api = cluster.here::<Volume>();
    let outcome = wait::follow(cluster, api, name, &what, patience, |volume| grown(volume, asked)).await?;
    if let Outcome::UnderWay(last) = outcome {
        terminal::note(&format!("Volume '{name}' is to grow, and has not yet: {last}; --wait waits for it"));
    }
    Ok(output::lines([name])?)
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
