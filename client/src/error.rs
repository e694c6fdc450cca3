//! What can go wrong on a cluster and on the way to it, in words that say what to do.

use std::{error::Error as StdError, time::Duration};

use crate::{Differs, InUse, Tried};

/// Why a verb did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text can't be a name.
    #[error(
        "{what} name '{name}' is not valid: 1 to {most} lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
    )]
    InvalidName {
        /// Of what.
        what: &'static str,
        /// The text.
        name: String,
        /// Characters that it may have.
        most: usize,
    },
    /// Another argument makes no sense; the text says which and what to do.
    #[error("{0}")]
    InvalidArgument(String),
    /// There is nothing that says which cluster.
    #[error(
        "No cluster to work with: there is no {looked_at}; name a kubeconfig with --kubeconfig or KUBECONFIG, or add --host for the volumes of this host"
    )]
    NoKubeconfig {
        /// Where one was looked for.
        looked_at: String,
    },
    /// The kubeconfig has no such context, or chooses none.
    #[error(
        "{words} in kubeconfig {kubeconfig}: choose one with --context, it has {known}; or add --host for the volumes of this host"
    )]
    NoContext {
        /// What is the matter.
        words: String,
        /// The files.
        kubeconfig: String,
        /// The contexts that it has.
        known: String,
    },
    /// The kubeconfig can't be used.
    #[error(
        "can't use kubeconfig {kubeconfig}: mend it, name another with --kubeconfig, or add --host for the volumes of this host"
    )]
    Kubeconfig {
        /// The files.
        kubeconfig: String,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The API server does not answer.
    #[error(
        "can't reach a cluster: tried {tried}; choose another with --context or --kubeconfig, or add --host for the volumes of this host"
    )]
    Unreachable {
        /// What was tried.
        tried: Tried,
        /// What was in the way.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The API server does not know the kind.
    #[error("can't {doing}: this cluster has no {kind}; {advice}")]
    NoSuchKind {
        /// What was tried.
        doing: String,
        /// The kind, in the plural.
        kind: &'static str,
        /// What brings it.
        advice: &'static str,
    },
    /// No volume has that name.
    #[error("Volume '{name}' not found in namespace '{namespace}': there are {known}")]
    NotFound {
        /// The name.
        name: String,
        /// Its namespace.
        namespace: String,
        /// The volumes that the namespace has.
        known: String,
    },
    /// The volume has no such snapshot.
    #[error("Volume '{name}' has no snapshot '{snapshot}': there are {known}")]
    SnapshotNotFound {
        /// The volume.
        name: String,
        /// The snapshot.
        snapshot: String,
        /// The snapshots that it has.
        known: String,
    },
    /// The name is taken by a volume with other parameters.
    #[error(transparent)]
    Differs(#[from] Differs),
    /// A pod uses the volume.
    #[error(transparent)]
    InUse(#[from] InUse),
    /// The state of the cluster does not allow it; the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// The API server refused.
    #[error("can't {doing}: the cluster refused: {message}")]
    RefusedByServer {
        /// What was tried.
        doing: String,
        /// Its words.
        message: String,
    },
    /// The API server's answer makes no sense.
    #[error(
        "can't {doing}: the cluster's answer can't be read; is it of another version of Tierce? See tierce version"
    )]
    Unreadable {
        /// What was tried.
        doing: String,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// What was asked for did not get done in time.
    #[error(
        "waited {after:?} for {what}: {last}; it goes on, look with tierce volume inspect, or give more time with --timeout"
    )]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// What the cluster said last.
        last: String,
    },
    /// What was waited for can't come.
    #[error("{what} does not come: {why}")]
    Hopeless {
        /// What was waited for.
        what: String,
        /// The cluster's words.
        why: String,
    },
}

impl Error {
    /// Whether the arguments are wrong whatever the state of the cluster.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::InvalidName { .. } | Self::InvalidArgument(_))
    }
}
