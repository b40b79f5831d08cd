//! Sets up logs: lines of text or JSON on standard error. Their reader may be slow or go away;
//! neither a full pipe nor a closed one stops the process or delays a share.

mod module;
mod queue;

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::OnceLock;

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt as lines};

use crate::settings::nearest;
use module::WithModule;
use queue::LineQueue;

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

impl FromStr for LogFormat {
    type Err = LoggingError;

    fn from_str(word: &str) -> Result<Self, LoggingError> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LoggingError::UnknownFormat { format: other.to_owned() }),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// Neither `text` nor `json`.
    #[error("log format {format:?} is none of \"text\", \"json\"")]
    UnknownFormat { format: String },
    /// The filter cannot be parsed.
    #[error("log filter {filter:?}: {source}")]
    BadFilter {
        filter: String,
        /// What the parser found.
        source: ParseError,
    },
    /// Logging was already set up in this process.
    #[error("logging is already set up: {0}")]
    AlreadySet(#[from] TryInitError),
    /// The thread that writes the lines could not be started.
    #[error("cannot start the thread that writes logs: {0}")]
    NoThread(std::io::Error),
}

/// The queue of the process's logger, once logging is set up.
static QUEUE: OnceLock<LineQueue> = OnceLock::new();

/// Writes all waiting lines when it is dropped, so keep it for as long as anything may be logged.
#[derive(Debug)]
#[must_use]
pub struct Logs {
    _private: (),
}

impl Drop for Logs {
    fn drop(&mut self) {
        if let Some(queue) = QUEUE.get() {
            queue.flush();
        }
    }
}

/// How many lines were dropped because the reader of the logs was too slow.
#[must_use]
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, LineQueue::dropped)
}

/// Sets up logging for the process. `filter` holds directives such as `info,proxy=debug`; the
/// variable `RUST_LOG` replaces it. Returns an error if the filter cannot be read or logging is set
/// up already.
pub fn init(format: LogFormat, filter: &str) -> Result<Logs, LoggingError> {
    let chosen = std::env::var("RUST_LOG").ok().filter(|given| !given.trim().is_empty());
    let filter = chosen.as_deref().unwrap_or(filter);
    let queue = LineQueue::start(std::io::stderr()).map_err(LoggingError::NoThread)?;
    let out = queue.clone();
    tracing_subscriber::registry().with(layer(format, filter, move || out.clone())?).try_init()?;
    QUEUE.get_or_init(|| queue);
    Ok(Logs { _private: () })
}

/// Checks a filter, or one directive of it, with the parser that [`init`] uses.
///
/// # Errors
/// [`LoggingError::BadFilter`].
pub fn check_filter(filter: &str) -> Result<(), LoggingError> {
    parse_filter(filter).map(drop)
}

/// The level that a directive probably means, if it is a single word that is not a level. Such a
/// word names a module instead, and then only that module is logged.
#[must_use]
pub fn level_meant(directive: &str) -> Option<String> {
    let word = directive.to_ascii_lowercase();
    let is_level = word.parse::<tracing::level_filters::LevelFilter>().is_ok();
    if is_level || word.contains(['=', '[', ':']) {
        return None;
    }
    nearest(&word, ["off", "error", "warn", "info", "debug", "trace", "warning"].into_iter())
        .map(|meant| if meant == "warning" { "warn".to_owned() } else { meant })
        .or_else(|| (word == "warning").then(|| "warn".to_owned()))
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(filter)
        .map_err(|source| LoggingError::BadFilter { filter: filter.to_owned(), source })
}

fn layer<S, W>(format: LogFormat, filter: &str, out: W) -> Result<impl Layer<S>, LoggingError>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'w> lines::MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = parse_filter(filter)?;
    // By default, tracing reports a failed write with a macro that panics if standard error is
    // closed.
    let base = lines::layer().with_writer(out).log_internal_errors(false);
    let layer = match format {
        LogFormat::Text => base.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => {
            let json = base.json().flatten_event(true).with_target(false);
            json.map_event_format(|inner| WithModule { inner }).boxed()
        }
    };
    Ok(layer.with_filter(filter))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing::{info, warn, warn_span};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn json_lines_carry_the_fields_and_obey_the_filter() {
        let lines = Lines::default();
        let out = lines.clone();
        let layer = layer(LogFormat::Json, "warn", move || out.clone()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            info!("unseen");
            let _pool = warn_span!("pool", target = "c").entered();
            warn!(target = "a\nb", attempt = 2, "reconnecting");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["target"]), (&"WARN".into(), &"a\nb".into()));
        assert_eq!(
            (&line["module"], &line["span"]["target"]),
            (&module_path!().into(), &"c".into()),
            "{text}"
        );
        let (event, _) = text.split_once("\"span\"").unwrap();
        assert_eq!(event.matches("\"target\"").count(), 1, "no second key of that name: {text}");
        assert_eq!((&line["message"], &line["attempt"]), (&"reconnecting".into(), &2.into()));
    }

    #[test]
    fn a_closed_pipe_stops_nothing() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let layer = layer(format, "info", || Closed).unwrap();
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                info!("into the void");
            });
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_known_by_its_nearness_to_one() {
        for (directive, meant) in [
            ("info", None),
            ("INFO", None),
            ("2", None),
            ("off", None),
            ("proxy", None),
            ("proxy=debug", None),
            ("[span]", None),
            ("inof", Some("info")),
            ("Debugg", Some("debug")),
            ("warning", Some("warn")),
        ] {
            assert_eq!(level_meant(directive).as_deref(), meant, "{directive}");
        }
        assert!(check_filter("proxy=loud").is_err() && check_filter("info,proxy=debug").is_ok());
    }

    #[test]
    fn bad_formats_and_filters_are_told() {
        assert_eq!(
            "xml".parse::<LogFormat>().unwrap_err().to_string(),
            "log format \"xml\" is none of \"text\", \"json\""
        );
        assert_eq!("json".parse::<LogFormat>().unwrap().to_string(), "json");
        let err =
            layer::<tracing_subscriber::Registry, _>(LogFormat::Text, "proxy=loud", io::stderr)
                .err()
                .unwrap();
        assert!(err.to_string().starts_with("log filter \"proxy=loud\": "), "{err}");
    }
}
