//! What a SharedVolume has in other namespaces and on other nodes, at one moment.

use crate::index::{Claim, ClaimPhase, Device, Namespaced, PersistentVolume, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tierce_crds::{Access, Export, Member, SharedClaim, SharedClient, names};

/// As many nodes as the API takes.
pub(super) const MOST_NODES: usize = 5_000;

/// Instead of the UID of a SharedVolume, where a claim at home is all that is left of one.
pub(super) const NOBODY: &str = "";
/// Pods of a namespace that a message names.
const MOST_NAMED: usize = 10;

/// What there is of one SharedVolume.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The `NodeVolume` that has the data.
    pub(super) device: Option<Arc<Device>>,
    /// Its own namespace and its claim there.
    pub(super) home: Option<(String, Arc<Claim>)>,
    /// Nodes of the pods that use it in its own namespace.
    at_home: BTreeSet<String>,
    /// Nodes on the list of those that it is served to, of which Kubernetes hears.
    working: BTreeSet<String>,
    pub(super) places: Vec<Place>,
    /// Namespaces that have no claim, and why.
    refused: BTreeMap<String, String>,
}

/// One other namespace.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) namespace: String,
    /// What its pods are to do; `None`: it is no member (any more).
    pub(super) wanted: Option<Access>,
    /// The claim of the SharedVolume's name, whoever's it is.
    pub(super) claim: Option<Arc<Claim>>,
    /// Whether the claim was made for this SharedVolume.
    pub(super) ours: bool,
    /// Its `PersistentVolume`, by name.
    pub(super) pv: Option<(String, Arc<PersistentVolume>)>,
    /// Names and nodes of the pods that use it.
    pods: Vec<(String, String)>,
}

/// Whether the claim says that it was made for the SharedVolume of this UID, and names no other volume. Anybody may write the label; a claim with
/// data of its own is nobody's but theirs.
fn is_made_for(claim: &Claim, uid: &str, device: Option<&Arc<Device>>) -> bool {
    let volume = claim.volume_name.as_deref().and_then(names::of_shared_handle);
    let names_it = volume.is_some_and(|volume| device.is_none_or(|device| device.id == volume));
    claim.pair_of.as_deref() == Some(uid) && names_it
}

impl View {
    /// Looks at what the SharedVolume of this key has. `owner`: its kind and UID; `members`: none where it is being deleted.
    pub(crate) fn look(
        state: &State,
        key: &Namespaced,
        (kind, uid): (&str, &str),
        members: &[Member],
        device: Option<&Arc<Device>>,
    ) -> Self {
        let mut pairs: BTreeMap<String, (String, Arc<PersistentVolume>)> = BTreeMap::new();
        for (name, pv) in state.pairs_of(key) {
            if let Some(claim) =
                pv.claim.clone().filter(|_| pv.pair.as_ref().is_some_and(|pair| pair.uid == uid))
            {
                pairs.insert(claim.namespace, (name, pv));
            }
        }
        let elsewhere = |namespace: &String| *namespace != key.namespace;
        let mut wanted: BTreeMap<String, Option<Access>> =
            pairs.keys().cloned().map(|name| (name, None)).collect();
        let claims = state.claims_of_pair(uid).filter(|claim| claim.name == key.name);
        wanted.extend(claims.map(|claim| (claim.namespace.clone(), None)));
        wanted.extend(members.iter().map(|member| (member.name.clone(), Some(member.access))));
        wanted.retain(|namespace, _| elsewhere(namespace));
        let places = wanted.into_iter().map(|(namespace, wanted)| {
            let of = Namespaced::new(&namespace, &key.name);
            let claim = state.claims.get(&of).cloned();
            let pv = pairs.remove(&namespace);
            let is_bound = |claim: &Arc<Claim>| {
                pv.as_ref().is_some_and(|(_, pv)| pv.claim_uid.as_ref() == Some(&claim.uid))
            };
            let ours = claim.as_ref().is_some_and(|claim| is_bound(claim) || is_made_for(claim, uid, device));
            // Those of a claim that is somebody else's use something else. Without a PersistentVolume they use nothing.
            let its = pv.is_some() && (ours || claim.is_none());
            // Anybody of the namespace can make a pod that names a node, and a claim that is gone: it never begins.
            let may_begin = claim.as_ref().is_some_and(|claim| !claim.is_over());
            let pods = if its { state.nodes_of_pods(&of, may_begin) } else { Vec::new() };
            Place { namespace, wanted, claim, ours, pv, pods }
        });
        let places = places.collect();
        let own = state.claims.get(key);
        // One that was orphaned is its volume's still.
        let has_its_data = |claim: &Arc<Claim>| {
            let made_for = device.and_then(|device| device.claim.as_ref()).map(|claim| &claim.uid);
            claim.guarded && claim.owner.is_none() && (uid == NOBODY || made_for == Some(&claim.uid))
        };
        let is_own = own.is_some_and(|claim| claim.is_controlled_by(kind, Some(uid)) || has_its_data(claim));
        let may_begin = own.is_some_and(|claim| !claim.is_over());
        let at_home = if is_own || own.is_none() { state.nodes_of_pods(key, may_begin) } else { Vec::new() };
        let listed = device.and_then(|device| device.export.as_ref());
        let listed = listed.into_iter().flat_map(|export| export.nodes.iter().chain(&export.read_only_nodes));
        Self {
            refused: state.refused_to(key).cloned().unwrap_or_default(),
            working: listed.filter(|node| state.node_works(node)).cloned().collect(),
            device: device.cloned(),
            home: own.filter(|_| is_own).map(|claim| (key.namespace.clone(), Arc::clone(claim))),
            at_home: at_home.into_iter().map(|(_, node)| node).collect(),
            places,
        }
    }

