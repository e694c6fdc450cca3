//! How anything here runs, whatever it is about: the command line, the lease, the queue of a reconciler, Events, metrics, words.

pub mod config;
pub mod crds;
pub mod events;
pub mod lease;
pub mod metrics;
pub(crate) mod objects;
pub mod progress;
pub mod queue;
pub mod roughly;
pub mod words;
