//! Which version of Tierce is measured.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::machine;
use crate::images::earlier;
use crate::images::ours::{self, Ours, Profile};
use crate::sanity::{self, stand::Programs};

/// The version that is measured: this checkout's, or one of its history, by the same measurements.
#[derive(Clone, Debug)]
pub(super) struct Version {
    profile: Profile,
    /// The earlier version's commit.
    earlier: Option<String>,
}

impl Version {
    pub(super) fn new(profile: Profile, of: Option<&str>) -> Result<Self> {
        let earlier = of.map(earlier::find).transpose().map_err(anyhow::Error::msg)?;
        Ok(Self { profile, earlier })
    }

    pub(super) fn is_earlier(&self) -> bool {
        self.earlier.is_some()
    }

    /// Its commit, with `+` where this checkout's sources were changed since.
    pub(super) fn commit(&self) -> String {
        self.earlier.as_ref().map_or_else(machine::commit, |commit| commit.chars().take(7).collect())
    }

    /// Its images and its chart.
    pub(super) fn images(&self) -> Result<Ours> {
        match &self.earlier {
            Some(commit) => earlier::ensure(commit, self.profile),
            None => ours::ensure(self.profile),
        }
    }

    /// Its programs, and those of Kubernetes that they speak with.
    pub(super) fn programs(&self) -> Result<Programs> {
        let Some(commit) = &self.earlier else { return sanity::programs(self.profile) };
        let [controller, plugin]: [PathBuf; 2] =
            earlier::programs(commit, self.profile)?.try_into().ok().context("a version has two programs")?;
        Ok(Programs { tools: sanity::tools()?, controller, plugin })
    }
}
