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
#[error("{what} '{name}' exists with other {parameter}: {existing}, asked for {requested}{}", self.way_out())]
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

impl Differs {
    /// The command that makes of the one what was asked for, where there is one.
    fn way_out(&self) -> &'static str {
        let grows = || {
            let bytes = |size: &str| tierce_crds::parse_bytes(size).ok();
            bytes(&self.existing).is_some_and(|has| bytes(&self.requested).is_some_and(|asked| asked > has))
        };
        match (self.what, self.parameter) {
            ("Volume", "labels") => " ('volume label' changes them)",
            ("Volume", "size") if grows() => " ('volume resize' makes it larger)",
            _ => "",
        }
    }
}
