//! `kubectl explain` says something of every field, in whole words, and what holds where a field is left out. The guide says of every reason
//! what it means.

use serde_json::Value;
use std::fs;
use std::path::Path;

/// Fields that Kubernetes gives every object.
const OF_KUBERNETES: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// What says what holds without a field of a spec.
const WITHOUT_IT: [&str; 3] = ["efault", "bsent", "Either this or"];

struct Look {
    fields: usize,
    wrong: Vec<String>,
}

impl Look {
    fn look(&mut self, schema: &Value, path: &str) {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        // A source names one thing, whichever.
        let one_of_them = path.ends_with(".source");
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if path.matches('.').count() == 0 && OF_KUBERNETES.contains(&name.as_str()) {
                continue;
            }
            let path = format!("{path}.{name}");
            // Conditions are Kubernetes's own.
            if path.contains(".conditions.") {
                continue;
            }
            self.fields += 1;
            let text = text(field);
            let mut words = text.split_whitespace();
            let (first, rest) = (words.next().unwrap_or_default(), words.count());
            if rest < 3 || ["It", "Its"].contains(&first) {
                self.wrong.push(format!("{path} says too little: {text:?}"));
            }
            let optional =
                path.contains(".spec.") && !one_of_them && !required.contains(&Value::from(name.as_str()));
            if optional && !WITHOUT_IT.iter().any(|words| text.contains(words)) {
                self.wrong.push(format!("{path} does not say what holds without it: {text:?}"));
            }
            self.look(field, &path);
            self.look(&field["items"], &path);
        }
    }
}

fn text(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

#[test]
fn every_field_is_explained() {
    let mut found = Look { fields: 0, wrong: Vec::new() };
    for crd in tierce_crds::all() {
        let crd = serde_json::to_value(crd).unwrap();
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
        found.look(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind);
    }
    assert!(found.fields > 80, "it looked at too little: {}", found.fields);
    assert!(found.wrong.is_empty(), "{}", found.wrong.join("\n"));
}

#[test]
fn every_reason_is_in_the_guide() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("../docs/guide.md")).unwrap();
    let (mut reasons, mut missing) = (0, Vec::new());
    for entry in fs::read_dir(root.join("src/conditions")).unwrap() {
        let file = entry.unwrap().path();
        if file.file_name().is_some_and(|name| name == "mod.rs") {
            continue;
        }
        for line in fs::read_to_string(&file).unwrap().lines().filter(|line| line.starts_with("pub const")) {
            let reason = line.split('"').nth(1).unwrap();
            reasons += 1;
            if !guide.contains(&format!("`{reason}`")) {
                missing.push(format!("{}: {reason}", file.display()));
            }
        }
    }
    assert!(reasons > 50, "it looked at too little: {reasons}");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
