//! The status of a `StoragePool`: what its nodes report, added up.

mod status;

use crate::index::Index;
use crate::run::objects::apply_status;
use crate::run::queue::Next;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tierce_crds::{StoragePool, StoragePoolStatus, names};
use tierce_runtime::errors::in_words;
use tokio::time::Instant;
use tracing::warn;

pub use status::{NodeView, Report, status};

/// Figures alone are not written more often than this: each write goes to the plugin of every node.
const FIGURES: Duration = Duration::from_mins(1);

/// Reconciles `StoragePool`s.
pub struct PoolReconciler {
    client: Client,
    index: Arc<Index>,
    written: Mutex<HashMap<String, Instant>>,
}

impl PoolReconciler {
    /// Over this API server, with the facts of this index.
    pub fn new(client: Client, index: Arc<Index>) -> Self {
        Self { client, index, written: Mutex::default() }
    }

    /// Looks at one pool and writes its status if it differs.
    pub async fn reconcile(&self, name: &str) -> Next {
        let found = self.index.read(|state| {
            let pool = Arc::clone(state.pools.get(name)?);
            let nodes = state.nodes.iter().map(|(node, facts)| NodeView {
                name: node.clone(),
                labels: facts.labels.clone(),
                report: state.reports.get(node).map_or(Report::None, |report| {
                    let mut pools = report.status.iter().flat_map(|status| &status.pools);
                    pools.find(|pool| pool.name == name).cloned().map_or(Report::Silent, Report::Of)
                }),
            });
            Some((pool, nodes.collect::<Vec<_>>()))
        });
        let Some((pool, nodes)) = found else {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            return Next::Event;
        };
        let old = pool.status.clone().unwrap_or_default();
        let new = status(&pool, &nodes, Timestamp::now());
        if new == old {
            return Next::Event;
        }
        if old.conditions == new.conditions && old.nodes == new.nodes {
            let written = self.written.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
            let rest = written.map_or(Duration::ZERO, |at| FIGURES.saturating_sub(at.elapsed()));
            if !rest.is_zero() {
                return Next::After(rest);
            }
        }
        match self.write(&pool, &new).await {
            Ok(()) => Next::Event,
            Err(error) => {
                warn!(pool = name, "cannot write the status of the StoragePool: {}", in_words(&error));
                Next::Failed
            }
        }
    }

    async fn write(&self, pool: &StoragePool, status: &StoragePoolStatus) -> Result<(), kube::Error> {
        let name = pool.metadata.name.clone().unwrap_or_default();
        let pools: Api<StoragePool> = Api::all(self.client.clone());
        if apply_status(&pools, &pool.metadata, status, names::MANAGER_POOL).await?.is_none() {
            return Ok(());
        }
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Instant::now());
        Ok(())
    }
}