    /// The group of its files, once it is made.
    pub(crate) fn gid(&self) -> Option<i64> {
        self.device.as_ref()?.export.as_ref().map(|export| export.gid)
    }

    /// Namespaces that have a claim of it.
    pub(crate) fn claims(&self) -> Vec<SharedClaim> {
        let home = self.home.as_ref().map(|(namespace, _)| SharedClaim {
            namespace: namespace.clone(),
            access: Access::Write,
            leaving: false,
        });
        let elsewhere = self.places.iter().filter(|place| place.ours).filter_map(|place| {
            let access = place.access().or(place.wanted)?;
            let leaving = !place.is_as_wanted();
            Some(SharedClaim { namespace: place.namespace.clone(), access, leaving })
        });
        home.into_iter().chain(elsewhere).collect()
    }

    /// Nodes that it is served to.
    pub(crate) fn clients(&self) -> Vec<SharedClient> {
        let Some(served) = self.device.as_ref().and_then(|device| device.served.as_ref()) else {
            return Vec::new();
        };
        let of = |nodes: &[String], access| -> Vec<_> {
            nodes.iter().map(|node| SharedClient { node: node.clone(), access }).collect()
        };
        let mut all = of(&served.nodes, Access::Write);
        all.extend(of(&served.read_only_nodes, Access::Read));
        all.sort_by(|one, other| one.node.cmp(&other.node));
        all
    }

    /// Namespaces that are to have it and have somebody else's claim of its name.
    pub(crate) fn conflicts(&self) -> Vec<String> {
        let foreign =
            self.places.iter().filter(|place| place.wanted.is_some() && place.claim.is_some() && !place.ours);
        foreign.map(|place| format!("namespace {}", place.namespace)).collect()
    }

    /// Namespaces that are to have a claim and have none, with the words of who refuses it.
    pub(crate) fn refused(&self) -> Vec<String> {
        let lacks = |place: &&Place| place.wanted.is_some() && place.pv.is_none();
        let words = self.places.iter().filter(lacks).filter_map(|place| {
            Some(format!("namespace {}: {}", place.namespace, self.refused.get(&place.namespace)?))
        });
        words.take(MOST_NAMED).collect()
    }

