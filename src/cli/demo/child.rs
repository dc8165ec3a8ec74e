//! sealift itself, run as a person would run it, but for JSON: one child at a time, which can be ended from outside.

use std::ffi::OsStr;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::failure::{FAILED, Failure};

/// Ends what runs.
#[derive(Clone, Default)]
pub struct Running(Arc<Inner>);

#[derive(Default)]
struct Inner {
    stop: AtomicBool,
    child: Mutex<Option<Child>>,
}

impl Running {
    /// No child runs after this, and none starts.
    pub fn end(&self) {
        self.0.stop.store(true, Ordering::SeqCst);
        if let Some(child) = self.0.child.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = child.kill();
        }
    }

    pub fn stop_flag(&self) -> &AtomicBool {
        &self.0.stop
    }

    pub fn check(&self) -> Result<(), Failure> {
        if self.0.stop.load(Ordering::SeqCst) { Err(interrupted()) } else { Ok(()) }
    }

    fn spawn(&self, command: &mut Command) -> std::io::Result<Option<Pipes>> {
        let mut slot = self.0.child.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.stop.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let mut child = command.spawn()?;
        let pipes = (child.stdout.take(), child.stderr.take());
        *slot = Some(child);
        Ok(Some(pipes))
    }
}

type Pipes = (Option<std::process::ChildStdout>, Option<std::process::ChildStderr>);

/// Nothing continues from here: another run starts again.
pub fn interrupted() -> Failure {
    Failure { hint: None, ..Failure::interrupted() }
}

/// A machine where sealift runs: a directory to stand in, and a state of its own.
pub struct Host {
    pub name: &'static str,
    pub dir: PathBuf,
    pub state: PathBuf,
    pub running: Running,
}

/// How a command ended.
pub struct Done {
    pub code: i32,
    /// Its one JSON document.
    pub document: Value,
    pub took: Duration,
    errors: String,
}

impl Host {
    /// With none of the settings that this process was started with.
    pub fn sealift(&self, arguments: &[String]) -> Result<Done, Failure> {
        let failed = |error: std::io::Error| Failure::new(FAILED, format!("cannot run sealift: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .args(["--json", "--no-progress"])
            .env("SEALIFT_STATE_DIR", &self.state)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let (stdout, stderr) = self.running.spawn(&mut command).map_err(failed)?.ok_or_else(interrupted)?;
        // One after the other is enough: without progress, standard error says a line or two.
        let output = read(stdout).map_err(failed)?;
        let errors = read(stderr).map_err(failed)?;
        let child = self.running.0.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        let status = match child {
            Some(mut child) => child.wait().map_err(failed)?,
            None => return Err(interrupted()),
        };
        self.running.check()?;
        let document = serde_json::from_str(output.trim()).unwrap_or(Value::Null);
        Ok(Done { code: status.code().unwrap_or(-1), document, took: started.elapsed(), errors })
    }
}

fn is_setting(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("SEALIFT_") || name.starts_with("AWS_")
}

fn read(pipe: Option<impl Read>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Done {
    /// A whole number in the document; `/` leads into it.
    pub fn number(&self, pointer: &str) -> Result<u64, Failure> {
        let number = self.document.pointer(pointer).and_then(Value::as_u64);
        number.ok_or_else(|| Failure::new(FAILED, format!("sealift's JSON has no number at {pointer}")))
    }

    pub fn text(&self, pointer: &str) -> &str {
        self.document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// What it said went wrong.
    pub fn error(&self) -> &str {
        match self.text("/error/message") {
            "" => self.errors.trim(),
            message => message,
        }
    }
}
