//! The script as the operator runs it: the one that lies in the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::world::Output;

/// What the script calls, and what runs it.
pub const TOOLS: [&str; 5] = ["age", "age-keygen", "zstd", "ssh-keygen", "python3"];

/// The script in `repository`.
pub fn in_repository(repository: &Path) -> PathBuf {
    let entries = fs::read_dir(repository).expect("a repository").map(|entry| entry.expect("an entry").path());
    let is_script = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "py");
    let scripts: Vec<PathBuf> = entries.filter(is_script).collect();
    assert_eq!(scripts.len(), 1, "{scripts:?}");
    scripts[0].clone()
}

/// A run of the script of `repository`: `verb repository …`. Whatever it is given, it never falls over.
pub fn run(verb: &str, repository: &Path, more: &[&str]) -> Output {
    let mut command = Command::new("python3");
    command.arg(in_repository(repository)).arg(verb).arg(repository).args(more);
    run_command(&mut command)
}

#[track_caller]
pub fn run_command(command: &mut Command) -> Output {
    let output = Output::of(command.stdin(Stdio::null()));
    assert!(!output.all().contains("Traceback"), "{output:?}");
    output
}
