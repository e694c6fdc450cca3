//! What a namespace has, as of a moment that others have seen. A watch that is behind is waited for; after that all NodeVolumes are listed.

use super::account::Account;
use crate::index::{Device, Index};
use kube::api::ListParams;
use kube::{Api, Client};
use std::sync::Arc;
use std::time::Duration;
use tierce_crds::NodeVolume;

/// A watch that is behind for longer is not waited for.
const CATCHES_UP: Duration = Duration::from_millis(500);

/// Looks up accounts. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Accounts {
    pub(super) volumes: Api<NodeVolume>,
    pub(super) index: Arc<Index>,
}

impl Accounts {
    pub(super) fn new(client: Client, index: Arc<Index>) -> Self {
        Self { volumes: Api::all(client), index }
    }

    /// What the namespace has, as of this resource version of NodeVolumes or a later one.
    pub(super) async fn as_of(&self, namespace: &str, seen: i64) -> Result<Account, kube::Error> {
        match tokio::time::timeout(CATCHES_UP, self.heard(namespace, seen)).await {
            Ok(Some(account)) => Ok(account),
            _ => self.listed(namespace).await,
        }
    }

    async fn heard(&self, namespace: &str, seen: i64) -> Option<Account> {
        let seen = u64::try_from(seen).unwrap_or(0);
        let mut news = self.index.news_of_nodes();
        loop {
            news.mark_unchanged();
            let account = self.index.read(|state| {
                let knows = state.devices_heard >= seen && state.devices.is_whole();
                knows.then(|| Account::of(state, namespace))
            });
            match account {
                Some(account) => return Some(account),
                None => news.changed().await.ok()?,
            }
        }
    }

    async fn listed(&self, namespace: &str) -> Result<Account, kube::Error> {
        let all = self.volumes.list(&ListParams::default()).await?.items.into_iter().map(Device::of);
        let all: Vec<_> = all.collect();
        let heard = all.iter().filter_map(|device| device.resource_version.parse().ok()).max().unwrap_or(0);
        let is_its = |device: &&Device| device.claim.as_ref().is_some_and(|its| its.namespace == namespace);
        let its = all.iter().filter(is_its);
        let account = self.index.read(|state| Account::over(state, namespace, its, heard));
        Ok(Account { is_all: true, ..account })
    }
}
