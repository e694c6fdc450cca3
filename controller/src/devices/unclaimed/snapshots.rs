//! A `NodeSnapshot` of which no VolumeSnapshotContent speaks any more: somebody removed that by force, or deleted one with
//! `deletionPolicy: Retain`, so that the data stays. Which of the two nobody can know afterwards, so it is never deleted here: an Event and a
//! metric name it, and the command that deletes it.

use super::{Memory, Teller, forsaken, pages};
use crate::index::{Content, ContentObject, Index, Snapshot};
use crate::metrics::Metrics;
use crate::run::events::Events;
use crate::run::queue::Next;
use kube::{Api, Client};
use std::sync::Arc;
use std::time::Duration;
use tierce_runtime::errors::in_words;
use tracing::warn;

/// What is to be done about one `NodeSnapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Somebody speaks of it, or it is going already, or nobody can know.
    Leave,
    /// Its VolumeSnapshotContent may be on its way.
    Wait(Duration),
    /// A person decides.
    Tell,
}

/// Decides. `spoken_of`: `None` while the `VolumeSnapshotContents` are not known.
fn decide(snapshot: &Snapshot, spoken_of: Option<bool>, unclaimed_for: Duration, grace: Duration) -> Fate {
    // One without a VolumeSnapshot is of another client of CSI, who keeps its own books.
    if spoken_of != Some(false) || snapshot.snapshot.is_none() || snapshot.deleting_since.is_some() {
        return Fate::Leave;
    }
    match grace.saturating_sub(unclaimed_for) {
        Duration::ZERO => Fate::Tell,
        rest => Fate::Wait(rest),
    }
}

/// Looks after them.
pub struct UnclaimedSnapshots {
    client: Client,
    index: Arc<Index>,
    teller: Teller<Snapshot>,
    /// Safeties whose restore is gone, by id.
    safeties: Memory,
    grace: Duration,
}

impl UnclaimedSnapshots {
    /// Tells of what was unclaimed for `grace`.
    pub fn new(client: Client, index: Arc<Index>, events: Events, metrics: Metrics, grace: Duration) -> Self {
        Self { client, index, teller: Teller::new(events, metrics), safeties: Memory::default(), grace }
    }

    /// Looks at one `NodeSnapshot`.
    pub async fn look(&self, id: &str) -> Next {
        let found = self.index.read(|state| {
            let snapshot = Arc::clone(state.snapshots.get(id)?);
            let spoken_of = state.is_spoken_of(&snapshot);
            Some((snapshot, spoken_of))
        });
        if let Some((snapshot, _)) = &found
            && let Some(next) = self.look_for_its_namespace(snapshot).await
        {
            return next;
        }
        let fate = found.as_ref().map_or(Fate::Leave, |(snapshot, spoken_of)| {
            let waits = *spoken_of == Some(false);
            let since = if waits { self.teller.unclaimed_for(snapshot) } else { Duration::ZERO };
            decide(snapshot, *spoken_of, since, self.grace)
        });
        match (fate, found) {
            (Fate::Wait(rest), _) => Next::After(rest),
            (Fate::Tell, Some((snapshot, _))) => self.tell(&snapshot).await,
            _ => {
                self.teller.forget(id);
                Next::Event
            }
        }
    }

    /// `None`: it is judged like any other.
    async fn look_for_its_namespace(&self, snapshot: &Snapshot) -> Option<Next> {
        let content = forsaken::content_of(&self.index, snapshot);
        let left_for = content.is_some().then(|| self.safeties.unclaimed_for(&snapshot.id, &snapshot.uid));
        match (forsaken::decide(left_for, self.grace), content) {
            (forsaken::Fate::Wait(rest), _) => Some(Next::After(rest)),
            (forsaken::Fate::Ask, Some(content)) => {
                match forsaken::remove_if_forsaken(&self.client, snapshot, &content).await {
                    Ok(true) => Some(Next::After(self.grace)),
                    Ok(false) => None,
                    Err(error) => {
                        warn!(
                            id = snapshot.id,
                            "cannot look whether its namespace is gone: {}",
                            in_words(&error)
                        );
                        Some(Next::Failed)
                    }
                }
            }
            _ => {
                self.safeties.forget(&snapshot.id);
                None
            }
        }
    }

    async fn tell(&self, snapshot: &Snapshot) -> Next {
        if self.teller.has_told(&snapshot.id) {
            return Next::Event;
        }
        match self.is_spoken_of_after_all(snapshot).await {
            Ok(false) => {}
            Ok(true) => {
                self.teller.forget(&snapshot.id);
                return Next::Event;
            }
            // Without the kind, or the right to read it, nobody can know. Its watch brings us back.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => return Next::Event,
            Err(error) => {
                warn!(id = snapshot.id, "cannot list VolumeSnapshotContents: {}", in_words(&error));
                return Next::Failed;
            }
        }
        let id = &snapshot.id;
        let message = format!(
            "no VolumeSnapshotContent speaks of it any more. It is kept, since nobody can know whether its data was to stay. To \
             delete it with its data: kubectl delete nodesnapshot {id}"
        );
        self.teller.tell(snapshot, &message).await;
        Next::Event
    }

    /// A watch may be late; the last word is the API server's.
    async fn is_spoken_of_after_all(&self, snapshot: &Snapshot) -> Result<bool, kube::Error> {
        let contents: Api<ContentObject> = Api::all(self.client.clone());
        let list = |page| {
            let contents = contents.clone();
            async move { contents.list(&page).await }
        };
        // There is no selector for the handle.
        pages::any(list, |content| Content::of(content).is_some_and(|content| content.speaks_of(snapshot)))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn snapshot(of_a_volume_snapshot: bool, deleting: bool) -> Snapshot {
        let mut object = json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeSnapshot", "metadata": {"name": "snapshot-1"},
            "spec": {"nodeName": "n", "pool": "p", "source": "pvc-1"},
        });
        if of_a_volume_snapshot {
            object["spec"]["snapshot"] = json!({"namespace": "ada", "name": "monday", "uid": "1"});
        }
        if deleting {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Snapshot::of(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn only_what_certainly_nobody_speaks_of_is_told_about_and_nothing_is_deleted() {
        let seconds = Duration::from_secs;
        for (what, snapshot, spoken_of, unclaimed_for, fate) in [
            ("spoken of", snapshot(true, false), Some(true), 0, Fate::Leave),
            ("the contents are not known", snapshot(true, false), None, 999, Fate::Leave),
            ("of another client of CSI", snapshot(false, false), Some(false), 999, Fate::Leave),
            ("going already", snapshot(true, true), Some(false), 999, Fate::Leave),
            ("its content may be on its way", snapshot(true, false), Some(false), 0, Fate::Wait(seconds(60))),
            ("for a while", snapshot(true, false), Some(false), 59, Fate::Wait(seconds(1))),
            ("for long", snapshot(true, false), Some(false), 60, Fate::Tell),
        ] {
            assert_eq!(decide(&snapshot, spoken_of, seconds(unclaimed_for), seconds(60)), fate, "{what}");
        }
    }
}
