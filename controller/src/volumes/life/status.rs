//! The status of whatever asks for a volume, from what there is and what is said about it.

use super::observed::Observed;
use super::plan::{Said, plan};
use super::told::{Shared, Status};
use crate::index::{ClaimPhase, MOST_ASKED};
use crate::run::progress;
use k8s_openapi::jiff::Timestamp;
use tierce_crds::conditions::{self, Verdict, node_volume, shared_volume, volume as reason};
use tierce_crds::{format_bytes, names, roughly};

/// What the status should be now. Equal to what is there when there is nothing to write.
/// `has_claim`: a claim of its own exists, be it that the watch has not told of it yet.
pub(super) fn next(o: &Observed, said: &Said, has_claim: bool, now: Timestamp) -> Status {
    let (old, generation) = (&o.front.told, o.front.generation);
    let mut all = progress::conditions(&old.conditions, &said.ready, said.progress, generation, now);
    all.extend(rotation(o).map(|verdict| {
        conditions::next(&old.conditions, conditions::KEY_ROTATION, &verdict, generation, now)
    }));
    all.extend(
        sharing(o)
            .into_iter()
            .map(|(type_, verdict)| conditions::next(&old.conditions, type_, &verdict, generation, now)),
    );
    let claim = o.own_claim();
    // What was known of a volume that is lost helps to find it.
    let lost = claim.is_none_or(|claim| claim.phase == ClaimPhase::Lost);
    let device =
        o.device.as_ref().filter(|_| lost || claim.is_some_and(|claim| claim.phase == ClaimPhase::Bound));
    let keep = |new: Option<String>, old: Option<String>| if lost { new.or(old) } else { new };
    Status {
        phase: Some(said.phase),
        capacity: keep(device.and_then(|d| d.capacity).map(format_bytes), old.capacity.clone()),
        used: keep(device.and_then(|d| d.taken).map(roughly), old.used.clone()),
        node: keep(device.map(|d| d.node.clone()), old.node.clone()),
        claim_name: has_claim.then(|| o.front.owner.name.clone()),
        volume_name: o
            .persistent_volume
            .as_ref()
            .map(|(name, _)| name.clone())
            .or_else(|| old.volume_name.clone()),
        shared: o.sharing.as_ref().map(|sharing| Shared {
            gid: sharing.gid(),
            claims: sharing.claims(),
            clients: sharing.clients(),
        }),
        observed_generation: generation,
        conditions: all,
    }
}

/// Whether nothing is to be done, and nothing to be said.
pub(crate) fn is_settled(o: &Observed) -> bool {
    let plan = plan(o);
    let said = |said: &Said| next(o, said, o.own_claim().is_some(), Timestamp::now()) == o.front.told;
    plan.actions.is_empty() && plan.said.as_ref().is_none_or(said)
}

/// What is said of other namespaces and nodes.
fn sharing(o: &Observed) -> Vec<(&'static str, Verdict)> {
    let Some(sharing) = &o.sharing else { return Vec::new() };
    let conflicts = sharing.conflicts();
    let name = &o.front.owner.name;
    let conflict = (!conflicts.is_empty()).then(|| {
        let message = format!(
            "a PersistentVolumeClaim {name:?} that is not of this {} exists in {}; it is left as it is. Delete it, or take \
             the namespace out of spec.members",
            o.front.owner.kind,
            conflicts.join(", ")
        );
        (conditions::NAME_CONFLICT, Verdict::yes(shared_volume::CLAIM_EXISTS, message))
    });
    let (refused, waits) = (sharing.refused(), sharing.waiting_for_access());
    let mut words = Vec::new();
    if !refused.is_empty() {
        words.push(format!(
            "no claim can be made, which is tried again at least every ten minutes, in {}",
            refused.join("; ")
        ));
    }
    if !waits.is_empty() {
        words.push(format!("another access waits until no pod uses the volume: {}", waits.join("; ")));
    }
    let reason = if refused.is_empty() { shared_volume::ACCESS_WAITS } else { shared_volume::CLAIM_REFUSED };
    let shared =
        (!words.is_empty()).then(|| (conditions::SHARED, Verdict::no(reason, words.join(". Besides, "))));
    let served = o.device.as_ref().and_then(|device| device.serving.as_ref()).map(|word| {
        let reason = [node_volume::SERVING, node_volume::NFS_SERVER_BUSY, node_volume::NFS_UNSUPPORTED]
            .into_iter()
            .find(|reason| *reason == word.reason);
        let reason = reason.unwrap_or(node_volume::SERVE_FAILED);
        (conditions::SERVED, Verdict { status: Some(word.ready), reason, message: word.message.clone() })
    });
    conflict.into_iter().chain(shared).chain(served).collect()
}

/// How far the new key is that somebody asked for.
fn rotation(o: &Observed) -> Option<Verdict> {
    let wanted = o.front.new_key.as_ref()?;
    if wanted.len() > MOST_ASKED {
        let message = format!(
            "nothing is done: the value of {} has more than {MOST_ASKED} bytes",
            names::ANNOTATION_ROTATE_KEY
        );
        return Some(Verdict::no(reason::KEY_VALUE_TOO_LONG, message));
    }
    Some(match &o.device {
        Some(device) if !device.encrypted => {
            Verdict::no(reason::NOT_ENCRYPTED, "the volume is not encrypted, so it has no key to change")
        }
        // Another fingerprint than at that time: a restore brought another header, whose key is still to be changed.
        Some(device)
            if device.rotated.as_deref() == Some(wanted) && device.rotated_to == device.fingerprint =>
        {
            Verdict::yes(
                reason::KEY_ROTATED,
                "the new key is in force, and the old one no longer opens the volume",
            )
        }
        _ => Verdict::no(reason::KEY_WAITING, "the new key comes into force when the volume is mounted next"),
    })
}
