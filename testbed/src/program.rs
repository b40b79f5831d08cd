//! Code that all programs of the testbed use: waiting for the end, printing, and files that are
//! never half-written.

use std::io::{self, BufRead, Read as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use daemon::stdio;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGINT, SIGTERM, or the end of `span`.
///
/// # Errors
/// When signals cannot be received.
pub async fn ended(span: Option<Duration>) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let over = async {
        match span {
            Some(span) => tokio::time::sleep(span).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = over => {}
    }
    Ok(())
}

/// Prints `text` to standard output. A reader that has closed the pipe, as in `| head -1`, is not
/// an error.
///
/// # Errors
/// When standard output cannot be written to for another reason, such as a full disk.
pub fn print(text: &str) -> anyhow::Result<()> {
    match stdio::print(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Writes `value` as JSON to `path`. Readers see the old file or the new one, never a part.
///
/// # Errors
/// When the directory cannot be written to. The error names the file.
pub async fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let json = serde_json::to_vec(value)
        .with_context(|| format!("cannot serialise {}", path.display()))?;
    let failed = || format!("cannot write {}", path.display());
    tokio::fs::write(&beside, json).await.with_context(failed)?;
    tokio::fs::rename(&beside, path).await.with_context(failed)
}

/// Reads the next line, without its end, or `None` at the end of the input.
///
/// # Errors
/// When the input cannot be read, is not UTF-8, or has a line of more than `max` bytes: standard
/// input may be a device that never ends a line.
pub fn bounded_line(input: &mut impl BufRead, max: u64) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if input.take(max + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 > max {
        let why = format!("a line is longer than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    String::from_utf8(line).map(Some).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counts.json");
        for value in [vec![1; 100], vec![2]] {
            write_json(&path, &value).await.unwrap();
            let read: Vec<i32> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(read, value);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = write_json(&dir.path().join("no/counts.json"), &1).await.unwrap_err();
        assert!(error.to_string().contains("no/counts.json"), "{error}");
    }

    #[test]
    fn lines_are_bounded() {
        let mut input = &b"stop\n\nresume"[..];
        let mut next = || bounded_line(&mut input, 6).unwrap();
        assert_eq!(next().as_deref(), Some("stop"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("resume"));
        assert_eq!(next(), None);
        let mut endless = io::BufReader::new(io::repeat(0));
        let why = bounded_line(&mut endless, 4096).unwrap_err();
        assert_eq!(why.to_string(), "a line is longer than 4096 bytes");
        assert!(bounded_line(&mut &b"\xff\n"[..], 6).is_err());
    }

    #[tokio::test]
    async fn a_span_ends() {
        ended(Some(Duration::from_millis(1))).await.unwrap();
    }
}
