//! Random histories of an encrypted volume: snapshots, restores in place and their calling off, rotations, refused writes, watches that
//! lag, nodes and controllers that are killed at every step. The controller is the real one over an API server in memory; the node is a
//! model of its disk.
//!
//! After each step:
//! - every LUKS2 header can be opened with a key in the Secret of its own volume or snapshot; a snapshot that nobody was told of yet may
//!   have its key in the volume's;
//! - a key that was rotated away opens the volume no more, and is never wanted again. Where a restore exchanged the header itself, that
//!   holds from the next mount on.
//!
//! In the end, with no more faults, whatever was begun is done.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here fails the test")]

mod histories;
mod support;

use histories::world::World;
use histories::{History, Luck};

/// Numbers of histories to look at, as `7` or `0-100`.
const SOME: &str = "TIERCE_HISTORIES";

#[test]
fn no_order_of_restores_rotations_and_kills_loses_a_key_or_revives_one() {
    let some = std::env::var(SOME).unwrap_or_else(|_| "0-9999".to_owned());
    let (first, last) = some.split_once('-').unwrap_or((&some, &some));
    let all = first.parse::<u64>().unwrap()..=last.parse().unwrap();
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(4);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let numbers = all.clone().skip(thread).step_by(threads);
            scope.spawn(move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_time().start_paused(true).build().unwrap();
                let begun = runtime.block_on(World::with_a_volume());
                for number in numbers {
                    runtime.block_on(async {
                        let mut history = History::begin(Luck::of(number), &begun);
                        if let Err(what) = history.run().await {
                            let told = history.told.join("\n");
                            panic!("history {number} ({SOME}={number} shows it alone): {what}\n{told}");
                        }
                    });
                }
            });
        }
    });
}
