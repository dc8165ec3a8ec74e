//! The rules of the house: what may stand where, what may use what, and what may be brought in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

mod licences;
mod rust;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use rust::Token;

/// From the roof to the ground. A room uses only rooms on floors below its own.
const FLOORS: [&[&str]; 19] = [
    &["main"],
    &["cli"],
    &["agent"],
    &["messages"],
    &["config"],
    &["admin"],
    &["verify"],
    &["backup", "restore", "retention", "keys"],
    &["history"],
    &["repository"],
    &["error"],
    &["policy"],
    &["format"],
    &["host"],
    &["source"],
    &["store"],
    &["crypto"],
    &["finding", "events", "guide"],
    &["fsx", "clock", "allocator", "buffers"],
];

/// The one file that may say `unsafe`.
const UNSAFE: &str = "src/allocator.rs";

const TOP_LEVEL: [&str; 6] = ["Cargo.toml", "Cargo.lock", "src", "tests", "docker", "README.md"];

/// Permissive licences; what else a package offers beside them does not matter.
const LICENCES: [&str; 7] = ["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unicode-3.0", "Zlib"];

/// Packages that would bring a second way to do what one already does, and what to use.
const BANNED: [(&str, &str); 2] = [("openssl-sys", "rustls"), ("native-tls", "rustls")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Rust file under `src`, and the module that it holds.
struct Module {
    /// From the root, as messages name it.
    file: String,
    words: Vec<String>,
    text: String,
}

impl Module {
    fn read(path: &Path) -> Self {
        let file = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let inner = file.strip_prefix("src/").unwrap().trim_end_matches(".rs").trim_end_matches("/mod");
        let words = match inner {
            "lib" => Vec::new(),
            inner => inner.split('/').map(str::to_owned).collect(),
        };
        Self { words, text: fs::read_to_string(path).unwrap(), file }
    }

    /// The room that it belongs to; `None` for `lib.rs`, which only lists them.
    fn room(&self) -> Option<&str> {
        self.words.first().map(String::as_str)
    }

    fn code(&self) -> Vec<Token> {
        rust::tokens(&self.text)
    }
}

fn modules() -> Vec<Module> {
    let mut found: Vec<Module> = rust_files(&root().join("src")).iter().map(|path| Module::read(path)).collect();
    found.sort_by(|a, b| a.file.cmp(&b.file));
    assert!(found.len() > 20, "only {} modules: is this the right place?", found.len());
    found
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

#[track_caller]
fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn each_room_uses_only_rooms_below_it() {
    let mut broken = Vec::new();
    for module in modules() {
        let Some(room) = module.room().filter(|_| !module.words.iter().any(|word| word == "tests")) else { continue };
        let Some(own) = floor(room) else {
            broken.push(format!("{}: no floor is known for the room `{room}`", module.file));
            continue;
        };
        for path in rust::paths(&module.code(), &module.words) {
            let Some(used) = path.words.first().filter(|used| *used != room) else { continue };
            let place = format!("{}:{}", module.file, path.line);
            match floor(used) {
                Some(other) if other > own => {}
                Some(_) => broken.push(format!("{place}: `{room}` uses `{used}` ({})", path.words.join("::"))),
                None => broken.push(format!("{place}: `{used}` is not a room")),
            }
        }
    }
    assert_none(&broken, "a room uses only rooms on floors below its own");
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let strange: BTreeSet<String> =
        top_level().into_iter().filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str())).collect();
    assert_none(&Vec::from_iter(strange), "these do not belong on the top level");
}

/// What Git knows of the top level, or, outside of a checkout, what lies there, but for what Cargo builds.
fn top_level() -> Vec<String> {
    let git = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let listed = git.ok().filter(|output| output.status.success()).map(|output| String::from_utf8(output.stdout));
    match listed {
        Some(Ok(files)) if !files.is_empty() => {
            files.split_terminator('\0').map(|file| file.split('/').next().unwrap().to_owned()).collect()
        }
        _ => fs::read_dir(root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "target")
            .collect(),
    }
}

#[test]
fn nothing_but_tests_panics_and_unsafe_has_one_place() {
    let modules = modules();
    let mut broken = Vec::new();
    for module in &modules {
        let code = module.code();
        let unsafes = code.iter().filter(|token| token.text == "unsafe" && module.file != UNSAFE);
        broken.extend(unsafes.map(|token| format!("{}:{}: unsafe", module.file, token.line)));
        if is_test(module, &modules) {
            continue;
        }
        let (kept, _) = rust::without_tests(&code);
        broken.extend(panics(&kept).map(|token| format!("{}:{}: {}", module.file, token.line, token.text)));
    }
    assert_none(&broken, "errors are returned, not thrown");
}

