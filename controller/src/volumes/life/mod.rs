//! The life behind whatever asks for a volume: its claim, its `PersistentVolume` and `NodeVolume`, their growth and retention, and what is
//! said of all that. It knows no kind of object: a front ([`Kind`]) says who asks and for what. `plan` decides, `reconcile` carries out.

mod asked;
mod claim;
mod front;
mod observed;
mod plan;
#[cfg(test)]
mod plan_tests;
mod reconcile;
mod room_words;
pub(crate) mod start;
mod status;
mod told;

pub(crate) use asked::{Access, Asked, Front, Owner};
pub(crate) use front::Kind;
pub(crate) use observed::Observed;
pub(crate) use reconcile::Lives;
pub(crate) use status::is_settled;
pub(crate) use told::{Shared, Status};
