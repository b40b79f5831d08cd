//! Maps refusals to a status and an [`ErrorView`].

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::admit::{Line, Refusal};
use crate::core::Refused;
use crate::lease::BadRequest;
use crate::view::{ErrorAnswer, ErrorView, LineView, MistakeView};

/// An error answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    status: StatusCode,
    /// Boxed, to keep results with this error small.
    error: Box<ErrorView>,
}

impl ApiError {
    fn new(status: StatusCode, code: &str, message: &str) -> Self {
        let (code, message) = (code.to_owned(), message.to_owned());
        let error = ErrorView { code, message, ..ErrorView::default() };
        Self { status, error: error.into() }
    }

    fn with(mut self, fill: impl FnOnce(&mut ErrorView)) -> Self {
        fill(&mut self.error);
        self
    }

    fn field(self, field: &str) -> Self {
        self.with(|error| error.field = Some(field.to_owned()))
    }

    /// A field of the request is wrong.
    pub(super) fn bad(field: &str, what: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", what).field(field)
    }

    /// Several fields of the request are wrong. The first is also in `field`, as if it were the
    /// only one.
    fn mistaken(bad: &BadRequest, all: &str) -> Self {
        let first = bad.mistakes.first();
        let message = match &bad.mistakes[..] {
            [only] => &only.what,
            _ => all,
        };
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message).with(|error| {
            error.field = first.map(|first| first.field.to_owned());
            error.mistakes = bad.mistakes.iter().map(MistakeView::from).collect();
        })
    }

    /// The switchboard does not answer.
    pub(super) fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the switchboard is too busy or stopping: try again",
        )
    }

    fn short(code: &str, message: &str, worst: &Line, lines: &[Line]) -> Self {
        Self::new(StatusCode::CONFLICT, code, message).with(|error| {
            error.feed = Some(worst.feed.clone());
            error.from = Some(worst.from);
            error.to = Some(worst.to);
            error.missing_kw = Some(worst.short().kw());
            error.missing_watts = Some(worst.short());
            error.arithmetic = lines.iter().map(LineView::from).collect();
        })
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        let conflict = |code: &str| Self::new(StatusCode::CONFLICT, code, &message);
        let failed = |code: &str| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, &message);
        match refused {
            Refused::BadRequest(bad) => Self::mistaken(&bad, &message),
            Refused::Refusal(refusal) => match refusal {
                Refusal::DoesNotFit { worst, arithmetic } => {
                    Self::short("does_not_fit", &message, &worst, &arithmetic)
                }
                Refusal::NeedsUnverified { worst, arithmetic } => {
                    Self::short("needs_accept_unverified", &message, &worst, &arithmetic)
                }
                Refusal::NotProvable { feed } => {
                    conflict("not_provable").with(|error| error.feed = Some(feed))
                }
                Refusal::TooLate { missing, latest_safe_start, .. } => {
                    conflict("too_late").with(|error| {
                        error.missing_secs = Some(missing.as_secs());
                        error.latest_safe_start = Some(latest_safe_start);
                    })
                }
            },
            Refused::UnknownLease(_) => Self::new(StatusCode::NOT_FOUND, "unknown_lease", &message),
            Refused::UnknownMachine(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown_machine", &message).field("machines")
            }
            Refused::LeaseExists(_) => conflict("lease_exists").field("id"),
            Refused::KeyReused => conflict("idempotency_key_reused"),
            Refused::KeyPending => conflict("idempotency_key_pending"),
            Refused::LeaseActive(_) => conflict("lease_active"),
            Refused::LeaseOver { .. } | Refused::LeaseEnded { .. } => conflict("lease_over"),
            Refused::CancelInstead { .. } => conflict("cancel_instead").field("end"),
            Refused::ChangePending(_) => conflict("change_pending"),
            Refused::TooManyLeases { .. } => conflict("too_many_leases"),
            Refused::PolicyDropsFeed { .. } => conflict("policy_drops_feed"),
            Refused::LedgerFull => failed("ledger_full"),
            Refused::ClockStepped => failed("clock_step"),
            Refused::LedgerFailed => failed("ledger_failed"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorAnswer { error: *self.error })).into_response()
    }
}
