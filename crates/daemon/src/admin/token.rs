//! The bearer token that mutating routes require.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

use crate::settings::{Secret, SecretError, secret_file};

/// The minimum length of a token, in characters.
pub const TOKEN_MIN: usize = 32;

/// A token: at least [`TOKEN_MIN`] printable characters without spaces. Its `Debug` prints `***`.
#[derive(Clone)]
pub struct Token(Secret);

/// Why a text cannot be a token. No variant shows the text.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The text is short enough to be guessed.
    #[error("the token has {got} characters; it needs {TOKEN_MIN} or more")]
    TooShort { got: usize },
    /// The text has too few different characters.
    #[error("the token repeats the same few characters; make one with: openssl rand -hex 32")]
    TooPlain,
    /// The text has characters that are not allowed in a header.
    #[error("the token holds spaces or characters outside printable ASCII")]
    BadCharacter,
    /// The token's file cannot be read.
    #[error(transparent)]
    File(#[from] SecretError),
    /// The token's file cannot be created.
    #[error("token file {}: {source}", path.display())]
    Create { path: PathBuf, source: std::io::Error },
}

impl Token {
    /// Makes a token. Returns an error if it is easy to guess or cannot be sent in a header.
    pub fn new(secret: Secret) -> Result<Self, TokenError> {
        let text = secret.reveal();
        if text.len() < TOKEN_MIN {
            return Err(TokenError::TooShort { got: text.chars().count() });
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TokenError::BadCharacter);
        }
        let mut seen = [false; 128];
        text.bytes().for_each(|b| seen[usize::from(b & 0x7f)] = true);
        if seen.iter().filter(|seen| **seen).count() < DISTINCT_MIN {
            return Err(TokenError::TooPlain);
        }
        Ok(Self(secret))
    }

    /// Reads the token in a file.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        Self::new(secret_file(path)?)
    }

    /// Reads the token from a file. If there is no file, creates one with a random token, which
    /// only the owner may read. The folder must exist.
    pub fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        if !path.exists() {
            match create(path) {
                // Another process created the file first: use its token.
                Err(err) if err.kind() == ErrorKind::AlreadyExists => {}
                Err(source) => return Err(TokenError::Create { path: path.to_owned(), source }),
                Ok(()) => tracing::info!(path = %path.display(), "made an API token"),
            }
        }
        Self::load(path)
    }

    /// Compares in constant time, so that timing does not show how much of `given` was right.
    #[must_use]
    pub fn matches(&self, given: &str) -> bool {
        self.0.reveal().as_bytes().ct_eq(given.as_bytes()).into()
    }

    /// The text of the token, for a caller that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The minimum number of different characters. A random hex token of 32 digits practically always
/// has more.
const DISTINCT_MIN: usize = 6;

/// Writes a temporary file and links it to `path`, so that no process reads half a token and no
/// existing token is replaced.
fn create(path: &Path) -> std::io::Result<()> {
    let token: String =
        rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let linked = writeln!(file, "{token}")
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&temporary, path));
    fs::remove_file(&temporary)?;
    linked
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn weak_tokens_are_refused_without_showing_them() {
        for (text, want) in [
            ("", "the token has 0 characters; it needs 32 or more"),
            ("changeme", "the token has 8 characters; it needs 32 or more"),
            (
                &"ab".repeat(20),
                "the token repeats the same few characters; make one with: openssl rand -hex 32",
            ),
            (&"abc def ".repeat(5), "the token holds spaces or characters outside printable ASCII"),
            (&"äbcdefg".repeat(5), "the token holds spaces or characters outside printable ASCII"),
        ] {
            assert_eq!(Token::new(Secret::new(text)).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn a_made_token_is_private_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let made = Token::load_or_create(&path).unwrap();
        assert_eq!(made.reveal().len(), 64);
        assert_eq!(format!("{made:?}"), "***");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Token::load_or_create(&path).unwrap().matches(made.reveal()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(Token::load(&path).unwrap().matches(made.reveal()));
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::new(Secret::new("0123456789abcdef0123456789abcdef")).unwrap();
        assert!(token.matches("0123456789abcdef0123456789abcdef"));
        for given in [
            "",
            "0123456789abcdef",
            "0123456789abcdef0123456789abcdef0",
            "0123456789abcdef0123456789abcdeF",
        ] {
            assert!(!token.matches(given), "{given}");
        }
    }
}
