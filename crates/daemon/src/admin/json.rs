//! JSON bodies of requests. If one cannot be read, the error names the path of the field at fault.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;

use super::ApiError;

/// A request body as JSON. A body that the type refuses (unknown fields with `deny_unknown_fields`,
/// duplicate or missing fields, numbers out of range) is answered with a 400 that names the field,
/// another content type with a 415, a body that is too long with a 413.
#[derive(Debug, Clone, Copy)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(wrong_type());
        }
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| {
                match rejection.into_response().status() {
                    StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "body_too_long",
                        "the body is too long",
                    ),
                    _ => ApiError::bad_request("unreadable_body", "the body could not be read"),
                }
            })?;
        from_json(&bytes).map(Self)
    }
}

/// Reads JSON by the rules for a request body. Returns a 400 with the path of the field at fault.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|err| {
        let message = err.inner().to_string();
        let path = full_path(&err.path().to_string(), &message);
        let error = ApiError::bad_request("invalid_body", message);
        if path.is_empty() { error } else { error.field(path) }
    })?;
    reader.end().map_err(|err| ApiError::bad_request("invalid_body", err.to_string()))?;
    Ok(value)
}

/// The path of the field at fault. For a missing or repeated field, serde's path leads to the
/// object, and only its message names the field.
fn full_path(path: &str, message: &str) -> String {
    let path = if path == "." { "" } else { path };
    let named = ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start));
    match named.and_then(|rest| rest.split('`').next()) {
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None => path.to_owned(),
    }
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(one), None) = (given.next(), given.next()) else { return false };
    let kind = one.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

pub(super) fn wrong_type() -> ApiError {
    let message = "send the header content-type: application/json";
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Lease {
        kw: u32,
        #[serde(default)]
        tranches: Vec<Tranche>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tranche {
        kw: u32,
    }

    #[test]
    fn a_good_body_is_read() {
        let lease: Lease = from_json(br#"{"kw":5,"tranches":[{"kw":1}]}"#).unwrap();
        assert_eq!(lease, Lease { kw: 5, tranches: vec![Tranche { kw: 1 }] });
    }

    #[test]
    fn a_bad_body_names_the_field() {
        let deep = format!("{{\"tranches\":{}", "[".repeat(100_000));
        for (body, field, says) in [
            (r#"{"kw":-1}"#, Some("kw"), "invalid value: integer `-1`"),
            (r#"{"kw":1.5}"#, Some("kw"), "floating point `1.5`"),
            (r#"{"kw":"5"}"#, Some("kw"), "string \"5\""),
            (r#"{"kw":null}"#, Some("kw"), "invalid type: null"),
            (r#"{"kw":9223372036854775808}"#, Some("kw"), "9223372036854775808"),
            (r#"{"kw":NaN}"#, Some("kw"), "expected"),
            (r#"{"kw":1,"tranches":[{"kw":1},{"kw":-2}]}"#, Some("tranches[1].kw"), "`-2`"),
            (r#"{"kw":1,"kwh":2}"#, Some("kwh"), "unknown field `kwh`"),
            (r#"{"kw":1,"kw":2}"#, Some("kw"), "duplicate field `kw`"),
            (r#"{}"#, Some("kw"), "missing field `kw`"),
            (r#"{"kw":1,"tranches":[{}]}"#, Some("tranches[0].kw"), "missing field `kw`"),
            (r#"{"kw":1} x"#, None, "trailing characters"),
            ("", None, "EOF"),
            (&deep, Some("tranches[0][0]"), "sequence"),
        ] {
            let err = from_json::<Lease>(body.as_bytes()).unwrap_err();
            assert_eq!(err.status, StatusCode::BAD_REQUEST);
            assert_eq!(err.field.as_deref(), field, "{body:.60}: {err}");
            assert!(err.message.contains(says), "{body:.60}: {err}");
        }
    }

    #[test]
    fn only_json_counts_as_json() {
        for (kinds, want) in [
            (&["application/json"][..], true),
            (&["Application/JSON; charset=utf-8"], true),
            (&[], false),
            (&["text/plain"], false),
            (&["text/plain; application/json"], false),
            (&["application/json", "text/plain"], false),
        ] {
            let mut headers = HeaderMap::new();
            for kind in kinds {
                headers.append(header::CONTENT_TYPE, kind.parse().unwrap());
            }
            assert_eq!(is_json(&headers), want, "{kinds:?}");
        }
    }
}
