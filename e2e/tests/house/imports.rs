//! No two files import each other, directly or around corners: whoever reads one would have to read all of them.
//!
//! A path counts for the file that defines what it names: a re-export (`pub use`) hands names on and ties nothing. Tests
//! (`#[cfg(test)]`) don't count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, ItemUse, UseTree, Visibility};

/// Where a module is written, which names it hands on, and what it uses.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// Re-exported name → absolute path below the crate.
    handed_on: HashMap<String, Vec<String>>,
    /// Modules whose every name is handed on.
    all_of: Vec<Vec<String>>,
    /// Absolute paths below the crate.
    used: BTreeSet<Vec<String>>,
}

type Modules = BTreeMap<Vec<String>, Module>;
type Edges = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in a workspace")
}

fn for_tests_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

/// Collects what one module says. Modules inside the same file become modules of their own.
struct Reader<'a> {
    here: Vec<String>,
    file: &'a Path,
    modules: &'a mut Modules,
    /// Files of modules that are declared here and written elsewhere.
    elsewhere: Vec<(Vec<String>, PathBuf)>,
    children: BTreeSet<String>,
}

impl Reader<'_> {
    /// The absolute form of a path; `None`: it leads out of the crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut here = self.here.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => {
                here.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    here.pop();
                    rest = &rest[1..];
                }
            }
            first if self.children.contains(first) => {}
            _ => return None,
        }
        Some(here.into_iter().chain(rest.iter().cloned()).collect())
    }

    fn note(&mut self, path: &[String]) {
        if let Some(absolute) = self.absolute(path) {
            self.modules.entry(self.here.clone()).or_default().used.insert(absolute);
        }
    }

    fn imported(&mut self, tree: &UseTree, before: &[String], handed_on: bool) {
        let with = |word: &str| before.iter().cloned().chain([word.to_owned()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.imported(&path.tree, &with(&path.ident.to_string()), handed_on),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.imported(tree, before, handed_on);
                }
            }
            UseTree::Name(name) if name.ident == "self" => {
                self.bound(before.last().cloned().unwrap_or_default(), before, handed_on);
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                self.bound(name.clone(), &with(&name), handed_on);
            }
            UseTree::Rename(rename) => {
                self.bound(rename.rename.to_string(), &with(&rename.ident.to_string()), handed_on);
            }
            UseTree::Glob(_) if handed_on => {
                if let Some(absolute) = self.absolute(before) {
                    self.modules.entry(self.here.clone()).or_default().all_of.push(absolute);
                }
            }
            UseTree::Glob(_) => self.note(before),
        }
    }

    fn bound(&mut self, name: String, path: &[String], handed_on: bool) {
        if !handed_on {
            self.note(path);
        } else if let Some(absolute) = self.absolute(path) {
            self.modules.entry(self.here.clone()).or_default().handed_on.insert(name, absolute);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            _ => return syn::visit::visit_item(self, item),
        };
        if !for_tests_only(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let mut path = self.here.clone();
        path.push(item.ident.to_string());
        let Some((_, items)) = &item.content else {
            let given = item.attrs.iter().find(|attribute| attribute.path().is_ident("path"));
            assert!(given.is_none(), "{}: modules with a #[path] are not read", self.file.display());
            self.elsewhere.push((path, self.file.to_owned()));
            return;
        };
        let module = self.modules.entry(path.clone()).or_default();
        self.file.clone_into(&mut module.file);
        let outer = std::mem::replace(&mut self.here, path);
        let outer_children = std::mem::replace(&mut self.children, declared(items));
        for item in items {
            self.visit_item(item);
        }
        self.here = outer;
        self.children = outer_children;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let handed_on = !matches!(item.vis, Visibility::Inherited);
        self.imported(&item.tree, &[], handed_on);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let words: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.note(&words);
        }
        syn::visit::visit_path(self, path);
    }
}

fn declared(items: &[syn::Item]) -> BTreeSet<String> {
    let name = |item: &syn::Item| match item {
        syn::Item::Mod(item) => Some(item.ident.to_string()),
        _ => None,
    };
    items.iter().filter_map(name).collect()
}

/// Reads a module's file and those of the modules declared in it.
fn read(path: &[String], file: &Path, modules: &mut Modules) {
    let text = fs::read_to_string(file).expect("a module's file can be read");
    let parsed = syn::parse_file(&text).expect("what compiles can be parsed");
    file.clone_into(&mut modules.entry(path.to_vec()).or_default().file);
    let children = declared(&parsed.items);
    let mut reader = Reader { here: path.to_vec(), file, modules, elsewhere: Vec::new(), children };
    for item in &parsed.items {
        reader.visit_item(item);
    }
    for (child, declared_in) in reader.elsewhere {
        let name = child.last().expect("a module has a name");
        let stem = declared_in.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let mut folder = declared_in.parent().expect("a file lies in a folder").to_owned();
        if !["mod", "lib", "main"].contains(&stem) {
            folder.push(stem);
        }
        let candidates = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
        // What a build script writes is no file of ours.
        if let Some(file) = candidates.iter().find(|file| file.exists()) {
            read(&child, file, modules);
        }
    }
}

