//! Carries out plans.

use super::plan::{Action, Observed, Plan, Said, plan};
use crate::devices::keys::{Keys, header_of};
use crate::devices::lost_node::{self, Absences};
use crate::index::{Index, Namespaced, before_content_name};
use crate::run::events::Events;
use crate::run::objects::{
    add_finalizer, apply_status, created_by, gone_is_fine, patched_by, remove_finalizer, there_is_fine,
};
use crate::run::progress::{self, Progress};
use crate::run::queue::Next;
use crate::run::refusal::{is_refusal, namespace_ends};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use std::sync::Arc;
use tierce_crds::conditions::{self, Verdict, volume_restore as reason};
use tierce_crds::{
    ClaimReference, NodeSnapshot, NodeSnapshotSpec, NodeVolume, VolumeMode, VolumeRestore,
    VolumeRestoreStatus, names,
};
use tierce_runtime::errors::in_words;
use tracing::warn;

/// Reconciles VolumeRestores.
pub struct RestoreReconciler {
    client: Client,
    index: Arc<Index>,
    events: Events,
    keys: Keys,
    absences: Arc<Absences>,
}

impl RestoreReconciler {
    /// Over this API server, with the facts of this index.
    pub fn new(
        client: Client,
        index: Arc<Index>,
        events: Events,
        keys: Keys,
        absences: Arc<Absences>,
    ) -> Self {
        Self { client, index, events, keys, absences }
    }

    /// Looks at one VolumeRestore and does what is to be done.
    pub async fn reconcile(&self, key: &Namespaced) -> Next {
        let Some(mut observed) = self.index.read(|state| Observed::look(state, key)) else {
            return Next::Event;
        };
        let mut later = Next::Event;
        match observed.asks_a_node_that_is_gone().map(|node| self.absences.verdict(node, false)) {
            Some(lost_node::Verdict::Lost) => observed.node_is_lost = true,
            Some(lost_node::Verdict::Wait(rest)) => later = Next::After(rest),
            Some(lost_node::Verdict::Present) | None => {}
        }
        match self.carry_out(key, &observed, plan(&observed)).await {
            Ok(Next::Event) => later,
            Ok(next) => next,
            // What is gone, and what somebody else wrote meanwhile, comes as an event as well.
            Err(kube::Error::Api(status)) if status.is_conflict() => Next::Failed,
            Err(error) => {
                warn!(restore = %key, "cannot go on with the VolumeRestore: {}", in_words(&error));
                Next::Failed
            }
        }
    }

