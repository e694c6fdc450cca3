//! What to do about one `NodeVolume` that is ours: a pure decision from what should be and what is.

use tierce_crds::conditions::{Verdict, node_volume as reason};
use tierce_crds::{NodeSource, NodeVolume, VolumeMode as ApiMode, names};
use tierce_engine::{Owner, VolumeId, VolumeInfo, VolumeMode, VolumeSpec};

use crate::intents::{self, differs, unknown_pool};
use crate::metrics::ActionLabel;
use crate::pools::Offer;

/// Nodes that a message names.
const MOST_NAMED: usize = 20;

/// One thing to do with the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Create(VolumeSpec),
    /// Change the mount options of the next stage.
    SetMountOptions(Vec<String>),
    /// Give it the content of a snapshot back.
    Restore {
        /// UID of the order.
        uid: String,
        snapshot: VolumeId,
        /// Id of the snapshot that keeps what is there now.
        safety: VolumeId,
    },
    /// Call a restore off, or carry it to its end.
    CallOff {
        /// UID of the order.
        uid: String,
        /// Id of the snapshot that would keep what is there now.
        safety: VolumeId,
    },
    /// Grow the device to so many bytes.
    Grow(u64),
    Delete {
        /// Refuse if it was ever staged.
        only_if_unused: bool,
    },
    /// Delete what a restore kept of before, if no object speaks of it.
    DropSafety(VolumeId),
}

impl intents::Step for Step {
    fn label(&self) -> ActionLabel {
        match self {
            Self::Create(_) => ActionLabel::Create,
            Self::SetMountOptions(_) => ActionLabel::SetMountOptions,
            Self::Restore { .. } => ActionLabel::Restore,
            Self::CallOff { .. } => ActionLabel::CallOffRestore,
            Self::Grow(_) => ActionLabel::Grow,
            Self::Delete { .. } => ActionLabel::Delete,
            Self::DropSafety(_) => ActionLabel::DeleteSnapshot,
        }
    }

    fn done(&self) -> &'static str {
        match self {
            Self::Create(_) => "made",
            Self::SetMountOptions(_) => "mount options set",
            Self::Restore { .. } => "restored",
            Self::CallOff { .. } => "the call to take its restore back is answered",
            Self::Grow(_) => "grown",
            Self::Delete { .. } => "deleted",
            Self::DropSafety(_) => "deleted with what its restore kept of before",
        }
    }
}

/// How to delete the volume. Pods of other nodes are not seen here, also where nothing is mounted yet to serve it from: those that are listed count.
pub(super) fn deletion(volume: &NodeVolume) -> Result<Step, Verdict> {
    if let Some(export) = volume.spec.export.as_ref().filter(|export| !export.is_to_nobody()) {
        let nodes: Vec<_> =
            export.nodes.iter().chain(&export.read_only_nodes).map(String::as_str).take(MOST_NAMED).collect();
        let message = format!("pods of other nodes use it: it is served to {}", nodes.join(", "));
        return Err(Verdict::no(reason::IN_USE, message));
    }
    let mut annotations = volume.metadata.annotations.iter().flatten();
    let only_if_unused = annotations.any(|(key, _)| key == names::ANNOTATION_ONLY_IF_UNUSED);
    Ok(Step::Delete { only_if_unused })
}

/// What a restore that is not over may have kept of before. Its order stands until a `NodeSnapshot` speaks of that, so whoever deletes the volume
/// first was never shown it: it goes with the volume whose content it was.
pub(super) fn remains(volume: &NodeVolume) -> Option<Step> {
    let order = volume.spec.restore.as_ref()?;
    // Nothing on the disk has an id that is none.
    order.safety.parse().ok().map(Step::DropSafety)
}

