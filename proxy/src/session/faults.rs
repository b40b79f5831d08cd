//! What follows when a miner breaks the protocol, gives a name that is refused, or sends bad shares.

use std::time::Instant;

use stratum::server_message::write_reconnect;

use super::conduct::Conduct;
use super::outbox::Outbox;
use super::state::Session;
use crate::reasons::{CloseReason, Correction};

impl Session {
    pub(super) fn conduct(&mut self, now: Instant) -> &mut Conduct {
        self.conduct.get_or_insert_with(|| Box::new(Conduct::new(now)))
    }

    pub(super) fn fault(&mut self, reason: CloseReason, now: Instant, out: &mut Outbox) {
        if self.conduct(now).fault(now) {
            out.close = Some(reason);
        }
    }

    pub(super) fn hears_names(&self, now: Instant) -> bool {
        self.conduct.as_ref().is_none_or(|conduct| conduct.hears_names(now))
    }

    /// Records a refused worker name. Names that come during the wait that follows are refused
    /// unread; many of them lead to a close.
    pub(super) fn name_refused(&mut self, reason: CloseReason, now: Instant, out: &mut Outbox) {
        if self.hears_names(now) {
            self.conduct(now).name_refused(now);
            self.fault(reason, now, out);
        } else {
            self.fault(CloseReason::AuthorizeFlood, now, out);
        }
    }

    /// Records a bad share, and takes the step that is due. A miner without live work, because it
    /// is parked or has no pool, cannot be expected to send good shares: nothing is recorded.
    pub(super) fn bad_share(&mut self, now: Instant, out: &mut Outbox) {
        if !self.issues.newest().is_some_and(|work| work.job.is_live()) {
            return;
        }
        let Some(correction) = self.conduct(now).bad_share(now) else { return };
        match correction {
            Correction::Renew => self.aim.say_again(),
            Correction::Reconnect => write_reconnect(&mut out.bytes),
            Correction::Close => out.close = Some(CloseReason::BadShares),
        }
        out.correction = Some(correction);
    }

    pub(super) fn good_share(&mut self) {
        if let Some(conduct) = &mut self.conduct
            && !conduct.good_share()
        {
            self.conduct = None;
        }
    }
}
