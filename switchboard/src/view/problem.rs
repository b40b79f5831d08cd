//! Errors in API answers: a code for programs, a message for people, and the figures of a refusal.

use directive::{FeedId, Watts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LineView;
use crate::lease::Mistake;

/// The body of every error answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    pub error: ErrorView,
}

/// One field of a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MistakeView {
    pub field: String,
    pub message: String,
}

impl From<&Mistake> for MistakeView {
    fn from(mistake: &Mistake) -> Self {
        Self { field: mistake.field.to_owned(), message: mistake.what.clone() }
    }
}

/// The error. Fields without a value are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorView {
    pub code: String,
    pub message: String,
    /// The field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Every field that is wrong, if the request could be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<MistakeView>,
    /// The feed that cannot carry the lease; `from` and `to` are the interval in which it lacks
    /// most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<FeedId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_kw: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_watts: Option<Watts>,
    /// By how many seconds the lease is too late, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_secs: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_safe_start: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arithmetic: Vec<LineView>,
}
