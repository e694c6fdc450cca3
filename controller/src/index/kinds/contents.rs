//! Whom changes of `VolumeSnapshotContents` concern, and what is looked up of them.

use crate::index::news::{Affects, Change, News};
use crate::index::{Content, ContentObject, Namespaced, Snapshot, State, Table, Tracked};
use std::sync::Arc;

impl Tracked for ContentObject {
    type Key = String;
    type Facts = Content;

    fn facts(self) -> Option<Content> {
        Content::of(self)
    }

    fn table(state: &mut State) -> &mut Table<String, Content> {
        &mut state.contents
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        let words = |content: Option<&Arc<Content>>| content.map(|c| c.speaks_of.clone()).unwrap_or_default();
        let Change { key, old, new } = *change;
        state.contents_of.change(key, words(old), words(new));
        let of = |content: &Arc<Content>| content.of.clone();
        state.contents_named.change(key, old.and_then(of), new.and_then(of));
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Content(change)
    }

    fn listed() -> Option<News<'static>> {
        Some(News::ContentsListed)
    }
}

impl State {
    /// The newest `VolumeSnapshotContent` of the VolumeSnapshot of this name: an older one was kept when a VolumeSnapshot of the name was deleted.
    pub(super) fn content_of(&self, key: &Namespaced) -> Option<&Arc<Content>> {
        let all = self.contents_named.of(key).filter_map(|name| self.contents.get(name));
        all.filter(|content| !content.deleting).max_by_key(|content| content.created)
    }

    /// Name of each VolumeSnapshot that may have this snapshot: the one that it was taken for, and those of which a `VolumeSnapshotContent` says
    /// so. A backup program brings them back under other names.
    pub(crate) fn names_of(&self, snapshot: &Snapshot) -> Vec<Namespaced> {
        let contents = self.contents_of.of(&snapshot.id).filter_map(|name| self.contents.get(name));
        snapshot.name().into_iter().chain(contents.filter_map(|content| content.of.clone())).collect()
    }

    /// Whether a VolumeSnapshotContent speaks of it; `None` while they are not known.
    pub fn is_spoken_of(&self, snapshot: &Snapshot) -> Option<bool> {
        let uid = snapshot.snapshot.as_ref().map(|its| &its.uid);
        let known = |word: &String| self.contents_of.has(word);
        // One that can't be read may speak of anything.
        (self.contents.is_whole() && self.contents.unreadable() == 0)
            .then(|| known(&snapshot.id) || uid.is_some_and(known))
    }
}
