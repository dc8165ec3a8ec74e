//! A person's own command, run on restored files.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::task::spawn_blocking;

use super::OperationError;

/// Runs `command` by `sh -c` in `dir`. What it writes goes to standard error, because standard output is the report's;
/// it learns nothing of the identity. What it left running when it ended, or when the drill is interrupted, is ended:
/// it may hold restored data. What made itself a session of its own is beyond reach.
pub(super) async fn run(command: &str, dir: &Path) -> Result<ExitStatus, OperationError> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(dir).process_group(0);
    shell.env_remove("SEALIFT_IDENTITY").env_remove("SEALIFT_IDENTITY_FILE");
    shell.stdin(Stdio::null()).stdout(std::io::stderr());
    let mut child = shell.spawn().map_err(OperationError::io("sh"))?;
    let pid = Pid::from_child(&child);
    let group = Group(pid);
    let ended = spawn_blocking(move || until_it_ends(pid)).await.map_err(|_| OperationError::Stopped)?;
    // Before the shell is waited for: until then its number, the group's, cannot be another process's.
    drop(group);
    ended.and_then(|()| child.wait()).map_err(OperationError::io("sh"))
}

/// Leaves the process to be waited for.
fn until_it_ends(pid: Pid) -> io::Result<()> {
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(Errno::INTR) => {}
            ended => return Ok(ended.map(drop)?),
        }
    }
}

/// The processes of the command, ended when this is dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}
