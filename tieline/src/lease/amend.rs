//! `tieline lease extend` and `tieline lease shorten`: move the end of a lease.

use jiff::Timestamp;
use serde_json::json;
use switchboard::view::{AmendmentAnswer, LeaseAnswer, LeaseView};

use super::{refusal, words};
use crate::cli::Amendment;
use crate::client::{Client, encode};
use crate::failure::Failure;
use crate::output::{print, width};
use crate::times::{self, Given, Shown};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Later,
    Earlier,
}

pub(super) fn amend(
    client: &Client,
    to: &Amendment,
    direction: Direction,
    as_json: bool,
) -> Result<(), Failure> {
    let new = NewEnd::read(to, daemon::clock::wall())?;
    let path = format!("/v1/leases/{}", encode(&to.id));
    let before: LeaseAnswer = client.require_of_switchboard(&path)?.read()?;
    let shown = Shown::new(&before.timezone);
    let end = new.settle(before.lease.end, direction, &shown)?;
    check_direction(&before.lease, end, direction, &shown)?;
    let dry = if to.dry_run { "?dry_run=true" } else { "" };
    let answer = client.patch(&format!("{path}{dry}"), &json!({ "end": end }))?;
    if as_json {
        let printed = print(&answer.text);
        // A refusal is a failure even if nobody reads its message.
        return if answer.is_error() { Err(refusal::brief(client, &answer)) } else { printed };
    }
    if answer.is_error() {
        return Err(refusal::full(client, &answer, &shown, width()));
    }
    let answer: AmendmentAnswer = answer.read()?;
    print(&words::amendment(&answer, to.dry_run, &shown, width()))
}

/// The new end, as given.
enum NewEnd {
    Until(Given),
    By(jiff::SignedDuration),
}

impl NewEnd {
    fn read(to: &Amendment, now: Timestamp) -> Result<Self, Failure> {
        match (&to.until, &to.by) {
            (Some(until), _) => times::read("--until", until, now).map(Self::Until),
            (None, by) => {
                let by = by.as_deref().unwrap_or_default();
                times::duration(by).map(Self::By).ok_or_else(|| {
                    Failure::Usage(format!(
                        "--by {by:?} is not a length of time: write 90s, 5m or 1h30m"
                    ))
                })
            }
        }
    }

    /// The end of a lease that ends at `before` now.
    fn settle(
        &self,
        before: Timestamp,
        direction: Direction,
        shown: &Shown,
    ) -> Result<Timestamp, Failure> {
        let moved = match (self, direction) {
            (Self::Until(given), _) => {
                return given.settle("--until", || Ok(shown.zone.clone()));
            }
            (Self::By(by), Direction::Later) => before.checked_add(*by),
            (Self::By(by), Direction::Earlier) => before.checked_sub(*by),
        };
        moved.map_err(|_| Failure::Usage("--by is too long for a calendar".to_owned()))
    }
}

/// Checks that the end moves as the command says. The same end is no mistake: the command may have
/// been repeated.
fn check_direction(
    lease: &LeaseView,
    end: Timestamp,
    direction: Direction,
    shown: &Shown,
) -> Result<(), Failure> {
    let other = match direction {
        Direction::Later if end < lease.end => "shorten",
        Direction::Earlier if end > lease.end => "extend",
        Direction::Later | Direction::Earlier => return Ok(()),
    };
    let (id, is, new) = (&lease.id, shown.moment(lease.end), shown.moment(end));
    Err(Failure::Usage(format!(
        "lease {id} ends at {is}. To have it end at {new}: tieline lease {other} {id}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::tests::lease;
    use crate::times::Zone;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn end(until: Option<&str>, by: Option<&str>, direction: Direction) -> Result<String, String> {
        let (until, by) = (until.map(str::to_owned), by.map(str::to_owned));
        let to = Amendment { id: "nebula-7".into(), until, by, dry_run: false };
        let now = at("2026-12-01T12:00:00Z");
        let shown = Shown { zone: Zone::named("America/Chicago"), now };
        // It ends on 2 December at noon, UTC.
        let lease = lease("nebula-7");
        let new = NewEnd::read(&to, now).and_then(|new| new.settle(lease.end, direction, &shown));
        let checked = new.and_then(|end| {
            check_direction(&lease, end, direction, &shown).map(|()| end.to_string())
        });
        checked.map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_end_is_given_or_moved() {
        use Direction::{Earlier, Later};
        let ok = |until, by, direction| end(until, by, direction).unwrap();
        assert_eq!(ok(None, Some("2h"), Later), "2026-12-02T14:00:00Z");
        assert_eq!(ok(None, Some("2h"), Earlier), "2026-12-02T10:00:00Z");
        assert_eq!(ok(Some("2026-12-02 08:00"), None, Later), "2026-12-02T14:00:00Z");
        assert_eq!(ok(Some("+2h"), None, Earlier), "2026-12-01T14:00:00Z");
        assert_eq!(ok(Some("2026-12-02T12:00:00Z"), None, Later), "2026-12-02T12:00:00Z");
    }

    #[test]
    fn the_other_command_is_named_when_the_end_moves_the_other_way() {
        let wrong = end(Some("2026-12-02T10:00:00Z"), None, Direction::Later).unwrap_err();
        assert_eq!(
            wrong,
            "lease nebula-7 ends at 2026-12-02 06:00. To have it end at 2026-12-02 04:00: tieline \
             lease shorten nebula-7"
        );
        let wrong = end(Some("2026-12-02T14:00:00Z"), None, Direction::Earlier).unwrap_err();
        assert!(wrong.ends_with("tieline lease extend nebula-7"), "{wrong}");
        assert!(end(None, Some("soon"), Direction::Later).unwrap_err().contains("--by \"soon\""));
    }
}
