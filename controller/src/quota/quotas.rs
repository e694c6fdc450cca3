//! Says in each StorageQuota what is used of it.

use super::limits::timer;
use super::status::{Facts, Subject, status};
use super::verdict::look;
use crate::index::{Index, State};
use crate::run::objects::apply_status;
use crate::run::queue::Next;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use std::sync::Arc;
use std::time::Duration;
use tierce_crds::{StorageQuota, StorageQuotaSpec};
use tierce_runtime::errors::in_words;
use tracing::warn;

/// Field manager of the status.
const MANAGER: &str = "tierce-controller-quota";

/// Reconciles StorageQuotas.
pub(crate) struct QuotaReconciler {
    client: Client,
    index: Arc<Index>,
}

impl QuotaReconciler {
    pub(crate) fn new(client: Client, index: Arc<Index>) -> Self {
        Self { client, index }
    }

    /// Looks at one quota and writes its status if it differs.
    pub(crate) async fn reconcile(&self, name: &str) -> Next {
        let Some(quota) = self.index.read(|state| state.quotas.get(name).cloned()) else {
            return Next::Event;
        };
        let subjects = subjects(&self.index, name, &quota);
        let facts = self.index.read(|state| Facts {
            subjects,
            rivals: rivals(state, name, &quota.spec),
            tiers: (*state.tiers()).clone(),
        });
        let now = Timestamp::now();
        let (new, turns) = status(&quota, &facts, now);
        let next = turns.map_or(Next::Event, |at| {
            Next::After(at.duration_since(now).unsigned_abs().saturating_add(Duration::from_millis(50)))
        });
        if quota.status.as_ref() == Some(&new) {
            return next;
        }
        let quotas: Api<StorageQuota> = Api::all(self.client.clone());
        match apply_status(&quotas, &quota.metadata, new, MANAGER).await {
            Ok(_) => next,
            Err(error) => {
                warn!(quota = name, "cannot write the status of the StorageQuota: {}", in_words(&error));
                Next::Failed
            }
        }
    }
}

/// Those whom a quota limits. One by one, so that nobody waits long for the index.
fn subjects(index: &Index, name: &str, quota: &StorageQuota) -> Vec<Subject> {
    let namespaces = index.read(|state| namespaces(state, &quota.spec));
    let each = namespaces.iter().map(|namespace| index.read(|state| subject(state, name, quota, namespace)));
    each.flatten().collect()
}

/// Quota, namespace, bytes and volumes of all whom quotas limit.
pub(crate) fn all_usage(index: &Index) -> Vec<(String, String, u64, u64)> {
    let quotas = index.read(|state| {
        let all = state.quotas.iter();
        all.map(|(name, quota)| (name.clone(), Arc::clone(quota))).collect::<Vec<_>>()
    });
    let each = quotas.iter().flat_map(|(name, quota)| {
        subjects(index, name, quota)
            .into_iter()
            .map(|subject| (name.clone(), subject.name, subject.used.bytes, subject.used.volumes))
    });
    each.collect()
}

/// Those that it may hold for.
fn namespaces(state: &State, spec: &StorageQuotaSpec) -> Vec<String> {
    if spec.subject.kind != StorageQuotaSpec::NAMESPACE {
        Vec::new()
    } else if spec.subject.name == StorageQuotaSpec::EACH {
        state.namespaces_with_volumes()
    } else {
        vec![spec.subject.name.clone()]
    }
}

/// What a namespace has of the quota; `None` where another one takes its place.
fn subject(state: &State, name: &str, quota: &StorageQuota, namespace: &str) -> Option<Subject> {
    let (quotas, account, ledger) = look(state, namespace);
    quotas.iter().find(|(its, _)| its == name)?;
    let used = account.used(&quota.spec, &ledger);
    Some(Subject { name: namespace.to_owned(), used, since: timer(quota, &ledger) })
}

/// Others with the same subject and tiers.
fn rivals(state: &State, name: &str, spec: &StorageQuotaSpec) -> Vec<String> {
    let mut names = state.quotas_with_subject(&spec.subject.name);
    names.retain(|other| {
        let known = state.quotas.get(other);
        other != name && known.is_some_and(|other| other.spec.has_tiers_of(spec))
    });
    names.sort_unstable();
    names
}
