//! What is to be done about a claim that waits for its volume. Pure.

use crate::index::{Awaited, Claim, Class, Namespaced, Start, State};
use crate::placement::{self, Refusal, Request};
use crate::quota::{self, Ask};
use crate::storage_class;
use crate::volumes::life::start;
use std::sync::Arc;
use tierce_crds::conditions::volume as reason;
use tierce_crds::{Binding, format_bytes, names, size_made_of};

/// What there is.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) claim: Arc<Claim>,
    /// The class that is to make its volume.
    pub(super) class: Arc<Class>,
    /// What its volume starts with, where that is there and may be read from its namespace.
    pub(super) start: Option<Start>,
    /// Whether the node of that is in the cluster.
    pub(super) node_is_there: bool,
    /// Whether CreateVolume would find room there.
    pub(super) has_room: bool,
    /// Whether a quota has no room for it; `None` where no quota holds for it.
    pub(super) over_quota: Option<bool>,
    /// Why nothing can be made through its class.
    pub(super) slip: Option<String>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// The volume is to be made on this node.
    Choose(String),
    /// Looks again later whether there is room.
    AwaitRoom,
    /// Its owner has to know this.
    Tell(Word),
}

/// An Event about the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Observed {
    /// Looks; `None` where no volume of ours is waited for.
    pub(super) fn look(state: &State, key: &Namespaced) -> Option<Self> {
        let claim = state.claims.get(key)?;
        let class =
            state.classes.get(claim.waits_for()?).filter(|class| class.provisioner == names::DRIVER)?;
        let start = claim.source.as_ref().and_then(|source| match source {
            Awaited::Snapshot(key) => start::of_snapshot(state, &key.namespace, &key.name).ok(),
            Awaited::Volume(key) => start::of_claim(state, key).ok(),
        });
        let source = start.as_ref().and_then(|start| start.filesystem);
        let slip = storage_class::slip(class, &state.tiers(), state.namespace(), source);
        Some(Self {
            over_quota: over_quota(state, key, claim, class),
            slip,
            node_is_there: start.as_ref().is_some_and(|start| state.has_node(&start.node)),
            has_room: start.as_ref().is_none_or(|start| has_room(state, claim, class, start)),
            claim: Arc::clone(claim),
            class: Arc::clone(class),
            start,
        })
    }
}

/// Whether CreateVolume would find room for the copy, or make no question of that: for what is being made there, or in a tier that is not there.
fn has_room(state: &State, claim: &Claim, class: &Class, start: &Start) -> bool {
    let Some(tier) = class.parameters.get(names::PARAMETER_TIER) else { return true };
    let request = Request {
        tier: tier.clone(),
        size: size_made_of(claim.requested),
        allowed: Some([start.node.clone()].into()),
        preferred: Vec::new(),
        beside: None,
        closed: true,
    };
    let refusal = placement::choose(&request, &state.offers(), &state.tiers()).err();
    !matches!(refusal, Some(Refusal::OutOfSpace { .. } | Refusal::NoPool { .. }))
        || state.devices.exists(&claim.device_id())
}

fn over_quota(state: &State, key: &Namespaced, claim: &Claim, class: &Class) -> Option<bool> {
    let tier = class.parameters.get(names::PARAMETER_TIER)?;
    if !quota::holds(state, &key.namespace) {
        return None;
    }
    let (volume, bytes) = (claim.device_id(), size_made_of(claim.requested));
    Some(quota::refusal(state, &key.namespace, Ask { volume: &volume, tier, bytes }).is_some())
}

/// Whether somebody waits for its volume now: CreateVolume was called, and may have been refused.
pub(super) fn is_asked_for(o: &Observed) -> bool {
    o.claim.selected_node.is_some() || o.class.binding == Binding::Immediate
}

/// Decides.
pub(super) fn plan(o: &Observed) -> Vec<Action> {
    let choice = choice(o);
    let crowded = choice.as_ref().filter(|choice| **choice == Action::AwaitRoom);
    let word = unusable(o).or_else(|| crowded.and_then(|_| no_room(o)));
    word.map(Action::Tell).into_iter().chain(choice).collect()
}

/// A copy lies on the node of its source, and kube-scheduler knows nothing of that: with `WaitForFirstConsumer` it may pick another one each time,
/// which CreateVolume has to refuse. It keeps to a node that is chosen already, so that is done here, before a pod comes. One that it chose
/// faster is replaced: nothing can be made there. Where there is no room either, a choice would be taken back at once, again and again.
fn choice(o: &Observed) -> Option<Action> {
    let start = o.start.as_ref().filter(|_| o.class.binding == Binding::OnFirstUse && o.node_is_there)?;
    (o.claim.selected_node.as_ref() != Some(&start.node))
        .then(|| if o.has_room { Action::Choose(start.node.clone()) } else { Action::AwaitRoom })
}

/// Before a pod comes external-provisioner says nothing, and kube-scheduler may never let one come.
fn unusable(o: &Observed) -> Option<Word> {
    let class = o.claim.class.as_deref().unwrap_or_default();
    let message = format!("no volume can be made through StorageClass {class}: {}", o.slip.as_ref()?);
    Some(Word { reason: "StorageClassUnusable", message })
}

/// Without the room that there is: it changes all the time, and each word is told.
fn no_room(o: &Observed) -> Option<Word> {
    let (size, node) = (format_bytes(o.claim.requested), &o.start.as_ref()?.node);
    let message = format!(
        "no pool of its tier on node {node}, where what it starts with lies, has room for {size}: it is made there once one has"
    );
    Some(Word { reason: reason::OUT_OF_SPACE, message })
}
