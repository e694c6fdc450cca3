//! Which gRPC code the kubelet gets for an error or a request that is refused, and what it does with it. Two answers that are neither are
//! `UNAVAILABLE` where they are given: of a device that has not grown yet, and of a socket for the registration that goes.
//!
//! The kubelet (`pkg/volume/csi/csi_client.go`, `isFinalError`) takes `CANCELLED`, `DEADLINE_EXCEEDED`, `UNAVAILABLE`,
//! `RESOURCE_EXHAUSTED` and `ABORTED` as "may still be running": it marks the mount uncertain, tries again, and calls
//! Unstage or Unpublish when the pod goes. Every other code is final: nothing happened. Both are tried again with
//! growing pauses while the pod wants the volume.

use tierce_engine::Error;
use tierce_engine::nfs_client::NfsError;
use tierce_runtime::errors::in_words;
use tonic::{Code, Status};

use crate::request::RequestError;
use crate::sharing::HolderError;

/// The call that failed: a few errors mean something else to another caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rpc {
    Stage,
    Unstage,
    Publish,
    Unpublish,
    Stats,
    Expand,
}

/// The answer to a request that was refused before anything was touched.
pub(crate) fn refused(error: &RequestError) -> Status {
    let code = match error {
        RequestError::MissingId
        | RequestError::InvalidId(_)
        | RequestError::Missing(_)
        | RequestError::Path { .. }
        | RequestError::AccessMode { .. }
        | RequestError::Mount(_)
        | RequestError::Key(_)
        | RequestError::MountGroup
        | RequestError::OtherHandle { .. }
        | RequestError::SharedDevice => Code::InvalidArgument,
        // Final, and tried again all the same while the pod wants the volume.
        RequestError::Namespace { .. } => Code::PermissionDenied,
        // What an upgrade of the chart mends; and CSI, NodePublishVolume errors: "Staging target path not set".
        RequestError::UnknownPod | RequestError::NotSharing(_) | RequestError::MissingStagingPath => {
            Code::FailedPrecondition
        }
        // CSI, NodeGetVolumeStats errors: "Volume does not exist" at the path.
        RequestError::NotThere { .. } => Code::NotFound,
    };
    Status::new(code, error.to_string())
}

/// The answer when another call about the volume is under way.
pub(crate) fn busy(id: impl std::fmt::Display) -> Status {
    Status::aborted(format!("another call about volume {id} is under way"))
}

/// The answer to a call that the engine did not carry out.
pub(crate) fn failed(rpc: Rpc, error: &Error) -> Status {
    Status::new(code(rpc, error), in_words(error))
}

/// The answer where a shared volume of another node can't be had now.
pub(crate) fn unreachable(error: &HolderError) -> Status {
    let code = match error {
        HolderError::Gone { .. } => Code::NotFound,
        // The kubelet asks again while the pod wants the volume, and the other node may be back by then.
        HolderError::Api { .. } | HolderError::Silent { .. } | HolderError::NotServed { .. } => {
            Code::Unavailable
        }
        HolderError::Engine(error) => return failed(Rpc::Stage, error),
    };
    Status::new(code, in_words(error))
}

/// The answer where the folders of our own for shared volumes can't be used.
pub(crate) fn no_place(error: &std::io::Error) -> Status {
    Status::internal(format!("can't use the folder for shared volumes: {error}"))
}

/// The answer where a mount over the network failed.
pub(crate) fn failed_remotely(rpc: Rpc, error: &NfsError) -> Status {
    let code = match error {
        NfsError::TimedOut { .. } => Code::Unavailable,
        // Something else is there, or open: the kubelet asks again.
        NfsError::Foreign { .. } | NfsError::Busy { .. } => match rpc {
            Rpc::Stats => Code::NotFound,
            _ => Code::FailedPrecondition,
        },
        // Such as a node that lets us in no more, or not yet: nothing is wrong with the volume.
        NfsError::Io { .. } if rpc == Rpc::Stage => Code::Unavailable,
        NfsError::Io { .. } => Code::Internal,
        NfsError::Place(error) => return failed(rpc, error),
    };
    Status::new(code, in_words(error))
}

