//! Looking at pools, each in a thread of its own: a disk that does not answer holds up only its own volumes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::slot::Slot;
use crate::{PoolConfig, PoolError, PoolErrorKind};

/// How long a caller waits for the disks that it asks first. A call into the kernel can't be taken back: the
/// thread stays until the disk answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a caller that asks for all pools waits for disks that did not answer before.
const LESS_PATIENCE: Duration = Duration::from_millis(500);

/// Looks that have not come back, by the pool's name.
pub(super) struct Looks {
    patience: Duration,
    waiting: Mutex<HashMap<String, Look>>,
    /// Counts looks that came back after their caller had given up.
    late: Arc<watch::Sender<u64>>,
}

struct Look {
    /// The pool that was looked at.
    asked: Slot,
    answer: mpsc::Receiver<Slot>,
    /// Whether the caller was told that there is no answer.
    given_up: Arc<AtomicBool>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { patience: PATIENCE, waiting: Mutex::default(), late: Arc::new(watch::Sender::new(0)) }
    }
}

impl Looks {
    #[cfg(test)]
    pub(super) fn of_patience(patience: Duration) -> Self {
        Self { patience, ..Self::default() }
    }

    /// Changes with each look that came back after its caller was told that the disk does not answer.
    pub(super) fn late(&self) -> watch::Receiver<u64> {
        self.late.subscribe()
    }

    /// Makes those who wait for late answers look again.
    pub(super) fn news(&self) {
        self.late.send_modify(|count| *count += 1);
    }

    /// Looks at all pools at once. A pool that does not answer comes back as closed, and with its answer at a
    /// later call.
    pub(super) fn at<F>(&self, slots: Vec<Slot>, look: F) -> Vec<Slot>
    where
        F: Fn(Slot) -> Slot + Clone + Send + 'static,
    {
        let start = Instant::now();
        // A caller that asks for one pool asks often.
        let less = if slots.len() == 1 { Duration::ZERO } else { LESS_PATIENCE };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let asked: Vec<(Look, Duration)> = slots
            .into_iter()
            .map(|slot| match waiting.remove(&slot.config.name) {
                // It was waited for already.
                Some(earlier) if earlier.asked.config == slot.config => (earlier, less),
                _ => (self.ask(slot, look.clone()), self.patience),
            })
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for (look, patience) in asked {
            let left = patience.saturating_sub(start.elapsed());
            let answer = look.answer.recv_timeout(left).or_else(|error| {
                // Said before the last look for an answer: one that comes after that is told of as late.
                look.given_up.store(true, Ordering::SeqCst);
                look.answer.try_recv().map_err(|_| error)
            });
            answers.push(answer.unwrap_or_else(|error| {
                let silent = silent(&look.asked);
                // The other error: the thread died. It is asked again next time.
                if error == mpsc::RecvTimeoutError::Timeout {
                    waiting.insert(look.asked.config.name.clone(), look);
                }
                silent
            }));
        }
        answers
    }

    fn ask(&self, slot: Slot, look: impl Fn(Slot) -> Slot + Send + 'static) -> Look {
        let (tell, answer) = mpsc::channel();
        let asked = slot.clone();
        let given_up = Arc::new(AtomicBool::new(false));
        let (is_late, late) = (Arc::clone(&given_up), Arc::clone(&self.late));
        thread::spawn(move || {
            // The caller may be gone when it answers.
            let _ = tell.send(look(slot));
            if is_late.load(Ordering::SeqCst) {
                late.send_modify(|count| *count += 1);
            }
        });
        Look { asked, answer, given_up }
    }
}

fn silent(asked: &Slot) -> Slot {
    Slot { opened: Err(not_answering(&asked.config, PATIENCE)), ..asked.clone() }
}

/// The error for a pool whose disk has not answered for that long.
pub(super) fn not_answering(config: &PoolConfig, patience: Duration) -> PoolError {
    let seconds = patience.as_secs();
    let reason = format!("its disk has not answered for {seconds} s or more; the kernel's log may say why");
    PoolErrorKind::NotAnswering.because(reason).of(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::examples;

    fn slot() -> Slot {
        let config = examples::directory("slow", "/slow");
        let opened = Err(trouble(&config, PoolErrorKind::NotOpened));
        Slot { config, opened, known: None }
    }

    fn trouble(config: &PoolConfig, kind: PoolErrorKind) -> PoolError {
        kind.because("").of(config)
    }

    fn kind(slots: &[Slot]) -> PoolErrorKind {
        slots[0].opened.as_ref().err().unwrap().kind
    }

    #[tokio::test]
    async fn a_look_that_comes_back_late_is_told_of_and_its_answer_is_there() {
        let looks = Looks { patience: Duration::from_millis(1), ..Looks::default() };
        let mut late = looks.late();
        let (answer, answers) = mpsc::channel::<()>();
        let answers = Arc::new(Mutex::new(answers));
        let look = move |slot: Slot| {
            answers.lock().unwrap().recv().unwrap();
            Slot { opened: Err(trouble(&slot.config, PoolErrorKind::OtherDisk)), ..slot }
        };
        assert_eq!(kind(&looks.at(vec![slot()], look.clone())), PoolErrorKind::NotAnswering);
        assert!(!late.has_changed().unwrap());
        answer.send(()).unwrap();
        late.changed().await.unwrap();
        assert_eq!(kind(&looks.at(vec![slot()], look)), PoolErrorKind::OtherDisk);
        // One that was waited for is nothing new.
        let at_once = |slot: Slot| Slot { opened: Err(trouble(&slot.config, PoolErrorKind::Failed)), ..slot };
        let looks = Looks::default();
        let late = looks.late();
        assert_eq!(kind(&looks.at(vec![slot()], at_once)), PoolErrorKind::Failed);
        assert!(!late.has_changed().unwrap());
    }
}
