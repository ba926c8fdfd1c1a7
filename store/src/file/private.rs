//! Files that are their user's alone.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, ErrorKind::NotFound, Read as _, Write as _};
use std::path::{Path, PathBuf};

use grantflow::{Failure, Shown};
use zeroize::Zeroizing;

use super::failed::failed;

#[cfg(not(unix))]
use super::other as system;
#[cfg(unix)]
use super::unix as system;

/// Reads a file that holds secrets, such as one that [`write_private`] wrote; `None` if there is none.
///
/// # Errors
///
/// If the file has more than `max` bytes, is a link or no file, is another user's, or can be read or written by others.
pub fn read_private(path: impl AsRef<Path>, max: usize) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    read(path.as_ref(), max)
}

/// Writes a file that holds secrets, such as the text of `AuthorizedUser::to_json`, for this user alone (mode 0600). A
/// file that was there is replaced as a whole; the folder must be there.
///
/// # Errors
///
/// If the file cannot be written, or a link or no file is there. What is there stays as it was.
pub fn write_private(path: impl AsRef<Path>, content: &[u8]) -> Result<(), Failure> {
    let path = path.as_ref();
    if Shown::path(path).is_hidden() {
        return Err(failed(path, "the path of a file belongs here"));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(failed(path, "this is no regular file; it was not replaced")),
        _ => replace(path, &beside(path), content),
    }
}

/// Makes the directory, and checks it.
pub(super) fn make_directory(path: &Path) -> Result<(), Failure> {
    let mut builder = DirBuilder::new();
    system::private_directory(&mut builder);
    builder
        .recursive(true)
        .create(path)
        .map_err(|error| failed(path, format!("the directory cannot be made: {error}")))?;
    // What was made must be there after a loss of power too; not all of the parents can be opened.
    for made in path.ancestors() {
        let _ = system::sync_parent(made);
    }
    check_directory(path).map(drop)
}

/// Whether the directory is there; an error if others could change what is in it.
pub(super) fn check_directory(path: &Path) -> Result<bool, Failure> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == NotFound => return Ok(false),
        Err(error) => return Err(failed(path, error)),
    };
    if !found.is_dir() {
        return Err(failed(path, "this is no directory, or a link to one: name the directory itself"));
    }
    system::check_owner(path, &found, "700")?;
    system::check_parents(path)?;
    Ok(true)
}

/// Opens a file without following a link or waiting for a pipe, and checks that it is ours alone.
fn open(path: &Path, options: &mut OpenOptions) -> Result<Option<(File, Metadata)>, Failure> {
    let special = || fs::symlink_metadata(path).is_ok_and(|found| !found.is_file());
    let wrong = || failed(path, "this is no regular file: delete it if it was not put there on purpose");
    // Where the system cannot refuse links itself.
    if !system::no_follow(options) && special() {
        return Err(wrong());
    }
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == NotFound => return Ok(None),
        Err(_) if special() => return Err(wrong()),
        Err(error) => return Err(failed(path, error)),
    };
    let found = file.metadata().map_err(|error| failed(path, error))?;
    if !found.is_file() {
        return Err(wrong());
    }
    system::check_owner(path, &found, "600")?;
    system::check_links(path, &found)?;
    Ok(Some((file, found)))
}

pub(super) fn read(path: &Path, max: usize) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let Some((file, found)) = open(path, OpenOptions::new().read(true))? else { return Ok(None) };
    let too_large = || failed(path, format!("the file is larger than {max} bytes"));
    let size = usize::try_from(found.len()).ok().filter(|&size| size <= max).ok_or_else(too_large)?;
    // Room for all of it from the start: growth would leave copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut content).map_err(|error| failed(path, error))?;
    if content.len() > max { Err(too_large()) } else { Ok(Some(content)) }
}

pub(super) fn open_lock(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    system::private_file(options.read(true).write(true).create(true).truncate(false));
    open(path, &mut options)?.map(|(file, _)| file).ok_or_else(|| failed(path, "the directory is gone"))
}

/// Replaces a file as a whole, by way of the file `new` beside it, which only one may use at a time. Once this
/// returns, the new content survives the loss of power.
pub(super) fn replace(path: &Path, new: &Path, content: &[u8]) -> Result<(), Failure> {
    // A process may have ended while writing it.
    let written = gone(fs::remove_file(new))
        .and_then(|()| write_new(new, content))
        .and_then(|()| fs::rename(new, path))
        .and_then(|()| system::sync_parent(path));
    written.map_err(|error| {
        let _ = fs::remove_file(new);
        failed(path, format!("it cannot be written: {error}"))
    })
}

/// A name beside `path` that nobody else uses.
pub(super) fn beside(path: &Path) -> PathBuf {
    path.with_extension(format!("{:016x}.new", RandomState::new().hash_one(std::process::id())))
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // It must not exist: what is written is private from the first byte.
    system::private_file(options.write(true).create_new(true));
    system::no_follow(&mut options);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    gone(fs::remove_file(path))
        .and_then(|()| system::sync_parent(path))
        .map_err(|error| failed(path, format!("it cannot be deleted: {error}")))
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_put_in_its_place_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (taken, new) = (folder.path().join("taken"), folder.path().join("new"));
        fs::create_dir(&taken).unwrap();
        let text = replace(&taken, &new, b"a secret").unwrap_err().to_string();
        assert!(text.contains("cannot be written") && !text.contains("secret"), "{text}");
        assert!(!new.exists());
    }
}
