//! Room kept between the choice of a place and the moment when the watch shows the `NodeVolume`, so that many creates
//! at once do not all take the same room.

use super::Place;
use std::collections::HashMap;

/// Bytes kept, by volume id.
#[derive(Debug, Default)]
pub struct Reservations(HashMap<String, (Place, u64)>);

impl Reservations {
    /// Keeps room for a volume.
    pub fn keep(&mut self, id: &str, place: Place, size: u64) {
        self.0.insert(id.to_owned(), (place, size));
    }

    /// Gives the room of a volume free.
    pub fn release(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// Bytes kept per node and pool for volumes that do not exist yet; those that do are in the promises.
    pub fn sums(&self, exists: impl Fn(&str) -> bool) -> HashMap<(String, String), u64> {
        let mut sums = HashMap::new();
        for (_, (place, size)) in self.0.iter().filter(|(id, _)| !exists(id)) {
            *sums.entry((place.node.clone(), place.pool.clone())).or_insert(0) += size;
        }
        sums
    }
}
