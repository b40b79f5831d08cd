//! The commands of people and programs, and their answers. A change is answered when it is durable;
//! a refusal writes nothing.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use directive::{FeedId, LeaseId, MachineId, Means, Watts};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{Core, LeaseQuery, Outputs};
use crate::admit::{self, Admission, Refusal};
use crate::cause::Cause;
use crate::commitment::Phase;
use crate::feed_sums::FeedSums;
use crate::inventory::Census;
use crate::lease::{BadRequest, Lease, LeaseRequest};
use crate::ledger::{Event, Origin, WriteError};
use crate::plan::Chosen;
use crate::policy::Policy;
use crate::view::{
    AdmissionAnswer, AdoptedAnswer, AmendmentAnswer, FeedsAnswer, FileNotice, HeadAnswer,
    LeaseAnswer, LeasesAnswer, MachinesAnswer, PlanView, StatusView,
};
use crate::words::when;

#[derive(Debug)]
pub enum Command {
    /// Ask whether this lease could be committed.
    Admit(LeaseRequest),
    /// Commit power to this lease, with an optional idempotency key. The same key with the same
    /// request gets the same answer again, and nothing is committed twice.
    Commit(LeaseRequest, Option<String>),
    /// Cancel a lease; one that is active only with `force`.
    Cancel {
        lease: LeaseId,
        /// Whether to cancel it although it is active.
        force: bool,
    },
    /// What cancelling a lease would answer. Nothing is changed.
    CancelDryRun {
        lease: LeaseId,
        force: bool,
    },
    /// Have a lease end at another time. The same end again changes nothing.
    Amend {
        lease: LeaseId,
        end: Timestamp,
        /// Whether to answer only what would be, and change nothing.
        dry_run: bool,
    },
    Leases(LeaseQuery),
    Lease(LeaseId),
    /// Show the plan in force.
    Plan,
    /// The state of the whole site.
    Status,
    /// Show the feeds, with committed and measured power.
    Feeds,
    /// List machines in the order of their names.
    Machines {
        /// Only machines after this name.
        after: Option<String>,
        /// The maximum number of machines to list.
        limit: usize,
    },
    /// Take over sleeping machines that no agent put to sleep, so that they come back when there is
    /// room; with `wake`, before others.
    Adopt {
        machines: BTreeSet<MachineId>,
        wake: bool,
        /// Who asks, for the ledger.
        by: Option<String>,
    },
    /// The ledger's newest entry.
    Head,
    /// Apply this policy in place of the one in force.
    Policy(Arc<Policy>),
    /// Report on a changed file: why it is not in force, or `None` if nothing is wrong.
    File {
        kind: FileKind,
        notice: Option<FileFault>,
    },
}

/// A file that configures a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Policy,
    Configuration,
}

/// Why a file is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    pub file: String,
    pub why: String,
}

#[derive(Debug)]
pub enum Answer {
    Admitted(Box<AdmissionAnswer>),
    /// The lease is committed, durably.
    Committed(Box<LeaseAnswer>),
    Lease(Box<LeaseAnswer>),
    /// The lease has another end, durably, or would have.
    Amended(Box<AmendmentAnswer>),
    Leases(LeasesAnswer),
    Plan(Box<PlanView>),
    /// The state of the whole site.
    Status(Box<StatusView>),
    Feeds(FeedsAnswer),
    Machines(MachinesAnswer),
    /// The machines are taken over, durably.
    Adopted(AdoptedAnswer),
    /// The ledger's newest entry.
    Head(HeadAnswer),
    Done,
    /// The command was refused.
    Refused(Refused),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// A field of the request is wrong.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// The feeds cannot carry the lease.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// There is no such lease.
    #[error("no lease {0}")]
    UnknownLease(LeaseId),
    /// No agent reports such a machine.
    #[error("no agent reports a machine {0}")]
    UnknownMachine(MachineId),
    /// A lease with this name exists.
    #[error("lease {0} exists already")]
    LeaseExists(LeaseId),
    /// The idempotency key was used for a different request.
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    /// The first request with this key is not durable yet.
    #[error("the request with this Idempotency-Key is being written")]
    KeyPending,
    /// The lease is active, and `force` was not given.
    #[error("lease {0} is active: cancelling it needs force")]
    LeaseActive(LeaseId),
    /// The lease has already ended.
    #[error("lease {lease} ended at {ended} and is {}: there is nothing to cancel", .phase.as_str())]
    LeaseOver {
        lease: LeaseId,
        /// When the lease ended, as text in the site's time zone.
        ended: String,
        phase: Phase,
    },
    /// The lease is over, so that its end cannot be changed.
    #[error("lease {lease} ended at {ended} and is {}: commit a new one", .phase.as_str())]
    LeaseEnded { lease: LeaseId, ended: String, phase: Phase },
    /// The new end leaves nothing of the lease.
    #[error("lease {lease} cannot end at {end}: {why}; to give its power back now, cancel it")]
    CancelInstead { lease: LeaseId, end: String, why: String },
    /// Another change of the lease is not durable yet.
    #[error("another change of lease {0} is being written")]
    ChangePending(LeaseId),
    /// There are too many open leases.
    #[error("{limit} leases are open, which is the most there may be")]
    TooManyLeases {
        /// The maximum number of open leases.
        limit: usize,
    },
    /// The new policy lacks the feed of a committed lease.
    #[error("the policy has no feed {feed}, which lease {lease} is on: cancel the lease first")]
    PolicyDropsFeed {
        /// The first lease whose feed is missing.
        lease: LeaseId,
        feed: FeedId,
    },
    /// The wall clock was stepped, so it is not known when the lease would start.
    #[error(
        "the wall clock was stepped: nothing is committed until it is set right or the process restarted"
    )]
    ClockStepped,
    /// The ledger's disk is full.
    #[error("the ledger has no room: nothing was committed")]
    LedgerFull,
    #[error("the ledger failed: nothing was committed")]
    LedgerFailed,
}