/// The file that defines what an absolute path names.
fn home<'a>(modules: &'a Modules, path: &[String], depth: usize) -> Option<&'a Path> {
    if depth > 16 {
        return None;
    }
    let length = (0..=path.len()).rev().find(|&length| modules.contains_key(&path[..length]))?;
    let module = &modules[&path[..length]];
    let Some(name) = path.get(length) else { return Some(&module.file) };
    if let Some(target) = module.handed_on.get(name) {
        let whole: Vec<String> = target.iter().chain(&path[length + 1..]).cloned().collect();
        return home(modules, &whole, depth + 1);
    }
    for all in &module.all_of {
        let whole: Vec<String> = all.iter().chain(&path[length..]).cloned().collect();
        let there = modules.get(all).is_some_and(|module| module.handed_on.contains_key(name));
        if there || modules.contains_key(&whole) {
            return home(modules, &whole, depth + 1);
        }
    }
    Some(&module.file)
}

/// Who imports whom among the files that a crate's root reaches.
fn edges(root: &Path) -> Edges {
    let mut modules = Modules::new();
    read(&[], root, &mut modules);
    let mut edges = Edges::new();
    for module in modules.values() {
        for path in &module.used {
            let Some(target) = home(&modules, path, 0) else { continue };
            if target != module.file {
                let named = edges.entry(module.file.clone()).or_default().entry(target.to_owned());
                named.or_default().insert(path.join("::"));
            }
        }
    }
    edges
}

/// The sets of files that reach each other.
fn circles(edges: &Edges) -> Vec<BTreeSet<PathBuf>> {
    let reach = |from: &PathBuf| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(file) = next.pop() {
            for target in edges.get(file).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(target.clone()) {
                    next.push(target);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&PathBuf, BTreeSet<PathBuf>> =
        edges.keys().map(|file| (file, reach(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, reaches) in &reached {
        if reaches.contains(*file) {
            let back = |other: &&PathBuf| reached.get(other).is_some_and(|reaches| reaches.contains(*file));
            circles.insert(reaches.iter().filter(back).cloned().collect::<BTreeSet<_>>());
        }
    }
    circles.into_iter().collect()
}

/// The same between the rooms of a crate: the folders and files at the top of its `src`.
fn between_rooms(edges: &Edges, source: &Path) -> Edges {
    let room = |file: &Path| {
        let first = file.strip_prefix(source).ok().and_then(|path| path.components().next());
        first.map(|first| source.join(first.as_os_str()).with_extension(""))
    };
    let mut between = Edges::new();
    for (from, targets) in edges {
        for to in targets.keys() {
            if let (Some(from_room), Some(to_room)) = (room(from), room(to))
                && from_room != to_room
            {
                let ties = between.entry(from_room).or_default().entry(to_room).or_default();
                ties.insert(format!("{} uses {}", short(from), short(to)));
            }
        }
    }
    between
}

fn short(file: &Path) -> String {
    file.strip_prefix(workspace()).unwrap_or(file).display().to_string()
}

/// A circle as a person can open it: each of its imports.
fn told(of: &str, circle: &BTreeSet<PathBuf>, edges: &Edges) -> String {
    let mut text = format!("circle of {} {of}:\n", circle.len());
    for (from, targets) in edges.iter().filter(|(from, _)| circle.contains(*from)) {
        for (to, names) in targets.iter().filter(|(to, _)| circle.contains(*to)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            writeln!(text, "  {} -> {}: {}", short(from), short(to), names.join(", "))
                .expect("a String takes everything");
        }
    }
    text
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut found = String::new();
    let mut read = 0;
    for folder in fs::read_dir(workspace()).unwrap() {
        let folder = folder.unwrap().path();
        let source = folder.join("src");
        for root in ["lib.rs", "main.rs"].map(|name| source.join(name)) {
            if root.exists() {
                let edges = edges(&root);
                read += edges.len();
                for circle in circles(&edges) {
                    found.push_str(&told("files", &circle, &edges));
                }
                let between = between_rooms(&edges, &source);
                for circle in circles(&between) {
                    found.push_str(&told("rooms", &circle, &between));
                }
            }
        }
    }
    assert!(read > 200, "only {read} files import anything: the sources were not found");
    assert!(found.is_empty(), "{found}Move what they share to a file of its own.");
}

#[test]
fn a_circle_around_three_corners_is_found_and_a_face_is_no_corner() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("lib.rs", "mod a; mod b; mod c; pub use a::A;");
    write("a.rs", "use crate::b::B; pub struct A(B);");
    write("b/mod.rs", "mod inner; pub use inner::B; #[cfg(test)] mod tests { use crate::a::A; }");
    write("b/inner.rs", "pub struct B; fn f() { crate::c::work() }");
    write("c.rs", "pub fn work() {} ");
    let root = folder.path().join("lib.rs");
    assert!(circles(&edges(&root)).is_empty());
    write("c.rs", "use crate::A; pub fn work(_: A) {}");
    let found = circles(&edges(&root));
    let names: Vec<_> = found[0].iter().map(|file| file.strip_prefix(folder.path()).unwrap()).collect();
    assert_eq!(names, ["a.rs", "b/inner.rs", "c.rs"].map(Path::new));
}
