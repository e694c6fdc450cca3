//! Names on the cluster, for a command line that is being typed.

use std::time::Duration;

use tierce_client::{Cluster, Connection, create, list};

use super::runtime;
use crate::named::Named;

/// Nobody waits longer for a suggestion.
const PATIENCE: Duration = Duration::from_secs(2);

/// The names of all that may be meant. Trouble is no matter of a suggestion.
pub(crate) fn names(what: Named, connection: &Connection) -> Vec<String> {
    let look = async {
        let cluster = Cluster::open(connection).await?;
        match what {
            Named::Volume => list::names(&cluster).await,
            Named::Snapshot => list::snapshot_names(&cluster).await,
            Named::Tier => create::tiers(&cluster).await,
        }
    };
    let Ok(runtime) = runtime() else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, look).await });
    found.ok().and_then(Result::ok).unwrap_or_default()
}