impl From<&WriteError> for Refused {
    fn from(error: &WriteError) -> Self {
        match error {
            WriteError::Full(_) => Self::LedgerFull,
            WriteError::Failed(_) | WriteError::Busy | WriteError::Closed => Self::LedgerFailed,
        }
    }
}

/// The maximum number of open leases.
const OPEN: usize = 10_000;

impl Core {
    pub(super) fn command(
        &mut self,
        number: u64,
        command: Command,
        wall: Timestamp,
        now: Instant,
        outputs: &mut Outputs,
    ) {
        let answer = match command {
            Command::Admit(request) => Some(match self.judge(&request, wall) {
                Ok(admission) => {
                    Answer::Admitted(Box::new(self.admission_answer(&admission, wall)))
                }
                Err(refused) => Answer::Refused(refused),
            }),
            Command::Commit(request, key) => self.commit(number, &request, key, wall),
            Command::Cancel { lease, force } => self.cancel(number, &lease, force, wall),
            Command::CancelDryRun { lease, force } => Some(self.cancel_dry_run(&lease, force)),
            Command::Amend { lease, end, dry_run } => {
                self.amend(number, &lease, end, dry_run, wall)
            }
            Command::Leases(query) => Some(Answer::Leases(self.leases_answer(&query))),
            Command::Lease(id) => Some(self.committed(&id, false)),
            Command::Plan => Some(Answer::Plan(Box::new(self.plan_view()))),
            Command::Status => Some(Answer::Status(Box::new(self.status_view(wall, now)))),
            Command::Feeds => Some(Answer::Feeds(self.feeds_answer(wall, now))),
            Command::Machines { after, limit } => {
                let answer = self.machines_answer(after.as_deref(), limit, wall, now);
                Some(Answer::Machines(answer))
            }
            Command::Adopt { machines, wake, by } => {
                self.adopt(number, &machines, wake, by, wall, now)
            }
            Command::Head => Some(Answer::Head(self.head_answer())),
            Command::Policy(policy) => Some(self.change_policy(policy, wall)),
            Command::File { kind, notice } => {
                self.note_file(kind, notice, wall);
                Some(Answer::Done)
            }
        };
        outputs.answers.extend(answer.map(|answer| (number, answer)));
    }

    /// The current state of the lease; `fresh` if it was committed just now.
    pub(super) fn committed(&self, id: &LeaseId, fresh: bool) -> Answer {
        match self.lease_answer(id) {
            Some(answer) if fresh => Answer::Committed(Box::new(answer)),
            Some(answer) => Answer::Lease(Box::new(answer)),
            None => Answer::Refused(Refused::UnknownLease(id.clone())),
        }
    }

