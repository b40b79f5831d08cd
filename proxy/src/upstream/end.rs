//! Why a connection to a pool ended, or could not be made: whose side it was, when to try again, and
//! whether somebody should look at it.
//!
//! What is known beside the reason is text for people ([`Fault::detail`]), which no code reads.

use crate::label::labels;
use crate::reasons::Alarm;
use crate::tls::TlsFault;

labels! {
    /// Why a connection to a pool ended.
    pub(crate) enum End {
        /// We stop.
        Shutdown = "shutdown",
        /// Our own failure, most likely over something the pool said.
        Panicked = "panicked",
        /// No connection: name lookup or TCP.
        Connect = "connect",
        /// The pool closed it.
        Closed = "closed",
        Read = "read",
        Write = "write",
        /// The pool asks on and on and does not read our answers.
        NotReading = "not_reading",
        /// More than a line may have, without a newline.
        LineTooLong = "upstream_line_too_long",
        /// A line that is no Stratum message.
        Malformed = "malformed",
        /// Not subscribed and authorized in time.
        HandshakeTimeout = "handshake_timeout",
        /// The pool refuses our user.
        AuthFailed = "auth_failed",
        /// The pool's answer to the handshake is of no use to us.
        Unusable = "unusable",
        /// Several unreadable jobs in a row.
        BadJobs = "bad_jobs",
        /// Too many answers to nothing we asked.
        UnmatchedAnswers = "unmatched_answers",
        /// The pool refuses all our shares.
        RejectsAll = "rejects_all",
        /// The pool answers nothing.
        Silent = "silent",
        /// No jobs for long, while other connections of the target had some.
        Quiet = "quiet",
        /// The pool lives, but this connection never had a job.
        NoJob = "no_job",
        /// The pool asked us to connect anew.
        Reconnect = "reconnect",
        /// It brings no search space that another connection does not have.
        AddsNoSpace = "adds_no_space",
        /// The pool's extranonce has no room for what miners were given.
        DoesNotFit = "does_not_fit",
        ;
        Tls(TlsFault),
    }
}

labels! {
    /// On whose side the reason is most likely to be found.
    pub(crate) enum Blame {
        Pool = "pool",
        Network = "network",
        Us = "us",
    }
}

/// What is waited for before the next attempt: [`super::backoff`] knows how long that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// It may work in a moment.
    Soon,
    /// Whoever changed our bytes can do so again at once.
    Tampered,
    /// It will not work before somebody has changed something.
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

    /// The alarm that is raised by it, if any.
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

/// Why a connection ended or could not be made, and what is known of it beside.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) end: End,
    /// For people.
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

    /// An operator who sees an alarm looks for the same word in `last_fault` and in the log.
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
