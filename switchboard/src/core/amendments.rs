//! Changes of the end of a lease, and dry runs of changes: what they would answer.

use directive::LeaseId;
use jiff::{SignedDuration, Timestamp};

use super::{Answer, Core, Refused};
use crate::admit::{self, Line};
use crate::commitment::Phase;
use crate::lease::{BadRequest, LONGEST, Lease, Mistake};
use crate::ledger::Event;
use crate::view::{API_VERSION, AmendmentAnswer, LineView};
use crate::words::when;

impl Core {
    /// Has the lease `id` end at `end`. A longer time must fit as a new lease must; a shorter one always
    /// does.
    pub(super) fn amend(
        &mut self,
        number: u64,
        id: &LeaseId,
        end: Timestamp,
        dry_run: bool,
        wall: Timestamp,
    ) -> Option<Answer> {
        let (lease, arithmetic) = match self.judge_amendment(id, end, wall) {
            Ok(judged) => judged,
            Err(refused) => {
                self.tally.refused += u64::from(!dry_run);
                return Some(Answer::Refused(refused));
            }
        };
        let answer = Box::new(self.amendment_answer(&lease, end, &arithmetic, wall));
        if dry_run || end == lease.end {
            return Some(Answer::Amended(answer));
        }
        self.amending.insert(number, (id.clone(), answer));
        let event =
            Event::LeaseAmended { lease: id.clone(), end, end_before: lease.end, arithmetic };
        self.queue(event, wall, Some(number));
        None
    }

    /// The lease as it is, and the arithmetic of the time that is added.
    fn judge_amendment(
        &self,
        id: &LeaseId,
        end: Timestamp,
        wall: Timestamp,
    ) -> Result<(Lease, Vec<Line>), Refused> {
        if self.stepped.is_some() {
            return Err(Refused::ClockStepped);
        }
        let standing = self.state.leases.get(id).ok_or(Refused::UnknownLease(id.clone()))?;
        let lease = &standing.lease;
        let phase = self.commitments.get(id).map_or(standing.phase, |live| live.phase);
        let words = |at: Timestamp| when(at, self.policy.facility.timezone());
        if lease.cancelled_at.is_some() || phase >= Phase::Releasing {
            let (lease, ended) = (id.clone(), words(lease.ends()));
            return Err(Refused::LeaseEnded { lease, ended, phase });
        }
        let changes = |event: &Event| match event {
            Event::LeaseAmended { lease, .. } | Event::LeaseCancelled { lease, .. } => lease == id,
            _ => false,
        };
        if self.outbox.pending().any(changes) {
            return Err(Refused::ChangePending(id.clone()));
        }
        if let Some(error) = self.outbox.failure() {
            return Err(Refused::from(error));
        }
        if end == lease.end {
            return Ok((lease.clone(), Vec::new()));
        }
        let instead = if end <= wall {
            Some(format!("it is {} now", words(wall)))
        } else {
            (end <= lease.start).then(|| format!("it starts at {}", words(lease.start)))
        };
        if let Some(why) = instead {
            let (lease, end) = (id.clone(), words(end));
            return Err(Refused::CancelInstead { lease, end, why });
        }
        if end < lease.end {
            return Ok((lease.clone(), Vec::new()));
        }
        let longest = SignedDuration::try_from(LONGEST).unwrap_or(SignedDuration::MAX);
        if end.duration_since(wall) > longest {
            let what = format!("{} is more than 100 years away", words(end));
            return Err(BadRequest { mistakes: vec![Mistake { field: "end", what }] }.into());
        }
        let promised = self.promised();
        let promised = promised.iter().map(|lease| &**lease);
        let population = &self.fleet.population;
        let lines = admit::extend(&self.policy, population, promised, lease, end, wall)?;
        Ok((lease.clone(), lines))
    }

    fn amendment_answer(
        &self,
        lease: &Lease,
        end: Timestamp,
        arithmetic: &[Line],
        wall: Timestamp,
    ) -> AmendmentAnswer {
        let amended = Lease { end, ..lease.clone() };
        let (short, short_leases) = self.shortages_with(&amended, wall);
        AmendmentAnswer {
            api_version: API_VERSION,
            timezone: self.timezone(),
            id: lease.id.clone(),
            feed: lease.feed.clone(),
            gross: lease.gross,
            start: lease.start,
            end,
            end_before: lease.end,
            short,
            short_leases,
            arithmetic: arithmetic.iter().map(LineView::from).collect(),
        }
    }

    /// What cancelling the lease would answer now: the lease as it is, without what a plan would do for
    /// it.
    pub(super) fn cancel_dry_run(&self, id: &LeaseId, force: bool) -> Answer {
        match self.may_cancel(id, force) {
            Err(refused) => Answer::Refused(refused),
            Ok(None) => self.committed(id, false),
            Ok(Some(_)) => {
                let mut answer = self.committed(id, false);
                if let Answer::Lease(answer) = &mut answer {
                    let lease = &mut answer.lease;
                    lease.cancelled_at = Some(self.schedule);
                    (lease.lease_plan, lease.in_plan_from, lease.short) = (None, None, None);
                }
                answer
            }
        }
    }
}
