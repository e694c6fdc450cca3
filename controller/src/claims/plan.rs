//! What is to be done about a claim that waits for its volume. Pure.

use crate::index::{Awaited, Claim, Class, Namespaced, Start, State};
use crate::storage_class;
use crate::volumes::life::start;
use std::sync::Arc;
use tierce_crds::{Binding, names};

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
    /// Why nothing can be made through its class.
    pub(super) slip: Option<String>,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// The volume is to be made on this node.
    Choose(String),
    /// Its owner has to know this.
    Tell(String),
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
            slip,
            node_is_there: start.as_ref().is_some_and(|start| state.has_node(&start.node)),
            claim: Arc::clone(claim),
            class: Arc::clone(class),
            start,
        })
    }
}

/// Decides.
pub(super) fn plan(o: &Observed) -> Vec<Action> {
    o.slip.clone().map(Action::Tell).into_iter().chain(choice(o)).collect()
}

/// A copy lies on the node of its source, and kube-scheduler knows nothing of that: with `WaitForFirstConsumer` it may pick another one each time,
/// which CreateVolume has to refuse. It keeps to a node that is chosen already, so that is done here, before a pod comes. One that it chose
/// faster is replaced: nothing can be made there.
fn choice(o: &Observed) -> Option<Action> {
    let start = o.start.as_ref().filter(|_| o.class.binding == Binding::OnFirstUse && o.node_is_there)?;
    (o.claim.selected_node.as_ref() != Some(&start.node)).then(|| Action::Choose(start.node.clone()))
}
