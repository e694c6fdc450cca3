//! What makes the reconcilers of quotas look.

use crate::index::{News, State, Topic, Touched, Wakes};
use std::time::Duration;
use tierce_crds::StorageQuotaSpec;

/// StorageQuotas, by name. Their status adds up what many volumes change.
#[derive(Debug)]
pub struct Quotas;

impl Topic for Quotas {
    type Key = String;

    fn all(state: &State) -> Vec<String> {
        state.quotas.iter().map(|(name, _)| name.clone()).collect()
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<String>) {
        if let News::Quota(change) = *news {
            wakes.now(change.key.clone());
        }
        match state.touched_by(news) {
            Touched::Each => wakes.soon(Self::all(state)),
            Touched::These(namespaces) if !namespaces.is_empty() => {
                // Those of `*` hold there as well, or have the same subject as one that does.
                let subjects = namespaces.iter().map(String::as_str).chain([StorageQuotaSpec::EACH]);
                wakes.soon(subjects.flat_map(|subject| state.quotas_with_subject(subject)));
            }
            Touched::These(_) => {}
        }
    }
}

/// Ledgers, by the namespace that they are of.
#[derive(Debug)]
pub struct Ledgers;

impl Topic for Ledgers {
    type Key = String;
    const SETTLES: Duration = Duration::from_millis(300);

    fn all(state: &State) -> Vec<String> {
        if state.has_quotas() || !state.ledgers.is_empty() {
            state.namespaces_with_volumes()
        } else {
            Vec::new()
        }
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<String>) {
        if let News::Ledger(change) = *news {
            wakes.soon(change.both().filter_map(|ledger| ledger.namespace().map(ToOwned::to_owned)));
        }
        match state.touched_by(news) {
            Touched::Each => wakes.soon(Self::all(state)),
            Touched::These(namespaces) => wakes.soon(namespaces),
        }
    }
}
