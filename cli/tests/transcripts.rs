//! Sessions of plain volumes, which need no root.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod sessions;
mod world;

use sessions::check;

#[test]
fn volumes_are_made_listed_and_removed() {
    check("volumes.txt", include_str!("transcripts/volumes.txt"));
}

#[test]
fn a_directory_that_was_unpacked_by_hand_is_a_volume() {
    check("adopted.txt", include_str!("transcripts/adopted.txt"));
}

#[test]
fn bad_names_and_arguments_get_one_line() {
    check("bad-input.txt", include_str!("transcripts/bad-input.txt"));
}

#[test]
fn copies_keep_everything_and_snapshots_come_back() {
    check("copies.txt", include_str!("transcripts/copies.txt"));
}

#[test]
fn a_compose_file_is_planned_made_and_removed() {
    check("stack.txt", include_str!("transcripts/stack.txt"));
}

/// Every `console` block of the guide, in order, in one world.
#[test]
fn the_guide_works_as_it_stands() {
    let guide = include_str!("../../docs/host.md");
    let blocks = guide.split("```console\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let session: String = blocks.map(|(block, _)| block).collect();
    assert!(session.matches("$ ").count() > 15, "the guide lost its commands");
    check("host.md", &session);
}
