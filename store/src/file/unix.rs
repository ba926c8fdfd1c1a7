//! The owners and modes of POSIX.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path};

use grantflow::{Failure, Shown};
use rustix::fs::OFlags;
use rustix::process::{getegid, geteuid};

use super::failed::failed;

/// Others may not replace what is not theirs in such a directory.
const STICKY: u32 = 0o1000;

pub(super) fn private_directory(builder: &mut DirBuilder) {
    builder.mode(0o700);
}

pub(super) fn private_file(options: &mut OpenOptions) {
    options.mode(0o600);
}

/// Follows no link, and does not wait for a process that might open a pipe at its other end. Whether the system can.
pub(super) fn no_follow(options: &mut OpenOptions) -> bool {
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    true
}

pub(super) fn check_owner(path: &Path, found: &Metadata, mode: &str) -> Result<(), Failure> {
    if found.uid() != geteuid().as_raw() {
        return Err(failed(path, format!("it belongs to another user (uid {}), who could change it", found.uid())));
    }
    if found.mode() & 0o077 != 0 {
        let how = if found.is_dir() && found.mode() & STICKY != 0 {
            "name a directory in it that is yours alone".to_owned()
        } else {
            format!("chmod {mode} {}", Shown::path(path))
        };
        return Err(failed(path, format!("others may use it (mode {:03o}): {how}", found.mode() & 0o7777)));
    }
    Ok(())
}

pub(super) fn check_links(path: &Path, found: &Metadata) -> Result<(), Failure> {
    // None is left if it was replaced just now.
    if found.nlink() > 1 {
        return Err(failed(path, "the file has another name (a hard link), by which others could reach it: delete it"));
    }
    Ok(())
}

/// Whether nobody but us and root can put another directory in the place of this one.
pub(super) fn check_parents(path: &Path) -> Result<(), Failure> {
    // Without a link in it, and nothing that leads back, the path is the real one already.
    let mut leads_elsewhere = path.is_relative() || path.components().any(|part| part == Component::ParentDir);
    let user = geteuid().as_raw();
    for parent in path.ancestors().skip(1) {
        leads_elsewhere |= check_parent(parent, user)?.is_symlink();
    }
    if leads_elsewhere {
        let real = fs::canonicalize(path).map_err(|error| failed(path, error))?;
        for parent in real.ancestors().skip(1) {
            check_parent(parent, user)?;
        }
    }
    Ok(())
}

fn check_parent(parent: &Path, user: u32) -> Result<Metadata, Failure> {
    let found = fs::symlink_metadata(parent).map_err(|error| failed(parent, error))?;
    if ![0, user].contains(&found.uid()) {
        let why = format!("it belongs to another user (uid {}), who could change what is in it", found.uid());
        return Err(failed(parent, why));
    }
    let mode = found.mode();
    // Many systems give each user a group of their own, and open new directories to it.
    let by_group = mode & 0o020 != 0 && ![0, getegid().as_raw()].contains(&found.gid());
    if !found.is_symlink() && mode & STICKY == 0 && (mode & 0o002 != 0 || by_group) {
        let why = format!("others may write to it (mode {:03o}): chmod go-w {}", mode & 0o777, Shown::path(parent));
        return Err(failed(parent, why));
    }
    Ok(found)
}

/// Makes a change of names in the directory durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| {
        File::open(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?.sync_all()
    })
}
