//! The gRPC code of every error, one exhaustive match per RPC. A code is chosen for what the sidecar does with it.
//!
//! external-provisioner takes `UNAVAILABLE`, `ABORTED`, `CANCELLED` and `DEADLINE_EXCEEDED` from CreateVolume as "may
//! still be running": it asks again, also when the claim is gone meanwhile, and so never forgets a volume. Any other
//! code tells it that nothing was made. `RESOURCE_EXHAUSTED` also lets the scheduler pick another node.

use super::{
    ArgumentError, CreateError, DeleteError, ExpandError, ListError, SnapshotError, SourceError,
    ValidateError,
};
use crate::quota::ReserveError;
use tierce_runtime::errors::in_words;
use tonic::{Code, Status};

fn argument(error: &ArgumentError) -> Code {
    match error {
        ArgumentError::Missing(_)
        | ArgumentError::NameTooLong(_)
        | ArgumentError::Parameters(_)
        | ArgumentError::SnapshotParameters(_)
        | ArgumentError::NoTier(_)
        | ArgumentError::NegativeSize
        | ArgumentError::AccessMode(_)
        | ArgumentError::NotForMany
        | ArgumentError::TwoModes
        | ArgumentError::TwoFilesystems(..)
        | ArgumentError::OtherClass { .. }
        | ArgumentError::Filesystem(_)
        | ArgumentError::MountOption(_)
        | ArgumentError::Unsupported(_) => Code::InvalidArgument,
        ArgumentError::OutOfRange { .. } => Code::OutOfRange,
    }
}

/// Of CreateVolume.
pub fn create(error: &CreateError) -> Code {
    match error {
        CreateError::Argument(error) => argument(error),
        CreateError::Source(error) => source(error),
        // Nothing was made; what it should start with has to be mended or given up.
        CreateError::SourceUnusable { .. } | CreateError::NoKey(_) => Code::FailedPrecondition,
        CreateError::Quota(error) => quota(error),
        // The pod is scheduled elsewhere; without another node it waits and is tried again.
        CreateError::NoRoom(_) | CreateError::NodeRefused { .. } => Code::ResourceExhausted,
        // Nothing was made and nothing will be with these parameters. The provisioner asks again with a delay all the same,
        // so that a StoragePool made meanwhile heals it.
        CreateError::NoSuchTier(_) | CreateError::NodeInvalid { .. } => Code::InvalidArgument,
        CreateError::OtherParameters { .. } | CreateError::OnDiskDifferently { .. } => Code::AlreadyExists,
        // Asked again soon; what exists is found then.
        CreateError::Busy(_)
        | CreateError::BeingDeleted(_)
        | CreateError::Moving { .. }
        | CreateError::Vanished(_) => Code::Aborted,
        CreateError::Deadline { .. } => Code::DeadlineExceeded,
        // The node goes on trying by itself: "may still be running" is the truth. A class may come a moment later, and an earlier call may have made it.
        CreateError::NodeTrouble { .. } | CreateError::NoClass(_) => Code::Unavailable,
        CreateError::Api { source, .. } => api(source),
    }
}

/// After `RESOURCE_EXHAUSTED` the scheduler would send the pod round the cluster, and a quota is the same everywhere. Asked again with a growing delay,
/// or at once when the controller touches the claim.
fn quota(error: &ReserveError) -> Code {
    match error {
        ReserveError::Exceeded(_) => Code::FailedPrecondition,
        // Nothing was written; asked again soon.
        ReserveError::Late(_) => Code::Aborted,
        ReserveError::Api { source, .. } => api(source),
    }
}

fn source(error: &SourceError) -> Code {
    match error {
        SourceError::Empty
        | SourceError::OtherMode { .. }
        | SourceError::OtherFilesystem { .. }
        | SourceError::OtherEncryption { .. } => Code::InvalidArgument,
        // CSI: "Source does not exist".
        SourceError::NotFound { .. } => Code::NotFound,
        // Nothing was made; asked again with a growing delay.
        SourceError::NotNow { .. } => Code::FailedPrecondition,
        SourceError::Foreign { .. } | SourceError::Unclear { .. } => Code::PermissionDenied,
        // The scheduler picks another node for the pod, until it picks that of the source.
        SourceError::OtherNode { .. } => Code::ResourceExhausted,
        SourceError::Larger { .. } => Code::OutOfRange,
        SourceError::Api(source) => api(source),
    }
}

