//! What the parts of a long command take, for the table that `make test` ends with.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Names the file that `e2e/stages.sh` makes its table from.
const FILE: &str = "TIERCE_STAGES";

/// A part of the stage that is under way, from its beginning on.
#[derive(Debug)]
pub struct Part {
    begun: Instant,
    processors: Option<Processors>,
}

impl Part {
    /// Begins one.
    #[must_use]
    pub fn begin() -> Self {
        Self { begun: Instant::now(), processors: Processors::now() }
    }

    /// Ends it, and writes it down with how busy the machine's processors were meanwhile.
    pub fn end(self, name: &str) {
        let busy = self.processors.zip(Processors::now()).map(|(then, now)| now.busy_since(&then));
        write(self.begun.elapsed(), busy, name);
    }
}

/// Writes down what one of several took that ran side by side: how busy the processors were says nothing of it.
pub fn note(name: &str, took: Duration) {
    write(took, None, name);
}

/// Without a table to come this does nothing, and a table is not worth an error.
fn write(took: Duration, busy: Option<u64>, name: &str) {
    let Some(file) = std::env::var_os(FILE) else { return };
    if let Ok(mut file) = File::options().append(true).open(file) {
        let busy = busy.map(|percent| percent.to_string()).unwrap_or_default();
        writeln!(file, "{:.0}\t{busy}\t  {name}", took.as_secs_f64()).ok();
    }
}

/// What all processors of the machine did since it started, in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Processors {
    busy: u64,
    idle: u64,
}

impl Processors {
    fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal, and guests, whose time is in the first two
    /// (<https://docs.kernel.org/filesystems/proc.html#miscellaneous-kernel-statistics-in-proc-stat>).
    fn parse(stat: &str) -> Option<Self> {
        let ticks: Vec<u64> =
            stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().flat_map(str::parse).collect();
        let &[user, nice, system, idle, waiting, hard, soft, stolen, ..] = ticks.as_slice() else {
            return None;
        };
        Some(Self { busy: user + nice + system + hard + soft + stolen, idle: idle + waiting })
    }

    /// In percent of all processors.
    fn busy_since(&self, then: &Self) -> u64 {
        let (busy, idle) = (self.busy.saturating_sub(then.busy), self.idle.saturating_sub(then.idle));
        busy * 100 / (busy + idle).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_waits_for_a_disk_is_not_busy() {
        let stat = |line: &str| Processors::parse(&format!("{line}\ncpu0 1 2 3\n")).unwrap();
        let then = stat("cpu  100 10 50 1000 200 1 2 3 0 0");
        let now = stat("cpu  160 10 70 1060 240 1 12 13 40 0");
        assert_eq!(then, Processors { busy: 166, idle: 1200 });
        assert_eq!(now.busy_since(&then), 50);
        assert_eq!(then.busy_since(&then), 0);
        assert_eq!(Processors::parse("nothing"), None);
    }

    #[test]
    fn this_machine_says_what_its_processors_do() {
        assert!(Processors::now().is_some_and(|now| now.busy > 0));
    }
}
