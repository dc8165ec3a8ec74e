//! A person's own command, run on restored files.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::task::spawn_blocking;

use super::OperationError;

/// Runs `command` by `sh -c` in `dir`. What it writes goes to standard error, because standard output is the report's;
/// it learns nothing of the identity. All that it started is ended when the drill is interrupted.
pub(super) async fn run(command: &str, dir: &Path) -> Result<ExitStatus, OperationError> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(dir).process_group(0);
    shell.env_remove("SEALIFT_IDENTITY").env_remove("SEALIFT_IDENTITY_FILE");
    shell.stdin(Stdio::null()).stdout(std::io::stderr());
    let mut child = shell.spawn().map_err(OperationError::io("sh"))?;
    let group = Group(Some(Pid::from_child(&child)));
    let ended = spawn_blocking(move || child.wait()).await.map_err(|_| OperationError::Stopped)?;
    group.let_go();
    ended.map_err(OperationError::io("sh"))
}

/// The processes of the command, ended when this is dropped before they are over.
struct Group(Option<Pid>);

impl Group {
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}
