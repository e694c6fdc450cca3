//! Stacks whose files are not as they should be, and what of them is told.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod world;

use std::fs;

use world::World;

/// What a command printed, on both streams, and its status.
fn said(world: &World, arguments: &[&str]) -> (String, Option<i32>) {
    let output = world.tierce(arguments);
    (String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(), output.status.code())
}

/// A continuous integration keeps what a command prints, and everybody reads it.
#[test]
fn no_password_of_a_volume_of_others_or_of_an_environment_file_is_shown() {
    let world = World::new();
    fs::write(
        world.path("compose.yaml"),
        r#"
services:
  web:
    volumes: ["nas:/nas", "ceph:/ceph", "web:/web", "old:/old", "odd:/odd"]
volumes:
  nas: {driver_opts: {type: cifs, o: "username=u,Password=${P},,${P}, password2=${P},ro", device: //nas/share}}
  ceph: {driver_opts: {type: ceph, o: "name=admin,secret=${P}", device: "10.0.0.7:/"}}
  web: {driver_opts: {type: davfs, o: "uid=1", device: "https://ada:${P}@host/a"}}
  old: {driver_opts: {type: cifs, o: "username=u%${P}", device: "//ada:${P}@nas/x"}}
  odd: {driver: tierce, driver_opts: {size: 1Gi}}
"#,
    )
    .unwrap();
    fs::write(world.path(".env"), "P=s3cret\n").unwrap();
    for command in [
        &["stack", "plan"][..],
        &["stack", "plan", "-o", "json"],
        &["stack", "plan", "-o", "yaml"],
        &["stack", "manifests"],
    ] {
        let (said, status) = said(&world, command);
        assert_eq!(status, Some(0), "{said}");
        assert!(!said.contains("s3cret"), "{command:?}: {said}");
        for shown in
            ["cifs //nas/share username=u,", "ro)", "ceph 10.0.0.7:/ name=admin", "davfs https://ada:"]
        {
            assert!(said.contains(shown), "{command:?}: {shown}: {said}");
        }
    }
    // What is wrong with an option, or with a variable, is told without its value.
    for (line, file) in [
        ("P=s3cret\n", "volumes: {a: {driver: tierce, driver_opts: {o: 'password=${P},rw'}}}"),
        ("P=s3cret\n", "volumes: {a: {driver: tierce, driver_opts: {o: 'password=a,,${P}'}}}"),
        ("P=s3cret\n", "volumes: {a: {driver: tierce, driver_opts: {password: '${P}', o: 'password=b'}}}"),
        ("P=\n", "volumes: {a: {driver_opts: {type: cifs, o: 'password=s3cret${'}}}"),
        ("P=s3cret${\n", "volumes: {a: }"),
        ("P='s3cret\n", "volumes: {a: }"),
        ("P$Q=s3cret\n", "volumes: {a: }"),
    ] {
        fs::write(world.path("compose.yaml"), file).unwrap();
        fs::write(world.path(".env"), line).unwrap();
        for command in ["plan", "create"] {
            let (said, status) = said(&world, &["stack", command]);
            assert_eq!(status, Some(2), "{line}{file}: {said}");
            assert!(!said.contains("s3cret"), "{said}");
        }
    }
}

#[test]
fn what_hides_volumes_of_a_stack_is_told_when_the_stack_is_removed() {
    let world = World::new();
    fs::create_dir(world.path("shop")).unwrap();
    let file = world.path("shop/compose.yaml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    fs::write(world.path("shop/more.yaml"), "volumes: {cache: }").unwrap();
    write("include: [more.yaml]\nvolumes: {data: , more: }\n");
    let asked = ["-f", "shop/compose.yaml"];
    assert_eq!(world.ok(&[&["stack", "create"], &asked[..]].concat()), "shop_cache\nshop_data\nshop_more\n");
    write("include: ['https://example.invalid/more.yaml']\nvolumes: {data: , more: {labels: 7}}\n");
    for (volumes, printed, left) in [
        (&[][..], "kept with its data", "shop_cache\nshop_data\nshop_more\n"),
        (&["--volumes"], "shop_data\n", "shop_cache\nshop_more\n"),
        (&["--volumes"], "", "shop_cache\nshop_more\n"),
    ] {
        let (said, status) = said(&world, &[&["stack", "rm"], &asked[..], volumes].concat());
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains(printed), "{said}");
        assert!(said.contains("compose.yaml:1:") && said.contains("compose.yaml:2:"), "{said}");
        assert_eq!(world.ok(&["volume", "ls", "-q"]), left, "{said}");
    }
}

#[test]
fn which_of_several_default_files_counts_is_told_by_every_command() {
    let world = World::new();
    for name in ["compose.yaml", "docker-compose.yml"] {
        fs::write(world.path(name), "name: s\nvolumes: {data: {driver_opts: {size: 1Gi}}}\n").unwrap();
    }
    for command in [&["plan"][..], &["rm"], &["rm", "--volumes"], &["manifests"]] {
        let (said, status) = said(&world, &[&["stack"], command].concat());
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("the first counts, compose.yaml"), "{command:?}: {said}");
    }
    fs::write(world.path("compose.yaml"), "name: s\nvolumes: {data: }\n").unwrap();
    let (said, _) = said(&world, &["stack", "create"]);
    assert!(said.contains("the first counts, compose.yaml") && said.contains("s_data"), "{said}");
}
