//! How the volumes that a stack asks for stand to those that are there.

use super::{
    Error,
    compose::{NamedVolume, Plan},
    making,
    names::Name,
    volumes::{Volume, Volumes},
};

/// How one of them is there.
#[derive(Debug)]
pub(super) enum State {
    Missing,
    Exists,
    /// The stack uses what it did not make.
    OfOther(Other),
    /// It is not what is asked for.
    Differs(Error),
}

/// Whose a volume is, if it is not the stack's.
#[derive(Debug)]
pub(super) enum Other {
    Stack(String),
    /// Somebody made it by hand, or an engine did for whom nobody knows.
    Nobody,
}

impl Other {
    /// `stack` asks for the volume by that name. `None`: it is the stack's own.
    ///
    /// A stack is noted of each volume that `stack create` makes, so one without a note was made otherwise. Engines know no stacks, but the
    /// full names of their volumes: what has the full name of a volume of the stack is the stack's.
    pub(super) fn of(existing: &Volume, asked: &Name, stack: &str) -> Option<Self> {
        match existing.stack() {
            Some(other) => (other != stack).then(|| Self::Stack(other.to_owned())),
            None => (asked.stack() != stack).then_some(Self::Nobody),
        }
    }
}

impl State {
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Missing => "to be made".to_owned(),
            Self::Exists => "exists".to_owned(),
            Self::OfOther(Other::Stack(stack)) => format!("of stack {stack}"),
            Self::OfOther(Other::Nobody) => "of no stack".to_owned(),
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
        Ok(Other::of(&existing, name, stack).map_or(State::Exists, State::OfOther))
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
