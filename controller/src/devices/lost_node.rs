//! What if a node is gone from the cluster: nothing hangs on it. Its volumes say `NodeLost` at once (see `volumes::life`). What
//! is to be deleted there counts as deleted after a grace, since nobody is left to do it; what is not to be deleted
//! stays, because the node may come back under its name with its disks.

use crate::index::{Device, Index, OnNode, Snapshot};
use crate::run::objects::gone_is_fine;
use crate::run::queue::Next;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tierce_crds::NodeStorage;
use tierce_runtime::errors::in_words;
use tokio::time::Instant;
use tracing::{info, warn};

/// What is to be done about one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is there.
    Present,
    /// It is gone, but may come back for so much more time.
    Wait(Duration),
    /// It counts as lost.
    Lost,
}

/// Decides.
pub fn decide(is_there: bool, gone_for: Duration, grace: Duration) -> Verdict {
    match (is_there, grace.saturating_sub(gone_for)) {
        (true, _) => Verdict::Present,
        (false, Duration::ZERO) => Verdict::Lost,
        (false, rest) => Verdict::Wait(rest),
    }
}

/// What is to be deleted on a node: id, UID and resource version of its objects.
#[derive(Default)]
struct Leaving {
    volumes: Vec<[String; 3]>,
    snapshots: Vec<[String; 3]>,
}

impl Leaving {
    fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.snapshots.is_empty()
    }
}

/// Since when nodes are gone. A restart of the controller begins anew.
pub struct Absences {
    grace: Duration,
    gone_since: Mutex<HashMap<String, Instant>>,
}

impl Absences {
    /// A node counts as lost when it was gone for `grace`.
    pub fn new(grace: Duration) -> Self {
        Self { grace, gone_since: Mutex::default() }
    }

    /// What is to be thought of this node, which is in the cluster now, or not.
    pub fn verdict(&self, node: &str, is_there: bool) -> Verdict {
        decide(is_there, self.gone_for(node, is_there), self.grace)
    }

    fn gone_for(&self, node: &str, is_there: bool) -> Duration {
        let mut gone = self.gone_since.lock().unwrap_or_else(PoisonError::into_inner);
        if is_there {
            gone.remove(node);
            return Duration::ZERO;
        }
        gone.entry(node.to_owned()).or_insert_with(Instant::now).elapsed()
    }
}

/// Looks after nodes that are gone.
pub struct LostNodes {
    client: Client,
    index: Arc<Index>,
    absences: Arc<Absences>,
}

impl LostNodes {
    /// Over this API server, with the facts of this index.
    pub fn new(client: Client, index: Arc<Index>, absences: Arc<Absences>) -> Self {
        Self { client, index, absences }
    }

    /// Looks at one node.
    pub async fn look(&self, node: &str) -> Next {
        let (is_there, leaving, has_report) = self.index.read(|state| {
            let name = |id: &str, uid: &str, version: &str| [id, uid, version].map(ToOwned::to_owned);
            let volumes = state.devices_on(node).filter(|d| d.deleting_since.is_some() && d.on_node);
            let snapshots = state.snapshots_on(node).filter(|s| s.deleting_since.is_some() && s.on_node);
            let leaving = Leaving {
                volumes: volumes.map(|d| name(&d.id, &d.uid, &d.resource_version)).collect(),
                snapshots: snapshots.map(|s| name(&s.id, &s.uid, &s.resource_version)).collect(),
            };
            (state.has_node(node), leaving, state.reports.exists(node))
        });
        match self.absences.verdict(node, is_there) {
            // Only something that waits for the node makes us look again; all else comes as an event.
            Verdict::Wait(rest) if has_report || !leaving.is_empty() => Next::After(rest),
            Verdict::Present | Verdict::Wait(_) => Next::Event,
            Verdict::Lost => match self.let_go(node, &leaving, has_report).await {
                Ok(()) => Next::Event,
                Err(error) => {
                    warn!(node, "cannot let go what is on a lost node: {}", in_words(&error));
                    Next::Failed
                }
            },
        }
    }

    async fn let_go(&self, node: &str, leaving: &Leaving, has_report: bool) -> Result<(), kube::Error> {
        // A watch that started anew may show an older state for a moment; the last word is the API server's.
        let nodes: Api<Node> = Api::all(self.client.clone());
        if nodes.get_metadata_opt(node).await?.is_some() {
            return Ok(());
        }
        self.free::<Device>(node, &leaving.volumes).await?;
        self.free::<Snapshot>(node, &leaving.snapshots).await?;
        if has_report {
            info!(node, "the node is lost: its NodeStorage goes");
            let reports: Api<NodeStorage> = Api::all(self.client.clone());
            gone_is_fine(reports.delete(node, &DeleteParams::default()).await)?;
        }
        Ok(())
    }

    async fn free<T: OnNode>(&self, node: &str, leaving: &[[String; 3]]) -> Result<(), kube::Error> {
        let api: Api<T::Object> = Api::all(self.client.clone());
        for [id, uid, resource_version] in leaving {
            info!(node, id, "the node is lost: its {} that was to be deleted counts as deleted", T::WHAT);
            // All finalizers are ours: nobody else has business with these objects.
            let patch = json!({"metadata": {
                "finalizers": null, "uid": uid, "resourceVersion": resource_version,
            }});
            gone_is_fine(api.patch(id, &PatchParams::default(), &Patch::Merge(&patch)).await)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_lost_only_when_it_was_gone_for_the_whole_grace() {
        let seconds = Duration::from_secs;
        for (is_there, gone_for, verdict) in [
            (true, 0, Verdict::Present),
            (true, 999, Verdict::Present),
            (false, 0, Verdict::Wait(seconds(300))),
            (false, 299, Verdict::Wait(seconds(1))),
            (false, 300, Verdict::Lost),
            (false, 999, Verdict::Lost),
        ] {
            assert_eq!(decide(is_there, seconds(gone_for), seconds(300)), verdict, "{is_there} {gone_for}");
        }
    }
}
