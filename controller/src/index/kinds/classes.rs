//! Whom changes of StorageClasses concern, and what is looked up of them.

use crate::index::news::{Affects, Change, News};
use crate::index::{Class, ClassObject, State, Table, Tracked};

impl Tracked for ClassObject {
    type Key = String;
    type Facts = Class;

    fn facts(self) -> Option<Class> {
        Some(Class::of(self))
    }

    fn table(state: &mut State) -> &mut Table<String, Class> {
        &mut state.classes
    }

    fn connect(_: &mut State, _: &Change<'_, Self>) -> Affects {
        // Whoever waits to be made may be waiting for it. Classes change about as often as tiers do.
        Affects::Tiers
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Class(change)
    }
}
