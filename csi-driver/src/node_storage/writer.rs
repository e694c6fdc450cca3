//! When to look and when to write: at once after a quiet time, then at most once a second.

use std::time::Duration;

use tierce_crds::NodeStorageStatus;
use tierce_runtime::errors::in_words;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::report::{more_room, worth_writing};
use crate::changes::Changes;

/// The least time between two looks, and so between two writes.
const GAP: Duration = Duration::from_secs(1);
/// The longest time between two looks. The kernel has no event for "this filesystem fills up", and a disk may be
/// mounted late; looking costs a few system calls and writes only what changed.
pub(crate) const HEARTBEAT: Duration = Duration::from_mins(1);
/// The longest pause after failed writes.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Lets a pool be reported at once whose disk answers after it was reported not to; else that would wait for the heartbeat.
pub(crate) async fn tell_of_late_answers(
    mut answers: watch::Receiver<u64>,
    changes: &Changes,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            // Its volumes are news too.
            answered = answers.changed() => match answered {
                Ok(()) => changes.notify_inventory(),
                Err(_) => return,
            },
        }
    }
}

/// Where the figures come from and where they go.
pub(crate) trait Storage: Send + Sync {
    /// The figures now; `inventory`: also of broken and unclaimed volumes.
    fn look(&self, inventory: bool) -> impl Future<Output = NodeStorageStatus> + Send;
    fn write(&self, status: &NodeStorageStatus) -> impl Future<Output = Result<(), kube::Error>> + Send;
}

