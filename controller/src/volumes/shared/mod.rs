//! SharedVolumes: what they ask for, their status, and what makes the reconciler look. What they have in other namespaces and on other nodes is
//! the business of [`sharing`](crate::sharing); the rest is [`life`](super::life).

mod front;
mod wakes;

pub use wakes::SharedVolumes;
