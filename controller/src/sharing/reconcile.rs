//! Carries out what is decided about other namespaces and nodes.

use super::clients::{Clients, takes_away};
use super::persistent_volume::{labels, persistent_volume_elsewhere};
use super::plan::{Action, plan};
use super::refusals::Refusals;
use super::view::{NOBODY, View};
use crate::index::{Claim, ClaimObject, Device, Index, Namespaced, State};
use crate::run::objects::{created_by, gone_is_fine, patched_by, remove_finalizer, there_is_fine};
use crate::run::queue::Next;
use crate::run::refusal::is_refusal;
use k8s_openapi::api::core::v1::{
    Namespace, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, Patch, Preconditions};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tierce_crds::{Access, ClaimReference, Export, NodeVolume, SharedVolume, names};
use tierce_runtime::errors::in_words;
use tracing::{debug, warn};

/// How long the watch may take to show what the API server has.
const SHOWN: Duration = Duration::from_secs(5);
/// What was refused is not asked for again before.
const ASKED_AGAIN: Duration = Duration::from_secs(30);
/// What a claim asks for whose volume is there: what it gets is its volume's size, and no quota counts it a second time.
const LITTLE: &str = "1Mi";
const KIND: &str = "SharedVolume";

/// Reconciles what SharedVolumes have in other namespaces, and the nodes that they are served to.
pub(crate) struct Sharing {
    client: Client,
    index: Arc<Index>,
    clients: Clients,
    refusals: Refusals,
}

/// One SharedVolume, and what it has.
struct Look {
    key: Namespaced,
    uid: String,
    /// Whether it is gone.
    forsaken: bool,
    generation: Option<i64>,
    view: View,
}

/// Everything of one moment. Empty: it is not known what it has, or it has nothing.
fn look(state: &State, key: &Namespaced) -> Vec<Look> {
    if !state.shared_volumes.is_whole() {
        return Vec::new();
    }
    let known = state.shared_volumes.get(key);
    let uid = known.and_then(|shared| shared.metadata.uid.clone());
    // What another of that name left goes as well.
    let left = state.pairs_of(key).into_iter().filter_map(|(_, pv)| Some(pv.pair.as_ref()?.uid.clone()));
    let sharers = state.devices_shared_by(key).filter_map(|device| Some(device.sharer.as_ref()?.1.clone()));
    let has = |claim: &Arc<Claim>| {
        let mut made_for = state.devices_shared_by(key).filter_map(|device| device.claim.as_ref());
        made_for.any(|made_for| made_for.uid == claim.uid)
    };
    let home = state.claims.get(key).filter(|claim| claim.guarded).and_then(|claim| match &claim.owner {
        Some(owner) => (owner.kind == KIND).then(|| owner.uid.clone()),
        // It was orphaned.
        None => (!has(claim)).then(|| NOBODY.to_owned()),
    });
    let left = left.chain(sharers).chain(home).chain(state.claimed_for(key));
    let mut gone: Vec<_> = left.filter(|left| Some(left) != uid.as_ref()).collect();
    gone.sort_unstable();
    gone.dedup();
    // One that can't be read is there, and nobody knows what it says.
    if known.is_none() && state.shared_volumes.exists(key) {
        return Vec::new();
    }
    let of = |uid: String, members: &[_], device: Option<&Arc<Device>>, forsaken| Look {
        view: View::look(state, key, (KIND, &uid), members, device),
        key: key.clone(),
        uid,
        forsaken,
        generation: known.and_then(|shared| shared.metadata.generation),
    };
    let of_gone = |uid: String| {
        let is_its = |device: &&Arc<Device>| device.sharer.as_ref().is_some_and(|(_, its)| *its == uid);
        let device = state.devices_shared_by(key).find(is_its);
        of(uid.clone(), &[], device, true)
    };
    let mut looks: Vec<_> = gone.into_iter().map(of_gone).collect();
    if let (Some(shared), Some(uid)) = (known, uid) {
        let is_own = |claim: &&Arc<Claim>| claim.is_controlled_by(KIND, Some(&uid));
        let owned = state.claims.get(key).filter(is_own).and_then(|_| state.device_of(key));
        let named = || state.devices.get(shared.status.as_ref()?.volume_name.as_ref()?);
        let device = owned.or_else(named).filter(|device| {
            device
                .claim
                .as_ref()
                .is_some_and(|claim| claim.namespace == key.namespace && claim.name == key.name)
        });
        let leaving = shared.metadata.deletion_timestamp.is_some();
        let members = if leaving { &[][..] } else { &shared.spec.members };
        looks.push(of(uid, members, device, false));
    }
    looks
}

