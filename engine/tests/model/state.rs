//! What must be true after each call, and what each call must answer.

#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use tierce_engine::Error;

/// What a volume was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Snapshot(usize),
    Volume(usize),
}

/// What must be true of one volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    pub exists: bool,
    pub staged: bool,
    pub used: bool,
    origin: Option<Origin>,
    /// What was written last to its filesystem; `None`: it was never formatted.
    pub content: Option<String>,
    /// The last restore: from which snapshot, and what keeps the content of before.
    restored: Option<(usize, usize)>,
}

/// What must be true of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub of: usize,
    pub content: Option<String>,
}

/// What must be true.
#[derive(Debug, Default)]
pub struct Model {
    pub volumes: Vec<Volume>,
    pub snapshots: Vec<Option<Snapshot>>,
    /// Which volume each target shows.
    pub targets: BTreeMap<usize, usize>,
    /// Empty mount points that a reboot left, and whether they are files for a raw block device.
    pub left: BTreeMap<usize, bool>,
    /// Whether a device in use can be copied.
    copies_devices: bool,
    writes: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Changed,
    Unchanged,
    NotFound,
    NotStaged,
    Foreign,
    InUse,
    MayHoldData,
    Conflict,
    NoSource,
    Mismatch,
    NeedsPause,
    Invalid,
}

#[allow(dead_code)] // Not where every call must succeed.
pub fn answer(result: Result<bool, Error>) -> Answer {
    match result {
        Ok(true) => Answer::Changed,
        Ok(false) => Answer::Unchanged,
        Err(Error::NotFound { .. }) => Answer::NotFound,
        Err(Error::NotStaged { .. }) => Answer::NotStaged,
        Err(Error::ForeignTarget { .. }) => Answer::Foreign,
        Err(Error::InUse { .. }) => Answer::InUse,
        Err(Error::MayHoldData { .. }) => Answer::MayHoldData,
        Err(Error::Conflict { .. }) => Answer::Conflict,
        Err(Error::SourceNotFound { .. }) => Answer::NoSource,
        Err(Error::SourceMismatch { .. }) => Answer::Mismatch,
        Err(Error::CopyNeedsPause { .. }) => Answer::NeedsPause,
        Err(Error::InvalidArgument(_)) => Answer::Invalid,
        Err(other) => panic!("no such answer expected: {other:?}"),
    }
}

pub fn when(changed: bool) -> Answer {
    if changed { Answer::Changed } else { Answer::Unchanged }
}

/// Volume 2 is raw block.
pub fn is_block(volume: usize) -> bool {
    volume == 2
}

impl Model {
    fn published(&self, volume: usize) -> bool {
        self.targets.values().any(|shown| *shown == volume)
    }

    pub fn new(volumes: usize, snapshots: usize, copies_devices: bool) -> Self {
        let (volumes, snapshots) = (vec![Volume::default(); volumes], vec![None; snapshots]);
        Self { volumes, snapshots, copies_devices, ..Self::default() }
    }

    /// Whether a volume can't be copied now, since it is a device in use.
    fn needs_pause(&self, volume: usize) -> bool {
        is_block(volume) && self.volumes[volume].staged && !self.copies_devices
    }

    pub fn create(&mut self, volume: usize, origin: Option<Origin>) -> Answer {
        if self.volumes[volume].exists {
            return if self.volumes[volume].origin == origin { Answer::Unchanged } else { Answer::Conflict };
        }
        let (of, content) = match origin {
            None => (volume, None),
            Some(Origin::Snapshot(from)) => match &self.snapshots[from] {
                None => return Answer::NoSource,
                Some(found) => (found.of, found.content.clone()),
            },
            Some(Origin::Volume(from)) if !self.volumes[from].exists => return Answer::NoSource,
            Some(Origin::Volume(from)) => (from, self.volumes[from].content.clone()),
        };
        if is_block(of) != is_block(volume) {
            return Answer::Mismatch;
        }
        self.volumes[volume] = Volume { exists: true, origin, content, ..Volume::default() };
        Answer::Changed
    }

