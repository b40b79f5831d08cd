//! `kind = "file"`: a meter in a file. Another program polls the real meter and rewrites one line,
//! `KW [TIME]`, which is read here. The file is untrusted: any content is either a measurement or an
//! error that says why not. The switchboard judges whether a measurement is too old.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::settings::Section;
use directive::{Meter, MeterError, MeterReading, Pending, Watts};
use jiff::Timestamp;

use super::source::Source;

/// Reads the keys of a `[meter.NAME]` section and builds its meter.
pub(super) fn read(section: &Section<'_>) -> Option<Source> {
    let path = section.required_path("path")?;
    if let Some(why) = missing(&path) {
        section.warn("path", why);
    }
    let summary = path.display().to_string();
    Some(Source { meter: Arc::new(FileMeter::new(path)), summary })
}

/// Why nothing can be measured at present: the program that must write the file has not done so.
fn missing(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let shown = path.display();
    match (std::fs::metadata(path), folder) {
        (Ok(file), _) if file.is_dir() => Some(format!("{shown} is a folder")),
        (Ok(_), _) => None,
        (Err(_), Some(folder)) if !folder.is_dir() => {
            Some(format!("there is no folder {} on this machine", folder.display()))
        }
        (Err(_), _) => Some(format!("there is no {shown} yet: whatever measures has to write it")),
    }
}

/// A file with a number in kW, optionally followed by the RFC 3339 time of measurement (else the
/// file's own time counts).
#[derive(Debug, Clone)]
pub struct FileMeter {
    path: PathBuf,
}

/// The maximum size of a meter's file. A line is shorter than 64 bytes; a larger file is not a
/// meter's.
const FILE_MAX_BYTES: u64 = 4096;
/// How far below zero an idle meter's noise may reach; it then counts as zero, so that headroom is
/// never overestimated.
const NOISE_KW: f64 = 1.0;

impl FileMeter {
    /// A meter that reads the file at `path` anew each time.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Meter for FileMeter {
    fn read(&self) -> Pending<'_, Result<MeterReading, MeterError>> {
        let path = self.path.clone();
        Box::pin(async move {
            let measured = tokio::task::spawn_blocking(move || measure(&path)).await;
            measured.unwrap_or_else(|error| Err(MeterError::Unreachable { why: error.to_string() }))
        })
    }
}

fn measure(path: &Path) -> Result<MeterReading, MeterError> {
    let unreachable =
        |why: String| MeterError::Unreachable { why: format!("{}: {why}", path.display()) };
    let (text, modified) = read_small(path).map_err(|error| unreachable(error.to_string()))?;
    parse(&text, modified)
        .map_err(|why| MeterError::Unreadable { why: format!("{}: {why}", path.display()) })
}

/// Reads at most one byte more than a meter's file may have. A pipe or device in its place is not
/// even opened.
fn read_small(path: &Path) -> io::Result<(Vec<u8>, Timestamp)> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    let modified = Timestamp::try_from(file.metadata()?.modified()?).map_err(io::Error::other)?;
    let mut text = Vec::new();
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut text)?;
    Ok((text, modified))
}

fn parse(text: &[u8], modified: Timestamp) -> Result<MeterReading, String> {
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(format!("longer than {FILE_MAX_BYTES} bytes"));
    }
    let text = std::str::from_utf8(text).map_err(|_| "not text".to_owned())?;
    let mut words = text.split_whitespace();
    let Some(number) = words.next() else { return Err("empty".into()) };
    let kw: f64 = number.parse().map_err(|_| format!("{} is no number", shown(number)))?;
    let watts = Watts::from_kw(kw).ok_or_else(|| format!("{} is no power in kW", shown(number)))?;
    if kw < -NOISE_KW {
        return Err(format!("{} kW is negative", shown(number)));
    }
    let taken_at = match words.next() {
        None => modified,
        Some(time) => time.parse().map_err(|_| format!("{} is no RFC 3339 time", shown(time)))?,
    };
    if let Some(more) = words.next() {
        return Err(format!("unexpected {} after the measurement", shown(more)));
    }
    Ok(MeterReading { watts: watts.max(Watts::ZERO), taken_at })
}

/// A word of the file for a message: shortened, with control characters escaped.
fn shown(word: &str) -> String {
    format!("{:?}", word.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: Timestamp = Timestamp::constant(1_800_000_000, 0);

    #[test]
    fn measurements_are_understood() {
        let taken: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        for (text, watts, taken_at) in [
            ("12.5", 12_500, MODIFIED),
            ("12.5\n", 12_500, MODIFIED),
            ("  0.0004 ", 0, MODIFIED),
            ("1e3", 1_000_000, MODIFIED),
            ("-0.2\n", 0, MODIFIED),
            ("81000 2026-11-23T03:00:00Z\n", 81_000_000, taken),
            ("81000\t2026-11-23T04:00:00+01:00", 81_000_000, taken),
        ] {
            assert_eq!(
                parse(text.as_bytes(), MODIFIED),
                Ok(MeterReading { watts: Watts(watts), taken_at }),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_no_measurement_is_unreadable_and_says_why() {
        let long = "1".repeat(5000);
        for (text, why) in [
            (&b""[..], "empty"),
            (b" \n", "empty"),
            (b"NaN", "no power"),
            (b"inf", "no power"),
            (b"-infinity", "no power"),
            (b"1e30", "no power"),
            (b"-1e30", "no power"),
            (b"-40", "negative"),
            (b"12,5", "no number"),
            (b"0x10", "no number"),
            (b"12.5kW", "no number"),
            (b"ERR", "no number"),
            (b"\xff\xfe", "not text"),
            (b"12.5 yesterday", "no RFC 3339"),
            (b"12.5 2026-11-23", "no RFC 3339"),
            (b"12.5 2026-11-23T03:00:00Z 7", "unexpected"),
            (long.as_bytes(), "longer"),
        ] {
            let error = parse(text, MODIFIED).unwrap_err();
            assert!(error.contains(why), "{:?}: {error}", String::from_utf8_lossy(text));
        }
    }

    #[tokio::test]
    async fn a_file_is_read_anew_and_its_own_time_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.kw");
        let meter = FileMeter::new(&path);
        assert!(matches!(meter.read().await, Err(MeterError::Unreachable { .. })), "missing");
        std::fs::write(&path, "3.4\n").unwrap();
        let first = meter.read().await.unwrap();
        assert_eq!(first.watts, Watts(3400));
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(first.taken_at, Timestamp::try_from(modified).unwrap());
        std::fs::write(&path, "0.1\n").unwrap();
        assert_eq!(meter.read().await.unwrap().watts, Watts(100));
        let error = FileMeter::new(dir.path()).read().await.unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}