impl Sharing {
    /// Over this API server, with the facts of this index. `grace`: how long a node that works is served after its last pod.
    pub(crate) fn new(client: Client, index: Arc<Index>, grace: Duration) -> Self {
        Self { client, index, clients: Clients::new(grace), refusals: Refusals::default() }
    }

    /// Looks at one SharedVolume and does what is to be done. What fails in one namespace keeps no other from its own.
    pub(crate) async fn reconcile(&self, key: &Namespaced) -> Next {
        let (mut next, mut tried) = (Next::Event, BTreeSet::new());
        let looks = self.index.read(|state| look(state, key));
        self.clients.only(key, &looks.iter().map(|look| look.uid.as_str()).collect());
        for look in looks {
            let (export, stay) = self.clients.of((key, &look.uid), &look.view).unzip();
            next = sooner(next, stay.flatten().map_or(Next::Event, Next::After));
            let actions = plan(&look.view, export, look.forsaken);
            for action in &actions {
                let rest = action.gives().and_then(|to| self.refusals.rest(key, to, look.generation));
                if let Some(rest) = rest {
                    next = sooner(next, Next::After(rest));
                    continue;
                }
                let later = match self.act(&look, action).await {
                    Ok(later) => later,
                    Err(error) if is_refusal(&error) => {
                        let words = in_words(&error);
                        warn!(shared = %key, "{action:?} is refused, and tried again later: {words}");
                        Next::After(
                            action.gives().map_or(ASKED_AGAIN, |to| {
                                self.refusals.note(key, to, look.generation, words)
                            }),
                        )
                    }
                    Err(kube::Error::Api(status)) if status.is_conflict() => {
                        debug!(shared = %key, "{action:?} was decided on an older version");
                        Next::Failed
                    }
                    Err(error) => {
                        warn!(shared = %key, "cannot carry out {action:?}, tried again later: {}", in_words(&error));
                        Next::Failed
                    }
                };
                next = sooner(next, later);
            }
            tried.extend(actions.iter().filter_map(Action::gives).map(ToOwned::to_owned));
        }
        self.index.refused(key, self.refusals.only(key, &tried));
        next
    }

    async fn act(&self, look: &Look, action: &Action) -> Result<Next, kube::Error> {
        match action {
            Action::Give(namespace, access) => return self.give(look, namespace, *access).await,
            Action::DeleteClaim(namespace, uid) => {
                // What is told to go never comes back, and a watch may be late; the last word is the API server's.
                if !self.is_still_wanted_so(look, namespace).await? {
                    debug!(%namespace, "its SharedVolume says something else by now");
                    return Ok(Next::After(SHOWN));
                }
                let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
                gone_is_fine(claims.delete(&look.key.name, &only(uid)).await)?;
            }
            Action::DeletePersistentVolume(namespace, name, uid) => {
                // A watch may be late; the last word is the API server's.
                let claims: Api<ClaimObject> = Api::namespaced(self.client.clone(), namespace);
                let claim = claims.get_opt(&look.key.name).await?.map(|claim| Claim::of(&claim));
                let claim = claim.filter(|claim| !claim.is_over()).map(|claim| claim.uid);
                let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
                let found = volumes.get_opt(name).await?;
                let its = found.as_ref().and_then(|pv| pv.spec.as_ref()?.claim_ref.as_ref()?.uid.clone());
                if claim.is_some() && claim == its {
                    debug!(%name, "its claim is there after all");
                    return Ok(Next::Event);
                }
                gone_is_fine(volumes.delete(name, &only(uid)).await)?;
            }
            Action::Release(uid) => {
                // A watch may be late; the last word is the API server's.
                let owners: Api<SharedVolume> = Api::namespaced(self.client.clone(), &look.key.namespace);
                let owner = owners.get_metadata_opt(&look.key.name).await?;
                let Some((_, claim)) = look.view.home.as_ref().filter(|(_, claim)| claim.uid == *uid) else {
                    return Ok(Next::Event);
                };
                if owner.is_none_or(|owner| owner.metadata.uid.as_ref() != Some(&look.uid)) {
                    release(&self.client, &look.key, claim, names::MANAGER_SHARING).await?;
                }
            }
            Action::Serve(export) => self.serve(look, export).await?,
        }
        Ok(Next::Event)
    }

