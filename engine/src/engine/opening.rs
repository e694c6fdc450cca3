//! Looking at pools, each in a thread of its own: a disk that does not answer holds up nobody but its own volumes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::core::Slot;
use crate::PoolErrorKind;

/// How long a caller waits for the disks it asks first. A call into the kernel can't be taken back: the thread stays until the disk answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// And for those that did not answer then.
const LESS_PATIENCE: Duration = Duration::from_millis(500);

/// Looks that have not come back, by the pool's name.
#[derive(Default)]
pub(super) struct Looks(Mutex<HashMap<String, Look>>);

struct Look {
    /// What was looked at.
    asked: Slot,
    answer: mpsc::Receiver<Slot>,
}

impl Looks {
    /// Looks at all of them at once. One that does not answer comes back as closed, and with its answer at a later call.
    pub(super) fn at<F>(&self, slots: Vec<Slot>, look: F) -> Vec<Slot>
    where
        F: Fn(Slot) -> Slot + Clone + Send + 'static,
    {
        let start = Instant::now();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked: Vec<(Look, Duration)> = slots
            .into_iter()
            .map(|slot| match waiting.remove(&slot.config.name) {
                // It was waited for already.
                Some(earlier) if earlier.asked.config == slot.config => (earlier, LESS_PATIENCE),
                _ => (ask(slot, look.clone()), PATIENCE),
            })
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for (look, patience) in asked {
            let left = patience.saturating_sub(start.elapsed());
            let answer = look.answer.recv_timeout(left);
            answers.push(answer.unwrap_or_else(|error| {
                let silent = silent(&look.asked);
                // The other error: the thread died. It is asked anew next time.
                if error == mpsc::RecvTimeoutError::Timeout {
                    waiting.insert(look.asked.config.name.clone(), look);
                }
                silent
            }));
        }
        answers
    }
}

fn ask(slot: Slot, look: impl Fn(Slot) -> Slot + Send + 'static) -> Look {
    let (tell, answer) = mpsc::channel();
    let asked = slot.clone();
    // Programs are started from there too.
    let runtime = tokio::runtime::Handle::current();
    thread::spawn(move || {
        let _runtime = runtime.enter();
        // Whoever asked may be gone when it answers.
        let _ = tell.send(look(slot));
    });
    Look { asked, answer }
}

fn silent(asked: &Slot) -> Slot {
    let reason = format!(
        "its disk has not answered for {} s or more; the kernel's log may say why",
        PATIENCE.as_secs()
    );
    let error = PoolErrorKind::NotAnswering.because(reason).of(&asked.config);
    Slot { opened: Err(error), ..asked.clone() }
}