    async fn carry_out(
        &self,
        key: &Namespaced,
        observed: &Observed,
        plan: Plan,
    ) -> Result<Next, kube::Error> {
        for action in &plan.actions {
            if *action == Action::CheckNoOrder && self.is_ordered_after_all(observed).await? {
                // The watch will show it.
                return Ok(Next::Failed);
            }
            if *action == Action::CheckNodeGone && self.node_is_there_after_all(observed).await? {
                return Ok(Next::Failed);
            }
            if *action == Action::CheckVolumeStays
                && self.volume_goes_after_all(observed).await?
                && !self.was_checked_before(observed).await?
            {
                self.forget_before(observed).await?;
                return Ok(Next::Failed);
            }
            if matches!(action, Action::Order(_)) && !self.waits_for_us(key, observed).await? {
                // The watch will show it.
                return Ok(Next::Failed);
            }
            if let Action::Order(snapshot) = action
                && self.is_another(key, observed, snapshot).await?
            {
                self.say(key, observed, &another(observed, snapshot)).await?;
                // Nobody watches VolumeSnapshots for us.
                return Ok(Next::Failed);
            }
            if let Action::Order(snapshot) = action
                && let Some(gone) = self.keep_keys(observed, snapshot).await?
            {
                self.say(key, observed, &no_key(&gone)).await?;
                // Secrets come back without telling a restore.
                return Ok(Next::Failed);
            }
            let done = if *action == Action::ShowBefore {
                self.show_before(key, observed).await
            } else {
                self.act(key, observed, action).await.map(|()| None)
            };
            match done {
                Ok(None) => {}
                Ok(Some(other)) => {
                    self.say(key, observed, &name_taken(&other)).await?;
                    // Nobody watches VolumeSnapshots for us.
                    return Ok(Next::Failed);
                }
                // Whatever else was in the namespace goes, and nobody could ever see this.
                Err(error)
                    if *action == Action::ShowBefore
                        && namespace_ends(&error)
                        && observed.restore.metadata.deletion_timestamp.is_some() =>
                {
                    self.forget_before(observed).await?;
                }
                // It is tried again, and somebody has to know the words meanwhile.
                Err(error) if is_refusal(&error) => {
                    self.say(key, observed, &refused(action, observed, &error)).await?;
                    return Ok(Next::Failed);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(said) = plan.said {
            self.say(key, observed, &said).await?;
        }
        Ok(Next::Event)
    }

    /// A watch may be late; the last word is the API server's.
    async fn is_ordered_after_all(&self, observed: &Observed) -> Result<bool, kube::Error> {
        let Some(device) = &observed.device else { return Ok(false) };
        let volumes: Api<NodeVolume> = Api::all(self.client.clone());
        let order = volumes.get_opt(&device.id).await?.and_then(|found| found.spec.restore);
        Ok(order.is_some_and(|order| Some(&order.uid) == observed.restore.metadata.uid.as_ref()))
    }

    /// Whether it is there with our finalizer, and stays. An API server that is deleting it just then takes the finalizer, and deletes it all the same:
    /// it had looked for finalizers before.
    async fn waits_for_us(&self, key: &Namespaced, observed: &Observed) -> Result<bool, kube::Error> {
        let found = self.restores(key).get_metadata_opt(&key.name).await?.map(|found| found.metadata);
        Ok(found.is_some_and(|found| {
            found.uid == observed.restore.metadata.uid
                && found.deletion_timestamp.is_none()
                && found.finalizers.iter().flatten().any(|finalizer| finalizer == names::FINALIZER_RESTORE)
        }))
    }

    async fn node_is_there_after_all(&self, observed: &Observed) -> Result<bool, kube::Error> {
        let Some(device) = &observed.device else { return Ok(false) };
        let nodes: Api<Node> = Api::all(self.client.clone());
        Ok(nodes.get_metadata_opt(&device.node).await?.is_some())
    }

    async fn volume_goes_after_all(&self, observed: &Observed) -> Result<bool, kube::Error> {
        let Some(device) = &observed.device else { return Ok(true) };
        let volumes: Api<NodeVolume> = Api::all(self.client.clone());
        let found = volumes.get_metadata_opt(&device.id).await?;
        let stays = found.is_some_and(|found| {
            found.metadata.uid.as_ref() == Some(&device.uid) && found.metadata.deletion_timestamp.is_none()
        });
        Ok(!stays)
    }

    /// Whether an earlier pass saw that the volume stayed when its `NodeSnapshot` was there already: then the node finds that one, and the owner may
    /// have been shown it.
    async fn was_checked_before(&self, observed: &Observed) -> Result<bool, kube::Error> {
        let content = before_content_name(observed.uid());
        Ok(self.contents().get_metadata_opt(&content).await?.is_some())
    }

    /// Whether the VolumeSnapshot of that name is another one than the snapshot that was taken under that name: it may have been made anew,
    /// and the old one kept. One that is gone leaves no doubt.
    async fn is_another(
        &self,
        key: &Namespaced,
        observed: &Observed,
        snapshot: &str,
    ) -> Result<bool, kube::Error> {
        let snapshots: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            &key.namespace,
            &resource("VolumeSnapshot", "volumesnapshots"),
        );
        let Some(found) = snapshots.get_opt(observed.restore.spec.snapshot()).await? else {
            return Ok(false);
        };
        let Some(name) = text(&found, "/status/boundVolumeSnapshotContentName")
            .or_else(|| text(&found, "/spec/source/volumeSnapshotContentName"))
        else {
            return Ok(true);
        };
        let Some(content) = self.contents().get_opt(name).await? else { return Ok(true) };
        let handle = text(&content, "/status/snapshotHandle")
            .or_else(|| text(&content, "/spec/source/snapshotHandle"));
        Ok(text(&content, "/spec/driver") != Some(names::DRIVER) || handle != Some(snapshot))
    }

    async fn act(&self, key: &Namespaced, observed: &Observed, action: &Action) -> Result<(), kube::Error> {
        match action {
            Action::WriteOlderForm => {
                let meta = &observed.restore.metadata;
                let patch = json!({
                    "metadata": {"resourceVersion": meta.resource_version},
                    "spec": {"snapshot": observed.restore.spec.snapshot()},
                });
                let by_us = patched_by(names::MANAGER_RESTORE);
                gone_is_fine(self.restores(key).patch(&key.name, &by_us, &Patch::Merge(&patch)).await)
                    .map(drop)
            }
            // One that went before it got the finalizer must not be ordered.
            Action::AddFinalizer => {
                let restore = &*observed.restore;
                add_finalizer(&self.restores(key), restore, names::FINALIZER_RESTORE, names::MANAGER_RESTORE)
                    .await
                    .map(drop)
            }
            Action::RemoveFinalizer => {
                let restore = &*observed.restore;
                remove_finalizer(
                    &self.restores(key),
                    restore,
                    names::FINALIZER_RESTORE,
                    names::MANAGER_RESTORE,
                )
                .await
                .map(drop)
            }
            Action::Order(snapshot) => {
                let order =
                    json!({"uid": observed.uid(), "snapshot": snapshot, "safety": observed.before_id()});
                self.set_order(observed, &order).await
            }
            Action::CallOff => self.set_order(observed, &json!({"cancel": true})).await,
            Action::ClearOrder => self.set_order(observed, &Value::Null).await,
            // Looked at before.
            Action::CheckNoOrder | Action::CheckNodeGone | Action::CheckVolumeStays | Action::ShowBefore => {
                Ok(())
            }
            Action::LeaveKey => {
                let Some(device) = &observed.device else { return Ok(()) };
                gone_is_fine(
                    self.keys.belongs_to(&observed.before_id(), "NodeVolume", &device.id, &device.uid).await,
                )
                .map(drop)
            }
            Action::DropKey => self.keys.drop_unowned(&observed.before_id()).await,
            Action::KeepBefore => self.keep_before(key, observed).await,
        }
    }

    /// Before the order: from here on the volume's Secret has every key that opens what is there, and what will be there, until the restore is
    /// over; and the snapshot that will keep what was there has its keys. Whose Secret is gone, where one is.
    async fn keep_keys(&self, observed: &Observed, snapshot: &str) -> Result<Option<String>, kube::Error> {
        let Some(device) = observed.device.as_ref().filter(|device| device.encrypted) else {
            return Ok(None);
        };
        let uid = observed.uid();
        // The node keeps the header of now, and so the key in force, where the snapshot has the same one.
        let header = |print: &Option<String>| print.as_deref().and_then(header_of).map(ToOwned::to_owned);
        let theirs = observed.snapshot.as_ref().and_then(|snapshot| header(&snapshot.fingerprint));
        let lent = (theirs.is_some() && theirs != header(&device.fingerprint)).then_some(snapshot);
        let is_open = |uid: &str| self.index.read(|state| state.has_open_restore(uid));
        let gone = self.keys.hold(&device.id, uid, lent, is_open).await?;
        if gone.is_none() {
            self.keys.copy(&device.id, &observed.before_id()).await?;
        }
        Ok(gone)
    }

    /// The resource version makes it fail when somebody else was faster: a pod's look at the index must not be older than
    /// another restore's order.
    async fn set_order(&self, observed: &Observed, order: &Value) -> Result<(), kube::Error> {
        let Some(device) = &observed.device else { return Ok(()) };
        let patch = json!({
            "metadata": {"uid": device.uid, "resourceVersion": device.resource_version},
            "spec": {"restore": order},
        });
        let volumes: Api<NodeVolume> = Api::all(self.client.clone());
        volumes.patch(&device.id, &patched_by(names::MANAGER_RESTORE), &Patch::Merge(&patch)).await.map(drop)
    }

    async fn keep_before(&self, key: &Namespaced, observed: &Observed) -> Result<(), kube::Error> {
        let Some(device) = &observed.device else { return Ok(()) };
        let (id, uid) = (observed.before_id(), observed.uid().to_owned());
        let metadata = ObjectMeta {
            name: Some(id.clone()),
            finalizers: Some(vec![names::FINALIZER_ON_NODE.to_owned()]),
            ..ObjectMeta::default()
        };
        let snapshot = ClaimReference { namespace: key.namespace.clone(), name: observed.before(), uid };
        let asked = self.index.read(|state| state.asked_for(device));
        let spec = NodeSnapshotSpec {
            node_name: device.node.clone(),
            pool: device.pool.clone(),
            source: device.id.clone(),
            encrypted: device.encrypted,
            asked_bytes: asked.and_then(|bytes| i64::try_from(bytes).ok()),
            snapshot: Some(snapshot),
        };
        let snapshots: Api<NodeSnapshot> = Api::all(self.client.clone());
        there_is_fine(
            snapshots
                .create(&created_by(names::MANAGER_RESTORE), &NodeSnapshot { metadata, spec, status: None })
                .await,
        )?;
        if device.encrypted
            && let Some(made) = snapshots.get_opt(&id).await?
        {
            let uid = made.metadata.uid.unwrap_or_default();
            // An older controller gave the order, or somebody deleted the Secret.
            self.keys.copy(&device.id, &id).await?;
            self.keys.belongs_to(&id, "NodeSnapshot", &id, &uid).await?;
        }
        Ok(())
    }

    /// As an administrator makes a snapshot that exists already known to Kubernetes. Its name, where somebody made another one of it.
    async fn show_before(
        &self,
        key: &Namespaced,
        observed: &Observed,
    ) -> Result<Option<String>, kube::Error> {
        let Some(mode) = observed.mode_before() else { return Ok(None) };
        let name = observed.before();
        let content_name = before_content_name(observed.uid());
        let content = before_content(mode, &content_name, &observed.before_id(), &key.namespace, &name);
        there_is_fine(self.contents().create(&created_by(names::MANAGER_RESTORE), &content).await)?;
        let resource = resource("VolumeSnapshot", "volumesnapshots");
        let mut snapshot = DynamicObject::new(&name, &resource)
            .within(&key.namespace)
            .data(json!({"spec": {"source": {"volumeSnapshotContentName": content_name}}}));
        let (label, value) = names::LABEL_MANAGED_BY;
        snapshot.metadata.labels = Some([(label.to_owned(), value.to_owned())].into());
        let snapshots: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        // The one that was made just now speaks of the content.
        if there_is_fine(snapshots.create(&created_by(names::MANAGER_RESTORE), &snapshot).await)?.is_some() {
            return Ok(None);
        }
        let speaks_of = snapshots.get_opt(&name).await?;
        let is_other = speaks_of.is_some_and(|found| {
            text(&found, "/spec/source/volumeSnapshotContentName") != Some(content_name.as_str())
        });
        Ok(is_other.then_some(name))
    }

    fn contents(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource("VolumeSnapshotContent", "volumesnapshotcontents"))
    }

    fn restores(&self, key: &Namespaced) -> Api<VolumeRestore> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    /// What was there before goes, with what would have shown it.
    async fn forget_before(&self, observed: &Observed) -> Result<(), kube::Error> {
        let content = before_content_name(observed.uid());
        gone_is_fine(self.contents().delete(&content, &DeleteParams::default()).await)?;
        let snapshots: Api<NodeSnapshot> = Api::all(self.client.clone());
        gone_is_fine(snapshots.delete(&observed.before_id(), &DeleteParams::default()).await).map(drop)
    }

    async fn say(&self, key: &Namespaced, observed: &Observed, said: &Said) -> Result<(), kube::Error> {
        let old = observed.restore.status.clone().unwrap_or_default();
        let new = status(&old, observed, said, Timestamp::now());
        if new == old {
            return Ok(());
        }
        let meta = &observed.restore.metadata;
        if apply_status(&self.restores(key), meta, new, names::MANAGER_RESTORE).await?.is_none() {
            return Ok(());
        }
        let before = conditions::find(&old.conditions, conditions::READY).map(|c| c.reason.as_str());
        if before != Some(said.ready.reason) {
            let about = observed.restore.object_ref(&());
            let bad = said.progress == Progress::Stalled;
            self.events.tell(&about, bad, said.ready.reason, &said.ready.message).await;
        }
        Ok(())
    }
}

fn status(
    old: &VolumeRestoreStatus,
    observed: &Observed,
    said: &Said,
    now: Timestamp,
) -> VolumeRestoreStatus {
    let generation = observed.restore.metadata.generation;
    let done = said.ready.status == Some(true);
    VolumeRestoreStatus {
        before: done.then(|| observed.before()),
        completed_at: old.completed_at.clone().or_else(|| done.then_some(Time(now))),
        observed_generation: generation,
        conditions: progress::conditions(&old.conditions, &said.ready, said.progress, generation, now),
    }
}

fn before_content(mode: VolumeMode, name: &str, id: &str, namespace: &str, snapshot: &str) -> DynamicObject {
    let resource = resource("VolumeSnapshotContent", "volumesnapshotcontents");
    let dated = (names::ANNOTATION_MADE_BY_RESTORE.to_owned(), Timestamp::now().to_string());
    let mut content = DynamicObject::new(name, &resource).data(json!({"spec": {
        "driver": names::DRIVER,
        "deletionPolicy": "Delete",
        "source": {"snapshotHandle": id},
        "sourceVolumeMode": mode.as_str(),
        "volumeSnapshotRef": {
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "name": snapshot, "namespace": namespace,
        },
    }}));
    content.metadata.annotations = Some([dated].into());
    content
}

/// What is said of a restore that would bring another content than its VolumeSnapshot has.
fn another(observed: &Observed, snapshot: &str) -> Said {
    let message = format!(
        "VolumeSnapshot {:?} does not speak, or not yet, of {snapshot}, which was taken under that name: it goes on when the VolumeSnapshot is \
         ready to use; one of another driver can't be restored",
        observed.restore.spec.snapshot()
    );
    Said { ready: Verdict::no(reason::NO_SUCH_SNAPSHOT, message), progress: Progress::Stalled }
}

/// What is said of a restore that is done, where somebody else's VolumeSnapshot has the name of what was there before.
fn name_taken(name: &str) -> Said {
    let message = format!(
        "the Volume has the content of the snapshot, but a VolumeSnapshot {name} that is not ours is in the way of the one that keeps what it had \
         before: rename or delete that one, and it goes on"
    );
    Said { ready: Verdict::no(reason::NAME_CONFLICT, message), progress: Progress::Stalled }
}

/// What is said where the API server refuses a write.
fn refused(action: &Action, observed: &Observed, error: &kube::Error) -> Said {
    let words = in_words(error);
    let message = if *action == Action::ShowBefore {
        format!(
            "VolumeSnapshot {}, which keeps what Volume {} had before the restore, can't be made: {words}. It is tried again",
            observed.before(),
            observed.restore.spec.volume
        )
    } else {
        format!("the API server refuses a write: {words}. It is tried again")
    };
    Said { ready: Verdict::no(reason::FAILED, message), progress: Progress::Stalled }
}

/// What is said of a restore that could end with a volume that nothing opens.
fn no_key(gone: &str) -> Said {
    let message = format!(
        "the Secret {} in the namespace of Tierce is gone or holds no key, so what the restore makes could not be opened: bring it back from a \
         backup",
        names::key_secret(gone)
    );
    Said { ready: Verdict::no(reason::FAILED, message), progress: Progress::Stalled }
}

fn text<'a>(object: &'a DynamicObject, path: &str) -> Option<&'a str> {
    object.data.pointer(path).and_then(Value::as_str)
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(names::SNAPSHOT_GROUP, "v1", kind), plural)
}