    pub fn snapshot(&mut self, snapshot: usize, volume: usize) -> Answer {
        if let Some(found) = &self.snapshots[snapshot] {
            return if found.of == volume { Answer::Unchanged } else { Answer::Conflict };
        }
        if !self.volumes[volume].exists {
            return Answer::NoSource;
        }
        if self.needs_pause(volume) {
            return Answer::NeedsPause;
        }
        self.snapshots[snapshot] =
            Some(Snapshot { of: volume, content: self.volumes[volume].content.clone() });
        Answer::Changed
    }

    pub fn delete_snapshot(&mut self, snapshot: usize) -> Answer {
        when(self.snapshots[snapshot].take().is_some())
    }

    pub fn restore(&mut self, volume: usize, snapshot: usize, safety: usize) -> Answer {
        if snapshot == safety {
            return Answer::Invalid;
        }
        let state = &self.volumes[volume];
        if !state.exists {
            return Answer::NotFound;
        }
        if let Some((from, kept)) = state.restored
            && kept == safety
        {
            return if from == snapshot { Answer::Unchanged } else { Answer::Conflict };
        }
        if let Some(kept) = &self.snapshots[safety] {
            return if kept.of == volume { Answer::Unchanged } else { Answer::Conflict };
        }
        let Some(from) = self.snapshots[snapshot].clone() else { return Answer::NoSource };
        if from.of != volume {
            return Answer::Mismatch;
        }
        if state.staged || self.published(volume) {
            return Answer::InUse;
        }
        self.snapshots[safety] = Some(Snapshot { of: volume, content: state.content.clone() });
        let state = &mut self.volumes[volume];
        (state.content, state.restored) = (from.content, Some((snapshot, safety)));
        Answer::Changed
    }

    /// Something new to write to a staged filesystem.
    pub fn write(&mut self, volume: usize) -> Option<String> {
        let state = &mut self.volumes[volume];
        if !state.staged || is_block(volume) {
            return None;
        }
        self.writes += 1;
        state.content = Some(self.writes.to_string());
        state.content.clone()
    }

    pub fn stage(&mut self, volume: usize) -> Answer {
        let state = &mut self.volumes[volume];
        if !state.exists {
            return Answer::NotFound;
        }
        let before = state.staged;
        (state.staged, state.used) = (true, true);
        state.content.get_or_insert_default();
        when(!before)
    }

    pub fn unstage(&mut self, volume: usize) -> Answer {
        if is_block(volume) && self.volumes[volume].staged && self.published(volume) {
            return Answer::InUse;
        }
        when(std::mem::take(&mut self.volumes[volume].staged))
    }

    pub fn publish(&mut self, volume: usize, target: usize) -> Answer {
        let state = &self.volumes[volume];
        if !state.exists {
            return Answer::NotFound;
        }
        if !state.staged {
            return Answer::NotStaged;
        }
        match self.targets.get(&target) {
            Some(shown) if *shown == volume => Answer::Unchanged,
            Some(_) => Answer::Foreign,
            // A mount point of the other kind is not what a publish would have made.
            None if self.left.get(&target).is_some_and(|file| *file != is_block(volume)) => Answer::Foreign,
            None => {
                self.left.remove(&target);
                self.targets.insert(target, volume);
                Answer::Changed
            }
        }
    }

    pub fn unpublish(&mut self, volume: usize, target: usize) -> Answer {
        match self.targets.get(&target) {
            None => when(self.left.remove(&target).is_some()),
            Some(shown) if *shown == volume => {
                self.targets.remove(&target);
                Answer::Changed
            }
            Some(_) if !self.volumes[volume].exists => Answer::NotFound,
            Some(_) => Answer::Foreign,
        }
    }

    pub fn delete(&mut self, volume: usize, only_if_unused: bool) -> Answer {
        let state = &self.volumes[volume];
        if !state.exists {
            return Answer::Unchanged;
        }
        if only_if_unused && state.used {
            return Answer::MayHoldData;
        }
        if state.staged || self.published(volume) {
            return Answer::InUse;
        }
        self.volumes[volume] = Volume::default();
        Answer::Changed
    }
}
