//! Compose files: YAML to trees, one over the other; the short syntax, variables and environment files.
#![no_main]
#![allow(dead_code)]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use libfuzzer_sys::fuzz_target;

#[path = "../../cli/src/host/compose/dotenv.rs"]
mod dotenv;
#[path = "../../cli/src/host/compose/interpolate.rs"]
mod interpolate;
#[path = "../../cli/src/host/compose/merge.rs"]
mod merge;
#[path = "../../cli/src/host/compose/node.rs"]
mod node;
#[path = "../../cli/src/host/compose/paths.rs"]
mod paths;
#[path = "../../cli/src/host/compose/scalar.rs"]
mod scalar;
#[path = "../../cli/src/host/compose/short_syntax.rs"]
mod short_syntax;
#[path = "../../cli/src/host/compose/yaml.rs"]
mod yaml;

use node::{Map, Place, Value};

fuzz_target!(|text: &str| {
    let file: Arc<Path> = Arc::from(Path::new("compose.yaml"));
    let variable = |name: &str| (name.len() % 2 == 1).then(|| name.to_owned());
    let _ = interpolate::interpolate(text, &variable);
    let _ = dotenv::read(text, &mut BTreeMap::new(), &variable);
    if short_syntax::read(text, &Place::start(&file)).is_ok() {
        assert!(short_syntax::target_of(text).is_ok(), "{text:?}");
    }
    let whole = paths::resolve(Path::new("/p"), text, Some("/home"));
    assert!(whole.starts_with('/') || paths::is_of_windows(&whole), "{text:?}: {whole}");
    // Files are separated by what no file has.
    let _ = merged(text.split('\0'), &file);
});

/// Puts each file over the former; what is there twice is there once, however often that is asked.
fn merged<'a>(files: impl Iterator<Item = &'a str>, file: &Arc<Path>) -> Result<Map, node::Wrong> {
    let mut model = Map::default();
    for text in files {
        for document in yaml::documents(text, file)? {
            merge::reset(&mut model, &document.resets);
            let Value::Map(top) = document.root.value else { continue };
            model = merge::merge_maps(model, top, &mut Vec::new())?;
            merge::keep_last_of_each(&mut model)?;
            let before = model.clone();
            merge::keep_last_of_each(&mut model)?;
            assert_eq!(model, before, "{text:?}");
        }
    }
    Ok(model)
}
