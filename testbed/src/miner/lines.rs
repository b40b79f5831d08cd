//! The exact lines of each firmware: handshake and submit, and how their answers are read.

use serde_json::Value;

use super::model::Model;
use crate::arithmetic::parse_bytes;
use crate::wire::Envelope;

/// Returns the configure line.
pub(super) fn configure(model: Model, id: &str, mask: u32) -> String {
    let bits = model
        .habits()
        .min_bit_count
        .map_or_else(String::new, |bits| format!(",\"version-rolling.min-bit-count\":{bits}"));
    format!(
        "{{\"id\":{id},\"method\":\"mining.configure\",\"params\":[[\"version-rolling\"],{{\"version-rolling.mask\":\"{mask:08x}\"{bits}}}]}}"
    )
}

/// Returns the subscribe line. After a failed handshake it has no user agent.
pub(super) fn subscribe(
    model: Model,
    id: &str,
    bare: bool,
    session: Option<&str>,
    host: &str,
) -> String {
    let agent = model.user_agent();
    let params = match (model, session) {
        _ if bare => serde_json::json!([]),
        (Model::BraiinsOs, _) => serde_json::json!([agent, null, host, null]),
        (_, Some(session)) => serde_json::json!([agent, session]),
        (_, None) => serde_json::json!([agent]),
    };
    format!("{{\"id\": {id}, \"method\": \"mining.subscribe\", \"params\": {params}}}")
}

/// Returns the authorize line.
pub(super) fn authorize(model: Model, id: &str, worker: &str, password: &str) -> String {
    let params = serde_json::json!([worker, password]);
    let ttl = if model == Model::Whatsminer { ", \"ttl\": 2" } else { "" };
    format!("{{\"id\": {id}, \"method\": \"mining.authorize\", \"params\": {params}{ttl}}}")
}

/// Returns the line that suggests a difficulty.
pub(super) fn suggest_difficulty(id: &str, difficulty: f64) -> String {
    format!(
        "{{\"id\": {id}, \"method\": \"mining.suggest_difficulty\", \"params\": [{difficulty}]}}"
    )
}

/// Returns the line that bmminer of an S9 sends instead of a configure.
pub(super) fn multi_version(id: &str) -> String {
    format!("{{\"id\": {id}, \"method\": \"mining.multi_version\", \"params\": [1]}}")
}

/// The line of bfgminer before its subscribe; it expects no answer.
pub(super) const SUGGEST_TARGET: &str = "{\"id\": null, \"method\": \"mining.suggest_target\", \"params\": [\"00000000ffff0000000000000000000000000000000000000000000000000000\"]}";

/// The line of cpuminer after it is authorized.
pub(super) const EXTRANONCE_SUBSCRIBE: &str =
    "{\"id\": 3, \"method\": \"mining.extranonce.subscribe\", \"params\": []}";

/// Returns the submit line. `params` are worker, job id, extranonce2, ntime, nonce and, if any,
/// version bits.
pub(super) fn submit(model: Model, id: &str, params: &[&str]) -> String {
    let params = serde_json::to_string(params).expect("strings");
    match model {
        Model::Cpuminer | Model::Minerd => {
            format!("{{\"method\": \"mining.submit\", \"params\": {params}, \"id\":{id}}}")
        }
        _ => format!("{{\"params\": {params}, \"id\": {id}, \"method\": \"mining.submit\"}}"),
    }
}

/// Reads extranonce1 and extranonce2_size from a subscribe reply in any of the usual forms.
pub(super) fn subscription(reply: &Envelope<'_>) -> Option<(Vec<u8>, usize)> {
    let fields = reply.result.as_array()?;
    let [.., extranonce1, size] = fields.as_slice() else { return None };
    extranonce(extranonce1, size)
}

/// Reads the session id from a subscribe reply that has a list of pairs.
pub(super) fn session_name<'a>(reply: &'a Envelope<'_>) -> Option<&'a str> {
    reply.result.get(0)?.get(0)?.get(1)?.as_str()
}

/// Whether a configure reply has other keys than those of version rolling.
pub(super) fn has_unasked_keys(reply: &Envelope<'_>) -> bool {
    let asked = ["version-rolling", "version-rolling.mask"];
    reply
        .result
        .as_object()
        .is_some_and(|keys| keys.keys().any(|key| !asked.contains(&key.as_str())))
}

