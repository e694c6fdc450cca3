//! What a test on a cluster is.

use anyhow::Result;

use super::bed::Bed;

/// A test: its name says the behaviour.
pub(crate) struct Test {
    pub(super) name: &'static str,
    pub(super) run: fn(&Bed<'_>) -> Result<()>,
    /// It disturbs others, or looks at all that there is.
    pub(super) alone: bool,
    /// It takes so long that it has a cluster of this name to itself, beside the others: one on which it installs Tierce itself.
    pub(super) apart: Option<&'static str>,
}

impl Test {
    /// The same, with no other test beside it.
    pub(super) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// The same, on a cluster of its own; on a running one alone.
    pub(super) fn apart(self, cluster: &'static str) -> Self {
        Self { apart: Some(cluster), ..self.alone() }
    }
}

/// Lists functions as tests under their own names.
macro_rules! tests {
    ($($function:path),* $(,)?) => {
        [$($crate::suite::test::Test { name: stringify!($function), run: $function, alone: false, apart: None }),*]
    };
}
pub(crate) use tests;
