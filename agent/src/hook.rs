//! `[hook]`: a program that is run when a feed carries too much and the guard has no machine left. It
//! is a last resort, for example to open a breaker or to call somebody. When it is run is decided by
//! [`crate::guard`].

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use daemon::settings::{Section, Spot};
use directive::{ActuatorError, Watts};

use crate::guard::FeedOver;
use crate::program;

/// The program, and within which limits it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program, by its absolute path, and its arguments.
    pub feed_over: Vec<String>,
    /// A run that takes longer is killed.
    pub timeout: Duration,
    /// The shortest time between two runs for one feed. It is not shorter than `timeout`, so that
    /// there is never a second run for a feed.
    pub every: Duration,
    /// The place of the section, unless the host program made the hook.
    pub spot: Option<Spot>,
}

/// Reads the keys of the `[hook]` section. `None` after a mistake.
pub(crate) fn read(section: &Section<'_>) -> Option<Hook> {
    let feed_over = read_command(section, "feed_over");
    let timeout = section.duration_or("timeout", TIMEOUTS, TIMEOUT);
    let every = section.duration_or("every", EVERIES, EVERY);
    section.finish();
    if timeout > every {
        section.mistake("timeout", "must not be longer than `every`: a feed has one run at a time");
        return None;
    }
    Some(Hook { feed_over: feed_over?, timeout, every, spot: Some(section.here()) })
}

fn read_command(section: &Section<'_>, key: &str) -> Option<Vec<String>> {
    let command = section.required_strings(key)?;
    let &program = command.first()?;
    if !Path::new(program).is_absolute() {
        let how = "write a list, the program first: [\"/usr/local/bin/open-breaker\", \"--now\"]";
        section.mistake(key, format!("{program:?} is no absolute path; {how}"));
        return None;
    }
    if let Some(why) = program::cannot_run(program) {
        let message = format!("{program:?} {why}: it could not be run when it is needed");
        section.document().warn(&section.spot_in(key, 0), message, None);
    }
    Some(command.into_iter().map(str::to_owned).collect())
}

impl Hook {
    /// Runs the program to its end. It is told by environment variables what the feed carries.
    pub(crate) async fn run(&self, over: &FeedOver) -> Result<(), ActuatorError> {
        program::run(&self.feed_over, &variables(over), self.timeout).await.map(drop)
    }
}

fn variables(over: &FeedOver) -> [(&'static str, String); 7] {
    let kw = |watts: Watts| format!("{:.3}", watts.kw());
    [
        ("TIELINE_FEED", over.feed.to_string()),
        ("TIELINE_REASON", over.reason.word().to_owned()),
        ("TIELINE_METERED_KW", kw(over.metered)),
        ("TIELINE_USABLE_KW", kw(over.usable)),
        ("TIELINE_RATING_KW", kw(over.rating)),
        ("TIELINE_SINCE", over.since.to_string()),
        ("TIELINE_AT", over.at.to_string()),
    ]
}

const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
const EVERY: Duration = Duration::from_mins(5);
const EVERIES: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
