//! Keeps what a call is about to make, so that no two calls of any two replicas are given the same room. The ledger of the namespace is changed by
//! compare-and-swap before a NodeVolume is made or grown. Where no quota holds for a namespace this asks the API server for nothing.

use super::account::bytes;
use super::accounts::Accounts;
use super::limits::{Ask, Exceeded, admit, folded};
use crate::index::Index;
use crate::run::objects::created_by;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tierce_crds::{ClaimReference, LedgerEntry, StorageLedger};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Field manager of the ledgers.
pub(super) const MANAGER: &str = "tierce-controller-quota";
/// For so long what is reserved is surely kept: a NodeVolume is made or grown before, or not at all.
const HOLDS: Duration = Duration::from_mins(1);
/// Without a NodeVolume it counts for so long: a write that was sent while it held has come to its end by then, whatever the clocks say.
pub(super) const EXPIRES: Duration = Duration::from_secs(150);
/// Calls of one replica for one namespace take turns: they would only get in each other's way.
const TURNS: usize = 64;

/// Why nothing is reserved.
#[derive(Debug, Error)]
pub enum ReserveError {
    /// No room.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// What was reserved may be given to others by now.
    #[error("volume {0} was not written in time for what was reserved of its quota; it is tried again")]
    Late(String),
    /// The API server.
    #[error("cannot {what}")]
    Api {
        /// What we tried.
        what: &'static str,
        /// Why not.
        source: kube::Error,
    },
}

/// Reserves, for all calls of one replica. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Reserver {
    ledgers: Api<StorageLedger>,
    accounts: Accounts,
    index: Arc<Index>,
    turns: Arc<[Mutex<()>]>,
}

/// What was reserved for a call.
#[derive(Debug)]
#[must_use = "the NodeVolume may be written only while it holds"]
pub(crate) struct Reserved {
    namespace: String,
    volume: String,
    until: Instant,
}

impl Reserved {
    /// Whether the NodeVolume may still be written.
    pub(crate) fn holds(&self) -> Result<(), ReserveError> {
        if Instant::now() < self.until { Ok(()) } else { Err(ReserveError::Late(self.volume.clone())) }
    }
}

impl Reserver {
    pub(crate) fn new(client: Client, index: Arc<Index>) -> Self {
        let turns = (0..TURNS).map(|_| Mutex::new(())).collect();
        let accounts = Accounts::new(client.clone(), Arc::clone(&index));
        Self { ledgers: Api::all(client), accounts, index, turns }
    }

    /// Reserves what the volume of a claim is to have. `None`: no quota holds for it.
    pub(crate) async fn reserve(
        &self,
        claim: Option<&ClaimReference>,
        ask: Ask<'_>,
    ) -> Result<Option<Reserved>, ReserveError> {
        let Some(namespace) = claim.map(|claim| claim.namespace.as_str()) else { return Ok(None) };
        let counts = self.index.read(|state| {
            let mut quotas = if state.has_quotas() { state.quotas_on(namespace) } else { Vec::new() };
            quotas.retain(|(_, quota)| quota.spec.counts(Some(ask.tier)));
            !quotas.is_empty()
        });
        if !counts {
            return Ok(None);
        }
        let _turn = self.turn(namespace).lock().await;
        loop {
            let until = Instant::now() + HOLDS;
            if self.try_reserve(namespace, ask).await? {
                let (namespace, volume) = (namespace.to_owned(), ask.volume.to_owned());
                return Ok(Some(Reserved { namespace, volume, until }));
            }
        }
    }

    /// `false`: somebody else was faster.
    async fn try_reserve(&self, namespace: &str, ask: Ask<'_>) -> Result<bool, ReserveError> {
        let found = self.ledger(namespace).await?;
        let mut ledger = found.clone().unwrap_or_else(|| StorageLedger::of_namespace(namespace));
        let api = |source| ReserveError::Api { what: "list the NodeVolumes", source };
        let account = self.accounts.as_of(namespace, ledger.spec.seen).await.map_err(api)?;
        let quotas = self.index.read(|state| state.quotas_on(namespace));
        ledger.spec = admit((namespace, &quotas), &account, &ledger.spec, ask, Timestamp::now())?;
        self.write(&ledger, found.is_some()).await
    }

    /// What the node has said of the volume is known here: the ledger need not count it any more. Best done where nothing came of a call; what
    /// can't be written now the reconciler writes.
    pub(crate) async fn settle(&self, reserved: &Reserved) {
        let _turn = self.turn(&reserved.namespace).lock().await;
        let Ok(Some(mut ledger)) = self.ledger(&reserved.namespace).await else { return };
        let Ok(account) = self.accounts.as_of(&reserved.namespace, ledger.spec.seen).await else { return };
        let entries = ledger.spec.in_flight.len();
        ledger.spec = folded(&account, &ledger.spec);
        ledger.spec.in_flight.retain(|entry| entry.volume != reserved.volume);
        if ledger.spec.in_flight.len() < entries {
            ledger.spec.seen = ledger.spec.seen.max(i64::try_from(account.heard).unwrap_or(i64::MAX));
            let _ = self.write(&ledger, true).await;
        }
    }

    /// What the ledger still has of a volume that is there; for [`forget`](Self::forget), once it is not. A growth that was not written yet is left out.
    pub(crate) fn reserved_for(&self, volume: &str) -> Option<(String, LedgerEntry)> {
        self.index.read(|state| {
            let device = state.devices.get(volume)?;
            let namespace = device.claim.as_ref()?.namespace.clone();
            let ledger = state.ledgers.get(&StorageLedger::name_of_namespace(&namespace))?;
            let is_its =
                |entry: &&LedgerEntry| entry.volume == volume && bytes(entry.bytes) <= device.promise();
            Some((namespace, ledger.spec.in_flight.iter().find(is_its)?.clone()))
        })
    }

    /// A volume that is gone so soon that nobody has taken it out of the ledger: without this it would count until the entry expires, as one that
    /// may still come. What can't be written now stays as long.
    pub(crate) async fn forget(&self, (namespace, entry): (String, LedgerEntry)) {
        let _turn = self.turn(&namespace).lock().await;
        let Ok(Some(mut ledger)) = self.ledger(&namespace).await else { return };
        let entries = ledger.spec.in_flight.len();
        ledger.spec.in_flight.retain(|its| *its != entry);
        if ledger.spec.in_flight.len() < entries {
            let _ = self.write(&ledger, true).await;
        }
    }

    fn turn(&self, namespace: &str) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        let turns = u64::try_from(TURNS).expect("a small number");
        let turn = usize::try_from(hasher.finish() % turns).expect("a small number");
        &self.turns[turn]
    }

    async fn ledger(&self, namespace: &str) -> Result<Option<StorageLedger>, ReserveError> {
        let api = |source| ReserveError::Api { what: "read the StorageLedger", source };
        self.ledgers.get_opt(&StorageLedger::name_of_namespace(namespace)).await.map_err(api)
    }

    async fn write(&self, ledger: &StorageLedger, is_there: bool) -> Result<bool, ReserveError> {
        let written = if is_there {
            let name = ledger.metadata.name.as_deref().unwrap_or_default();
            self.ledgers.replace(name, &created_by(MANAGER), ledger).await
        } else {
            self.ledgers.create(&created_by(MANAGER), ledger).await
        };
        match written {
            Ok(_) => Ok(true),
            // Changed, made or deleted meanwhile.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(source) => Err(ReserveError::Api { what: "write the StorageLedger", source }),
        }
    }
}
