//! Whom changes of `VolumeSnapshotContents` concern, and what is looked up of them.

use crate::index::news::{Affects, Change, News};
use crate::index::{Content, ContentObject, Snapshot, State, Table, Tracked};
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
        state.contents_of.change(change.key, words(change.old), words(change.new));
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
    /// Whether a VolumeSnapshotContent speaks of it; `None` while they are not known.
    pub fn is_spoken_of(&self, snapshot: &Snapshot) -> Option<bool> {
        let uid = snapshot.snapshot.as_ref().map(|its| &its.uid);
        let known = |word: &String| self.contents_of.has(word);
        // One that can't be read may speak of anything.
        (self.contents.is_whole() && self.contents.unreadable() == 0)
            .then(|| known(&snapshot.id) || uid.is_some_and(known))
    }
}
