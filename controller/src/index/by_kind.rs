//! What is kept for the objects of each kind by itself. A volume may be asked for with objects of several kinds, and those of one share no
//! names with those of another.

use std::any::{TypeId, type_name};
use std::collections::HashMap;

/// One `T` for each kind.
#[derive(Debug)]
pub(crate) struct ByKind<T>(HashMap<TypeId, (&'static str, T)>);

impl<T> Default for ByKind<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Default> ByKind<T> {
    /// That of the kind `K`.
    pub(crate) fn of<K: 'static>(&mut self) -> &mut T {
        // The name is for whoever prints it.
        let (_, kept) = self.0.entry(TypeId::of::<K>()).or_insert_with(|| (type_name::<K>(), T::default()));
        kept
    }
}
