//! Why CreateVolume has no volume to answer with.

use super::arguments::ArgumentError;
use super::source::SourceError;
use crate::placement::Refusal;
use crate::quota::ReserveError;
use thiserror::Error;
use tierce_crds::roughly;

/// Why there is no volume (yet).
#[derive(Debug, Error)]
pub enum CreateError {
    /// The request is not one.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// It can't start with that.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The node can't read what it should start with; the `NodeVolume` is gone.
    #[error("node {node} cannot make it from its source: {message}")]
    SourceUnusable {
        /// Node.
        node: String,
        /// Its words.
        message: String,
    },
    /// An encrypted source without its Secret.
    #[error(
        "the Secret tierce-key-{0} is gone, so a copy of {0} could not be opened: bring it back from a backup"
    )]
    NoKey(String),
    /// What becomes of the data when its claim goes is said in a class that is not known.
    #[error(
        "StorageClass {0} is not known yet, and says whether the data outlives its claim: it is looked for again"
    )]
    NoClass(String),
    /// Nobody offers the tier.
    #[error("{0}")]
    NoSuchTier(Refusal),
    /// Nowhere is room, or no pool.
    #[error("{0}")]
    NoRoom(Refusal),
    /// No quota has room for it, or that can't be said.
    #[error(transparent)]
    Quota(#[from] ReserveError),
    /// The node has no room after all, or its pool failed; the `NodeVolume` is gone.
    #[error("node {node} refused: {message}{}", .largest.map(|b| format!("; the largest volume that would fit is {}", roughly(b))).unwrap_or_default())]
    NodeRefused {
        /// Node.
        node: String,
        /// Its words.
        message: String,
        /// Bytes that would fit.
        largest: Option<u64>,
    },
    /// The pool can't make such a volume; the `NodeVolume` is gone.
    #[error("node {node} cannot make such a volume: {message}")]
    NodeInvalid {
        /// Node.
        node: String,
        /// Its words.
        message: String,
    },
    /// A volume of that name exists with other parameters.
    #[error("volume {id} exists with another {field}: it has {has}, {asked} is asked for")]
    OtherParameters {
        /// Volume id.
        id: String,
        /// Which parameter.
        field: &'static str,
        /// What it has.
        has: String,
        /// What is asked.
        asked: String,
    },
    /// The node's disk has a volume of that name that is not the one asked for.
    #[error("node {node} has something else under the name {id}: {message}")]
    OnDiskDifferently {
        /// Volume id.
        id: String,
        /// Node.
        node: String,
        /// Its words.
        message: String,
    },
    /// Another call about the volume is under way.
    #[error("another call about volume {0} is under way")]
    Busy(String),
    /// A volume of that name is being deleted.
    #[error("a volume {0} is being deleted; once it is gone it can be made anew")]
    BeingDeleted(String),
    /// It was on its way on a node where it may not be any more.
    #[error("volume {id} was on its way on node {node} and has to go elsewhere")]
    Moving {
        /// Volume id.
        id: String,
        /// Node.
        node: String,
    },
    /// Somebody else removed it.
    #[error("volume {0} was removed while it was being made")]
    Vanished(String),
    /// Not in time.
    #[error("volume {id} is not ready in time; it goes on{}", .node.as_ref().map(|n| format!(" on node {n}")).unwrap_or_default())]
    Deadline {
        /// Volume id.
        id: String,
        /// Node, if one was chosen.
        node: Option<String>,
    },
    /// The node can't now, and tries again by itself.
    #[error("node {node} cannot make volume {id} now and tries again: {message}")]
    NodeTrouble {
        /// Volume id.
        id: String,
        /// Node.
        node: String,
        /// Its words.
        message: String,
    },
    /// The API server.
    #[error("cannot {what}")]
    Api {
        /// What we tried.
        what: &'static str,
        /// Why not.
        source: kube::Error,
    },
}
