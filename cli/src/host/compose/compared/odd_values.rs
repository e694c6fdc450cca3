//! Each key that concerns volumes with each kind of value: what Compose takes we take for the same, and what it refuses we refuse.

use super::{by_chance::case, case::Case, difference, ours, reference};

/// Where a value stands: `@`.
const PLACES: [&str; 58] = [
    "services: {a: {image: x, volumes: @}}",
    "services: {a: {image: x, volumes: [@]}}",
    "services: {a: {image: x, volumes: [{type: @, source: data, target: /t}]}}",
    "services: {a: {image: x, volumes: [{type: volume, source: @, target: /t}]}}",
    "services: {a: {image: x, volumes: [{type: volume, source: data, target: @}]}}",
    "services: {a: {image: x, volumes: [{type: volume, source: data, target: /t, read_only: @}]}}",
    "services: {a: {image: x, volumes: [{type: volume, source: data, target: /t, consistency: @}]}}",
    "services: {a: {image: x, volumes: [{type: volume, source: data, target: /t, volume: @}]}}",
    "services: {a: {image: x, volumes: [{type: volume, source: data, target: /t, volume: {nocopy: @}}]}}",
    "services: {a: {image: x, volumes: [{type: volume, source: data, target: /t, volume: {subpath: @}}]}}",
    "services: {a: {image: x, volumes: [{type: volume, source: data, target: /t, volume: {labels: @}}]}}",
    "services: {a: {image: x, volumes: [{type: volume, source: data, target: /t, volume: {labels: {k: @}}}]}}",
    "services: {a: {image: x, volumes: [{type: bind, source: @, target: /t}]}}",
    "services: {a: {image: x, volumes: [{type: bind, source: /s, target: /t, bind: @}]}}",
    "services: {a: {image: x, volumes: [{type: bind, source: /s, target: /t, bind: {create_host_path: @}}]}}",
    "services: {a: {image: x, volumes: [{type: bind, source: /s, target: /t, bind: {propagation: @}}]}}",
    "services: {a: {image: x, volumes: [{type: bind, source: /s, target: /t, bind: {selinux: @}}]}}",
    "services: {a: {image: x, volumes: [{type: bind, source: /s, target: /t, bind: {recursive: @}}]}}",
    "services: {a: {image: x, volumes: [{type: tmpfs, target: /t, tmpfs: @}]}}",
    "services: {a: {image: x, volumes: [{type: tmpfs, target: /t, tmpfs: {size: @}}]}}",
    "services: {a: {image: x, volumes: [{type: tmpfs, target: /t, tmpfs: {mode: @}}]}}",
    "services: {a: {image: x, volumes: [{type: image, source: q, target: /t, image: @}]}}",
    "services: {a: {image: x, volumes: [{type: image, source: q, target: /t, image: {subpath: @}}]}}",
    "services: {a: {image: x, tmpfs: @}}",
    "services: {a: {image: x, tmpfs: [@]}}",
    "services: {a: {image: x, volumes_from: @}, x: {image: x}}",
    "services: {a: {image: x, volumes_from: [@]}, x: {image: x}}",
    "services: {a: {image: x, profiles: @}}",
    "services: {a: {image: x, profiles: [@]}}",
    "services: {a: {image: x, extends: @}, x: {image: x}}",
    "services: {a: {image: x, extends: {service: @}}, x: {image: x}}",
    "services: {a: {image: x, extends: {service: x, file: @}}}",
    "services: {a: {image: x, pre_start: [{command: y, volumes: @}]}}",
    "services: {a: {image: x, pre_start: [{command: y, volumes: [@]}]}}",
    "services: {a: {image: x, pre_start: @}}",
    "services: {a: @}",
    "services: @",
    "jobs: {a: @}",
    "volumes: @",
    "volumes: {v: @}",
    "volumes: {v: {name: @}}",
    "volumes: {v: {driver: @}}",
    "volumes: {v: {driver: q, driver_opts: @}}",
    "volumes: {v: {driver: q, driver_opts: {k: @}}}",
    "volumes: {v: {driver: local, driver_opts: {o: bind, device: @}}}",
    "volumes: {v: {external: @}}",
    "volumes: {v: {external: {name: @}}}",
    "volumes: {v: {labels: @}}",
    "volumes: {v: {labels: {k: @}}}",
    "volumes: {v: {labels: [@]}}",
    "include: @",
    "include: [@]",
    "include: [{path: @}]",
    "include: [{path: x, env_file: @}]",
    "include: [{path: x, project_directory: @}]",
    "name: @",
    "version: @",
    "x-own: @",
];

