//! Keeps ledgers up to date: what is to be seen in NodeVolumes leaves them, and what a call reserved that was killed before it made any. Soft limits
//! are timed here also where nobody makes a volume.

use super::account::Account;
use super::accounts::Accounts;
use super::limits::{Named, folded, timers};
use super::reserve::{EXPIRES, MANAGER};
use super::verdict::ledger_of;
use crate::index::Index;
use crate::run::objects::{created_by, gone_is_fine};
use crate::run::queue::Next;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use std::sync::Arc;
use std::time::Duration;
use tierce_crds::{LedgerEntry, StorageLedger, StorageLedgerSpec};
use tierce_runtime::errors::in_words;
use tracing::{debug, warn};

/// An entry whose NodeVolume the API server has and the watch has not is looked at again after this time.
const UNSEEN: Duration = Duration::from_secs(10);

/// Keeps the ledgers.
pub(crate) struct LedgerKeeper {
    ledgers: Api<StorageLedger>,
    accounts: Accounts,
    index: Arc<Index>,
}

/// What becomes of a ledger.
#[derive(Debug, PartialEq)]
enum Fate {
    Stays,
    Goes,
    Becomes(Box<StorageLedgerSpec>),
}

impl LedgerKeeper {
    pub(crate) fn new(client: Client, index: Arc<Index>) -> Self {
        let accounts = Accounts::new(client.clone(), Arc::clone(&index));
        Self { ledgers: Api::all(client), accounts, index }
    }

    /// Looks at the ledger of one namespace.
    pub(crate) async fn reconcile(&self, namespace: &str) -> Next {
        let name = StorageLedger::name_of_namespace(namespace);
        let (known, quotas, ledger) = self.index.read(|state| {
            (state.ledgers.get(&name).cloned(), state.quotas_on(namespace), ledger_of(state, namespace))
        });
        if known.is_none() && quotas.is_empty() {
            return Next::Event;
        }
        let now = Timestamp::now();
        let done = async {
            let account = self.accounts.as_of(namespace, ledger.seen).await?;
            let (fate, next) = self.look(&quotas, &account, &ledger, now).await?;
            self.write(&name, namespace, known.as_deref(), fate).await?;
            Ok::<_, kube::Error>(next)
        };
        done.await.unwrap_or_else(|error| failed(namespace, &error))
    }

    async fn look(
        &self,
        quotas: &[Named],
        account: &Account,
        ledger: &StorageLedgerSpec,
        now: Timestamp,
    ) -> Result<(Fate, Next), kube::Error> {
        let mut gone = Vec::new();
        for entry in expired(ledger, now) {
            // One that is there and smaller: it did not grow after all. One that the watch may still tell of is waited for.
            let is_known = account.bytes_of(&entry.volume).is_some();
            if is_known || self.accounts.volumes.get_metadata_opt(&entry.volume).await?.is_none() {
                gone.push(entry.volume.clone());
            }
        }
        let fate = fate(quotas, account, ledger, &gone, now);
        let left = ledger.in_flight.iter().filter(|entry| !gone.contains(&entry.volume));
        let rest = left
            .map(|entry| rest(entry, now).max(if is_expired(entry, now) { UNSEEN } else { Duration::ZERO }));
        Ok((fate, rest.min().map_or(Next::Event, Next::After)))
    }

    async fn write(
        &self,
        name: &str,
        namespace: &str,
        known: Option<&StorageLedger>,
        fate: Fate,
    ) -> Result<(), kube::Error> {
        match (known, fate) {
            (_, Fate::Stays) | (None, Fate::Goes) => Ok(()),
            (Some(known), Fate::Goes) => {
                let meta = &known.metadata;
                let preconditions = Some(Preconditions {
                    uid: meta.uid.clone(),
                    resource_version: meta.resource_version.clone(),
                });
                let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
                gone_is_fine(self.ledgers.delete(name, &parameters).await).map(drop)
            }
            (Some(known), Fate::Becomes(spec)) => {
                let ledger = StorageLedger { spec: *spec, ..known.clone() };
                gone_is_fine(self.ledgers.replace(name, &created_by(MANAGER), &ledger).await).map(drop)
            }
            (None, Fate::Becomes(spec)) => {
                let ledger = StorageLedger { spec: *spec, ..StorageLedger::of_namespace(namespace) };
                self.ledgers.create(&created_by(MANAGER), &ledger).await.map(drop)
            }
        }
    }
}

fn failed(namespace: &str, error: &kube::Error) -> Next {
    let words = in_words(error);
    if matches!(error, kube::Error::Api(status) if status.code == 409) {
        debug!(namespace, "looked at an older ledger: {words}");
    } else {
        warn!(namespace, "cannot keep the StorageLedger: {words}");
    }
    Next::Failed
}

/// How long it counts without a NodeVolume.
fn rest(entry: &LedgerEntry, now: Timestamp) -> Duration {
    let age = now.duration_since(entry.since.0).max(SignedDuration::ZERO);
    EXPIRES.saturating_sub(age.unsigned_abs())
}

fn is_expired(entry: &LedgerEntry, now: Timestamp) -> bool {
    rest(entry, now).is_zero()
}

fn expired(ledger: &StorageLedgerSpec, now: Timestamp) -> impl Iterator<Item = &LedgerEntry> {
    ledger.in_flight.iter().filter(move |entry| is_expired(entry, now))
}

/// Decides. `gone`: volumes of which nothing will come.
fn fate(
    quotas: &[Named],
    account: &Account,
    ledger: &StorageLedgerSpec,
    gone: &[String],
    now: Timestamp,
) -> Fate {
    let mut next = folded(account, ledger);
    next.in_flight.retain(|entry| !gone.contains(&entry.volume));
    next.over = timers(quotas, account, (&next, &next), now);
    let is_of_use = !quotas.is_empty() && !account.volumes.is_empty();
    if next.in_flight.is_empty() && next.over.is_empty() && !is_of_use {
        Fate::Goes
    } else if next == *ledger {
        Fate::Stays
    } else {
        Fate::Becomes(Box::new(next))
    }
}
