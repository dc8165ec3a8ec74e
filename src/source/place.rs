//! Where a source lies: looked at by `stat` alone, because opening a database without SQLite would drop its locks.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, StatxAttributes, StatxFlags};

use super::SourceError;

/// The real path of a regular file. A symbolic link is followed once, here, so that journals are looked for next to the
/// file that it leads to, which is where the application's SQLite keeps them.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, SourceError> {
    let real = fs::canonicalize(path).map_err(|error| SourceError::io(path, error))?;
    regular(&real)?;
    Ok(real)
}

/// What `stat` says of a regular file; anything else is an error.
pub(super) fn regular(path: &Path) -> Result<Metadata, SourceError> {
    let metadata = fs::metadata(path).map_err(|error| SourceError::io(path, error))?;
    if metadata.is_file() { Ok(metadata) } else { Err(SourceError::NotRegular { path: path.to_owned() }) }
}

/// Whether this thread's user may read the file.
pub(super) fn readable(path: &Path) -> Result<(), SourceError> {
    rustix::fs::access(path, Access::READ_OK).map_err(|error| SourceError::io(path, error.into()))
}

/// Refuses a file that is itself mounted, as by `docker run -v /host/app.db:/app.db`: its journal stays outside.
///
/// The kernel is asked (`statx`, Linux 5.8), and the mount table. Device numbers are not compared with the folder's: on
/// overlay file systems they differ for ordinary files too.
pub(super) fn not_mounted(real: &Path) -> Result<(), SourceError> {
    let mounted = match rustix::fs::statx(CWD, real, AtFlags::empty(), StatxFlags::BASIC_STATS) {
        Ok(statx) => (statx.stx_attributes & statx.stx_attributes_mask).contains(StatxAttributes::MOUNT_ROOT),
        Err(_) => false,
    };
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    if mounted || mount_points(&table).any(|point| point == real) {
        return Err(SourceError::MountPoint { path: real.to_owned() });
    }
    Ok(())
}

/// The fifth column of each line of `mountinfo` (proc_pid_mountinfo(5)).
fn mount_points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(4)).map(unescape)
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(column: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(column.len());
    let mut rest = column;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// `app.db` and `-wal` give `app.db-wal`.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().as_bytes().to_vec();
    name.extend_from_slice(suffix.as_bytes());
    PathBuf::from(OsStr::from_bytes(&name))
}

/// Whether anything has this name, even a dangling link.
pub(super) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_table_names_are_unescaped() {
        let table =
            b"36 35 98:0 /a /mnt/my\\040data\\134x.db rw - ext4 /dev/root rw\n37 35 0:5 / /proc rw - proc proc rw\n";
        let points: Vec<_> = mount_points(table).collect();
        assert_eq!(points, [Path::new("/mnt/my data\\x.db"), Path::new("/proc")]);
    }
}
