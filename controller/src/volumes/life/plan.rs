//! What is to be done about a volume, and what its status says. Pure; every property is checked anew each time.
//!
//! One that waits for its first pod is `Ready=True` with reason `WaitingForFirstUse` and phase `Pending`: a pod can
//! use it now, and whatever waits for `Ready` before it starts that pod (`kubectl wait`, Flux, Argo CD) would
//! otherwise wait for ever.

use super::asked::{Front, Owner};
use super::observed::Observed;
use crate::index::{Claim, ClaimPhase, Device};
use crate::placement::{Place, Refusal};
use crate::run::coarse::coarse;
use crate::run::progress::Progress;
use crate::sharing::View;
use tierce_crds::conditions::{Verdict, node_volume, shared_volume, volume as reason};
use tierce_crds::{
    Binding, DeletionPolicy, Phase, format_bytes, mount_options, parse_bytes, roughly, size_made_of,
};

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// From now on nothing of it goes without us.
    AddFinalizer,
    /// It may go.
    RemoveFinalizer,
    /// Makes the claim.
    CreateClaim,
    /// Asks for more on the claim: bytes.
    GrowClaim(u64),
    /// Asks for less on the claim than a growth that did not happen: bytes.
    LowerClaim(u64),
    /// Deletes the claim of this UID.
    DeleteClaim(String),
    /// Lets the claim go that is being deleted: nobody shares the volume any more.
    ReleaseClaim,
    /// Keeps the `PersistentVolume` of this name when its claim goes, and notes there where the data is.
    Keep(String, String),
    /// Lets the `PersistentVolume` of this name go with its claim again.
    LetGo(String),
    /// Hands the mount options on to the `NodeVolume` of this id.
    SetMountOptions(String),
}

/// What the status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// For people.
    pub(crate) phase: Phase,
    /// Of the `Ready` condition.
    pub(crate) ready: Verdict,
    /// Whether work is under way, or somebody has to act.
    pub(crate) progress: Progress,
    /// Whether it most likely passes at once, so that it is written only if it lasts.
    pub(crate) passing: bool,
}

/// What to do, in this order, and what to say then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Writes; those after one that fails are not tried.
    pub(crate) actions: Vec<Action>,
    /// `None`: the object is about to go, nothing needs saying.
    pub(crate) said: Option<Said>,
}

impl Said {
    fn settled(phase: Phase, reason: &'static str, message: String) -> Self {
        Self { phase, ready: Verdict::yes(reason, message), progress: Progress::Settled, passing: false }
    }

    fn under_way(phase: Phase, reason: &'static str, message: String) -> Self {
        Self { phase, ready: Verdict::no(reason, message), progress: Progress::UnderWay, passing: true }
    }

    fn lasting(self) -> Self {
        Self { passing: false, ..self }
    }

    /// The same where the API server has refused a write for good: somebody has to know the words.
    #[must_use]
    pub(crate) fn refused(self, action: &Action, words: String) -> Self {
        match action {
            Action::GrowClaim(_) | Action::LowerClaim(_) => self.but(&words),
            _ => Self::stalled(Phase::Failed, reason::FAILED, words),
        }
    }

    /// It works as it is, and somebody has to act all the same.
    fn but(self, words: &str) -> Self {
        let message = format!("{}; {words}", self.ready.message);
        let ready = Verdict { message, ..self.ready };
        Self { ready, progress: Progress::Stalled, passing: false, ..self }
    }

    fn stalled(phase: Phase, reason: &'static str, message: String) -> Self {
        Self { phase, ready: Verdict::no(reason, message), progress: Progress::Stalled, passing: false }
    }
}

/// Decides.
pub(crate) fn plan(o: &Observed) -> Plan {
    let Front { owner, asked, guarded, leaving, .. } = &o.front;
    if *leaving {
        return if *guarded { deletion(o) } else { Plan { actions: Vec::new(), said: None } };
    }
    let mut actions = if *guarded { Vec::new() } else { vec![Action::AddFinalizer] };
    let said = match parse_bytes(&asked.size) {
        Err(error) => Said::stalled(Phase::Failed, reason::FAILED, format!("spec.size: {error}")),
        Ok(size) => match (&o.claim, o.own_claim()) {
            (None, _) => without_claim(o, &mut actions),
            (Some(_), None) => {
                // Nothing of ours is there, so there is nothing to guard either.
                actions.clear();
                let (kind, name) = (owner.kind, &owner.name);
                let message = format!(
                    "a PersistentVolumeClaim {name:?} exists that does not belong to this {kind}; it is left as it is. \
                     Delete it, or give the {kind} another name"
                );
                Said::stalled(Phase::Failed, reason::NAME_CONFLICT, message)
            }
            (Some(_), Some(claim)) => with_claim(o, claim, size, &mut actions),
        },
    };
    Plan { actions, said: Some(said) }
}

