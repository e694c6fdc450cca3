//! Reports what the node really has: on change, coalesced, never a flood.

mod report;
mod writer;

pub(crate) use report::{Leftovers, leftovers, status};
pub(crate) use writer::{Storage, run, tell_of_late_answers};

use std::sync::{Mutex, PoisonError};

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tierce_crds::{NodeSnapshot, NodeStorage, NodeStorageStatus, NodeVolume, names};
use tierce_engine::Engine;

use crate::intents::Intents;
use crate::metrics::{Metrics, ResultLabel};
use crate::pools::{NodeFacts, PoolBoard};

/// Whether this program has made sure of the object, and for which Node.
#[derive(Default, PartialEq, Eq)]
enum MadeFor {
    #[default]
    Nobody,
    /// The Node's UID; `None` while there is no such Node.
    Node(Option<String>),
}

/// The objects that speak of what is on the disks.
#[derive(Clone)]
pub(crate) struct Claims {
    pub(crate) volumes: Intents<NodeVolume>,
    pub(crate) snapshots: Intents<NodeSnapshot>,
}

impl Claims {
    /// The names of all; `None` until both lists are complete.
    fn names(&self) -> Option<Vec<String>> {
        let mut names = self.volumes.names()?;
        names.extend(self.snapshots.names()?);
        Some(names)
    }
}

/// The disks on one side, the API server on the other.
pub(crate) struct Reporter {
    api: Api<NodeStorage>,
    engine: Engine,
    node: String,
    pools: PoolBoard,
    claims: Claims,
    facts: NodeFacts,
    metrics: Metrics,
    leftovers: Mutex<Leftovers>,
    made_for: tokio::sync::Mutex<MadeFor>,
}

impl Reporter {
    /// Reports for the node of this name.
    pub(crate) fn new(
        client: Client,
        node: String,
        engine: Engine,
        pools: PoolBoard,
        claims: Claims,
        facts: NodeFacts,
        metrics: Metrics,
    ) -> Self {
        Self {
            api: Api::all(client),
            engine,
            node,
            pools,
            claims,
            facts,
            metrics,
            leftovers: Mutex::default(),
            made_for: tokio::sync::Mutex::default(),
        }
    }

    /// The object itself. It goes with its Node, so a node that is gone offers nothing.
    async fn make(&self, uid: Option<&String>) -> Result<(), kube::Error> {
        let owners =
            uid.map(|uid| vec![json!({ "apiVersion": "v1", "kind": "Node", "name": self.node, "uid": uid })]);
        let object = json!({
            "apiVersion": names::API_VERSION,
            "kind": "NodeStorage",
            "metadata": { "name": self.node, "ownerReferences": owners.unwrap_or_default() },
            "spec": { "nodeName": self.node },
        });
        let params = PatchParams::apply(names::MANAGER_NODE).force();
        self.api.patch_metadata(&self.node, &params, &Patch::Apply(&object)).await.map(|_| ())
    }

    async fn write_status(&self, status: &NodeStorageStatus) -> Result<(), kube::Error> {
        let object = json!({
            "apiVersion": names::API_VERSION,
            "kind": "NodeStorage",
            "status": status,
        });
        let params = PatchParams::apply(names::MANAGER_NODE).force();
        self.api.patch_status(&self.node, &params, &Patch::Apply(&object)).await.map(|_| ())
    }
}

impl Storage for Reporter {
    async fn look(&self, inventory: bool) -> NodeStorageStatus {
        if inventory && let Some(names) = self.claims.names() {
            let found = leftovers(&self.engine.list().await, &names);
            *self.leftovers.lock().unwrap_or_else(PoisonError::into_inner) = found;
        }
        let reports = self.engine.reports().await;
        self.pools.remember_ids().await;
        let leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
        let status = status(&self.pools.known(), &reports, &leftovers);
        self.metrics.show(&status, leftovers.broken.len(), leftovers.unclaimed.len());
        status
    }

    async fn write(&self, status: &NodeStorageStatus) -> Result<(), kube::Error> {
        let mut made_for = self.made_for.lock().await;
        let uid = self.facts.uid();
        if *made_for != MadeFor::Node(uid.clone()) {
            self.make(uid.as_ref()).await?;
            *made_for = MadeFor::Node(uid.clone());
        }
        let written = match self.write_status(status).await {
            // Somebody deleted it.
            Err(kube::Error::Api(answer)) if answer.code == 404 => {
                self.make(uid.as_ref()).await?;
                self.write_status(status).await
            }
            other => other,
        };
        self.metrics.storage_written(if written.is_ok() { ResultLabel::Ok } else { ResultLabel::Failed });
        written
    }
}