/// Keeps the report up to date until `shutdown`. `room_came` is called when a pool came back or has noticeably more
/// room than at the last look, so that volumes that wait for it are tried again.
pub(crate) async fn run(
    storage: &impl Storage,
    changes: &Changes,
    room_came: impl Fn() + Send + Sync,
    shutdown: CancellationToken,
) {
    let mut shown: Option<NodeStorageStatus> = None;
    let mut seen: Option<NodeStorageStatus> = None;
    let mut pause = GAP;
    let mut inventoried: Option<Instant> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = timeout(HEARTBEAT, changes.changed()) => {}
        }
        // By a clock of its own: the kubelet's measuring wakes us more often than the heartbeat would.
        let due = inventoried.is_none_or(|last| last.elapsed() >= HEARTBEAT);
        let inventory = changes.take_inventory() || due;
        if inventory {
            inventoried = Some(Instant::now());
        }
        let rewrite = changes.take_rewrite();
        let now = storage.look(inventory).await;
        let news = shown.as_ref().is_none_or(|shown| worth_writing(shown, &now));
        pause = if news || rewrite {
            match storage.write(&now).await {
                Ok(()) => {
                    shown = Some(now.clone());
                    GAP
                }
                Err(error) => {
                    let longer = (pause * 2).min(MAX_PAUSE);
                    warn!("can't report the node's storage: {}; again in {longer:?}", in_words(&error));
                    changes.notify_rewrite();
                    longer
                }
            }
        } else {
            GAP
        };
        if seen.as_ref().is_some_and(|seen| more_room(seen, &now)) {
            room_came();
        }
        if seen.as_ref().is_none_or(|seen| seen.pools.len() != now.pools.len()) {
            info!("reporting {} pools", now.pools.len());
        }
        seen = Some(now);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use tierce_crds::{PoolState, PoolStatus};

    /// A pool that gets one more volume with each change.
    #[derive(Default)]
    struct Busy {
        volumes: AtomicI64,
        failing: AtomicBool,
        writes: Mutex<Vec<(Instant, i64)>>,
    }

    impl Storage for Busy {
        async fn look(&self, _: bool) -> NodeStorageStatus {
            let volumes = self.volumes.load(Ordering::SeqCst);
            let pool = PoolStatus {
                name: "p".into(),
                tier: "t".into(),
                state: PoolState::Ready,
                reason: None,
                message: None,
                disk: None,
                free_bytes: None,
                capacity_bytes: 1 << 40,
                used_bytes: 0,
                promised_bytes: volumes,
                max_volume_bytes: 1 << 30,
                volumes,
                data_percent: None,
                metadata_percent: None,
            };
            NodeStorageStatus { pools: vec![pool], ..NodeStorageStatus::default() }
        }

        async fn write(&self, status: &NodeStorageStatus) -> Result<(), kube::Error> {
            self.writes.lock().unwrap().push((Instant::now(), status.pools[0].volumes));
            if self.failing.load(Ordering::SeqCst) {
                Err(kube::Error::LinesCodecMaxLineLengthExceeded)
            } else {
                Ok(())
            }
        }
    }

    async fn with_writer(act: impl AsyncFnOnce(&Busy, &Changes)) -> Vec<(Instant, i64)> {
        let (busy, changes, shutdown) =
            (Arc::new(Busy::default()), Changes::default(), CancellationToken::new());
        let running = tokio::spawn({
            let (busy, changes, shutdown) = (Arc::clone(&busy), changes.clone(), shutdown.clone());
            async move { run(&*busy, &changes, || {}, shutdown).await }
        });
        act(&busy, &changes).await;
        shutdown.cancel();
        running.await.unwrap();
        let writes = busy.writes.lock().unwrap();
        writes.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn bug_37_ten_thousand_changes_make_at_most_one_write_a_second() {
        let writes = with_writer(async |busy, changes| {
            for _ in 0..10_000 {
                busy.volumes.fetch_add(1, Ordering::SeqCst);
                changes.notify();
                sleep(Duration::from_millis(1)).await;
            }
            sleep(Duration::from_secs(2)).await;
        })
        .await;
        assert!((10..=12).contains(&writes.len()), "{} writes in 10 s", writes.len());
        assert!(writes.windows(2).all(|pair| pair[1].0 - pair[0].0 >= GAP));
        assert_eq!(writes.last().unwrap().1, 10_000, "the last write has the last figure");
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_change_is_written_at_once_and_silence_writes_nothing() {
        let mut changed_at = None;
        let writes = with_writer(async |busy, changes| {
            changes.notify();
            sleep(Duration::from_mins(10)).await;
            changed_at = Some(Instant::now());
            busy.volumes.store(1, Ordering::SeqCst);
            changes.notify();
            sleep(Duration::from_millis(1)).await;
        })
        .await;
        let [(_, 0), (at, 1)] = writes.as_slice() else { panic!("{writes:?}") };
        assert_eq!(Some(*at), changed_at);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changed_without_a_word_is_seen_within_a_minute() {
        let writes = with_writer(async |busy, changes| {
            changes.notify();
            sleep(Duration::from_secs(2)).await;
            busy.volumes.store(7, Ordering::SeqCst);
            sleep(HEARTBEAT).await;
        })
        .await;
        assert_eq!(writes.last().unwrap().1, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_that_answers_late_is_reported_at_once() {
        let mut answered_at = None;
        let writes = with_writer(async |busy, changes| {
            let (answer, answers) = watch::channel(0);
            let telling = tokio::spawn({
                let changes = changes.clone();
                async move { tell_of_late_answers(answers, &changes, CancellationToken::new()).await }
            });
            changes.notify();
            sleep(Duration::from_secs(5)).await;
            answered_at = Some(Instant::now());
            busy.volumes.store(7, Ordering::SeqCst);
            answer.send_modify(|count| *count += 1);
            sleep(Duration::from_millis(1)).await;
            // An engine that is gone has nothing more to tell.
            drop(answer);
            telling.await.unwrap();
        })
        .await;
        let [(_, 0), (at, 7)] = writes.as_slice() else { panic!("{writes:?}") };
        assert_eq!(Some(*at), answered_at);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_writes_are_tried_again_ever_more_slowly() {
        let writes = with_writer(async |busy, changes| {
            busy.failing.store(true, Ordering::SeqCst);
            changes.notify();
            sleep(Duration::from_mins(5)).await;
            assert!((10..=16).contains(&busy.writes.lock().unwrap().len()));
            busy.failing.store(false, Ordering::SeqCst);
            sleep(MAX_PAUSE).await;
            busy.writes.lock().unwrap().clear();
            sleep(Duration::from_mins(5)).await;
        })
        .await;
        assert_eq!(writes, [], "written once it worked, then no more");
    }
}
