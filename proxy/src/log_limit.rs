//! Keeps events that come in bulk from filling the log. A fleet that reconnects, or a pool that
//! changes its extranonce a thousand times a second, is one event to an operator.
//!
//! The first event of a kind is logged when it happens. Events of that kind within the next
//! [`EVERY`] are counted, and logged as one line with their number when that time has passed.
//! Callers log each of them at DEBUG with its details.

use std::time::{Duration, Instant};

/// The minimum time between two log lines about one kind of event.
pub(crate) const EVERY: Duration = Duration::from_secs(60);

/// The kinds of events seen recently. Kinds are enum variants, so there are few of them.
#[derive(Debug)]
pub(crate) struct LogLimit<K> {
    kinds: Vec<Kind<K>>,
}

#[derive(Debug)]
struct Kind<K> {
    kind: K,
    logged_at: Instant,
    /// The number of events of this kind since it was logged last.
    more: u64,
}

impl<K> Default for LogLimit<K> {
    fn default() -> Self {
        Self { kinds: Vec::new() }
    }
}

impl<K: Copy + PartialEq> LogLimit<K> {
    /// Records `count` events of a kind. Returns whether to log them now.
    pub(crate) fn admits(&mut self, kind: K, count: u64, now: Instant) -> bool {
        let Some(known) = self.kinds.iter_mut().find(|known| known.kind == kind) else {
            self.kinds.push(Kind { kind, logged_at: now, more: 0 });
            return true;
        };
        // A kind with counted events waits until they are due, so that they are logged together.
        if known.more > 0 || now < known.logged_at + EVERY {
            known.more += count;
            return false;
        }
        known.logged_at = now;
        true
    }

    /// Removes and returns the kinds that must be logged now, with the number of events since their
    /// last line. With a `now` that is [`EVERY`] ahead it returns all of them, as at shutdown.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(K, u64)> {
        let is_due = |known: &Kind<K>| known.more > 0 && now >= known.logged_at + EVERY;
        let due = self.kinds.iter_mut().filter(|known| is_due(known));
        due.map(|known| {
            known.logged_at = now;
            (known.kind, std::mem::take(&mut known.more))
        })
        .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, LazyLock};

    use parking_lot::Mutex;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

    use super::*;

    /// A second subscriber. With only one, tracing caches whether an event is wanted, as seen by
    /// the first thread that reaches it; with two, it asks both each time.
    static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Log(Arc::default())));

    /// The events logged on one thread: level and message.
    #[derive(Debug, Clone)]
    pub(crate) struct Log(Arc<Mutex<Vec<(Level, String)>>>);

    impl Log {
        pub(crate) fn new() -> Self {
            LazyLock::force(&SECOND);
            Self(Arc::default())
        }

        /// The messages at INFO and above.
        pub(crate) fn shown(&self) -> Vec<String> {
            let lines = self.0.lock();
            let shown = lines.iter().filter(|(level, _)| *level <= Level::INFO);
            shown.map(|(_, message)| message.clone()).collect()
        }

        /// The number of lines at DEBUG with this message.
        pub(crate) fn details(&self, message: &str) -> usize {
            let lines = self.0.lock();
            lines.iter().filter(|line| line.0 == Level::DEBUG && line.1 == message).count()
        }
    }

    struct Message(String);

    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}");
            }
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("proxy")
        }

        fn event(&self, event: &Event<'_>) {
            let mut message = Message(String::new());
            event.record(&mut message);
            self.0.lock().push((*event.metadata().level(), message.0));
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// The lines logged in an hour in which events of two kinds happen a thousand times a second
    /// for five minutes, and then once every two minutes: the second, the kind, and the number of
    /// events.
    fn hour() -> Vec<(u64, char, u64)> {
        let (start, mut limit, mut lines) = (origin(), LogLimit::default(), Vec::new());
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            lines.extend(limit.due(now).into_iter().map(|(kind, more)| (second, kind, more)));
            let events = if second < 300 { 1000 } else { u64::from(second % 120 == 0) };
            for kind in ['a', 'b'] {
                for _ in 0..events {
                    if limit.admits(kind, 1, now) {
                        lines.push((second, kind, 1));
                    }
                }
            }
        }
        lines
    }

    #[test]
    fn u36_a_storm_is_a_line_a_minute_for_each_kind_and_no_event_is_missing() {
        let lines = hour();
        let of = |kind| lines.iter().filter(move |line| line.1 == kind);
        assert_eq!(of('a').next(), Some(&(0, 'a', 1)), "the first at once");
        assert_eq!(of('a').nth(1), Some(&(60, 'a', 59_999)));
        let storm = of('a').filter(|line| line.0 <= 360).count();
        assert!(storm <= 7, "{lines:?}");
        assert_eq!(
            of('a').filter(|line| line.0 > 420).count(),
            26,
            "a calm kind is told each time"
        );
        let events = of('b').map(|line| line.2).sum::<u64>();
        assert_eq!(events, 300 * 1000 + (3600 - 300) / 120);
    }

    #[test]
    fn at_the_end_everything_is_due() {
        let (start, mut limit) = (origin(), LogLimit::default());
        for kind in ['a', 'a', 'b', 'c', 'c', 'c'] {
            limit.admits(kind, 1, start);
        }
        let stopped = start + Duration::from_secs(1);
        assert_eq!(limit.due(stopped), []);
        assert_eq!(limit.due(stopped + EVERY), [('a', 1), ('c', 2)]);
    }
}
