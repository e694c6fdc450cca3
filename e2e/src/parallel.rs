//! Work that is done a few pieces at a time.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Does `work` for each piece, `count` at a time. The results come in the order in which they are ready.
pub fn side_by_side<W: Send, R: Send>(
    count: usize,
    pieces: impl IntoIterator<Item = W>,
    work: impl Fn(W) -> R + Sync,
) -> Vec<R> {
    let waiting = Mutex::new(pieces.into_iter().collect::<VecDeque<_>>());
    let results = Mutex::new(Vec::new());
    let one_after_the_other = || {
        loop {
            let next = waiting.lock().expect("no thread panics with the lock").pop_front();
            let Some(piece) = next else { return };
            let result = work(piece);
            results.lock().expect("no thread panics with the lock").push(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(one_after_the_other);
        }
    });
    results.into_inner().expect("no thread panics with the lock")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_piece_is_done_once_and_no_more_at_a_time_than_asked_for() {
        let (busy, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut done = side_by_side(3, 0..50, |piece| {
            most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(1));
            busy.fetch_sub(1, Ordering::SeqCst);
            piece
        });
        done.sort_unstable();
        assert_eq!(done, (0..50).collect::<Vec<_>>());
        assert!((2..=3).contains(&most.into_inner()));
    }
}