fn without_claim(o: &Observed, actions: &mut Vec<Action>) -> Said {
    if o.front.told.volume_name.is_some() {
        let kind = o.front.owner.kind;
        // Making it anew would hand out an empty volume as if nothing had happened.
        let message = match (&o.persistent_volume, &o.device) {
            (Some((name, _)), Some(device)) => format!(
                "the PersistentVolumeClaim was deleted; PersistentVolume {name} on node {} still has the data. \
                 Delete this {kind} once the data is no longer needed or is bound to another claim",
                device.node
            ),
            _ => format!(
                "the PersistentVolumeClaim was deleted, and the data with it. Delete this {kind} and make it anew"
            ),
        };
        return Said::stalled(Phase::Lost, reason::CLAIM_LOST, message);
    }
    if let Some(ready) = o.front.unfit.clone() {
        actions.retain(|action| *action != Action::AddFinalizer);
        return Said { phase: Phase::Failed, ready, progress: Progress::Stalled, passing: false };
    }
    if let Some(message) = shared_and_encrypted(o) {
        actions.retain(|action| *action != Action::AddFinalizer);
        return Said::stalled(Phase::Failed, shared_volume::ENCRYPTION_NOT_SUPPORTED, message);
    }
    if let Some(message) = no_source(o) {
        actions.retain(|action| *action != Action::AddFinalizer);
        return Said::stalled(Phase::Failed, reason::NO_SOURCE, message);
    }
    if let Some(words) = wrong_options(o) {
        actions.retain(|action| *action != Action::AddFinalizer);
        return Said::stalled(Phase::Failed, reason::FAILED, words);
    }
    match o.place() {
        Err(refusal @ Refusal::NoSuchTier { .. }) => {
            actions.retain(|action| *action != Action::AddFinalizer);
            refused(refusal)
        }
        place => {
            actions.push(Action::CreateClaim);
            not_made(o, place)
        }
    }
}

/// Nothing is made yet. What the disks lack comes before what leads to them, but room may come at any time, and a class does not.
fn not_made(o: &Observed, place: Result<Place, Refusal>) -> Said {
    let no_disk = matches!(place, Err(Refusal::NoSuchTier { .. } | Refusal::NoPool { .. }));
    match (&o.class_trouble, place) {
        (Some(trouble), _) if !no_disk => {
            Said::stalled(Phase::Failed, reason::NO_STORAGE_CLASS, trouble.clone())
        }
        (_, Err(refusal)) => refused(refusal),
        (_, Ok(_)) => match &o.quota {
            Some(exceeded) => Said::stalled(Phase::Failed, reason::QUOTA_EXCEEDED, exceeded.to_string()),
            None => waiting(o),
        },
    }
}

/// Plaintext where the tier promises encryption would be noticed by nobody.
fn shared_and_encrypted(o: &Observed) -> Option<String> {
    let asked = &o.front.asked;
    (asked.is_shared() && o.encrypted).then(|| {
        format!(
            "volumes of tier {:?} are encrypted by default, and a shared volume can't be yet: make the {} anew with \
             encryption: {{enabled: false}}, or in another tier",
            asked.tier, o.front.owner.kind
        )
    })
}

/// Why it can't start with what its source names. A change of the mode may be permitted, which the provisioner knows.
fn no_source(o: &Observed) -> Option<String> {
    let start = match o.start.as_ref()? {
        Ok(start) => start,
        Err(message) => return Some(format!("spec.source: {message}; it is made as soon as that is there")),
    };
    let Front { owner, asked, .. } = &o.front;
    if start.bytes > asked.made_bytes() {
        let has = format_bytes(start.bytes);
        return Some(format!(
            "spec.source has {has}, more than spec.size: raise spec.size to at least {has}"
        ));
    }
    if asked.encrypted.is_some_and(|encrypted| encrypted != start.encrypted) {
        let is = if start.encrypted { "encrypted" } else { "not encrypted" };
        return Some(format!(
            "spec.source is {is}, and a copy is as well: make the {} anew without spec.encryption",
            owner.kind
        ));
    }
    match (start.filesystem, asked.filesystem) {
        (Some(has), Some(asked)) if has != asked => Some(format!(
            "spec.source has filesystem {has}, not {asked}: make the {} anew without spec.filesystem",
            owner.kind
        )),
        _ => None,
    }
}

