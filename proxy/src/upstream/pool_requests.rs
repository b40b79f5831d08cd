//! Limits what a pool can make the proxy do: connect elsewhere, answer requests, fill the log.
//!
//! A pool, or an attacker who impersonates it, may send `client.reconnect` at any time, and a fleet
//! that follows it is stolen (docs/faults.md, "Theft of hashrate"). So a host is followed only if
//! the operator has listed it with exactly this port, and only with the target's own TLS; and no
//! request is followed within ten minutes of the last.

use std::time::{Duration, Instant};

use super::window::Window;
use crate::config::HostPort;
use crate::reasons::Alarm;

/// A pool's `client.reconnect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redirect {
    /// Escaped and shortened; `None` if the pool names no host.
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    /// At most [`stratum::pool_message::WAIT_MAX_SECS`].
    pub(crate) wait: Duration,
}

/// The reaction to a request to reconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Only raise this alarm.
    Stay(Alarm),
    /// Reconnect at `at`, to `to` or, if that is `None`, to the target's own address.
    Leave { to: Option<HostPort>, at: Instant },
    /// The pool keeps asking: quarantine it.
    Quarantine,
}

/// Where a task connects next, and what its pool has asked for. It is kept from one connection to
/// the next.
#[derive(Debug, Default)]
pub(super) struct ConnectionPlan {
    pub(super) requests: PoolRequests,
    /// When to reconnect, and where to; `None` for the configured address.
    pub(super) leave: Option<(Instant, Option<HostPort>)>,
    pub(super) next: Option<HostPort>,
}

/// The requests of one pool, over all connections of one task.
#[derive(Debug)]
pub(super) struct PoolRequests {
    followed_at: Option<Instant>,
    refused: Window,
}

/// The minimum time between two requests that are followed (U08). A pool that goes down for
/// maintenance sends one.
const FOLLOW_EVERY: Duration = Duration::from_secs(600);
/// After this many requests within [`FOLLOW_EVERY`] that were not followed, the target is
/// quarantined.
const REFUSED_MAX: u32 = 10;
/// The maximum random addition to a wait, because the pool's other clients reconnect at the same
/// time.
const JITTER: Duration = Duration::from_secs(2);

impl Default for PoolRequests {
    fn default() -> Self {
        Self { followed_at: None, refused: Window::new(FOLLOW_EVERY) }
    }
}

impl PoolRequests {
    /// Decides about a request to reconnect. `random` is any number.
    pub(super) fn reconnect(
        &mut self,
        asked: &Redirect,
        home: &HostPort,
        listed: &[HostPort],
        random: u32,
        now: Instant,
    ) -> Reaction {
        let to = match destination(asked, home, listed) {
            Ok(to) => to,
            Err(alarm) => return self.refuse(alarm, now),
        };
        if self.followed_at.is_some_and(|last| now < last + FOLLOW_EVERY) {
            return self.refuse(Alarm::ReconnectTooOften, now);
        }
        self.followed_at = Some(now);
        let jitter = JITTER.mul_f64(f64::from(random) / f64::from(u32::MAX));
        Reaction::Leave { to, at: now + asked.wait + jitter }
    }

    fn refuse(&mut self, alarm: Alarm, now: Instant) -> Reaction {
        let refused = self.refused.add(now);
        if refused == REFUSED_MAX + 1 { Reaction::Quarantine } else { Reaction::Stay(alarm) }
    }
}

/// The address that a request asks for; `None` for the target's own. Returns the alarm if it may
/// not be followed.
fn destination(
    asked: &Redirect,
    home: &HostPort,
    listed: &[HostPort],
) -> Result<Option<HostPort>, Alarm> {
    let Some(host) = &asked.host else { return Ok(None) };
    let wanted = HostPort { host: host.clone(), port: asked.port.unwrap_or(home.port) };
    if wanted.is(home) {
        return Ok(None);
    }
    listed.iter().find(|listed| listed.is(&wanted)).cloned().map(Some).ok_or(Alarm::RedirectRefused)
}

/// A limit on the answers to a pool's requests: one a second, and a few at once after connecting
/// (U37, U38).
#[derive(Debug)]
pub(super) struct AnswerBudget {
    left: u32,
    since: Instant,
}

/// Maximum number of answers at once.
const ANSWERS_AT_ONCE: u32 = 4;

impl AnswerBudget {
    pub(super) const fn new(now: Instant) -> Self {
        Self { left: ANSWERS_AT_ONCE, since: now }
    }