/// How to make the volume, or why it is not made.
pub(super) fn create(volume: &NodeVolume, id: &VolumeId, offer: Offer) -> Result<Vec<Step>, Verdict> {
    let spec = &volume.spec;
    let status = volume.status.clone().unwrap_or_default();
    if status.used || status.capacity_bytes.is_some() {
        // Making it anew would show a pod an empty volume where its data should be.
        return Err(Verdict::no(
            reason::FAILED,
            format!(
                "the volume was made in pool {} of this node but is not there any more; it is not made again, as its \
                 data would seem to be lost without a word. Bring the pool's disk back, or delete the volume",
                spec.pool
            ),
        ));
    }
    match offer {
        Offer::Offered => {}
        Offer::Retired => {
            return Err(Verdict::no(
                reason::POOL_UNAVAILABLE,
                format!(
                    "pool {} takes no new volumes on this node: its StoragePool no longer selects it",
                    spec.pool
                ),
            ));
        }
        Offer::Unknown => return Err(unknown_pool(&spec.pool)),
    }
    Ok(vec![Step::Create(desired(volume, id)?)])
}

/// What is left to do for the volume on the disk, or why it is left alone.
pub(super) fn converge(volume: &NodeVolume, info: &VolumeInfo) -> Result<Vec<Step>, Verdict> {
    let wanted = desired(volume, &info.id)?;
    let conflict = |field: &str, existing: &str, asked: &str| Err(differs("volume", field, existing, asked));
    if info.pool != volume.spec.pool {
        return conflict("pool", &info.pool, &volume.spec.pool);
    }
    if info.mode != wanted.mode {
        return conflict("mode", &info.mode.to_string(), &wanted.mode.to_string());
    }
    if info.encrypted != wanted.encrypted {
        let words = |encrypted| if encrypted { "on" } else { "off" };
        return conflict("encryption", words(info.encrypted), words(wanted.encrypted));
    }
    // Before it grows: the snapshot fits what is there.
    let order = restore(volume)?;
    let mut steps = Vec::new();
    if info.mount_options != wanted.mount_options {
        steps.push(Step::SetMountOptions(wanted.mount_options));
    }
    match order {
        // Nothing that fails holds the answer up.
        Some(answer @ Step::CallOff { .. }) => steps.insert(0, answer),
        other => steps.extend(other),
    }
    if info.size_bytes < wanted.size_bytes {
        steps.push(Step::Grow(wanted.size_bytes));
    }
    Ok(steps)
}

/// An order that was not answered yet.
fn restore(volume: &NodeVolume) -> Result<Option<Step>, Verdict> {
    let Some(order) = &volume.spec.restore else { return Ok(None) };
    let answers = volume.status.iter().flat_map(|status| [&status.restored, &status.restore_called_off]);
    if answers.flatten().any(|uid| *uid == order.uid) {
        return Ok(None);
    }
    let (uid, safety) = (order.uid.clone(), named(&order.safety)?);
    Ok(Some(if order.cancel {
        Step::CallOff { uid, safety }
    } else {
        Step::Restore { uid, snapshot: named(&order.snapshot)?, safety }
    }))
}

fn named(id: &str) -> Result<VolumeId, Verdict> {
    id.parse().map_err(|error: tierce_engine::InvalidId| Verdict::no(reason::INVALID, error.to_string()))
}

/// The engine's words for the spec.
fn desired(volume: &NodeVolume, id: &VolumeId) -> Result<VolumeSpec, Verdict> {
    let spec = &volume.spec;
    let invalid = |message: String| Verdict::no(reason::INVALID, message);
    let mode = match (spec.volume_mode, spec.filesystem) {
        (ApiMode::Block, _) => VolumeMode::Block,
        (ApiMode::Filesystem, Some(filesystem)) => VolumeMode::Filesystem(filesystem),
        (ApiMode::Filesystem, None) => return Err(invalid("spec.filesystem is missing".into())),
    };
    let size_bytes = u64::try_from(spec.size_bytes)
        .map_err(|_| invalid(format!("spec.sizeBytes {} is negative", spec.size_bytes)))?;
    Ok(VolumeSpec {
        id: id.clone(),
        size_bytes,
        mode,
        label: spec.label.clone(),
        owner: volume.claim().map(|claim| Owner {
            namespace: claim.namespace,
            name: claim.name,
            uid: claim.uid,
        }),
        mount_options: spec.mount_options.clone(),
        source: spec.source.as_ref().and_then(NodeSource::name).map(named).transpose()?,
        may_convert: spec.allow_mode_change,
        encrypted: spec.encrypted,
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
