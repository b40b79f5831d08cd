//! Why a connection to a pool ended or could not be made: on whose side the cause is, when to try
//! again, and whether it raises an alarm.
//!
//! Further details are text for people ([`Fault::detail`]), which no code reads.

use crate::label::labels;
use crate::reasons::Alarm;
use crate::tls::TlsFault;

labels! {
    /// Why a connection to a pool ended.
    pub(crate) enum End {
        /// This process is stopping.
        Shutdown = "shutdown",
        /// Our own code panicked, most likely because of something the pool sent.
        Panicked = "panicked",
        /// No connection could be made: name lookup or TCP failed.
        Connect = "connect",
        /// The pool closed the connection.
        Closed = "closed",
        Read = "read",
        Write = "write",
        /// The pool keeps sending requests and does not read our answers.
        NotReading = "not_reading",
        /// The pool sent more bytes than a line may have, without a newline.
        LineTooLong = "upstream_line_too_long",
        /// The pool sent a line that is not a Stratum message.
        Malformed = "malformed",
        /// The handshake did not end in time.
        HandshakeTimeout = "handshake_timeout",
        /// The pool refuses our user.
        AuthFailed = "auth_failed",
        /// The pool's answer to the handshake cannot be used.
        Unusable = "unusable",
        /// The pool sent several unreadable jobs in a row.
        BadJobs = "bad_jobs",
        /// The pool sent too many answers to requests that we did not send.
        UnmatchedAnswers = "unmatched_answers",
        /// The pool refuses all our shares.
        RejectsAll = "rejects_all",
        /// The pool answers nothing.
        Silent = "silent",
        /// This connection got no job for long, while others of the target did.
        Quiet = "quiet",
        /// The pool is alive, but this connection never got a job.
        NoJob = "no_job",
        /// The pool asked us to reconnect.
        Reconnect = "reconnect",
        /// The connection's search space is the same as that of another connection.
        AddsNoSpace = "adds_no_space",
        /// The pool's extranonce2 is too short for the extranonce2 size that miners have.
        DoesNotFit = "does_not_fit",
        ;
        Tls(TlsFault),
    }
}

labels! {
    /// On whose side the cause most likely is.
    pub(crate) enum Blame {
        Pool = "pool",
        Network = "network",
        Us = "us",
    }
}

/// When another attempt may succeed; [`super::backoff`] decides how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Another attempt may succeed in a moment.
    Soon,
    /// Bytes were changed in transit, and the attacker can do that again at once.
    Tampered,
    /// Every attempt will fail until somebody has changed something.
    Patient,
}

impl End {
    pub(super) const fn blame(self) -> Blame {
        match self {
            Self::Shutdown | Self::Panicked => Blame::Us,
            Self::Connect | Self::Read | Self::Write => Blame::Network,
            Self::Tls(TlsFault::Tampered | TlsFault::Closed) => Blame::Network,
            Self::Closed
            | Self::NotReading
            | Self::LineTooLong
            | Self::Malformed
            | Self::HandshakeTimeout
            | Self::AuthFailed
            | Self::Unusable
            | Self::BadJobs
            | Self::UnmatchedAnswers
            | Self::RejectsAll
            | Self::Silent
            | Self::Quiet
            | Self::NoJob
            | Self::Reconnect
            | Self::AddsNoSpace
            | Self::DoesNotFit
            | Self::Tls(_) => Blame::Pool,
        }
    }

    pub(super) const fn retry(self) -> Retry {
        match self {
            Self::AuthFailed | Self::RejectsAll | Self::AddsNoSpace | Self::DoesNotFit => {
                Retry::Patient
            }
            Self::Tls(TlsFault::Tampered) => Retry::Tampered,
            Self::Tls(fault) if fault.is_identity() => Retry::Patient,
            Self::Shutdown
            | Self::Panicked
            | Self::Connect
            | Self::Closed
            | Self::Read
            | Self::Write
            | Self::NotReading
            | Self::LineTooLong
            | Self::Malformed
            | Self::HandshakeTimeout
            | Self::Unusable
            | Self::BadJobs
            | Self::UnmatchedAnswers
            | Self::Silent
            | Self::Quiet
            | Self::NoJob
            | Self::Reconnect
            | Self::Tls(_) => Retry::Soon,
        }
    }

    /// Returns the alarm that this end raises, if any.
    pub(super) const fn alarm(self) -> Option<Alarm> {
        Some(match self {
            Self::NotReading => Alarm::NotReading,
            Self::LineTooLong => Alarm::UpstreamLineTooLong,
            Self::Malformed => Alarm::Malformed,
            Self::HandshakeTimeout => Alarm::HandshakeTimeout,
            Self::AuthFailed => Alarm::AuthFailed,
            Self::Unusable => Alarm::Unusable,
            Self::BadJobs => Alarm::BadJobs,
            Self::UnmatchedAnswers => Alarm::UnmatchedAnswers,
            Self::RejectsAll => Alarm::RejectsAll,
            Self::Silent => Alarm::Silent,
            Self::AddsNoSpace => Alarm::NoSearchSpace,
            Self::DoesNotFit => Alarm::DoesNotFit,
            Self::Tls(fault) => Alarm::Tls(fault),
            Self::Shutdown
            | Self::Panicked
            | Self::Connect
            | Self::Closed
            | Self::Read
            | Self::Write
            | Self::Quiet
            | Self::NoJob
            | Self::Reconnect => return None,
        })
    }

    /// Whether the peer is not the pool we want.
    pub(super) const fn is_identity(self) -> bool {
        matches!(self, Self::Tls(fault) if fault.is_identity())
    }
}

/// Why a connection ended or could not be made, with details.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) end: End,
    /// Details for people.
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn new(end: End, detail: impl Into<String>) -> Self {
        Self { end, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::Label as _;

    /// Alarms and ends have the same labels, so that an operator finds the label of an alarm in
    /// `last_fault` and in the log.
    #[test]
    fn an_alarm_is_called_as_the_end_that_raises_it() {
        for end in [
            End::NotReading,
            End::LineTooLong,
            End::Malformed,
            End::HandshakeTimeout,
            End::AuthFailed,
            End::Unusable,
            End::BadJobs,
            End::UnmatchedAnswers,
            End::RejectsAll,
            End::Silent,
            End::DoesNotFit,
            End::Tls(TlsFault::PinMismatch),
        ] {
            assert_eq!(end.alarm().map(|alarm| alarm.label()), Some(end.label()));
        }
        assert_eq!(End::AddsNoSpace.alarm(), Some(Alarm::NoSearchSpace), "the one exception");
        assert_eq!(End::Quiet.alarm(), None, "its neighbours have work");
    }
}
