//! Adds the module of an event to its JSON line, as `module`. tracing calls the module's path `target`,
//! which would be a second key of that name in lines about a target.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Formats events as JSON objects with a `module`. `inner` formats them without.
#[derive(Debug)]
pub(super) struct WithModule<F> {
    pub(super) inner: F,
}

impl<S, N, F> FormatEvent<S, N> for WithModule<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        // Every object has a time and a level, so a comma follows them.
        let Some(object) = line.trim_end().strip_suffix('}') else {
            return writer.write_str(&line);
        };
        let module = serde_json::to_string(event.metadata().target()).map_err(|_| fmt::Error)?;
        writeln!(writer, "{object},\"module\":{module}}}")
    }
}
