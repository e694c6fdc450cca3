//! Volumes, of one person or workspace each: what they ask for, their status, and what makes the reconciler look. The rest is
//! [`life`](super::life).

mod front;
mod wakes;

pub use wakes::Volumes;
