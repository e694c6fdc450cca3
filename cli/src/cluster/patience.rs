//! How long a command waits, and how a person sees it.

use std::sync::{Mutex, PoisonError};

use tierce_client::wait::{Audience, Patience};

use crate::{args::Waiting, terminal::Spinner};

/// A person at a terminal, if there is one.
#[derive(Default)]
pub(super) struct Person(Mutex<Option<Spinner>>);

impl Person {
    /// Until it is done with `--wait`, else a moment.
    pub(super) fn patience(&self, waiting: &Waiting) -> Patience<'_> {
        if waiting.wait { Patience::until_done(waiting.timeout, self) } else { Patience::moment() }
    }

    fn set(&self, spinner: Option<Spinner>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = spinner;
    }
}

impl Audience for Person {
    fn waits_for(&self, what: &str) {
        self.set(Some(Spinner::new(what)));
    }

    fn hears(&self, word: &str) {
        if let Some(spinner) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            spinner.says(word);
        }
    }

    fn is_done(&self) {
        self.set(None);
    }
}
