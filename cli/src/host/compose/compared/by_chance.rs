//! Texts by chance: variables, environment files and the short syntax, each beside what Compose makes of it.

use std::path::Path;

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::{Outcome, case::Case, difference, ours, reference};

/// Enough that each pair of neighbouring parts comes up many times.
pub(super) const TIMES: usize = 400;

pub(super) fn drawn<T>(strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..TIMES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// What JSON writes YAML reads, if nothing but ASCII is escaped.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

pub(super) fn case(title: &str, files: &[(&str, String)]) -> Case {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
    let environment = [("A", "x"), ("B", "two words"), ("EMPTY", "")];
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Case { title: title.to_owned(), files, environment, ..Case::default() }
}

/// Compares all with what `outcome` says of ours; what both refuse is the same too. Returns how many were carried out by both, and of how many
/// volumes of services they speak.
pub(super) fn compare(
    cases: &[Case],
    outcome: impl Fn(&Case, &Path) -> Result<Outcome, String>,
) -> Option<(usize, usize)> {
    let answers = reference::answers(cases)?;
    let (mut same, mut cells, mut wrong) = (0, 0, Vec::new());
    for (case, (folder, theirs)) in cases.iter().zip(&answers) {
        match (outcome(case, folder.path()), theirs) {
            (Ok(ours), Ok(theirs)) => {
                let theirs = theirs.clone().levelled(&ours);
                same += 1;
                cells += ours.cells();
                // Where there is no path in a container, we take a letter for a volume.
                let mut mounts = theirs.services.values().flat_map(|service| &service.mounts);
                if ours != theirs && mounts.all(|mount| mount.target.starts_with('/')) {
                    wrong.push(format!("{}:\n{}", case.title, difference(&ours, &theirs)));
                }
            }
            (Err(_), Err(_)) => {}
            (ours, theirs) => wrong.push(format!("{}:\nours   {ours:?}\ntheirs {theirs:?}", case.title)),
        }
    }
    let first: Vec<String> = wrong.iter().take(5).cloned().collect();
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), first.join("\n"));
    Some((same, cells))
}

/// Names and targets by chance need not be ones that we can serve.
fn lenient(case: &Case, folder: &Path) -> Result<Outcome, String> {
    ours::plan(case, folder).map(|plan| ours::of_plan(&plan)).map_err(|error| error.to_string())
}

fn template() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "$A", "$EMPTY", "$NONE", "${A}", "${NONE}", "$$", "$", "a", "-", ":", "}", "{", " ", "é", "\n", "${",
        "$1", "%(x)s", "\"",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 3, |inner| {
        let name = prop::sample::select(vec!["A", "B", "EMPTY", "NONE", "_x1"]);
        let operator = prop::sample::select(vec![":-", "-", ":+", "+", ":?", "?", "!", ""]);
        let parts = prop::collection::vec(inner, 0..3).prop_map(|parts| parts.concat());
        (name, operator, parts.clone(), parts)
            .prop_map(|(name, operator, default, after)| format!("${{{name}{operator}{default}}}{after}"))
    })
}

#[test]
fn variables_by_chance_become_what_compose_makes_of_them() {
    let texts = drawn(prop::collection::vec(template(), 1..4).prop_map(|parts| parts.concat()));
    let of = |text: &String| {
        let file = format!(
            "services: {{a: {{image: x}}}}\nvolumes: {{v: {{driver: other, driver_opts: {{o: {}}}}}}}\n",
            quoted(text)
        );
        case(text, &[("compose.yaml", file)])
    };
    let Some((same, _)) = compare(&texts.iter().map(of).collect::<Vec<_>>(), lenient) else { return };
    println!(
        "measured: Compose files by chance: {TIMES} texts with variables compared, {same} of them good ones"
    );
    assert!(same > TIMES / 4, "{same}");
}

#[test]
fn environment_files_by_chance_are_read_as_compose_does() {
    let part = prop::sample::select(vec![
        "K", "L", "K=", "L=", "K: ", "export ", "v", "\"", "'", "\\", "\\n", "\\\"", "\\$", "\\0101", "$K",
        "${L:-d}", " #", "#", "\n", "\n", "\r\n", " ", "\t", "$", "é", "=",
    ]);
    let texts = drawn(prop::collection::vec(part, 1..14).prop_map(|parts| parts.concat()));
    let of = |text: &String| {
        let file = "services: {a: {image: x}}\nvolumes: {v: {driver: other, driver_opts: {k: \"${K-none}\", l: \"${L-none}\"}}}\n";
        case(&format!("{text:?}"), &[("compose.yaml", file.to_owned()), (".env", text.clone())])
    };
    let Some((same, _)) = compare(&texts.iter().map(of).collect::<Vec<_>>(), lenient) else { return };
    println!(
        "measured: Compose files by chance: {TIMES} environment files compared, {same} of them good ones"
    );
    assert!(same > TIMES / 8, "{same}");
}

#[test]
fn short_volumes_by_chance_are_taken_apart_as_compose_does() {
    let source = prop::sample::select(vec![
        "data",
        "a-b",
        "v",
        "./x",
        "../y/",
        ".",
        "..",
        "~",
        "~/z",
        "/abs/./x",
        "C:\\w",
        "c:/w",
        "\\\\srv\\s",
        "./$$A",
        "${A}",
        "./${A}",
        "",
    ]);
    let target =
        prop::sample::select(vec!["/t", "/t/", "/u/../t", "/x/y", "//z", "rel", "/w x", "/${A}", "/"]);
    let options = prop::sample::select(vec![
        "",
        "ro",
        "rw",
        "ro,rw",
        "z",
        "ro,Z",
        "nocopy",
        "rslave,ro",
        "U",
        "cached",
        "ro:",
        ":",
    ]);
    let volume = (source, target, options).prop_map(|(source, target, options)| match (source, options) {
        ("", _) => target.to_owned(),
        (_, "") => format!("{source}:{target}"),
        _ => format!("{source}:{target}:{options}"),
    });
    let lists = drawn(prop::collection::vec(volume, 1..4));
    let of = |list: &Vec<String>| {
        let list = list.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
        let file = format!(
            "services: {{a: {{image: x, volumes: [{list}]}}}}\nvolumes: {{data: , a-b: , v: , x: }}\n"
        );
        case(&list, &[("compose.yaml", file)])
    };
    let cases: Vec<Case> = lists.iter().map(of).collect();
    let good: Vec<Case> = {
        // What Compose refuses of one volume we refuse too, but show the others.
        let Some(answers) = reference::answers(&cases) else { return };
        let of = |(case, (folder, theirs)): (&Case, &(tempfile::TempDir, Result<_, String>))| {
            let refused = ours::plan(case, folder.path()).is_err_and(|_| true)
                || ours::outcome(case, folder.path()).is_err();
            assert!(theirs.is_ok() || refused, "{}: {theirs:?}", case.title);
            theirs.is_ok().then(|| case.clone())
        };
        cases.iter().zip(&answers).filter_map(of).collect()
    };
    let Some((same, cells)) = compare(&good, lenient) else { return };
    println!(
        "measured: Compose files by chance: {TIMES} lists in short syntax, {same} of them good ones, {cells} cells (project × service × volume) compared"
    );
    assert!(same > TIMES / 4, "{same}");
}