#[expect(clippy::match_same_arms, reason = "each arm says what its code does to the kubelet")]
fn code(rpc: Rpc, error: &Error) -> Code {
    match error {
        Error::InvalidId { .. } | Error::InvalidArgument(_) | Error::Unsupported(_) => Code::InvalidArgument,
        // On Expand the kubelet marks the claim's growth as infeasible, which is right: nothing is there to grow.
        Error::NotFound { .. } => Code::NotFound,
        Error::Conflict { field, .. } => match *field {
            // The request speaks of another kind of volume than the one we have.
            "filesystem" | "mode" | "encryption" => Code::InvalidArgument,
            // CSI: "Volume published at the path, but incompatible with the capability or the readonly flag"; staged likewise.
            _ => Code::AlreadyExists,
        },
        // Not final for the kubelet, so it unstages when the pod goes: nothing of a half-done stage is left.
        Error::OutOfSpace { .. } => Code::ResourceExhausted,
        // Publish of an exclusive volume to a second target, or Unstage while something is still mounted: the kubelet
        // tries again after the other one is gone.
        Error::InUse { .. } | Error::MayHoldData { .. } => Code::FailedPrecondition,
        // Something else is there, or nothing. On Expand NOT_FOUND would mark the growth as infeasible for good, while it
        // happens at the next stage.
        Error::NotStaged { .. } | Error::ForeignTarget { .. } => match rpc {
            Rpc::Stats => Code::NotFound,
            Rpc::Stage | Rpc::Unstage | Rpc::Publish | Rpc::Unpublish | Rpc::Expand => {
                Code::FailedPrecondition
            }
        },
        // Somebody has to look at the disk. Final: nothing was touched.
        Error::BrokenRecord { .. } | Error::FormatRefused { .. } | Error::UnknownPool { .. } => {
            Code::FailedPrecondition
        }
        // Nothing is wrong with the volume: the kubelet tries again, and a newer plugin goes on with it.
        Error::NewerRecord { .. } => Code::Unavailable,
        // Somebody has to look at the volume's Secret. Final for this call, but the kubelet asks again with what the Secret says then.
        Error::KeyMissing { .. } | Error::WrongKey { .. } => Code::FailedPrecondition,
        // The kubelet (`pkg/volume/csi/expander.go`, `inUseError`) stops asking until the volume is mounted next, and
        // does not hold the pod up; that mount grows it, and the call after it then finds the size.
        Error::GrowOffline { .. } => Code::FailedPrecondition,
        Error::Shrink { .. } | Error::SourceTooLarge { .. } => Code::OutOfRange,
        // A stage meets these only where it carries a restore to its end that was begun before. Final: nothing was mounted.
        Error::SourceNotFound { .. }
        | Error::SourceMismatch { .. }
        | Error::SnapshotInvalid { .. }
        | Error::CopyNeedsPause { .. } => Code::FailedPrecondition,
        // The disk may come back; meanwhile the kubelet tries again.
        Error::PoolUnavailable(_) => Code::Unavailable,
        Error::Command(_) | Error::Io { .. } => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use tierce_engine::{PoolError, PoolErrorKind, VolumeId};

    use super::*;

    fn id() -> VolumeId {
        "pvc-1".parse().unwrap()
    }

    fn conflict(field: &'static str) -> Error {
        Error::Conflict { id: id(), field, existing: "ext4".into(), requested: "xfs".into() }
    }

    #[test]
    fn every_error_has_the_code_that_the_kubelet_needs() {
        let not_staged = || Error::NotStaged { id: id(), path: "/s".into(), found: "nothing".into() };
        let foreign = || Error::ForeignTarget { path: "/t".into(), found: "tmpfs".into() };
        let unavailable = PoolError {
            pool: "p".into(),
            path: PathBuf::from("/p"),
            kind: PoolErrorKind::PathMissing,
            reason: "gone".into(),
            errno: Some(2),
        };
        let offline = Error::GrowOffline {
            id: id(),
            filesystem: tierce_engine::Filesystem::Ext4,
            reason: "EPERM".into(),
        };
        for (rpc, error, code) in [
            (Rpc::Stage, "..".parse::<VolumeId>().unwrap_err().into(), Code::InvalidArgument),
            (Rpc::Stage, Error::InvalidArgument("x".into()), Code::InvalidArgument),
            (Rpc::Stage, Error::NotFound { id: id() }, Code::NotFound),
            (Rpc::Stage, conflict("filesystem"), Code::InvalidArgument),
            (Rpc::Stage, conflict("staged filesystem"), Code::AlreadyExists),
            (Rpc::Publish, conflict("readonly"), Code::AlreadyExists),
            (
                Rpc::Stage,
                Error::OutOfSpace { pool: "p".into(), requested: 2, largest: 1 },
                Code::ResourceExhausted,
            ),
            (Rpc::Publish, Error::InUse { id: id(), by: "/t".into() }, Code::FailedPrecondition),
            (Rpc::Publish, not_staged(), Code::FailedPrecondition),
            (Rpc::Expand, not_staged(), Code::FailedPrecondition),
            (Rpc::Stats, not_staged(), Code::NotFound),
            (Rpc::Publish, foreign(), Code::FailedPrecondition),
            (Rpc::Stats, foreign(), Code::NotFound),
            (Rpc::Stage, Error::NewerRecord { id: id(), reason: "needs".into() }, Code::Unavailable),
            (Rpc::Stage, Error::BrokenRecord { id: id(), reason: "cut".into() }, Code::FailedPrecondition),
            (Rpc::Stage, Error::FormatRefused { id: id(), reason: "data".into() }, Code::FailedPrecondition),
            (Rpc::Expand, offline, Code::FailedPrecondition),
            (Rpc::Expand, Error::Shrink { id: id(), existing: 2, requested: 1 }, Code::OutOfRange),
            (Rpc::Stage, Error::PoolUnavailable(unavailable), Code::Unavailable),
            (Rpc::Stage, Error::Unsupported("x".into()), Code::InvalidArgument),
        ] {
            assert_eq!(failed(rpc, &error).code(), code, "{rpc:?} {error}");
        }
    }

    #[test]
    fn the_message_has_the_causes_once() {
        let error =
            Error::Io { doing: "attaching a loop device".into(), source: io::Error::from_raw_os_error(5) };
        let message = failed(Rpc::Stage, &error).message().to_owned();
        assert_eq!(message, "attaching a loop device: Input/output error (os error 5)");
    }
}
