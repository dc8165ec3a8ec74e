//! Reading with the rights of the file's owner, so that nothing of another owner can appear next to it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{SourceError, place};

/// Runs `f` with the user and group of the file at `path`, on a thread of its own, if this is root and the owner is
/// not; otherwise right here.
///
/// Linux keeps credentials for each thread, so the rest of the process stays root. The thread has no other groups and
/// no capabilities, and cannot get root back; threads that `f` starts are like it. The kernel makes the process
/// undumpable by it, which suits a process that holds secrets.
pub fn as_owner_of<T: Send>(path: &Path, f: impl FnOnce() -> T + Send) -> Result<T, SourceError> {
    let metadata = place::regular(path)?;
    let (uid, gid) = (metadata.uid(), metadata.gid());
    if !rustix::process::geteuid().is_root() || uid == 0 {
        return Ok(f());
    }
    let run = move || {
        become_user(uid, gid).map_err(|source| SourceError::CannotActAsOwner {
            path: path.to_owned(),
            uid,
            source: source.into(),
        })?;
        place::readable(path).map_err(|_| SourceError::OwnerCannotRead { path: path.to_owned(), uid })?;
        Ok(f())
    };
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Groups first: without the user root there is no right to change them.
fn become_user(uid: u32, gid: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}