    /// Namespaces that are to have another access once no pod there uses it, with the pods that do.
    pub(crate) fn waiting_for_access(&self) -> Vec<String> {
        let waiting = self.places.iter().filter(|place| place.is_to_change() && !place.is_idle());
        let words = waiting.filter_map(|place| {
            let (now, pods) = (place.access()?, place.pods.iter().map(|(pod, _)| pod.as_str()));
            let pods: Vec<_> = pods.take(MOST_NAMED).collect();
            Some(format!("namespace {} has {now:?} while pods use it: {}", place.namespace, pods.join(", ")))
        });
        words.collect()
    }

    /// Pods of other namespaces that use it, with their namespaces.
    pub(crate) fn pods_elsewhere(&self) -> Vec<String> {
        let pods = |place: &Place| {
            let namespace = place.namespace.clone();
            let names: Vec<_> = place.pods.iter().map(|(pod, _)| format!("{namespace}/{pod}")).collect();
            names
        };
        self.places.iter().flat_map(pods).collect()
    }

    /// Other namespaces where pods may still begin to use it. What is being deleted there, and kept by somebody else's finalizer, keeps nobody from
    /// deleting what is their own.
    pub(crate) fn left(&self) -> Vec<String> {
        let left = self.places.iter().filter(|place| {
            let claim = place.claim.as_ref().filter(|_| place.ours);
            let pv = place.pv.as_ref().is_some_and(|(_, pv)| !pv.deleting);
            pv || claim.is_some_and(|claim| !claim.deleting)
        });
        left.map(|place| format!("namespace {}", place.namespace)).collect()
    }

    /// Whether this node, which is on the list, is in the cluster, and Kubernetes hears of it.
    pub(super) fn works(&self, node: &str) -> bool {
        self.working.contains(node)
    }

    /// The nodes of the pods that use it; `None` where it is not shared, or not there.
    pub(super) fn export(&self) -> Option<Export> {
        let device = self.device.as_ref()?;
        let gid = device.export.as_ref()?.gid;
        let (mut nodes, mut readers) = (self.at_home.clone(), BTreeSet::new());
        for place in &self.places {
            let reads = place.access() == Some(Access::Read);
            let of = if reads { &mut readers } else { &mut nodes };
            of.extend(place.pods.iter().map(|(_, node)| node.clone()));
        }
        // Those of its own node have it without a network.
        nodes.remove(&device.node);
        readers.remove(&device.node);
        let readers = readers.difference(&nodes).take(MOST_NODES).cloned().collect();
        Some(Export { nodes: nodes.into_iter().take(MOST_NODES).collect(), read_only_nodes: readers, gid })
    }
}

impl Place {
    /// What its pods may do now.
    fn access(&self) -> Option<Access> {
        self.pv.as_ref().and_then(|(_, pv)| pv.pair.as_ref()).map(|pair| pair.access)
    }

    /// Whether no pod uses it.
    pub(super) fn is_idle(&self) -> bool {
        self.pods.is_empty()
    }

    /// Whether its claim is gone, or as good as gone.
    pub(super) fn is_over(&self) -> bool {
        self.claim.as_ref().filter(|_| self.ours).is_none_or(|claim| claim.is_over())
    }

    /// Whether claim and `PersistentVolume` are there for it, and only the access is another one.
    pub(super) fn is_to_change(&self) -> bool {
        let same = Self { wanted: self.wanted.and(self.access()), ..self.clone() };
        self.wanted.is_some() && same.is_as_wanted() && !self.is_as_wanted()
    }

    /// Whether claim and `PersistentVolume`, as far as they are there, are what they should be.
    pub(super) fn is_as_wanted(&self) -> bool {
        let Some(wanted) = self.wanted else { return false };
        let claim = self.claim.as_ref().filter(|_| self.ours);
        let claim_is = claim.is_none_or(|claim| !claim.deleting && claim.phase != ClaimPhase::Lost);
        let pv_is = self.pv.as_ref().is_none_or(|(_, pv)| {
            let its = claim.is_some_and(|claim| pv.claim_uid.as_ref() == Some(&claim.uid));
            its && !pv.deleting && self.access() == Some(wanted)
        });
        claim_is && pv_is
    }
}
