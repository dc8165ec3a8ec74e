//! The directory that the demo works in.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::super::failure::{FAILED, Failure};

/// Goes when this goes, if it is our own and is not to be kept.
pub struct Scratch {
    path: PathBuf,
    temporary: bool,
}

impl Scratch {
    /// The one that was asked for, which must be new or empty; otherwise one in the temporary directory.
    pub fn new(asked: Option<&Path>) -> Result<Self, Failure> {
        match asked {
            Some(path) => Self::at(path),
            None => Self::temporary(),
        }
    }

    fn at(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new(FAILED, format!("{}: {error}", path.display()));
        let refused = |what: &str| {
            Failure::refused(format!("{} {what}", path.display()), "name a directory that is new or empty with --dir")
        };
        match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(refused("is not empty"));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(refused("is no directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                crate::fsx::create_private_dir(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(Self { path: fs::canonicalize(path).map_err(failed)?, temporary: false })
    }

    fn temporary() -> Result<Self, Failure> {
        let parent = std::env::temp_dir();
        let failed = |error: io::Error| {
            let message = format!("cannot create a scratch directory in {}: {error}", parent.display());
            Failure { hint: Some("name one with --dir".to_owned()), ..Failure::new(FAILED, message) }
        };
        let mut number = std::process::id();
        loop {
            let path = parent.join(format!("sealift-demo-{number}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path: fs::canonicalize(&path).map_err(failed)?, temporary: true }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number = number.wrapping_add(1),
                Err(error) => return Err(failed(error)),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Something was wrong with what lies in it: leave it for a look. Says where.
    pub fn keep(&mut self) -> &Path {
        self.temporary = false;
        &self.path
    }

    pub fn is_kept(&self) -> bool {
        !self.temporary
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
