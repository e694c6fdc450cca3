//! Programs that write and read archives, and what each has a place for.

#![allow(
    clippy::unnecessary_wraps,
    reason = "each says of any part what is lost of it, or that it can't be written"
)]

use super::{Part, manifest::Lost};

pub(crate) struct Writer {
    pub(crate) name: &'static str,
    /// The program that must be there.
    pub(crate) needs: &'static str,
    /// A shell script that makes `$OUT` of the folder `$FROM`; `$HELPERS` has the programs of the test.
    pub(crate) script: &'static str,
    /// What it loses of that part; `None`: it can't write it at all.
    pub(crate) loses: fn(Part) -> Option<Lost>,
}

/// Without extended records: whole seconds, no attributes; `short`: neither long names nor large numbers nor times before 1970.
fn plain(part: Part, short: bool, holes: bool) -> Option<Lost> {
    let has_no_place = match part {
        Part::Names | Part::Times | Part::OfRoot | Part::Links => short,
        _ => false,
    };
    (!has_no_place).then_some(Lost {
        fractions: true,
        attributes: true,
        holes: !holes,
        odd_links: true,
        sockets: true,
        ..Lost::default()
    })
}

fn v7(part: Part) -> Option<Lost> {
    plain(part, true, false).filter(|_| part != Part::Pipes)
}

fn ustar(part: Part) -> Option<Lost> {
    plain(part, true, false)
}

fn gnu(part: Part) -> Option<Lost> {
    plain(part, false, true)
}

fn dense_gnu(part: Part) -> Option<Lost> {
    plain(part, false, false)
}

fn everything(_: Part) -> Option<Lost> {
    Some(Lost { sockets: true, ..Lost::default() })
}

/// GNU tar links further names of files and links alone.
fn everything_of_gnu(_: Part) -> Option<Lost> {
    Some(Lost { odd_links: true, sockets: true, ..Lost::default() })
}

/// Parts of a second before 1970 count backward for POSIX, and forward for bsdtar.
fn everything_of_bsdtar(part: Part) -> Option<Lost> {
    everything(part).filter(|_| part != Part::Times)
}

/// Some write times before 1970 as 1970.
fn from_1970(part: Part) -> Option<Lost> {
    dense_gnu(part).filter(|_| part != Part::Times)
}

/// Go's writer and those above it have no holes.
fn dense(_: Part) -> Option<Lost> {
    Some(Lost { holes: true, odd_links: true, sockets: true, ..Lost::default() })
}

/// Python writes times as floating-point numbers, and no attributes.
fn python_pax(part: Part) -> Option<Lost> {
    plain(part, false, false)
}

/// Docker's archiver notes no parts of a second, and no attributes but capabilities.
fn docker(part: Part) -> Option<Lost> {
    plain(part, false, false).map(|lost| Lost { odd_links: false, ..lost })
}

/// Podman's notes no links of links either, and not the volume's own folder.
fn podman(part: Part) -> Option<Lost> {
    plain(part, false, false).map(|lost| Lost { top: true, ..lost })
}

