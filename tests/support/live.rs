//! A host of its own: scratch folders, a clean environment, and the real binary.
#![allow(dead_code)] // Each test file uses a part of it.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Who owns the sources when root runs the tests.
pub const APPLICATION: u32 = 1000;

/// Where the repository is, and how to get there.
pub struct Place {
    pub url: String,
    pub environment: Vec<(&'static str, String)>,
}

impl Place {
    pub fn directory(path: &Path) -> Self {
        Self { url: path.display().to_string(), environment: Vec::new() }
    }
}

pub struct Host {
    scratch: TempDir,
    place: Place,
}

impl Host {
    /// With the repository in a directory of its own.
    pub fn local() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let place = Place::directory(&scratch.path().join("repository"));
        Self::of(scratch, place)
    }

    pub fn with_place(place: Place) -> Self {
        Self::of(tempfile::tempdir().expect("a scratch folder"), place)
    }

    fn of(scratch: TempDir, place: Place) -> Self {
        // Other users must get through to the sources.
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let host = Self { scratch, place };
        for folder in ["source", "home"] {
            fs::create_dir(host.path(folder)).expect("a folder");
        }
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn source(&self, name: &str) -> PathBuf {
        self.path("source").join(name)
    }

    pub fn repository(&self) -> PathBuf {
        PathBuf::from(&self.place.url)
    }

    pub fn identity(&self) -> PathBuf {
        self.path("identity.key")
    }

    /// The binary with nothing from this process's environment but a way to programs.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
        command.args(arguments).arg("--repository").arg(&self.place.url);
        command.arg("--config").arg(self.path("sealift.toml")).arg("--state-dir").arg(self.path("state"));
        command.current_dir(self.scratch.path()).env_clear().env("HOME", self.path("home"));
        command.env("PATH", env::var_os("PATH").unwrap_or_default());
        command.envs(self.place.environment.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("sealift starts")
    }

    /// The JSON document of a run that must succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        document(arguments, &output)
    }

    /// `init` with an identity of its own, for these sources.
    pub fn init(&self, databases: &[&str], files: &[&str]) -> Value {
        let identity = self.identity().display().to_string();
        self.init_with(databases, files, &["--new-identity", &identity, "--no-passphrase"])
    }

    pub fn init_with(&self, databases: &[&str], files: &[&str], more: &[&str]) -> Value {
        let paths = |flag: &str, names: &[&str]| -> Vec<String> {
            names.iter().flat_map(|name| [flag.to_owned(), self.source(name).display().to_string()]).collect()
        };
        let sources = [paths("--database", databases), paths("--file", files)].concat();
        let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
        self.json(&[&["init"], sources.as_slice(), more].concat())
    }

    pub fn backup(&self) -> Value {
        self.json(&["backup"])
    }

    /// Restores into a new folder and returns it.
    pub fn restore(&self, snapshot: &str, folder: &str) -> PathBuf {
        let (target, identity) = (self.path(folder), self.identity());
        let (to, key) = (target.display().to_string(), identity.display().to_string());
        self.json(&["restore", snapshot, "--to", &to, "-i", &key]);
        target
    }

    /// Gives all sources to the application's user, if this is root.
    pub fn give_sources_away(&self) {
        if !is_root() {
            return;
        }
        for entry in fs::read_dir(self.path("source")).expect("the sources") {
            chown(entry.expect("a source").path(), Some(APPLICATION), Some(APPLICATION)).expect("a new owner");
        }
        chown(self.path("source"), Some(APPLICATION), Some(APPLICATION)).expect("a new owner");
        fs::set_permissions(self.path("source"), fs::Permissions::from_mode(0o700)).expect("a mode");
    }
}

pub fn document(arguments: &[&str], output: &Output) -> Value {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?} ended with {}: {out}{err}", output.status);
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Who the application runs as.
pub fn application_user() -> u32 {
    if is_root() { APPLICATION } else { rustix::process::geteuid().as_raw() }
}

/// Name, owner, group and mode.
pub type Entry = (String, u32, u32, u32);

/// A folder, as `.`, and all that is in it.
pub fn listing(folder: &Path) -> Vec<Entry> {
    let line = |name: String, path: &Path| {
        let meta = fs::symlink_metadata(path).expect("its metadata");
        (name, meta.uid(), meta.gid(), meta.mode())
    };
    let mut entries = vec![line(".".to_owned(), folder)];
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        entries.push(line(entry.file_name().into_string().expect("a name"), &entry.path()));
    }
    entries.sort();
    entries
}

/// Whether all programs are there. If not, says so in one line; with `SEALIFT_TEST_REQUIRE` set, nothing may be left out.
pub fn have(programs: &[&str]) -> bool {
    let there = |name: &&&str| {
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(**name).is_file())
    };
    let missing: Vec<_> = programs.iter().filter(|name| !there(name)).collect();
    assert!(missing.is_empty() || env::var_os("SEALIFT_TEST_REQUIRE").is_none(), "required, but missing: {missing:?}");
    if !missing.is_empty() {
        println!("left out: {missing:?} not in PATH");
    }
    missing.is_empty()
}
