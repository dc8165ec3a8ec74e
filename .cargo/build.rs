//! Compiles `malloc.c` into every program of this package.

fn main() {
    println!("cargo:rerun-if-changed=.cargo/malloc.c");
    // Nobody calls into it, so the linker takes it only when told to.
    cc::Build::new().file(".cargo/malloc.c").link_lib_modifier("+whole-archive").compile("sealift_malloc");
}