pub(crate) const WRITERS: [Writer; 20] = [
    Writer { name: "GNU tar, v7", needs: "tar", script: "tar --format=v7 -C $FROM -cf $OUT .", loses: v7 },
    Writer {
        name: "GNU tar, ustar",
        needs: "tar",
        script: "tar --format=ustar -C $FROM -cf $OUT .",
        loses: ustar,
    },
    Writer {
        name: "GNU tar, old",
        needs: "tar",
        script: "tar --format=oldgnu -S -C $FROM -cf $OUT .",
        loses: gnu,
    },
    Writer {
        name: "GNU tar, its own",
        needs: "tar",
        script: "tar --format=gnu -S -C $FROM -cf $OUT .",
        loses: gnu,
    },
    Writer {
        name: "GNU tar, POSIX, sparse 0.0",
        needs: "tar",
        script: "tar --format=posix -S --sparse-version=0.0 --xattrs --xattrs-include='*' --acls -C $FROM -cf $OUT .",
        loses: everything_of_gnu,
    },
    Writer {
        name: "GNU tar, POSIX, sparse 0.1",
        needs: "tar",
        script: "tar --format=posix -S --sparse-version=0.1 --xattrs --xattrs-include='user.*' --xattrs-include='trusted.*' --xattrs-include='security.*' --acls -C $FROM -cf $OUT .",
        loses: everything_of_gnu,
    },
    Writer {
        name: "GNU tar, POSIX, sparse 1.0",
        needs: "tar",
        script: "tar --format=posix -S --xattrs --xattrs-include='*' --acls --numeric-owner -C $FROM -cf $OUT .",
        loses: everything_of_gnu,
    },
    Writer {
        name: "GNU tar, POSIX, not sparse",
        needs: "tar",
        script: "tar --format=posix --xattrs --xattrs-include='*' --acls -C $FROM -cf $OUT .",
        loses: dense,
    },
    Writer {
        name: "bsdtar, POSIX",
        needs: "bsdtar",
        script: "bsdtar --format pax --xattrs --acls -C $FROM -cf $OUT .",
        loses: everything_of_bsdtar,
    },
    Writer {
        name: "bsdtar, ustar",
        needs: "bsdtar",
        script: "bsdtar --format ustar -C $FROM -cf $OUT .",
        loses: ustar,
    },
    Writer {
        name: "bsdtar, GNU",
        needs: "bsdtar",
        script: "bsdtar --format gnutar -C $FROM -cf $OUT .",
        loses: from_1970,
    },
    Writer {
        name: "bsdtar, v7",
        needs: "bsdtar",
        script: "bsdtar --format v7tar -C $FROM -cf $OUT .",
        loses: v7,
    },
    Writer { name: "busybox", needs: "busybox", script: "busybox tar -C $FROM -cf $OUT .", loses: busybox },
    Writer {
        name: "Python, POSIX",
        needs: "python3",
        script: "python3 $HELPERS/write.py $FROM PAX $OUT",
        loses: python_pax,
    },
    Writer {
        name: "Python, GNU",
        needs: "python3",
        script: "python3 $HELPERS/write.py $FROM GNU $OUT",
        loses: from_1970,
    },
    Writer {
        name: "Python, ustar",
        needs: "python3",
        script: "python3 $HELPERS/write.py $FROM USTAR $OUT",
        loses: ustar,
    },
    Writer {
        name: "Go, POSIX",
        needs: "archives",
        script: "$HELPERS/archives write PAX $FROM $OUT",
        loses: dense,
    },
    Writer {
        name: "Go, GNU",
        needs: "archives",
        script: "$HELPERS/archives write GNU $FROM $OUT",
        loses: dense_gnu,
    },
    Writer {
        name: "Docker",
        needs: "archives",
        script: "$HELPERS/archives write docker $FROM $OUT",
        loses: docker,
    },
    Writer {
        name: "Podman",
        needs: "podman",
        script: "podman volume create x >/dev/null && cp -a $FROM/. $(podman volume inspect -f '{{.Mountpoint}}' x) && podman volume export x >$OUT",
        loses: podman,
    },
];

/// busybox has no place for large numbers and times before 1970.
fn busybox(part: Part) -> Option<Lost> {
    plain(part, false, false).filter(|_| !matches!(part, Part::Times | Part::OfRoot))
}

/// A program that unpacks `$OUT` in the folder `$TO`.
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static str,
    pub(crate) script: &'static str,
    pub(crate) loses: fn(Part) -> Option<Lost>,
}

pub(crate) const READERS: [Reader; 6] = [
    Reader {
        name: "GNU tar",
        needs: "tar",
        script: "tar --xattrs --xattrs-include='*' --acls --numeric-owner --same-owner -C $TO -xpf $OUT",
        loses: everything,
    },
    Reader {
        name: "bsdtar",
        needs: "bsdtar",
        script: "bsdtar --xattrs --acls --numeric-owner -C $TO -xpf $OUT",
        loses: bsdtar_reads,
    },
    Reader {
        name: "Python",
        needs: "python3",
        script: "python3 $HELPERS/write.py $TO read $OUT",
        loses: python_reads,
    },
    Reader {
        name: "busybox",
        needs: "busybox",
        script: "busybox tar --numeric-owner -C $TO -xpf $OUT",
        loses: busybox_reads,
    },
    Reader { name: "Go", needs: "archives", script: "$HELPERS/archives read go $TO $OUT", loses: go_reads },
    Reader {
        name: "Docker",
        needs: "archives",
        script: "$HELPERS/archives read docker $TO $OUT",
        loses: docker_reads,
    },
];

/// Go's library fills holes with zeros, and leaves access control lists to whoever uses it.
fn go_reads(_: Part) -> Option<Lost> {
    Some(Lost { holes: true, lists: true, sockets: true, ..Lost::default() })
}

/// Docker refuses sparse files in GNU's own form, takes times before 1970 for 1970, and leaves the folder that it unpacks in as it was.
fn docker_reads(part: Part) -> Option<Lost> {
    go_reads(part)
        .filter(|_| !matches!(part, Part::Times | Part::Holes))
        .map(|lost| Lost { top: true, ..lost })
}

/// busybox knows no sparse files, passes extended records over, and sets no times of links, nor the owners of those that lead elsewhere.
fn busybox_reads(part: Part) -> Option<Lost> {
    let lost = busybox(part).filter(|_| part != Part::Holes)?;
    Some(Lost { folder_times: true, symlink_times: true, symlink_owners: true, ..lost })
}

/// bsdtar leaves the folder that it unpacks in its time, also with its own archives, and makes holes of zeros.
fn bsdtar_reads(part: Part) -> Option<Lost> {
    everything_of_bsdtar(part).map(|lost| Lost { top_time: true, holes: true, ..lost })
}

/// Python sets no times of links.
fn python_reads(part: Part) -> Option<Lost> {
    let lost = gnu(part).filter(|_| part != Part::Times)?;
    Some(Lost { symlink_times: true, ..lost })
}
