//! How anything here runs, whatever it is about: the command line, the lease, the queue of a reconciler, Events, coarse figures.

pub mod coarse;
pub mod config;
pub mod crds;
pub mod events;
pub mod lease;
pub(crate) mod objects;
pub mod progress;
pub mod queue;
pub mod refusal;