/// Why no node would mount it with its options. Where `spec.filesystem` says nothing, admission does not know with which filesystem they have to go.
fn wrong_options(o: &Observed) -> Option<String> {
    let refusal = mount_options::check(o.filesystem?, &o.front.asked.mount_options).err()?;
    Some(format!("spec.mountOptions: {refusal}"))
}

/// There is room, and nothing is made yet.
fn waiting(o: &Observed) -> Said {
    match o.front.asked.binding() {
        Binding::OnFirstUse => Said::settled(
            Phase::Pending,
            reason::WAITING_FOR_FIRST_USE,
            "ready to use: it is made on the node of the first pod that uses it".to_owned(),
        ),
        Binding::Immediate => {
            Said::under_way(Phase::Pending, reason::PROVISIONING, "it waits for the provisioner".to_owned())
        }
    }
}

fn refused(mut refusal: Refusal) -> Said {
    let reason = match &refusal {
        Refusal::NoSuchTier { .. } => reason::NO_SUCH_TIER,
        Refusal::NoPool { .. } => reason::NO_POOL,
        Refusal::OutOfSpace { .. } => reason::OUT_OF_SPACE,
    };
    // Coarser than it is known: a figure that moves all the time would be written all the time.
    if let Refusal::OutOfSpace { largest, .. } = &mut refusal {
        *largest = coarse(*largest);
    }
    Said::stalled(Phase::Failed, reason, refusal.to_string())
}

fn with_claim(o: &Observed, claim: &Claim, size: u64, actions: &mut Vec<Action>) -> Said {
    if claim.deleting {
        // It goes when the last pod lets it; what becomes of the data has to be settled before.
        actions.extend(settle_retention(o));
        if claim.guarded {
            return claim_going(o, claim, actions);
        }
        let message = "its PersistentVolumeClaim is being deleted".to_owned();
        return Said::under_way(Phase::Lost, reason::CLAIM_LOST, message);
    }
    match (claim.phase, &o.persistent_volume, &o.device) {
        (ClaimPhase::Lost, ..) => {
            let message = format!(
                "the PersistentVolume behind its claim was deleted. Delete this {} and make it anew",
                o.front.owner.kind
            );
            Said::stalled(Phase::Lost, reason::CLAIM_LOST, message)
        }
        (ClaimPhase::Pending, _, Some(device)) if device.deleting_since.is_none() => being_made(o, device),
        (ClaimPhase::Pending, ..) => {
            // Nothing is made, and what an unbound claim asks for can't be changed: it is made anew. One that an admission webhook made larger
            // would be made larger again.
            if size < claim.requested && asks_for_what_we_wrote(claim) && claim.volume_name.is_none() {
                actions.push(Action::DeleteClaim(claim.uid.clone()));
            }
            match wrong_options(o) {
                Some(words) => Said::stalled(Phase::Failed, reason::FAILED, words),
                None => not_made(o, o.place()),
            }
        }
        (ClaimPhase::Bound, Some(_), Some(device)) => {
            actions.extend(settle_retention(o));
            // The provisioner fulfils what the claim asked when it was made; a claim grows only once it is bound.
            // One that a quota has no room for is not asked for before it has: then it is carried out at once.
            if size > claim.requested && o.quota.is_none() {
                actions.push(Action::GrowClaim(size));
            }
            actions.extend(taken_back(claim, size).map(Action::LowerClaim));
            let said = bound(o, device, size);
            let others = device.mount_options != o.front.asked.mount_options;
            match wrong_options(o).filter(|_| others) {
                Some(words) => return said.but(&words),
                None if others && device.deleting_since.is_none() => {
                    actions.push(Action::SetMountOptions(device.id.clone()));
                }
                None => {}
            }
            said
        }
        (ClaimPhase::Bound, pv, _) => {
            actions.extend(settle_retention(o));
            let missing = if pv.is_some() { "NodeVolume" } else { "PersistentVolume" };
            let message = format!("the {missing} behind its claim is not there");
            Said { passing: true, ..Said::stalled(Phase::Lost, reason::CLAIM_LOST, message) }
        }
    }
}

