//! Errors as the API says them: a status, and `{"error": {"code", "message", "field"}}` with what else a program needs.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::arithmetic;
use crate::admit::{Line, Refusal};
use crate::core::Refused;

/// An error on its way to the client.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    status: StatusCode,
    error: Map<String, Value>,
}

impl ApiError {
    fn new(status: StatusCode, code: &str, message: &str) -> Self {
        let mut error = Map::new();
        error.insert("code".to_owned(), code.into());
        error.insert("message".to_owned(), message.into());
        Self { status, error }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.error.insert(key.to_owned(), value.into());
        self
    }

    /// A field of the request is wrong.
    pub(super) fn bad(field: &str, what: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", &format!("{field}: {what}")).with("field", field)
    }

    /// The body is no JSON of the wanted shape.
    pub(super) fn unreadable(error: &serde_json::Error) -> Self {
        let message = error.to_string();
        // serde says the field between backticks: "unknown field `x`, expected …", "duplicate field `x`".
        let field = message.split('`').nth(1).filter(|_| message.contains(" field `")).map(str::to_owned);
        let error = Self::new(StatusCode::BAD_REQUEST, "bad_request", &message);
        match field {
            Some(field) => error.with("field", field),
            None => error,
        }
    }

    /// The body does not say that it is JSON.
    pub(super) fn media_type() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "the body must be application/json")
    }

    /// The switchboard does not answer.
    pub(super) fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the switchboard is too busy or stopping: try again")
    }

    fn short(code: &str, message: &str, worst: &Line, lines: &[Line]) -> Self {
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
                Refusal::DoesNotFit { worst, arithmetic } => Self::short("does_not_fit", &message, &worst, &arithmetic),
                Refusal::NeedsUnverified { worst, arithmetic } => {
                    Self::short("needs_accept_unverified", &message, &worst, &arithmetic)
                }
                Refusal::NotProvable { feed } => conflict("not_provable").with("feed", feed.as_str()),
                Refusal::TooLate { missing, latest_safe_start, .. } => conflict("too_late")
                    .with("missing_secs", missing.as_secs())
                    .with("latest_safe_start", latest_safe_start.to_string()),
            },
            Refused::UnknownLease(_) => Self::new(StatusCode::NOT_FOUND, "unknown_lease", &message),
            Refused::LeaseExists(_) => conflict("lease_exists").with("field", "id"),
            Refused::KeyReused => conflict("idempotency_key_reused"),
            Refused::KeyPending => conflict("idempotency_key_pending"),
            Refused::LeaseActive(_) => conflict("lease_active"),
            Refused::TooManyLeases { .. } => conflict("too_many_leases"),
            Refused::PolicyShort { .. } => conflict("policy_short"),
            Refused::LedgerFull => failed("ledger_full"),
            Refused::LedgerFailed => failed("ledger_failed"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error }))).into_response()
    }
}
