//! Secrets read from files: passwords and tokens. A secret is never printed.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::file::read_regular;

/// The maximum length of a secret's file, in bytes.
pub const SECRET_MAX: usize = 4096;

/// A text that must not appear in a log, an error or the API: its `Debug` prints `***`, and it has
/// no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the code that sends or compares it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a secret could not be read from a file. No variant shows the content of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("secret file {} {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
    /// Everybody may write the file, so anybody may have chosen the secret.
    #[error("secret file {} is writable by everybody (mode {mode:03o}); chmod 600 it", path.display())]
    WorldWritable { path: PathBuf, mode: u32 },
    /// The file is empty, or holds only white space.
    #[error("secret file {} is empty", path.display())]
    Empty { path: PathBuf },
    /// The file holds several lines, or bytes that are not text.
    #[error("secret file {} holds more than one line of text", path.display())]
    NotOneLine { path: PathBuf },
}

/// Reads a secret: one line of text, trimmed, not empty, in a regular file of at most
/// [`SECRET_MAX`] bytes. Warns if group or others may read the file; returns an error if everybody
/// may write it.
pub fn secret_file(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |why: String| SecretError::Unreadable { path: path.to_owned(), why };
    let bytes = read_regular(path, SECRET_MAX).map_err(unreadable)?;
    let mode =
        std::fs::metadata(path).map_err(|err| unreadable(err.to_string()))?.permissions().mode()
            & 0o777;
    if mode & 0o002 != 0 {
        return Err(SecretError::WorldWritable { path: path.to_owned(), mode });
    }
    if mode & 0o044 != 0 {
        warn!(path = %path.display(), mode = format!("{mode:03o}"), "secret file is readable by others");
    }
    let not_one_line = || SecretError::NotOneLine { path: path.to_owned() };
    let text = String::from_utf8(bytes).map_err(|_| not_one_line())?;
    let text = text.trim();
    if text.is_empty() {
        return Err(SecretError::Empty { path: path.to_owned() });
    }
    if text.chars().any(char::is_control) {
        return Err(not_one_line());
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_secret_is_trimmed_and_shows_itself_nowhere() {
        let (_folder, path) = file(b"hunter2 is long\r\n", 0o600);
        let secret = secret_file(&path).unwrap();
        assert_eq!(secret.reveal(), "hunter2 is long");
        assert_eq!(format!("{secret:?}"), "***");
    }

    #[test]
    fn files_that_hold_no_secret_are_refused() {
        let (_folder, path) = file(b" \n", 0o600);
        assert_eq!(secret_file(&path), Err(SecretError::Empty { path }));
        let (_folder, path) = file(b"a\nb", 0o600);
        assert_eq!(secret_file(&path), Err(SecretError::NotOneLine { path }));
        let (_folder, path) = file(b"a\xff", 0o600);
        assert_eq!(secret_file(&path), Err(SecretError::NotOneLine { path }));
        let (_folder, path) = file(b"fine", 0o606);
        assert_eq!(secret_file(&path), Err(SecretError::WorldWritable { path, mode: 0o606 }));
        let (_folder, path) = file(&[b'x'; SECRET_MAX + 1], 0o600);
        assert!(
            secret_file(&path)
                .unwrap_err()
                .to_string()
                .ends_with("is longer than the 4096 bytes allowed")
        );
        let missing = path.with_file_name("missing");
        assert!(secret_file(&missing).unwrap_err().to_string().ends_with("missing does not exist"));
    }

    #[test]
    fn a_secret_that_others_may_read_is_taken_with_a_warning() {
        let (_folder, path) = file(b"fine", 0o644);
        assert_eq!(secret_file(&path).unwrap().reveal(), "fine");
    }
}
