//! Errors as the API says them: a status, and `{"error": {"code", "message", "field"}}` with what
//! else a program needs.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::arithmetic;
use crate::admit::{Line, Refusal};
use crate::core::Refused;

/// An error on its way to the client: what every role says, and the figures of a refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    error: daemon::admin::ApiError,
    figures: Map<String, Value>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self { error: daemon::admin::ApiError::new(status, code, message), figures: Map::new() }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.figures.insert(key.to_owned(), value.into());
        self
    }

    fn field(self, field: &str) -> Self {
        Self { error: self.error.field(field), ..self }
    }

    /// A field of the request is wrong.
    pub(super) fn bad(field: &str, what: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", what).field(field)
    }

    /// The switchboard does not answer.
    pub(super) fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the switchboard is too busy or stopping: try again",
        )
    }

    fn short(code: &'static str, message: &str, worst: &Line, lines: &[Line]) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
            .with("feed", worst.feed.as_str())
            .with("from", worst.from.to_string())
            .with("to", worst.to.to_string())
            .with("shortfall_kw", worst.short().kw())
            .with("shortfall_watts", worst.short().0)
            .with("arithmetic", lines.iter().map(arithmetic).collect::<Vec<_>>())
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, &message);
        let failed = |code| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, &message);
        match refused {
            Refused::BadRequest(bad) => Self::bad(bad.field, &bad.what),
            Refused::Refusal(refusal) => match refusal {
                Refusal::DoesNotFit { worst, arithmetic } => {
                    Self::short("does_not_fit", &message, &worst, &arithmetic)
                }
                Refusal::NeedsUnverified { worst, arithmetic } => {
                    Self::short("needs_accept_unverified", &message, &worst, &arithmetic)
                }
                Refusal::NotProvable { feed } => {
                    conflict("not_provable").with("feed", feed.as_str())
                }
                Refusal::TooLate { missing, latest_safe_start, .. } => conflict("too_late")
                    .with("missing_secs", missing.as_secs())
                    .with("latest_safe_start", latest_safe_start.to_string()),
            },
            Refused::UnknownLease(_) => Self::new(StatusCode::NOT_FOUND, "unknown_lease", &message),
            Refused::LeaseExists(_) => conflict("lease_exists").field("id"),
            Refused::KeyReused => conflict("idempotency_key_reused"),
            Refused::KeyPending => conflict("idempotency_key_pending"),
            Refused::LeaseActive(_) => conflict("lease_active"),
            Refused::TooManyLeases { .. } => conflict("too_many_leases"),
            Refused::PolicyShort { .. } => conflict("policy_short"),
            Refused::LedgerFull => failed("ledger_full"),
            Refused::ClockStepped => failed("clock_step"),
            Refused::LedgerFailed => failed("ledger_failed"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.figures.is_empty() {
            return self.error.into_response();
        }
        let mut error = self.figures;
        error.insert("code".to_owned(), self.error.code.into());
        error.insert("message".to_owned(), self.error.message.into());
        (self.error.status, Json(json!({ "error": error }))).into_response()
    }
}
