//! How the volumes that a stack asks for stand to those that are there.

use super::{
    Error,
    compose::{NamedVolume, Plan},
    making,
    volumes::Volumes,
};

/// How one of them is there.
#[derive(Debug)]
pub(super) enum State {
    Missing,
    Exists,
    /// Another stack made it.
    OfStack(String),
    /// It is not what is asked for.
    Differs(Error),
}

impl State {
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Missing => "to be made".to_owned(),
            Self::Exists => "exists".to_owned(),
            Self::OfStack(stack) => format!("of stack {stack}"),
            Self::Differs(_) => "differs".to_owned(),
        }
    }
}

impl Volumes {
    /// `stack`: the one that asks.
    pub(super) fn state(&self, volume: &NamedVolume, stack: &str) -> Result<State, Error> {
        let Some(name) = volume.name() else { return Ok(State::Missing) };
        let Some(existing) = self.find(&volume.full)? else { return Ok(State::Missing) };
        // What can't be at all is told with its place in the file.
        let wanted = volume.asked.new_volume(&volume.labels).ok();
        let wanted = wanted.filter(|_| !existing.is_half_made().unwrap_or(false));
        if let Some(wanted) = wanted
            && let Err(error) = making::same(&existing, name, &wanted)
        {
            return Ok(State::Differs(error));
        }
        Ok(match existing.stack() {
            Some(other) if other != stack => State::OfStack(other.to_owned()),
            _ => State::Exists,
        })
    }

    /// Why volumes of a stack can't be made: others bear their names.
    pub(super) fn in_the_way(&self, plan: &Plan) -> Result<Vec<Error>, Error> {
        let mut found = Vec::new();
        for volume in &plan.volumes {
            if let State::Differs(error) = self.state(volume, &plan.stack)? {
                found.push(error);
            }
        }
        Ok(found)
    }
}
