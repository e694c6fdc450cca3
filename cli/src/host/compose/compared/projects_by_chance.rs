//! Whole projects by chance: files over files, with what they include and extend, and the marks `!reset` and `!override`.

use proptest::prelude::*;

use super::{
    by_chance::{TIMES, compare, drawn},
    case::Case,
    ours,
};

fn one_of(words: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    prop::sample::select(words.to_vec()).prop_map(str::to_owned)
}

/// Mostly nothing.
fn seldom(strategy: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 1 => strategy]
}

fn mark() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(String::new()), 1 => Just("!override ".to_owned()), 1 => Just("!reset ".to_owned())]
}

fn list(items: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec(items, 0..4).prop_map(|items| format!("[{}]", items.join(", ")))
}

fn mount() -> impl Strategy<Value = String> {
    one_of(&[
        "/x",
        "/x/",
        "'data:/x'",
        "'data:/y/'",
        "'logs:/x:ro'",
        "'./here:/y:Z'",
        "'../beside:/z'",
        "'~/home:/x'",
        "'./$A:/w'",
        "'${NONE:-own}:/w:nocopy'",
        "{type: volume, source: data, target: /y, read_only: true}",
        "{type: volume, source: logs, target: /x/}",
        "{type: bind, source: ./long, target: /z, bind: {create_host_path: false}}",
        "{type: bind, source: ./long, target: /w, bind: {selinux: z}}",
        "{type: tmpfs, target: /x}",
        "*mount",
    ])
}

fn service() -> impl Strategy<Value = String> {
    let volumes = (mark(), list(mount())).prop_map(|(mark, list)| format!(", volumes: {mark}{list}"));
    let tmpfs = (mark(), prop_oneof![list(one_of(&["/t", "'/t:size=1m'", "/u"])), one_of(&["/t", "/u"])])
        .prop_map(|(mark, value)| format!(", tmpfs: {mark}{value}"));
    let profiles = (mark(), list(one_of(&["p", "q", "''"])))
        .prop_map(|(mark, list)| format!(", profiles: {mark}{list}"));
    let extends = one_of(&[
        "a",
        "b",
        "{service: c}",
        "{service: base, file: base/base.yaml}",
        "{service: more, file: base/base.yaml}",
    ])
    .prop_map(|extends| format!(", extends: {extends}"));
    let merge = one_of(&["*merged", "[*merged, *second]", "[*second, *merged]"])
        .prop_map(|merge| format!(", <<: {merge}"));
    let usual = prop_oneof![1 => Just(String::new()), 3 => volumes];
    (usual, seldom(tmpfs), seldom(profiles), seldom(extends), seldom(merge)).prop_map(
        |(volumes, tmpfs, profiles, extends, merge)| {
            format!("{{image: x{volumes}{tmpfs}{profiles}{extends}{merge}}}")
        },
    )
}

fn volume() -> impl Strategy<Value = String> {
    let body = one_of(&[
        "",
        "{}",
        "{name: own-$A}",
        "{labels: {a: 1, b: two}}",
        "{labels: [a=3, c]}",
        "{driver: other, driver_opts: {x: 1, y: $A}}",
        "{driver: local, driver_opts: {o: bind, device: ./device}}",
        "{driver_opts: {device: ./other}}",
        "{external: false}",
    ]);
    // A mark alone is an empty text to Compose, which it refuses.
    (mark(), body).prop_map(|(mark, body)| if body.is_empty() { body } else { format!("{mark}{body}") })
}

fn section(
    name: &'static str,
    keys: &[&'static str],
    value: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    let keys = keys.to_vec();
    let most = keys.len();
    (prop::sample::subsequence(keys, 1..=most), prop::collection::vec(value, most)).prop_map(
        move |(keys, values)| {
            let entries = keys.iter().zip(values).map(|(key, value)| format!("  {key}: {value}\n"));
            format!("{name}:\n{}", entries.collect::<String>())
        },
    )
}

const ANCHORS: &str = "x-mount: &mount 'data:/merged'
x-merged: &merged {volumes: [/merged, './m:/x'], tmpfs: /merged}
x-second: &second {volumes: ['logs:/second'], profiles: ['']}
";

fn file() -> impl Strategy<Value = String> {
    let include = one_of(&[
        "[inc/compose.yaml]",
        "[{path: [inc/compose.yaml, inc/more.yaml]}]",
        "[{path: inc/more.yaml, project_directory: base}]",
    ])
    .prop_map(|include| format!("include: {include}\n"));
    let services = section("services", &["a", "b", "c", "inc"], service());
    let volumes = section("volumes", &["data", "logs", "own"], volume());
    (seldom(include), services, seldom(volumes))
        .prop_map(|(include, services, volumes)| format!("{ANCHORS}{include}{services}{volumes}"))
}

fn project() -> impl Strategy<Value = Case> {
    let below = (
        section("services", &["base", "more"], service()),
        section("services", &["inc", "a"], service()),
        section("services", &["inc", "only"], service()),
    );
    let profile = prop_oneof![Just(None), Just(Some("p")), Just(Some("*"))];
    (prop::collection::vec(file(), 1..4), below, section("volumes", &["data", "other"], volume()), profile).prop_map(
        |(files, (base, inc, more), of_include, profile)| {
            let mut case = Case::default();
            case.environment.insert("A".to_owned(), "x".to_owned());
            for (index, text) in files.iter().enumerate() {
                let name = format!("{index}.yaml");
                case.options.push(("file".to_owned(), name.clone()));
                case.files.push((name, text.clone()));
            }
            case.options.push(("file".to_owned(), "declared.yaml".to_owned()));
            case.options.extend(profile.map(|profile| ("profile".to_owned(), profile.to_owned())));
            let declared = "volumes: {data: , logs: , own: }\n".to_owned();
            case.files.push(("declared.yaml".to_owned(), declared));
            case.files.push(("base/base.yaml".to_owned(), format!("{ANCHORS}{base}  a: {{image: x}}\n  b: {{image: x, volumes: ['./b:/b']}}\n  c: {{image: x}}\n")));
            case.files.push(("inc/compose.yaml".to_owned(), format!("{ANCHORS}{inc}  b: {{image: x, volumes: [/b]}}\n  c: {{image: x}}\n{of_include}")));
            case.files.push(("inc/more.yaml".to_owned(), format!("{ANCHORS}{more}  a: {{image: x}}\n  b: {{image: x}}\n  c: {{image: x, tmpfs: /c}}\n")));
            case.files.push(("inc/base/base.yaml".to_owned(), "services: {base: {volumes: ['./deep:/deep']}, more: {}}\n".to_owned()));
            for (name, text) in &case.files {
                case.title.push_str(&["--- ", name, "\n", text].concat());
            }
            case
        },
    )
}

#[test]
fn projects_by_chance_come_to_what_compose_makes_of_them() {
    let Some((same, cells)) = compare(&drawn(project()), ours::outcome) else { return };
    println!(
        "measured: Compose files by chance: {TIMES} projects, {same} of them good ones, {cells} cells (project × service × volume) compared"
    );
    assert!(same > TIMES / 8, "{same}");
}