    /// The open leases and those being written: a new lease must fit beside them.
    pub(super) fn promised(&self) -> Vec<Cow<'_, Lease>> {
        let pending = self.outbox.pending().filter_map(|event| match event {
            Event::LeaseCommitted { lease, .. } => Some(lease),
            _ => None,
        });
        let mut promised: Vec<Cow<'_, Lease>> =
            self.leases.iter().chain(pending).map(Cow::Borrowed).collect();
        for event in self.outbox.pending() {
            // What is given back stays promised until that is durable.
            if let Event::LeaseAmended { lease, end, end_before, .. } = event
                && end > end_before
                && let Some(longer) = promised.iter_mut().find(|other| other.id == *lease)
            {
                longer.to_mut().end = *end;
            }
        }
        promised
    }

    fn judge(&self, request: &LeaseRequest, wall: Timestamp) -> Result<Admission, Refused> {
        if self.stepped.is_some() {
            return Err(Refused::ClockStepped);
        }
        let promised = self.promised();
        if promised.len() >= OPEN {
            return Err(Refused::TooManyLeases { limit: OPEN });
        }
        let taken = |id: &LeaseId| {
            self.state.leases.contains_key(id) || promised.iter().any(|other| other.id == *id)
        };
        let pending = promised.len() - self.leases.len();
        let count = self.state.committed + pending as u64 + 1;
        // Skip generated names that a client has chosen itself.
        let mut made_up = (count..).map(|count| LeaseId::from(format!("lease-{count}")));
        let fallback = made_up.find(|id| !taken(id)).expect("not every number is taken");
        let lease = request.check(&self.policy.facility, fallback, wall)?;
        if taken(&lease.id) {
            return Err(Refused::LeaseExists(lease.id));
        }
        Ok(admit::admit(
            &self.policy,
            &self.fleet.population,
            promised.iter().map(|lease| &**lease),
            lease,
            wall,
        )?)
    }

    fn commit(
        &mut self,
        number: u64,
        request: &LeaseRequest,
        key: Option<String>,
        wall: Timestamp,
    ) -> Option<Answer> {
        let digest = const_hex::encode(Sha256::digest(
            serde_json::to_vec(request).expect("plain data becomes JSON"),
        ));
        if let Some(key) = &key {
            if let Some((lease, asked)) = self.state.by_key(key) {
                let same = asked == digest;
                return Some(if same {
                    self.committed(lease, false)
                } else {
                    Answer::Refused(Refused::KeyReused)
                });
            }
            let in_use = |event: &Event| matches!(event, Event::LeaseCommitted { origin: Some(origin), .. } if origin.key == *key);
            if self.outbox.pending().any(in_use) {
                return Some(Answer::Refused(Refused::KeyPending));
            }
        }
        let judged = match self.outbox.failure() {
            Some(error) => Err(Refused::from(error)),
            None => self.judge(request, wall),
        };
        match judged {
            Ok(Admission { lease, arithmetic, latest_safe_start, .. }) => {
                let origin = key.map(|key| Origin { key, digest });
                let latest_safe_start = Some(latest_safe_start);
                let event = Event::LeaseCommitted { lease, arithmetic, latest_safe_start, origin };
                self.queue(event, wall, Some(number));
                None
            }
            Err(refused) => {
                self.tally.refused += 1;
                Some(Answer::Refused(refused))
            }
        }
    }

    fn cancel(
        &mut self,
        number: u64,
        id: &LeaseId,
        force: bool,
        wall: Timestamp,
    ) -> Option<Answer> {
        let phase = match self.may_cancel(id, force) {
            Ok(Some(phase)) => phase,
            // A repeated cancellation gets the same answer again.
            Ok(None) => return Some(self.committed(id, false)),
            Err(refused) => return Some(Answer::Refused(refused)),
        };
        let event = Event::LeaseCancelled { lease: id.clone(), cancelled_at: self.schedule, phase };
        self.queue(event, wall, Some(number));
        None
    }

    /// The phase in which a lease would be cancelled; `None` if it was cancelled before.
    pub(super) fn may_cancel(&self, id: &LeaseId, force: bool) -> Result<Option<Phase>, Refused> {
        let Some(standing) = self.state.leases.get(id) else {
            return Err(Refused::UnknownLease(id.clone()));
        };
        let phase = self.commitments.get(id).map_or(standing.phase, |commitment| commitment.phase);
        if standing.lease.cancelled_at.is_some() {
            return Ok(None);
        }
        if phase >= Phase::Releasing {
            let (lease, ended) =
                (id.clone(), when(standing.lease.end, self.policy.facility.timezone()));
            return Err(Refused::LeaseOver { lease, ended, phase });
        }
        if phase == Phase::Active && !force {
            return Err(Refused::LeaseActive(id.clone()));
        }
        match self.outbox.failure() {
            Some(error) => Err(Refused::from(error)),
            None => Ok(Some(phase)),
        }
    }

    /// Records why a file is not in force. The same reason again does not change the recorded time.
    fn note_file(&mut self, kind: FileKind, notice: Option<FileFault>, wall: Timestamp) {
        let place = match kind {
            FileKind::Policy => &mut self.policy_refused,
            FileKind::Configuration => &mut self.configuration_not_applied,
        };
        *place = notice.map(|FileFault { file, why }| {
            let before = place.take().filter(|before| before.file == file && before.why == why);
            before.unwrap_or(FileNotice { at: wall, file, why })
        });
    }

    /// Puts `policy` into force. A lease that does not fit any more is short from then on: what must be
    /// lowered is lowered, whatever was promised.
    fn change_policy(&mut self, policy: Arc<Policy>, wall: Timestamp) -> Answer {
        if policy.digest == self.policy.digest {
            return Answer::Done;
        }
        let dropped = |lease: &Cow<'_, Lease>| {
            wall < lease.ends() && policy.facility.feeds().number(&lease.feed).is_none()
        };
        if let Some(lease) = self.promised().into_iter().find(dropped) {
            let (lease, feed) = (lease.id.clone(), lease.feed.clone());
            return self.refuse_policy(
                &policy.digest,
                Refused::PolicyDropsFeed { lease, feed },
                wall,
            );
        }
        let waiting = self.inventory.waiting();
        self.inventory.regroup(&policy);
        let mut fleet = self.inventory.fleet_of(&policy);
        let claimed = self.newly_claimed(&policy, waiting);
        let corrections = self.carried_corrections(&policy, &fleet, &claimed);
        fleet.corrections.clone_from(corrections.planned());
        fleet.commands.clone_from(&self.fleet.population.commands);
        self.tally.policies_loaded += 1;
        self.note(
            Event::PolicyLoaded { digest: policy.digest.clone(), revision: policy.revision },
            wall,
        );
        self.plausible = self.carried_plausibility(&policy);
        let (supplies, dropped) = self.carried_supplies(&policy);
        self.supplies = supplies;
        self.note_supply(dropped, wall);
        self.policy = policy;
        self.keep_from_work(claimed, wall);
        self.sums = FeedSums::new(self.policy.facility.feeds());
        self.corrections = corrections;
        self.count_leases();
        self.regroup_raises();
        self.tell_claims = true;
        self.guards.forget_table();
        // What the meters show must count in the first plan under the new policy.
        (self.unseen, self.looked_at) = (true, None);
        (self.policy_refused, self.refused_last) = (None, None);
        (self.census, self.next_look_is_whole) = (Census::default(), true);
        self.fleet.groups = vec![Vec::new(); self.policy.facility.groups().len()];
        self.fleet.population = fleet;
        self.need_plan();
        Answer::Done
    }

    /// The machines of `waiting`, which had no work because no group claimed them, that get work by
    /// `policy`, with their groups.
    fn newly_claimed(
        &self,
        policy: &Policy,
        waiting: Vec<MachineId>,
    ) -> Vec<(MachineId, Option<usize>)> {
        let claims = policy.claims();
        let claimed = waiting.into_iter().filter(|machine| claims.claims(machine));
        claimed
            .map(|machine| {
                let group = self.inventory.group(policy, &machine);
                (machine, group)
            })
            .collect()
    }

    /// Keeps machines from work that a new policy claims until the plan, and a permit, let them have it
    /// in their turns.
    fn keep_from_work(&mut self, claimed: Vec<(MachineId, Option<usize>)>, at: Timestamp) {
        for (machine, group) in claimed {
            // One that no group claims is neither planned nor shed.
            let Some(group) = group else { continue };
            let group = &self.policy.facility.groups()[group];
            let chosen = Chosen {
                group: group.id.clone(),
                cause: Cause::Room(group.feed.clone()),
                at,
                until: None,
                edge: None,
                means: Means::Starve,
                passed_on: false,
            };
            self.selection.off.entry(machine).or_insert_with(|| vec![chosen]);
        }
        self.counted = None;
    }

    /// Records once that a policy was refused: the same file may be read again at any time.
    fn refuse_policy(&mut self, digest: &str, refused: Refused, wall: Timestamp) -> Answer {
        let (digest, why) = (digest.to_owned(), refused.to_string());
        let known = self.refused_last.replace((digest.clone(), why.clone()));
        if known != self.refused_last {
            self.tally.policies_refused += 1;
            self.note(Event::PolicyRefused { digest, why, shortfall: Watts::ZERO }, wall);
        }
        Answer::Refused(refused)
    }
}
