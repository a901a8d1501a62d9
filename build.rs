//! Has the program built again when the dashboard it embeds was: `src/serve/assets.rs`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=web/dist");
}
