//! What Kubernetes calls a shared volume by.

use std::fmt;

use tierce_crds::names;
use tierce_engine::VolumeId;

/// A shared volume as one namespace has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Handle {
    text: String,
    volume: VolumeId,
}

impl Handle {
    /// The handle of this text: the volume's own id, which the namespace has where the volume is at home, or one made for another
    /// namespace. `None`: it can be neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let volume = names::of_shared_handle(text).unwrap_or(text).parse().ok()?;
        Some(Self { text: text.to_owned(), volume })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The volume whose content it shows.
    pub(crate) fn volume(&self) -> &VolumeId {
        &self.volume
    }

    /// Whether it can be nothing but that of a shared volume.
    pub(crate) fn is_of_another_namespace(&self) -> bool {
        self.text != self.volume.as_str()
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handle_of_another_namespace_is_no_volumes_own_id() {
        let (home, other) = (Handle::parse("pvc-1").unwrap(), Handle::parse("pvc-1.01234567").unwrap());
        assert_eq!(home.volume(), other.volume());
        assert!(other.is_of_another_namespace() && !home.is_of_another_namespace());
        for nothing in ["", "pvc-1.", "pvc-1.0123", "../etc", ".01234567"] {
            assert_eq!(Handle::parse(nothing), None, "{nothing}");
        }
    }
}