const VALUES: [&str; 26] = [
    "true",
    "'true'",
    "no",
    "1",
    "'1'",
    "-1",
    "1.5",
    "''",
    "x",
    "'$A'",
    "'${NONE}'",
    "[]",
    "[x]",
    "[1]",
    "[x, x]",
    "{}",
    "{x: y}",
    "{x: 1}",
    "{name: x}",
    "2024-01-01",
    "0o755",
    "64m",
    "z",
    "rslave",
    "/x",
    "'data:/x'",
];

/// Of what one of the two alone refuses: whether that is meant so (docs/limits.md, and the page of the decision).
fn differs_on_purpose(place: &str, value: &str, ours: Option<&str>) -> bool {
    const ENGINES_WOULD_REFUSE: [&str; 4] =
        ["is no path in a container", "leads out of it", "propagation '", "is not valid"];
    const IS_DROPPED_IN_SILENCE: &str = "is not known: path, env_file and project_directory are";
    match ours {
        Some(reason) => {
            ENGINES_WOULD_REFUSE.iter().any(|words| reason.contains(words))
                || reason.contains(IS_DROPPED_IN_SILENCE)
                // A date whose words count.
                || value == "2024-01-01"
        }
        // Keys that have nothing to do with volumes.
        None => {
            place == "version: @"
                || ((place == "services: {a: @}" || place == "jobs: {a: @}") && value.starts_with('{'))
        }
    }
}

#[test]
fn each_kind_of_value_in_each_key_is_taken_or_refused_as_compose_does() {
    let of = |place: &str, value: &str| {
        let mut file = place.replace('@', value) + "\n";
        for (section, filled) in
            [("services", "services: {b: {image: x}}\n"), ("volumes", "volumes: {data: , x: , v: }\n")]
        {
            if !file.starts_with(section) {
                file.push_str(filled);
            }
        }
        let included = "services: {x: {image: x, volumes: ['./i:/i']}}\n".to_owned();
        case(&format!("{place} with {value}"), &[("compose.yaml", file), ("x", included)])
    };
    let all: Vec<(&str, &str)> =
        PLACES.iter().flat_map(|place| VALUES.iter().map(move |value| (*place, *value))).collect();
    let cases: Vec<Case> = all.iter().map(|(place, value)| of(place, value)).collect();
    let Some(answers) = reference::answers(&cases) else { return };
    let (mut taken, mut wrong) = (0, Vec::new());
    for (((place, value), case), (folder, theirs)) in all.iter().zip(&cases).zip(&answers) {
        let title = &case.title;
        match (ours::outcome(case, folder.path()), theirs) {
            (Ok(ours), Ok(theirs)) => {
                taken += 1;
                let theirs = theirs.clone().levelled(&ours);
                if ours != theirs {
                    wrong.push(format!("{title}:\n{}", difference(&ours, &theirs)));
                }
            }
            (Err(_), Err(_)) => {}
            (ours, _) if differs_on_purpose(place, value, ours.as_ref().err().map(String::as_str)) => {}
            (ours, theirs) => wrong.push(format!(
                "{title}: {}",
                ours.err().map_or_else(
                    || format!("theirs {:?}", theirs.as_ref().err()),
                    |error| format!("ours {error}")
                )
            )),
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!(
        "measured: Compose files: {} values in keys compared with compose-go, {taken} of them good ones",
        cases.len()
    );
}