    /// Whether one more answer may be given now.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let earned =
            u32::try_from(now.saturating_duration_since(self.since).as_secs()).unwrap_or(u32::MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(ANSWERS_AT_ONCE);
            self.since += Duration::from_secs(earned.into());
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn at(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    fn redirect(host: &str, port: u16) -> Redirect {
        Redirect { host: Some(host.to_owned()), port: Some(port), wait: Duration::ZERO }
    }

    const NOWHERE: Redirect = Redirect { host: None, port: None, wait: Duration::ZERO };

    fn decide(asked: &Redirect, listed: &[HostPort]) -> Reaction {
        PoolRequests::default().reconnect(asked, &at("stratum.pool.com", 3333), listed, 0, origin())
    }

    /// U01, U02, U06, F58: an address that is not exactly a listed one is not followed, however
    /// similar it looks.
    #[test]
    fn u01_u02_u06_only_what_is_listed_is_followed() {
        let listed = [at("backup.pool.com", 3333), at("192.0.2.7", 3333)];
        for (id, host, port) in [
            ("U01", "evil.example", 3333),
            ("U02", "127.0.0.1", 3333),
            ("U02", "[::1]", 3333),
            ("U02", "::1", 3333),
            ("U02", "169.254.169.254", 80),
            ("U02", "0x7f000001", 3333),
            ("U02", "user@backup.pool.com", 3333),
            ("U02", " backup.pool.com", 3333),
            ("U02", "backup.pool.com\\0", 3333),
            ("U02", "backup.pool.com\\r\\n", 3333),
            ("U02", "backup.pool.com.", 3333),
            ("U02", "xn--bckup-gra.pool.com", 3333),
            ("U02", "<not a host>", 3333),
            ("U06", "x.pool.com", 3333),
            ("U03", "backup.pool.com", 3334),
            ("U03", "192.0.2.7", 3334),
            ("U03", "192.0.2.007", 3333),
            ("U03", "stratum.pool.com", 3334),
        ] {
            let reaction = decide(&redirect(host, port), &listed);
            assert_eq!(reaction, Reaction::Stay(Alarm::RedirectRefused), "{id}: {host}:{port}");
        }
        let now = origin();
        for (host, port) in [("Backup.Pool.com", 3333), ("192.0.2.7", 3333)] {
            let to = listed.iter().find(|listed| listed.host.eq_ignore_ascii_case(host)).cloned();
            let mut requests = PoolRequests::default();
            let reaction = requests.reconnect(
                &redirect(host, port),
                &at("stratum.pool.com", 3333),
                &listed,
                0,
                now,
            );
            assert_eq!(reaction, Reaction::Leave { to, at: now }, "U06: {host}:{port}");
        }
    }

    #[test]
    fn u03_u05_without_a_host_it_is_the_configured_one_after_the_wait_and_by_chance_later() {
        let now = origin();
        let home = at("stratum.pool.com", 3333);
        for asked in
            [NOWHERE, Redirect { port: Some(3334), ..NOWHERE }, redirect("stratum.pool.com", 3333)]
        {
            let reaction = PoolRequests::default().reconnect(&asked, &home, &[], 0, now);
            assert_eq!(reaction, Reaction::Leave { to: None, at: now });
        }
        let late = Redirect { wait: 300 * SECOND, ..NOWHERE };
        let reaction = PoolRequests::default().reconnect(&late, &home, &[], u32::MAX, now);
        assert_eq!(reaction, Reaction::Leave { to: None, at: now + 300 * SECOND + JITTER });
    }

    #[test]
    fn u08_one_request_in_ten_minutes_is_followed_and_who_does_not_stop_is_put_aside() {
        let start = origin();
        let home = at("stratum.pool.com", 3333);
        let mut requests = PoolRequests::default();
        let reactions: Vec<Reaction> = (0..100)
            .map(|n| requests.reconnect(&NOWHERE, &home, &[], 0, start + n * SECOND * 6 / 10))
            .collect();
        let followed =
            reactions.iter().filter(|reaction| matches!(reaction, Reaction::Leave { .. })).count();
        let aside = reactions.iter().position(|reaction| *reaction == Reaction::Quarantine);
        assert_eq!((followed, aside), (1, Some(11)));
        let mut calm = PoolRequests::default();
        for n in 0..100 {
            let reaction = calm.reconnect(&NOWHERE, &home, &[], 0, start + n * FOLLOW_EVERY);
            assert!(matches!(reaction, Reaction::Leave { .. }), "{n}: {reaction:?}");
        }
    }

    #[test]
    fn u37_u38_questions_are_answered_once_a_second() {
        let start = origin();
        let mut answer_budget = AnswerBudget::new(start);
        let answered =
            (0..10_000u32).filter(|n| answer_budget.allows(start + *n * SECOND / 1000)).count();
        assert_eq!(answered, 9 + 4, "ten seconds of a thousand questions each");
    }
}
