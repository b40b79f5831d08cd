//! Log lines about a target's connections. There may be thousands of them (a passthrough has one
//! for each miner), so lines are limited by kind and target ([`crate::log_limit`]).

use tracing::{error, info, warn};

use super::end::{End, Fault};
use crate::label::Label as _;
use crate::log_limit::LogLimit;
use crate::reasons::Alarm;

/// Kinds of events of a target's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// A connection has its first job.
    Work,
    /// A connection ended.
    Lost(End),
    /// The pool changed the extranonce of a connection.
    Extranonce,
    /// The pool asked a connection to reconnect.
    Reconnect,
    /// The pool did something that raises this alarm.
    Odd(Alarm),
}

/// Limits how often each kind of event is logged for one target.
pub(crate) type PoolNews = LogLimit<News>;

/// Logs how many events of each kind there were at a target since the kind was logged last. They
/// may be of many connections, or of one that is tried again and again.
pub(super) fn log_again(target: &str, due: Vec<(News, u64)>) {
    for (news, more) in due {
        match news {
            News::Work => info!(%target, more, "upstream connection has work again"),
            News::Lost(end) => {
                warn!(%target, reason = end.label(), more, "upstream connection lost again");
            }
            News::Extranonce => info!(%target, more, "pool changed our extranonce again"),
            News::Reconnect => info!(%target, more, "pool asked to reconnect again"),
            News::Odd(alarm) => {
                warn!(%target, what = alarm.label(), more, "pool did the same again");
            }
        }
    }
}

/// Logs why a connection ended.
pub(super) fn log_lost(fault: &Fault, retry_ms: Option<u64>) {
    let Fault { end, detail } = fault;
    let (reason, blame) = (end.label(), end.blame().label());
    if end.is_identity() {
        error!(reason, blame, ?detail, retry_ms, "this is not our pool");
    } else if *end == End::DoesNotFit {
        error!(reason, blame, ?detail, retry_ms, "target cannot be used");
    } else {
        warn!(reason, blame, ?detail, retry_ms, "upstream connection lost");
    }
}