/// Somebody deleted the claim of one that is shared. It stays, with the data, under the pods of other namespaces.
fn claim_going(o: &Observed, claim: &Claim, actions: &mut Vec<Action>) -> Said {
    let shared = |view: &View| !view.left().is_empty() || !view.pods_elsewhere().is_empty();
    if claim.phase == ClaimPhase::Pending && !o.sharing.as_ref().is_some_and(shared) {
        // There is no data yet; it is made anew.
        actions.push(Action::ReleaseClaim);
        let message = "its PersistentVolumeClaim is being deleted".to_owned();
        return Said::under_way(Phase::Lost, reason::CLAIM_LOST, message);
    }
    let Owner { kind, namespace, .. } = &o.front.owner;
    let message = format!(
        "its PersistentVolumeClaim in namespace {namespace} was deleted, and can't be used by new pods there. It stays, and the          data with it, until this {kind} is deleted too and no pod of any namespace uses it"
    );
    Said::stalled(Phase::Lost, reason::CLAIM_LOST, message)
}

/// Whether nobody else has changed what it asks for.
fn asks_for_what_we_wrote(claim: &Claim) -> bool {
    claim.raised_to == Some(claim.requested)
}

/// What the claim is to ask for where it asks for a growth that did not happen and that its owner has thought better of. A growth that somebody
/// else asks for on the claim is theirs. The API server takes nothing that is not above what the claim has, so that it grows by a step.
fn taken_back(claim: &Claim, size: u64) -> Option<u64> {
    if !asks_for_what_we_wrote(claim) || claim.capacity == 0 {
        return None;
    }
    let least = size.max(size_made_of(claim.capacity + 1));
    (least < claim.requested).then_some(least)
}

fn being_made(o: &Observed, device: &Device) -> Said {
    if o.node_is_there && !o.node_works {
        let message = format!(
            "node {} does not answer. It is made there when the node comes back, or elsewhere once the Node is deleted",
            device.node
        );
        return Said::under_way(Phase::Pending, reason::PROVISIONING, message).lasting();
    }
    let message = match &device.word {
        Some(word) if !word.ready => format!("node {}: {}", device.node, word.message),
        _ => format!("it is being made on node {}", device.node),
    };
    Said::under_way(Phase::Pending, reason::PROVISIONING, message)
}

fn bound(o: &Observed, device: &Device, size: u64) -> Said {
    let node = &device.node;
    if !o.node_is_there {
        let message = format!(
            "node {node} is not in the cluster any more, and the data is on its disk. If the node comes back under its \
             name, so does the volume; if it never will, delete this {}",
            o.front.owner.kind
        );
        return Said::stalled(Phase::Lost, reason::NODE_LOST, message);
    }
    let has = device.capacity.unwrap_or(0);
    let trouble = device.word.as_ref().filter(|word| !word.ready);
    if has < size {
        let no_room = |largest: u64| {
            let message = format!(
                "node {node} has no room to grow it to {}: at most {} would fit. It works with its {} until then",
                format_bytes(size),
                roughly(largest),
                format_bytes(has)
            );
            Said::stalled(Phase::Growing, reason::OUT_OF_SPACE, message)
        };
        let fits = device.promise().saturating_add(o.room(device));
        return match trouble {
            Some(word) if word.reason == node_volume::OUT_OF_SPACE => no_room(device.largest.unwrap_or(has)),
            _ if size > fits => no_room(fits),
            _ if let Some(exceeded) = &o.quota => {
                let message = format!("{exceeded}. It works with its {} until then", format_bytes(has));
                Said::stalled(Phase::Growing, reason::QUOTA_EXCEEDED, message)
            }
            _ => {
                let message = format!("it grows from {} to {}", format_bytes(has), format_bytes(size));
                Said::under_way(Phase::Growing, reason::GROWING, message)
            }
        };
    }
    match trouble {
        Some(word) if word.reason != node_volume::OUT_OF_SPACE => {
            let message = format!("node {node}: {}", word.message);
            Said::stalled(Phase::Failed, reason::FAILED, message)
        }
        _ => {
            let stays = if outlives(o) { stays(o.front.owner.kind) } else { String::new() };
            let message = format!("{} on node {node}, pool {}{stays}", format_bytes(has), device.pool);
            Said::settled(Phase::Ready, reason::PROVISIONED, message)
        }
    }
}

/// Beside where the data is.
fn stays(kind: &str) -> String {
    format!(
        "; its PersistentVolume, and so the data, stays when the {kind} is deleted, whatever spec.deletionPolicy says: its \
         StorageClass, or somebody since, has it retained"
    )
}

