//! The effect `ReadFile`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use grantflow::machine::FailureKind;
use grantflow::{Failure, Reply};
use zeroize::Zeroizing;

/// The most room to make for a file before it is read.
const ROOM: usize = 1 << 20;

/// Reads a file of at most `max` bytes, on a thread for blocking work.
pub(crate) async fn read(path: PathBuf, max: usize) -> Reply {
    match tokio::task::spawn_blocking(move || read_now(&path, max)).await {
        Ok(reply) => reply,
        Err(error) => Reply::Failed(Failure::not_sent(FailureKind::File, error)),
    }
}

fn read_now(path: &Path, max: usize) -> Reply {
    match try_read(path, max) {
        Ok(content) if content.len() > max => {
            Reply::Failed(Failure::not_sent(FailureKind::TooLarge, format!("more than {max} bytes")))
        }
        Ok(mut content) => Reply::File(std::mem::take(&mut *content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Reply::Missing,
        Err(error) => Reply::Failed(Failure::not_sent(FailureKind::File, error)),
    }
}

/// Reads one byte more than `max`, if there is one.
fn try_read(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    // Room for all of it from the start: growth would leave copies behind.
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(max).min(max);
    let mut content = Zeroizing::new(Vec::with_capacity(size.saturating_add(1).min(ROOM)));
    file.take((max as u64).saturating_add(1)).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_missing_too_large_or_unreadable() {
        let path = std::env::temp_dir().join(format!("grantflow-reqwest-{}", std::process::id()));
        std::fs::write(&path, "12345").unwrap();
        assert!(matches!(read_now(&path, 5), Reply::File(content) if content == b"12345"));
        let failed = |reply, kind| matches!(reply, Reply::Failed(failure) if failure.kind() == kind);
        assert!(failed(read_now(&path, 4), FailureKind::TooLarge));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read_now(&path, 5), Reply::Missing));
        assert!(failed(read_now(&std::env::temp_dir(), 5), FailureKind::File));
    }
}
