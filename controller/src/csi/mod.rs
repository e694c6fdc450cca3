//! The CSI Controller service, for the upstream sidecars on a unix socket. ("csi", because "controller" would also mean
//! the reconcilers.) Every replica serves it. A call writes what should be into a `NodeVolume` or `NodeSnapshot`, and waits on the watch
//! until the node says that it is. One file per RPC; `status_codes` says which gRPC code each error becomes.

mod arguments;
mod capabilities;
mod capacity;
mod claim;
mod create;
mod create_error;
mod deadline;
mod delete;
mod expand;
pub mod id;
mod list;
mod on_node;
mod rpcs;
mod service;
mod shares;
mod snapshot;
mod source;
pub mod status_codes;
mod validate;

pub use arguments::ArgumentError;
pub use create_error::CreateError;
pub use delete::DeleteError;
pub use expand::ExpandError;
pub use list::ListError;
pub use service::ControllerService;
pub use snapshot::SnapshotError;
pub use source::SourceError;
pub use validate::ValidateError;
