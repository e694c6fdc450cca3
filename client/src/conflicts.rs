//! What a host and a cluster refuse in the same words.

/// Something uses the volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Volume '{name}' is in use by: {by}. {advice}")]
pub struct InUse {
    /// Its name; on a host the full one.
    pub name: String,
    /// Who, separated by commas.
    pub by: String,
    /// What the caller can do.
    pub advice: &'static str,
}

/// The name is taken by something with other parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} '{name}' exists with other {parameter}: {existing}, asked for {requested}")]
pub struct Differs {
    /// Volume or snapshot.
    pub what: &'static str,
    /// Its name; on a host the full one.
    pub name: String,
    /// Which parameter differs.
    pub parameter: &'static str,
    /// What it is.
    pub existing: String,
    /// What was asked for.
    pub requested: String,
}
