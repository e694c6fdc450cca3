//! What is to be done in other namespaces, and for other nodes. Pure; every property is checked anew each time.

use super::view::{Place, View};
use tierce_crds::{Access, Export};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Makes claim and `PersistentVolume` in the namespace, or what is missing of them.
    Give(String, Access),
    /// Deletes the claim of this UID in the namespace. Kubernetes keeps it while pods use it.
    DeleteClaim(String, String),
    /// Deletes the `PersistentVolume` of this name and UID, of the claim in the namespace, if that is gone, or as good as gone.
    DeletePersistentVolume(String, String, String),
    /// Lets the claim of this UID go that has the data, in the SharedVolume's own namespace.
    Release(String),
    /// Tells the node that has the data to whom it is to serve it.
    Serve(Export),
}

impl Action {
    /// The namespace that is given a claim.
    pub(super) fn gives(&self) -> Option<&str> {
        match self {
            Self::Give(namespace, _) => Some(namespace),
            _ => None,
        }
    }
}

/// Decides. `export`: to whom it is to be served; `forsaken`: the SharedVolume is gone, by force, so that nobody else lets its claim go.
pub(super) fn plan(view: &View, export: Option<Export>, forsaken: bool) -> Vec<Action> {
    // A node is let in before a pod there waits for it. Also where the volume is to go, others are taken off: it does not go before.
    let has = view.device.as_ref().and_then(|device| device.export.as_ref());
    let serve = export.filter(|export| has != Some(export)).map(Action::Serve);
    let home = view.home.as_ref().filter(|(_, claim)| forsaken && claim.guarded && claim.deleting);
    let is_in_use = !view.left().is_empty() || !view.pods_elsewhere().is_empty();
    let release = home.filter(|_| !is_in_use).map(|(_, claim)| Action::Release(claim.uid.clone()));
    let is_made = view.device.as_ref().is_some_and(|device| {
        device.export.is_some() && device.capacity.is_some() && device.deleting_since.is_none()
    });
    serve
        .into_iter()
        .chain(release)
        .chain(view.places.iter().filter_map(|place| of_place(place, is_made)))
        .collect()
}

fn of_place(place: &Place, is_made: bool) -> Option<Action> {
    let namespace = place.namespace.clone();
    if let (true, Some(access)) = (place.is_as_wanted(), place.wanted) {
        let foreign = place.claim.is_some() && !place.ours;
        return (is_made && !foreign && place.pv.is_none()).then_some(Action::Give(namespace, access));
    }
    // A claim that is being deleted lets no new pod begin, and can't be taken back: a Deployment would neither roll on nor get back what a node lost.
    if place.is_to_change() && !place.is_idle() {
        return None;
    }
    match (place.claim.as_ref().filter(|_| place.ours), &place.pv) {
        (Some(claim), _) if !claim.deleting => {
            // The PersistentVolume of an earlier claim goes first: the new one would wait for it for ever.
            let stale = place.pv.as_ref().filter(|(_, pv)| pv.claim_uid.as_ref() != Some(&claim.uid));
            match stale {
                Some((name, pv)) if place.wanted.is_some() => {
                    Some(Action::DeletePersistentVolume(namespace, name.clone(), pv.uid.clone()))
                }
                _ => Some(Action::DeleteClaim(namespace, claim.uid.clone())),
            }
        }
        (_, Some((name, pv))) if place.is_over() && place.is_idle() && !pv.deleting => {
            Some(Action::DeletePersistentVolume(namespace, name.clone(), pv.uid.clone()))
        }
        _ => None,
    }
}
