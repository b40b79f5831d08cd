//! The story of a run: one line for each event that a person would want to read, with its virtual
//! time and the role it concerns. It is made only when it is asked for.

use std::fmt::Display;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Story {
    lines: Option<Vec<String>>,
}

impl Story {
    /// A story that keeps its lines, or one that drops them.
    #[must_use]
    pub fn new(kept: bool) -> Self {
        Self { lines: kept.then(Vec::new) }
    }

    /// Adds a line; `words` is called only if lines are kept.
    pub(crate) fn tell<T: Display>(&mut self, at: Duration, who: &str, words: impl FnOnce() -> T) {
        if let Some(lines) = &mut self.lines {
            let (secs, millis) = (at.as_secs(), at.subsec_millis());
            let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
            lines.push(format!("{hours}:{minutes:02}:{secs:02}.{millis:03} {who:<11} {}", words()));
        }
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
