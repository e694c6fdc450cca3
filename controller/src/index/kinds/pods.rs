//! Whom changes of pods that hold claims concern, and what is looked up of them.

use crate::index::news::{Affects, Change, News};
use crate::index::{Namespaced, Pod, PodObject, State, Table, Tracked};
use std::sync::Arc;

impl Tracked for PodObject {
    type Key = Namespaced;
    type Facts = Pod;

    fn facts(self) -> Option<Pod> {
        Pod::of(&self)
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Pod> {
        &mut state.pods
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        let claims = |pod: Option<&Arc<Pod>>| claims_of(change.key, pod);
        state.pods_of_claim.change(&change.key.name, claims(change.old), claims(change.new));
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Pod(change)
    }
}

/// The claims that the pod of this key uses.
pub(crate) fn claims_of(key: &Namespaced, pod: Option<&Arc<Pod>>) -> Vec<Namespaced> {
    let names = pod.into_iter().flat_map(|pod| &pod.claims);
    names.map(|name| Namespaced::new(&key.namespace, name)).collect()
}

impl State {
    /// Whether the claim is used by one pod on a node, or none.
    pub(super) fn has_at_most_one_pod(&self, claim: &Namespaced) -> bool {
        self.pods_of_claim.of(claim).nth(1).is_none()
    }

    /// Names and nodes of the pods that use the claim, sorted. `may_begin`: those that have not begun to run count as well, since the claim lets them.
    pub fn nodes_of_pods(&self, claim: &Namespaced, may_begin: bool) -> Vec<(String, String)> {
        let key = |pod: &String| Namespaced::new(&claim.namespace, pod);
        let pods =
            self.pods_of_claim.of(claim).filter_map(|pod| Some((pod.clone(), self.pods.get(&key(pod))?)));
        let pods = pods.filter(|(_, pod)| may_begin || pod.begun);
        let mut pods: Vec<_> = pods.map(|(name, pod)| (name, pod.node.clone())).collect();
        pods.sort_unstable();
        pods
    }

    /// Pods on nodes that use the claim, by name.
    pub fn pods_of(&self, claim: &Namespaced) -> Vec<String> {
        let mut pods: Vec<_> = self.pods_of_claim.of(claim).cloned().collect();
        pods.sort_unstable();
        pods
    }
}
