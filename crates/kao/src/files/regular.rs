//! Opening files that somebody named, without trusting that they are files.
//!
//! A path may lead to a named pipe, on which opening waits until somebody writes to it; to a device
//! such as `/dev/zero`, which never ends; or to a file of many gigabytes where a few lines are
//! expected. So every reader of the library opens through here: [`open_regular`] refuses all but
//! regular files, and [`read_regular`] and [`read_to_string_regular`] read no more bytes than the
//! caller allows.

use crate::error::{Error, ErrorKind, Result};
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

/// Opens `path` for reading where it is a regular file, or a link to one.
///
/// # Errors
/// When it is a folder, a pipe, a socket or a device, or when the file system refuses.
pub fn open_regular(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let unreadable = |source| Error::io("read", path, source);
    // Examined before it is opened, since opening a pipe waits for a writer.
    check(path, &std::fs::metadata(path).map_err(unreadable)?)?;
    let file = File::open(path).map_err(unreadable)?;
    // And after, since another file may have taken its place in between.
    check(path, &file.metadata().map_err(unreadable)?)?;
    Ok(file)
}

/// Fills `into` from the bytes of `file` at `offset`, whatever other threads read of it meanwhile.
///
/// # Errors
/// When the file ends before, or cannot be read.
pub fn read_exact_at(file: &File, into: &mut [u8], offset: u64) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, into, offset)
    }
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            match std::os::windows::fs::FileExt::seek_read(file, &mut into[done..], at)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
    #[cfg(not(any(unix, windows)))]
    {
        use std::io::{Seek, SeekFrom};
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(into)
    }
}

/// The content of the regular file `path`, which must be at most `limit_bytes` long.
///
/// # Errors
/// As [`open_regular`], and when the file is longer.
pub fn read_regular(path: impl AsRef<Path>, limit_bytes: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let file = open_regular(path)?;
    let unreadable = |source| Error::io("read", path, source);
    let declared_bytes = file.metadata().map_err(unreadable)?.len();
    let too_long = |problem| Err(Error::malformed(path, problem));
    if declared_bytes > limit_bytes {
        return too_long(format!("{declared_bytes} bytes; expected at most {limit_bytes}"));
    }
    // The size that a file declares is a guess: files under /proc declare none, and others grow.
    let mut bytes = Vec::with_capacity(usize::try_from(declared_bytes).unwrap_or(0));
    file.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit_bytes {
        return too_long(format!("more than {limit_bytes} bytes; expected at most as many"));
    }
    Ok(bytes)
}

/// The text of the regular file `path`, which must be UTF-8 and at most `limit_bytes` long.
///
/// # Errors
/// As [`read_regular`], and when the content is no UTF-8.
pub fn read_to_string_regular(path: impl AsRef<Path>, limit_bytes: u64) -> Result<String> {
    let path = path.as_ref();
    String::from_utf8(read_regular(path, limit_bytes)?).map_err(|error| {
        let n_valid = error.utf8_error().valid_up_to();
        Error::malformed(path, format!("no text: byte {n_valid} is not UTF-8"))
    })
}

/// Checks, before `path` is opened to be written, that a regular file or nothing is there.
///
/// # Errors
/// As [`open_regular`] when something else is there.
pub fn check_regular_or_none(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match std::fs::metadata(path) {
        Ok(metadata) => check(path, &metadata),
        // Whoever opens it tells why it cannot be opened.
        Err(_) => Ok(()),
    }
}

/// Whether `error` is that nothing is at a path.
pub fn is_missing(error: &Error) -> bool {
    let ErrorKind::Io { source, .. } = error.kind() else { return false };
    source.kind() == std::io::ErrorKind::NotFound
}

fn check(path: &Path, metadata: &Metadata) -> Result<()> {
    match kind_unless_regular(metadata) {
        Some(kind) => Err(Error::malformed(path, format!("this is {kind}, not a regular file"))),
        None => Ok(()),
    }
}

/// What a path leads to, where that is not a regular file.
fn kind_unless_regular(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return None;
    }
    if kind.is_dir() {
        return Some("a folder");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
    }
    Some("something else")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn regular_files_are_read_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "顔").unwrap();
        assert_eq!(read_regular(&path, 3).unwrap(), "顔".as_bytes());
        assert_eq!(read_to_string_regular(&path, 4).unwrap(), "顔");
        assert!(refusal(read_regular(&path, 2)).ends_with("3 bytes; expected at most 2"));
        std::fs::write(&path, b"ab\xff").unwrap();
        assert!(refusal(read_to_string_regular(&path, 9)).contains("byte 2 is not UTF-8"));
        assert!(refusal(open_regular(folder.path().join("missing"))).starts_with("cannot read"));
    }

    #[test]
    fn folders_are_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refusal(open_regular(folder.path())).contains("this is a folder"));
    }

    #[cfg(unix)]
    #[test]
    fn sockets_and_devices_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(refusal(open_regular(&path)).contains("this is a socket"));
        assert!(refusal(read_regular("/dev/zero", 9)).contains("this is a device"));
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_without_a_writer_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [pipe, link] {
            assert!(refusal(open_regular(path)).contains("this is a pipe"));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn files_that_declare_no_size_are_read_up_to_the_limit_too() {
        let path = "/proc/self/status";
        assert!(!read_regular(path, 1 << 20).unwrap().is_empty());
        assert!(refusal(read_regular(path, 10)).contains("more than 10 bytes"));
    }
}
