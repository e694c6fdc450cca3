//! What the long-running programs of Tierce share.
//!
//! - [`api_server`]: a client whose calls are told apart in the audit log
//! - [`errors`]: an error and its causes in one line
//! - [`logs`]: `tracing` to stderr, as text or JSON
//! - [`shutdown`]: SIGTERM and SIGINT as a cancellation token
//! - [`grpc`]: serves RPCs on a unix socket; [`observe`] logs and counts each of them
//! - [`identity`]: the CSI Identity service
//! - [`readiness`]: which parts of the program are ready, and why one is not
//! - [`ops`]: `/healthz`, `/readyz`, `/metrics`
//! - [`locks`]: one operation at a time per volume

pub mod api_server;
pub mod errors;
pub mod grpc;
pub mod identity;
pub mod locks;
pub mod logs;
pub mod observe;
pub mod ops;
pub mod readiness;
pub mod shutdown;
