//! What quotas would say of a volume now, for whoever tells people. The last word is that of the ledger, in [`reserve`](super::reserve).

use super::account::Account;
use super::limits::{Ask, Exceeded, Named, admit};
use crate::index::State;
use k8s_openapi::jiff::Timestamp;
use tierce_crds::{StorageLedger, StorageLedgerSpec};

/// The quota that has no room for it; `None` where all have.
pub(crate) fn refusal(state: &State, namespace: &str, ask: Ask<'_>) -> Option<Exceeded> {
    if !state.has_quotas() {
        return None;
    }
    let quotas = state.quotas_on(namespace);
    if quotas.is_empty() {
        return None;
    }
    let (account, ledger) = (Account::of(state, namespace), ledger_of(state, namespace));
    admit((namespace, &quotas), &account, &ledger, ask, Timestamp::now()).err()
}

/// Whether any quota holds for the namespace.
pub(crate) fn holds(state: &State, namespace: &str) -> bool {
    state.has_quotas() && !state.quotas_on(namespace).is_empty()
}

/// The ledger of a namespace as the watch tells; an empty one where there is none.
pub(super) fn ledger_of(state: &State, namespace: &str) -> StorageLedgerSpec {
    let known = state.ledgers.get(&StorageLedger::name_of_namespace(namespace));
    known.map_or_else(|| StorageLedger::of_namespace(namespace).spec, |known| known.spec.clone())
}

/// The quotas that hold for a namespace, what that has, and its ledger.
pub(super) fn look(state: &State, namespace: &str) -> (Vec<Named>, Account, StorageLedgerSpec) {
    (state.quotas_on(namespace), Account::of(state, namespace), ledger_of(state, namespace))
}