/// Whether a message has an `id` key, null or not.
pub(super) fn has_id_key(line: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, Value>>(line)
        .is_ok_and(|keys| keys.contains_key("id"))
}

/// Reads an extranonce1 and a size.
pub(super) fn extranonce(extranonce1: &Value, size: &Value) -> Option<(Vec<u8>, usize)> {
    let size = usize::try_from(size.as_u64()?).ok().filter(|size| (1..=32).contains(size))?;
    Some((parse_bytes(extranonce1.as_str()?)?, size))
}

/// Reads the mask that a configure reply grants; zero if it grants none.
pub(super) fn granted_mask(reply: &Envelope<'_>) -> u32 {
    if reply.result.get("version-rolling") != Some(&Value::Bool(true)) {
        return 0;
    }
    let mask = reply.result.get("version-rolling.mask").and_then(Value::as_str);
    mask.and_then(|mask| u32::from_str_radix(mask, 16).ok()).unwrap_or(0)
}

/// Returns the key under which a refusal is counted: its code or, without one, its form.
pub(super) fn refusal(answer: &Envelope<'_>) -> String {
    let code = match &answer.error {
        Value::Array(parts) => parts.first(),
        Value::Object(_) => answer.error.get("code"),
        Value::Null => return if answer.result.is_null() { "null" } else { "false" }.to_owned(),
        _ => None,
    };
    match code {
        Some(Value::Number(code)) => code.to_string(),
        Some(Value::String(code)) if code.len() <= 8 => code.clone(),
        _ => "text".to_owned(),
    }
}

/// Reads the address in a `client.reconnect`, if it has one.
pub(super) fn reconnect_to(params: &Value) -> Option<(String, u16)> {
    let host = params.get(0)?.as_str()?;
    let port = params.get(1)?;
    let port = port.as_u64().or_else(|| port.as_str()?.parse().ok())?;
    Some((host.to_owned(), u16::try_from(port).ok()?))
}

/// Whether firmware follows a `client.reconnect` from one host to another: the names must be the
/// same after the first dot.
pub(super) fn same_domain(from: &str, to: &str) -> bool {
    match (from.split_once('.'), to.split_once('.')) {
        (Some((_, from)), Some((_, to))) => from == to,
        _ => from == to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribe_replies_of_all_forms_are_read() {
        for result in [
            r#"[[["mining.notify","6b02"]],"faca026b",8]"#,
            r#"[[["mining.set_difficulty","x"],["mining.notify","x"]],"faca026b",8]"#,
            r#"[["mining.notify","id"],"faca026b",8]"#,
        ] {
            let line = format!("{{\"id\":1,\"result\":{result}}}");
            let reply = Envelope::parse(line.as_bytes()).unwrap();
            assert_eq!(subscription(&reply), Some((vec![0xfa, 0xca, 0x02, 0x6b], 8)), "{result}");
        }
        for result in ["true", "[]", r#"[[],"zz",8]"#, r#"[[],"00",0]"#, r#"[[],"00","8"]"#] {
            let line = format!("{{\"id\":1,\"result\":{result}}}");
            assert_eq!(subscription(&Envelope::parse(line.as_bytes()).unwrap()), None, "{result}");
        }
    }

    #[test]
    fn refusals_are_counted_by_code_where_there_is_one() {
        for (answer, code) in [
            (r#"{"id":4,"result":null,"error":[21,"Job not found",null]}"#, "21"),
            (r#"{"id":4,"result":null,"error":["22","dup"]}"#, "22"),
            (r#"{"id":4,"result":null,"error":{"code":23,"message":"low"}}"#, "23"),
            (r#"{"reject-reason":"Above target","result":false,"error":null,"id":10}"#, "false"),
            (r#"{"result":false,"error":"No nonce","id":16}"#, "text"),
            (r#"{"id":4}"#, "null"),
        ] {
            assert_eq!(refusal(&Envelope::parse(answer.as_bytes()).unwrap()), code, "{answer}");
        }
    }

    #[test]
    fn firmware_follows_only_within_what_it_takes_for_a_domain() {
        assert!(same_domain("a.pool.com", "b.pool.com"));
        assert!(same_domain("pool.com", "evil.com"), "as real firmware does");
        assert!(!same_domain("a.pool.com", "a.evil.com"));
        assert!(same_domain("127.0.0.1", "127.0.0.1"));
        assert!(!same_domain("127.0.0.1", "10.0.0.2"));
    }
}
