//! The status of a Volume, from what there is and what is said about it.

use super::Observed;
use super::plan::{Progress, Said, plan};
use crate::index::ClaimPhase;
use crate::run::roughly::roughly;
use k8s_openapi::jiff::Timestamp;
use tierce_crds::conditions::{self, Verdict, volume as reason};
use tierce_crds::{VolumeStatus, format_bytes, names};

/// What the status should be now. Equal to what is there when there is nothing to write.
/// `has_claim`: a claim of its own exists, be it that the watch has not told of it yet.
pub(super) fn next(o: &Observed, said: &Said, has_claim: bool, now: Timestamp) -> VolumeStatus {
    let old = o.volume.status.clone().unwrap_or_default();
    let generation = o.volume.metadata.generation;
    let condition =
        |type_: &str, verdict: &Verdict| conditions::next(&old.conditions, type_, verdict, generation, now);
    let mut all = vec![condition(conditions::READY, &said.ready)];
    let beside = match said.progress {
        Progress::Settled => None,
        Progress::UnderWay => Some(conditions::RECONCILING),
        Progress::Stalled => Some(conditions::STALLED),
    };
    if let Some(type_) = beside {
        all.push(condition(type_, &Verdict::yes(said.ready.reason, said.ready.message.clone())));
    }
    all.extend(rotation(o).map(|verdict| condition(conditions::KEY_ROTATION, &verdict)));
    let claim = o.own_claim();
    // What was known of a volume that is lost helps to find it.
    let lost = claim.is_none_or(|claim| claim.phase == ClaimPhase::Lost);
    let device =
        o.device.as_ref().filter(|_| lost || claim.is_some_and(|claim| claim.phase == ClaimPhase::Bound));
    let keep = |new: Option<String>, old: Option<String>| if lost { new.or(old) } else { new };
    VolumeStatus {
        phase: Some(said.phase),
        capacity: keep(device.and_then(|d| d.capacity).map(format_bytes), old.capacity.clone()),
        used: keep(device.and_then(|d| d.taken).map(roughly), old.used.clone()),
        node: keep(device.map(|d| d.node.clone()), old.node.clone()),
        claim_name: o.volume.metadata.name.clone().filter(|_| has_claim),
        volume_name: o.persistent_volume.as_ref().map(|(name, _)| name.clone()).or(old.volume_name),
        observed_generation: generation,
        conditions: all,
    }
}

/// Whether nothing is to be done, and nothing to be said.
pub(crate) fn is_settled(o: &Observed) -> bool {
    let plan = plan(o);
    let said = |said: &Said| {
        let old = o.volume.status.clone().unwrap_or_default();
        next(o, said, o.own_claim().is_some(), Timestamp::now()) == old
    };
    plan.actions.is_empty() && plan.said.as_ref().is_none_or(said)
}

/// How far the new key is that somebody asked for.
fn rotation(o: &Observed) -> Option<Verdict> {
    let wanted = o.volume.metadata.annotations.as_ref()?.get(names::ANNOTATION_ROTATE_KEY)?;
    Some(match &o.device {
        Some(device) if !device.encrypted => {
            Verdict::no(reason::NOT_ENCRYPTED, "the volume is not encrypted, so it has no key to change")
        }
        // Another fingerprint than at that time: a restore brought another header, whose key is still to be changed.
        Some(device)
            if device.rotated.as_ref() == Some(wanted) && device.rotated_to == device.fingerprint =>
        {
            Verdict::yes(
                reason::KEY_ROTATED,
                "the new key is in force, and the old one opens the volume no more",
            )
        }
        _ => Verdict::no(reason::KEY_WAITING, "the new key gets in force when the volume is mounted next"),
    })
}
