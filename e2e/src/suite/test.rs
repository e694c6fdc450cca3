//! What a test on a cluster is.

use anyhow::Result;

use super::bed::Bed;

/// A test: its name says the behaviour.
pub(crate) struct Test {
    pub(super) name: &'static str,
    pub(super) run: fn(&Bed<'_>) -> Result<()>,
    /// It disturbs others, or looks at all that there is.
    pub(super) alone: bool,
}

impl Test {
    /// The same, with no other test beside it.
    pub(super) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
}

/// Lists functions as tests under their own names.
macro_rules! tests {
    ($($function:path),* $(,)?) => {
        [$($crate::suite::test::Test { name: stringify!($function), run: $function, alone: false }),*]
    };
}
pub(crate) use tests;
