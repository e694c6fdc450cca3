//! Small files that ask for much memory, much time or many folders: they are refused by name, and soon.

use std::fs;

use crate::{
    pieces::{Piece, archive, refused},
    world::World,
};

#[test]
fn archives_that_ask_for_much_are_refused() {
    let world = World::new();
    let pieces = |pieces: &[Piece], words: &str| refused(&world, &archive(pieces), words);
    let of_size =
        |kind: u8, size: u64| Piece::new(kind, b"pax", b"", b"").with(|header| header.set_size(size));
    pieces(&[of_size(b'x', 33 << 20)], "a header that is too large");
    pieces(&[of_size(b'L', 33 << 20)], "a header that is too large");
    pieces(&[of_size(b'g', 2 << 20)], "a header that is too large");
    // Larger than any file, in both ways to say so.
    let binary = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let huge = |kind| Piece::new(kind, b"f", b"", b"").with(|header| header.as_old_mut().size = binary);
    pieces(&[huge(b'0')], "'f' has a size that is out of range");
    pieces(&[huge(b'x')], "out of range");
    let decimal: &[u8] = b"18446744073709551615";
    pieces(
        &[Piece::extended(b'x', &[("size", decimal)]), Piece::file(b"f", b"")],
        "'f' has a size that is out of range",
    );
    // Each of these folders would be made.
    let deep = [b"a/".repeat(3000).as_slice(), b"f\0"].concat();
    let name = Piece::new(b'L', b"././@LongLink", b"", &deep);
    pieces(&[name, Piece::file(b"f", b"x")], "has a path of more than 4095 bytes");
}

#[test]
fn files_that_include_each_other_by_doubling_are_refused() {
    let world = World::new();
    for number in 0..25 {
        let next = number + 1;
        let text = format!("include: [{next}.yaml, {next}.yaml]\n");
        fs::write(world.path(&format!("{number}.yaml")), text).unwrap();
    }
    fs::write(world.path("25.yaml"), "services: {a: {image: x, volumes: [\"v:/v\"]}}\nvolumes: {v: }\n")
        .unwrap();
    let error = world.fails(2, &["stack", "plan", "-f", "0.yaml"]);
    assert!(error.contains("more than 1000 files are included"), "{error}");
    let plan = world.ok(&["stack", "plan", "-f", "17.yaml"]);
    assert!(plan.contains("_v"), "{plan}");
}
