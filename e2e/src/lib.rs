//! The local cluster of Tierce: real Kubernetes programs in namespaces of their own, and what is proven on it.

pub mod cache;
pub mod cluster;
pub mod command;
pub mod images;
pub mod install;
pub mod tools;