/// Of `CreateSnapshot` and `GetSnapshot`. csi-snapshotter (`isCSIFinalError`) takes `CANCELLED`, `DEADLINE_EXCEEDED`,
/// `UNAVAILABLE`, `RESOURCE_EXHAUSTED` and `ABORTED` as "may still be running" and does not let the object go before it
/// has asked again; every code is tried again with a growing delay.
pub fn snapshot(error: &SnapshotError) -> Code {
    match error {
        SnapshotError::Argument(error) => argument(error),
        SnapshotError::NoVolume(_) | SnapshotError::NotFound(_) => Code::NotFound,
        SnapshotError::NotNow { .. } | SnapshotError::Refused { .. } | SnapshotError::NoKey(_) => {
            Code::FailedPrecondition
        }
        SnapshotError::Foreign { .. } | SnapshotError::Unclear { .. } => Code::PermissionDenied,
        SnapshotError::Exists { .. } => Code::AlreadyExists,
        SnapshotError::Busy(_) | SnapshotError::BeingDeleted(_) | SnapshotError::Vanished(_) => Code::Aborted,
        SnapshotError::NoRoom { .. } => Code::ResourceExhausted,
        SnapshotError::NodeTrouble { .. } => Code::Unavailable,
        SnapshotError::Deadline(_) => Code::DeadlineExceeded,
        SnapshotError::Api { source, .. } => api(source),
    }
}

/// Of DeleteVolume and `DeleteSnapshot`.
pub fn delete(error: &DeleteError) -> Code {
    match error {
        DeleteError::NoId(_) => Code::InvalidArgument,
        DeleteError::Busy(..) => Code::Aborted,
        // CSI: "volume in use", "snapshot in use". The sidecar tries again with a growing delay.
        DeleteError::InUse { .. } | DeleteError::Shared { .. } => Code::FailedPrecondition,
        DeleteError::Deadline { .. } => Code::DeadlineExceeded,
        DeleteError::Api { source, .. } => api(source),
    }
}

/// Of `ControllerExpandVolume`.
pub fn expand(error: &ExpandError) -> Code {
    match error {
        ExpandError::Argument(error) => argument(error),
        ExpandError::NotFound(_) => Code::NotFound,
        ExpandError::Busy(_) => Code::Aborted,
        ExpandError::Quota(error) => quota(error),
        // A final word, so that the resizer takes the claim's next size, also a smaller one: after RESOURCE_EXHAUSTED it would ask for this one for
        // ever, as if it might still come. Not OUT_OF_RANGE either: it would call the growth infeasible and ask rarely, and space may come.
        ExpandError::NoRoom { .. } => Code::Internal,
        // The node goes on trying by itself.
        ExpandError::NodeTrouble { .. } => Code::Unavailable,
        ExpandError::Deadline { .. } => Code::DeadlineExceeded,
        ExpandError::Api { source, .. } => api(source),
    }
}

/// Of `ValidateVolumeCapabilities`.
pub fn validate(error: &ValidateError) -> Code {
    match error {
        ValidateError::Missing(_) => Code::InvalidArgument,
        ValidateError::NotFound(_) => Code::NotFound,
        ValidateError::Api { source, .. } => api(source),
    }
}

/// Of `ListVolumes`.
pub fn list(error: &ListError) -> Code {
    match error {
        ListError::NegativeMaximum => Code::InvalidArgument,
        // CSI: "the caller starts again without a token".
        ListError::UnknownToken(_) => Code::Aborted,
    }
}

/// The API server: a definite "no" is ours to mend, anything else passes or may have been carried out.
fn api(error: &kube::Error) -> Code {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 404 | 405 | 422) => {
            Code::Internal
        }
        _ => Code::Unavailable,
    }
}

macro_rules! status {
    ($($error:ty => $code:path),+ $(,)?) => {$(
        impl From<$error> for Status {
            fn from(error: $error) -> Self {
                Self::new($code(&error), in_words(&error))
            }
        }
    )+};
}

status!(
    CreateError => create,
    SnapshotError => snapshot,
    DeleteError => delete,
    ExpandError => expand,
    ValidateError => validate,
    ListError => list,
);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(kube::core::Status::failure("no such luck", "Because").with_code(code).boxed())
    }

    #[test]
    fn a_refusal_of_the_api_server_is_told_in_its_words_once() {
        let error = CreateError::Api { what: "create NodeVolume v", source: refused(403) };
        let status = Status::from(error);
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.message(), "cannot create NodeVolume v: no such luck");
    }

    #[test]
    fn what_may_have_been_carried_out_is_asked_again() {
        for code in [409, 429, 500, 503, 504] {
            assert_eq!(api(&refused(code)), Code::Unavailable, "{code}");
        }
        let broken = kube::Error::ReadEvents(std::io::Error::other("cut"));
        assert_eq!(api(&broken), Code::Unavailable);
    }
}
