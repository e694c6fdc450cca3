//! Asking for a secret: the terminal does not show what is typed, and shows it again however that ends.

use std::{
    io::{self, BufRead},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use signal_hook::{
    consts::{SIGINT, SIGQUIT, SIGTERM},
    iterator::Signals,
    low_level,
};
use zeroize::Zeroizing;

use crate::output::shown;

/// How the terminal was before it stopped to show what is typed; `None`: it shows it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Asks for a secret on the terminal, which does not show what is typed. The answer has its line's end.
pub(crate) fn secret(question: &str) -> io::Result<Zeroizing<String>> {
    watch_signals()?;
    let hidden = Hidden::start()?;
    let mut answer = Zeroizing::new(String::new());
    ask(question);
    let read = io::stdin().lock().read_line(&mut answer);
    drop(hidden);
    read.map(|_| answer)
}

/// The terminal does not show what is typed while this lives.
struct Hidden;

impl Hidden {
    fn start() -> io::Result<Self> {
        let terminal = io::stdin();
        let mut noted = before();
        let shown = termios::tcgetattr(&terminal)?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // Before the question is there: an answer to it is neither shown nor thrown away.
        termios::tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
        *noted = Some(shown);
        Ok(Self)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        show_again();
    }
}

fn before() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::print_stderr, reason = "standard output is for results")]
fn ask(question: &str) {
    eprint!("{}", shown(question));
}

#[allow(clippy::print_stderr, reason = "the line's end was not shown")]
fn show_again() {
    if let Some(shown) = before().take() {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &shown);
        eprintln!();
    }
}

/// Lets signals that end this process show the terminal again first. It listens for them from the first question on until the end: a
/// handler can't be taken back.
fn watch_signals() -> io::Result<()> {
    static WATCHED: Mutex<bool> = Mutex::new(false);
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    if *watched {
        return Ok(());
    }
    let mut signals = Signals::new([SIGINT, SIGQUIT, SIGTERM])?;
    thread::Builder::new().name("tierce-signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            show_again();
            // As if nobody had listened: a shell sees by which signal we ended, and a script ends with us.
            let _ = low_level::emulate_default_handler(signal);
        }
    })?;
    *watched = true;
    Ok(())
}
