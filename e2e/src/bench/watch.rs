//! When an object of the cluster got where it should be, from one watch: no polling, whose interval would be measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, pin_mut};
use kube::api::{Api, ResourceExt as _};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Longer than anything that is measured.
const PATIENCE: Duration = Duration::from_mins(2);

/// A watch that notes the first moment at which each object of a kind is seen to have arrived.
pub(super) struct Arrivals {
    seen: mpsc::UnboundedReceiver<(String, Instant)>,
    at: BTreeMap<String, Instant>,
    task: JoinHandle<()>,
}

impl Arrivals {
    /// Begins to watch; `arrived` says whether an object is where it should be.
    pub(super) fn watch<K>(api: Api<K>, arrived: fn(&K) -> bool) -> Self
    where
        K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    {
        let (send, seen) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let stream = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
            pin_mut!(stream);
            while let Some(event) = stream.next().await {
                let Ok(object) = event else { continue };
                if arrived(&object) && send.send((object.name_any(), Instant::now())).is_err() {
                    return;
                }
            }
        });
        Self { seen, at: BTreeMap::new(), task }
    }

    /// The moment at which the object of that name arrived.
    pub(super) async fn of(&mut self, name: &str) -> Result<Instant> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.at.contains_key(name) {
            let next = tokio::time::timeout_at(deadline, self.seen.recv()).await;
            let (name, when) = next
                .with_context(|| format!("{name} did not arrive within {} s", PATIENCE.as_secs()))?
                .context("the watch has ended")?;
            self.at.entry(name).or_insert(when);
        }
        Ok(self.at[name])
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.task.abort();
    }
}
