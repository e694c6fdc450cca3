//! What a kind of object needs to ask for volumes.

use super::asked::Front;
use super::told::Status;
use crate::index::{Namespaced, State};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;

/// A kind of object that asks for volumes. It is one of [`OWNERS`](crate::index::OWNERS).
pub(crate) trait Kind:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// As it is written into the API.
    type Status: Serialize;

    const KIND: &'static str;
    const FINALIZER: &'static str;
    /// Field manager of all that is written for it.
    const MANAGER: &'static str;

    /// Where objects of this key are.
    fn api(client: &Client, key: &Namespaced) -> Api<Self>;
    /// The one of this key.
    fn known<'a>(state: &'a State, key: &Namespaced) -> Option<&'a Arc<Self>>;
    /// What it asks for.
    fn front(&self) -> Front;
    fn status(of_its_life: Status) -> Self::Status;
}
