//! The generated YAML is committed, beside the types and in the chart; this fails where it is not what the types say.
//! `make generate` (`TIERCE_GENERATE=1`) writes it anew.

use kube::ResourceExt;
use std::path::Path;
use std::{env, fs};

const HEADER: &str = "# Generated from the types of tierce-crds by `make generate`. Do not edit.\n";

#[test]
fn the_committed_yaml_is_what_the_types_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for crd in tierce_crds::all() {
        let yaml = format!("{HEADER}{}", serde_saphyr::to_string(&crd).unwrap());
        for folder in ["generated", "../charts/tierce/crds"] {
            let file = root.join(folder).join(format!("{}.yaml", crd.name_any()));
            if env::var_os("TIERCE_GENERATE").is_some() {
                fs::create_dir_all(root.join(folder)).unwrap();
                fs::write(&file, &yaml).unwrap();
            }
            let committed = fs::read_to_string(&file).unwrap_or_default();
            assert!(committed == yaml, "{} differs from the types: run `make generate`", file.display());
        }
    }
}