/// `.unwrap()`, `.expect(…)` and the macros that end a thread.
fn panics(code: &[Token]) -> impl Iterator<Item = &Token> {
    code.windows(3).filter_map(|three| {
        let [before, word, after] = three else { return None };
        let thrown = match word.text.as_str() {
            "unwrap" | "expect" | "unwrap_err" | "expect_err" => before.text == ".",
            "panic" | "todo" | "unimplemented" => after.text == "!",
            _ => false,
        };
        thrown.then_some(word)
    })
}

/// Whether the module stands in a file that another declares under `#[cfg(test)]`, or that such a one declares.
fn is_test(module: &Module, modules: &[Module]) -> bool {
    let Some((name, parent)) = module.words.split_last() else { return false };
    let mut parents = modules.iter().filter(|other| other.words == parent);
    parents.any(|parent| rust::without_tests(&parent.code()).1.contains(name) || is_test(parent, modules))
}

#[test]
fn each_module_says_what_it_is_for() {
    let silent = |module: &Module| {
        let included = module.text.strip_prefix("#![doc = include_str!(\"").and_then(|rest| rest.split('"').next());
        match included {
            Some(page) => !root().join(&module.file).with_file_name(page).is_file(),
            None => !module.text.starts_with("//! "),
        }
    };
    let broken: Vec<String> = modules().into_iter().filter(silent).map(|module| module.file).collect();
    assert_none(&broken, "these do not begin with what they are for (`//! …`)");
}

/// What is compiled for this machine, tests included, as `cargo metadata` tells it without a network.
fn packages() -> Vec<serde_json::Value> {
    let rustc = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into())).arg("-vV").output().expect("rustc");
    let version = String::from_utf8(rustc.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host])
        .current_dir(root())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 100, "only {} packages: were they left out?", packages.len());
    packages
}

#[test]
fn each_package_comes_under_a_permissive_licence() {
    let mut broken = Vec::new();
    for package in packages() {
        let name = format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        match package["license"].as_str().map(|expression| (expression, licences::is_met(expression, &LICENCES))) {
            Some((_, Ok(true))) => {}
            Some((expression, Ok(false))) => broken.push(format!("{name}: {expression}")),
            Some((expression, Err(error))) => broken.push(format!("{name}: {expression}: {error}")),
            None => broken.push(format!("{name}: none")),
        }
    }
    assert_none(&broken, "licences that are not on the list");
}

#[test]
fn each_package_comes_from_the_one_registry_and_none_is_banned() {
    let mut broken = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        match package["source"].as_str() {
            None if name == env!("CARGO_PKG_NAME") => {}
            Some(source) if source.starts_with("registry+") => {}
            source => broken.push(format!("{name}: comes from {}", source.unwrap_or("a path"))),
        }
        let banned = BANNED.iter().find(|(banned, _)| *banned == name);
        broken.extend(banned.map(|(_, instead)| format!("{name}: use {instead}")));
    }
    assert_none(&broken, "these packages do not belong here");
}

#[test]
fn each_dependency_has_a_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (mut section, mut before, mut seen, mut broken) = ("", "", 0, Vec::new());
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") && line.contains(" = ") && !line.starts_with('#') {
            seen += 1;
            if !line.contains(" # ") && !before.starts_with("# ") {
                broken.push(line.to_owned());
            }
        }
        before = line;
    }
    assert!(seen > 20, "only {seen} dependencies: does this read the manifest?");
    assert_none(&broken, "dependencies without a comment that says what they are for");
}

#[test]
fn what_is_pinned_twice_is_pinned_alike() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let after = |path: &str, mark: &str| {
        let text = read(path);
        let found = text.lines().find_map(|line| line.trim_start().strip_prefix(mark));
        found.unwrap_or_else(|| panic!("{path}: no line begins with `{mark}`")).to_owned()
    };
    assert_eq!(
        after("docker/minio.Dockerfile", "ARG MINIO_VERSION="),
        after("tests/run", "MINIO_VERSION="),
        "the MinIO of the tests and the one to try sealift out with"
    );
    let rust = after("docker/Dockerfile", "FROM rust:");
    let oldest = after("Cargo.toml", "rust-version = ");
    assert!(rust.starts_with(&format!("{}-", oldest.trim_matches('"'))), "Dockerfile: {rust}; Cargo.toml: {oldest}");
}
