//! Names on the cluster, for a command line that is being typed. Trouble is no matter of a suggestion.

use std::time::Duration;

use tierce_client::{Cluster, Connection, contexts, create, list};

use super::runtime;
use crate::named::Named;

/// Nobody waits longer for a suggestion.
const PATIENCE: Duration = Duration::from_secs(2);

/// The names of all that may be meant; `volume`: the volume that the line names already.
pub(crate) fn names(what: Named, volume: Option<&str>, mut connection: Connection) -> Vec<String> {
    match what {
        Named::Context => return contexts(&connection),
        // It is being typed.
        Named::Namespace => connection.namespace = None,
        _ => {}
    }
    let look = async {
        let cluster = Cluster::open(&connection).await?;
        match what {
            Named::Volume => list::names(&cluster).await,
            Named::Snapshot => list::snapshot_names(&cluster, volume).await,
            Named::Tier => create::tiers(&cluster).await,
            Named::Namespace => list::namespaces(&cluster).await,
            Named::Context | Named::Pool | Named::Stack | Named::Consumer => Ok(Vec::new()),
        }
    };
    let Ok(runtime) = runtime() else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, look).await });
    found.ok().and_then(Result::ok).unwrap_or_default()
}