    /// The claim first, so that the `PersistentVolume` is reserved for it by its UID and for no other of its name.
    async fn give(&self, look: &Look, namespace: &str, access: Access) -> Result<Next, kube::Error> {
        let Some(device) = &look.view.device else { return Ok(Next::Event) };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let found = namespaces.get_metadata_opt(namespace).await?;
        let uid = match found.map(|found| found.metadata) {
            Some(found) if found.deletion_timestamp.is_none() => Ok(found.uid.unwrap_or_default()),
            Some(_) => Err("it is being deleted"),
            None => Err("there is no such namespace"),
        };
        let namespace_uid = match uid {
            Ok(uid) => uid,
            Err(words) => {
                let pause = self.refusals.note(&look.key, namespace, look.generation, words.to_owned());
                return Ok(Next::After(pause));
            }
        };
        let handle = names::shared_handle(&device.id, &namespace_uid);
        let name = &look.key.name;
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let wanted = claim(&look.key, &handle, &look.uid);
        let created = there_is_fine(claims.create(&created_by(names::MANAGER_SHARING), &wanted).await)?;
        let claim = match created {
            Some(created) => created,
            None => match claims.get_opt(name).await? {
                Some(found) if is_for(&found, &handle, &look.uid) => found,
                // Somebody else's: the watch will tell.
                _ => return Ok(Next::Event),
            },
        };
        let claim = ClaimReference {
            namespace: namespace.to_owned(),
            name: name.clone(),
            uid: claim.metadata.uid.unwrap_or_default(),
        };
        let volume = persistent_volume_elsewhere(&handle, device, &claim, access, (&look.key, &look.uid));
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        there_is_fine(volumes.create(&created_by(names::MANAGER_SHARING), &volume).await)?;
        self.refusals.forget(&look.key, namespace);
        Ok(Next::Event)
    }

    /// Whether the SharedVolume says of this namespace what the index has of it.
    async fn is_still_wanted_so(&self, look: &Look, namespace: &str) -> Result<bool, kube::Error> {
        let owners: Api<SharedVolume> = Api::namespaced(self.client.clone(), &look.key.namespace);
        let is_it = |owner: &SharedVolume| {
            owner.metadata.uid.as_ref() == Some(&look.uid) && owner.metadata.deletion_timestamp.is_none()
        };
        let owner = owners.get_opt(&look.key.name).await?.filter(is_it);
        let mut members = owner.iter().flat_map(|owner| &owner.spec.members);
        let now = members.find(|member| member.name == namespace).map(|member| member.access);
        let place = look.view.places.iter().find(|place| place.namespace == namespace);
        Ok(now == place.and_then(|place| place.wanted))
    }

    async fn serve(&self, look: &Look, export: &Export) -> Result<(), kube::Error> {
        let Some(device) = &look.view.device else { return Ok(()) };
        // Who is let in is let in whatever else was written. Who is taken off is so only where nothing else was.
        let mut metadata = json!({"uid": device.uid});
        if device.export.as_ref().is_some_and(|has| takes_away(has, export)) {
            metadata["resourceVersion"] = json!(device.resource_version);
        }
        let patch = json!({"metadata": metadata,
            "spec": {"export": {"nodes": export.nodes, "readOnlyNodes": export.read_only_nodes}}});
        let devices: Api<NodeVolume> = Api::all(self.client.clone());
        let patched =
            devices.patch(&device.id, &patched_by(names::MANAGER_SHARING), &Patch::Merge(&patch)).await;
        gone_is_fine(patched).map(drop)
    }
}

fn sooner(one: Next, other: Next) -> Next {
    match (one, other) {
        (Next::Failed, _) | (_, Next::Failed) => Next::Failed,
        (Next::After(one), Next::After(other)) => Next::After(one.min(other)),
        (Next::Event, other) => other,
        (one, Next::Event) => one,
    }
}

/// Lets the claim go that has the data of the SharedVolume of this key.
pub(crate) async fn release(
    client: &Client,
    key: &Namespaced,
    claim: &Claim,
    manager: &str,
) -> Result<(), kube::Error> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &key.namespace);
    let metadata = ObjectMeta {
        name: Some(key.name.clone()),
        resource_version: claim.resource_version.clone(),
        ..ObjectMeta::default()
    };
    let claim = PersistentVolumeClaim { metadata, ..PersistentVolumeClaim::default() };
    remove_finalizer(&claims, &claim, names::FINALIZER_SHARED_DATA, manager).await.map(drop)
}

/// The one of this UID and no other.
fn only(uid: &str) -> DeleteParams {
    let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
    DeleteParams { preconditions, ..DeleteParams::default() }
}

fn is_for(claim: &PersistentVolumeClaim, volume: &str, uid: &str) -> bool {
    let label = claim.metadata.labels.as_ref().and_then(|labels| labels.get(names::LABEL_SHARED_UID));
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    label.map(String::as_str) == Some(uid) && named == Some(volume)
}

fn claim(of: &Namespaced, volume: &str, uid: &str) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(of.name.clone()),
            annotations: Some([(names::ANNOTATION_SHARED_OF.to_owned(), of.to_string())].into()),
            labels: Some(labels(uid)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteMany".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(LITTLE.to_owned()))].into()),
                limits: None,
            }),
            storage_class_name: Some(String::new()),
            volume_name: Some(volume.to_owned()),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
