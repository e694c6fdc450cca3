//! Leaves the symbols out of the released program. `strip` of the workspace's release profile says so already, but Cargo forgets it for a
//! package that has a profile of its own (as this one has, for its size).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rustc-link-arg-bins=-s");
    }
}
