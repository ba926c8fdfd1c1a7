//! Systems without modes: on Windows the access list of the user's profile, which files in it inherit, keeps others
//! out.

use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::io;
use std::path::Path;

use grantflow::Failure;

pub(super) fn private_directory(_: &mut DirBuilder) {}

pub(super) fn private_file(_: &mut OpenOptions) {}

pub(super) fn no_follow(_: &mut OpenOptions) -> bool {
    false
}

pub(super) fn check_owner(_: &Path, _: &Metadata, _: &str) -> Result<(), Failure> {
    Ok(())
}

pub(super) fn check_links(_: &Path, _: &Metadata) -> Result<(), Failure> {
    Ok(())
}

pub(super) fn check_parents(_: &Path) -> Result<(), Failure> {
    Ok(())
}

/// There is no such thing as a directory to sync; the file itself was.
pub(super) fn sync_parent(_: &Path) -> io::Result<()> {
    Ok(())
}