/// Whether the data stays against the Volume's word.
fn outlives(o: &Observed) -> bool {
    let kept = o.persistent_volume.as_ref().is_some_and(|(_, pv)| pv.retain && pv.retained_from.is_none());
    kept && o.front.asked.deletion_policy == DeletionPolicy::Delete
}

/// The `PersistentVolume` follows `deletionPolicy`. One that somebody else made stay (a StorageClass, an administrator)
/// is never let go: only our own note says that it was us.
fn settle_retention(o: &Observed) -> Option<Action> {
    let (name, pv) = o.persistent_volume.as_ref()?;
    match o.front.asked.deletion_policy {
        DeletionPolicy::Retain if !pv.retain || pv.retained_from.is_none() => {
            Some(Action::Keep(name.clone(), retained_from(o)))
        }
        DeletionPolicy::Delete if pv.retain && pv.retained_from.is_some() => {
            Some(Action::LetGo(name.clone()))
        }
        DeletionPolicy::Retain | DeletionPolicy::Delete => None,
    }
}

/// Where the data is, for the person who finds the `PersistentVolume` later.
fn retained_from(o: &Observed) -> String {
    let Owner { kind, namespace, name, .. } = &o.front.owner;
    match &o.device {
        Some(device) => format!("{kind} {namespace}/{name} on node {}, pool {}", device.node, device.pool),
        None => format!("{kind} {namespace}/{name}"),
    }
}

fn deletion(o: &Observed) -> Plan {
    let deleting = |message: String| Said::under_way(Phase::Deleting, reason::DELETING, message);
    let namespace = &o.front.owner.namespace;
    let others = o.sharing.as_ref().map(View::pods_elsewhere).unwrap_or_default();
    if o.own_claim().is_some() && !o.pods.is_empty() || !others.is_empty() {
        let pods: Vec<_> = o.pods.iter().map(|pod| format!("{namespace}/{pod}")).chain(others).collect();
        let message = format!("it is deleted when no pod uses it any more; used now by {}", pods.join(", "));
        let said = Said::under_way(Phase::Deleting, reason::IN_USE, message).lasting();
        // Its claim may be on its way already, by somebody else's hand.
        return Plan { actions: settle_retention(o).into_iter().collect(), said: Some(said) };
    }
    let left = o.sharing.as_ref().map(View::left).unwrap_or_default();
    if !left.is_empty() {
        let message = format!("it waits until its PersistentVolumeClaims are gone from {}", left.join(", "));
        return Plan { actions: settle_retention(o).into_iter().collect(), said: Some(deleting(message)) };
    }
    let Some(claim) = o.own_claim() else {
        return after_the_claim(o);
    };
    if let Some(bound_to) = &claim.volume_name {
        match &o.persistent_volume {
            Some(_) => {
                // Only once the watch shows that the PersistentVolume stays may its claim go.
                if let Some(action) = settle_retention(o) {
                    let said = deleting("the controller settles first what becomes of the data".to_owned());
                    return Plan { actions: vec![action], said: Some(said) };
                }
            }
            None if o.front.asked.deletion_policy == DeletionPolicy::Retain
                    // Before that the name is only a wish.
                    && claim.phase == ClaimPhase::Bound =>
            {
                let said =
                    deleting(format!("it waits to see PersistentVolume {bound_to}, which has to stay"));
                return Plan { actions: Vec::new(), said: Some(said) };
            }
            None => {}
        }
    }
    let action = match (claim.deleting, claim.guarded) {
        (false, _) => Some(Action::DeleteClaim(claim.uid.clone())),
        (true, true) => Some(Action::ReleaseClaim),
        (true, false) => None,
    };
    let actions = action.into_iter().collect();
    Plan { actions, said: Some(deleting("it waits until its PersistentVolumeClaim is gone".to_owned())) }
}

/// "Deleted" means that the data is gone; but a node that is gone is not waited for.
fn after_the_claim(o: &Observed) -> Plan {
    // A claim that was orphaned, or one made anew, may hold it; then the data is that one's.
    let of_another =
        |name: &String| o.claim.as_ref().is_some_and(|claim| claim.volume_name.as_ref() == Some(name));
    match (&o.persistent_volume, &o.device) {
        (Some((name, pv)), Some(device)) if !pv.retain && o.node_is_there && !of_another(name) => {
            let message = format!("it waits until node {} has removed the data", device.node);
            let said = Said::under_way(Phase::Deleting, reason::DELETING, message);
            Plan { actions: Vec::new(), said: Some(said) }
        }
        _ => Plan { actions: vec![Action::RemoveFinalizer], said: None },
    }
}
