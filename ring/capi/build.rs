//! Names the shared library: its soname carries the number of the interface (`CAMRING_ABI`).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcamring.so.0");
}
