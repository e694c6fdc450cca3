//! Talking with a person.

mod secret;

use std::{
    cell::Cell,
    io::{self, BufRead, IsTerminal, Write},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub(crate) use secret::secret;

use crate::output::shown;

/// Tells a person something on standard error, in one line.
#[allow(clippy::print_stderr, reason = "this is the place for it: what others say is made safe here")]
pub(crate) fn note(text: &str) {
    eprintln!("{}", shown(text));
}

/// Asks a question on standard output; only `y` and `yes` are a yes. `None`: nobody answers, as standard input has ended.
pub(crate) fn confirmed(question: &str) -> io::Result<Option<bool>> {
    let mut out = io::stdout().lock();
    write!(out, "{} [y/N] ", shown(question))?;
    out.flush()?;
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer)? == 0 {
        writeln!(out)?;
        return Ok(None);
    }
    Ok(Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")))
}

/// How far something came, on standard error and only where that is a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    done: Cell<u64>,
}

impl Progress {
    /// `what` was done with that many bytes, at the end.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix} {decimal_bytes}/{decimal_total_bytes} [{bar:30}] {percent}% {eta}",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what);
        bar.tick();
        Self { bar, done: Cell::new(0) }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.done.set(self.done.get().saturating_add(bytes));
        self.bar.inc(bytes);
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.get()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// That something is waited for, and what is said of it, on standard error and only where that is a terminal.
pub(crate) struct Spinner {
    bar: ProgressBar,
}

impl Spinner {
    pub(crate) fn new(what: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {elapsed} waiting for {prefix}: {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(shown(what).into_owned());
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        Self { bar }
    }

    pub(crate) fn says(&self, word: &str) {
        self.bar.set_message(shown(word).into_owned());
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
