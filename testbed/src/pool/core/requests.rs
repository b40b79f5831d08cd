//! The requests that a test pool receives, and its answers.

use serde_json::Value;

use super::{Core, Out};
use crate::clock::Moment;
use crate::pool::config::{Authorize, ErrorForm, ExtranonceSubscribe, SubscribeReply};
use crate::pool::config::{DIFFICULTY_MAX, DIFFICULTY_MIN};
use crate::pool::counts::SubmitOutcome;
use crate::pool::judge::{Submission, VersionRule, weigh};
use crate::pool::{ConnectionId, Mood, Verdicts};
use crate::wire::{Direction, Envelope};

/// How many workers a connection may authorize; more are refused.
const WORKERS_PER_CONNECTION: usize = 64;
/// How many characters of a user agent are kept.
const USER_AGENT_MAX: usize = 128;

impl Core {
    /// Handles a line from a connection.
    pub(in crate::pool) fn line(&mut self, id: ConnectionId, line: &[u8], now: Moment) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.log.push(Direction::In, line);
        let Ok(message) = Envelope::parse(line) else {
            self.counts.bad_lines += 1;
            self.outs.push((id, Out::Close));
            return self.close(id);
        };
        // A message without a method is the answer to a request of this pool, such as
        // client.get_version.
        let Some(method) = message.method.as_deref() else { return };
        if self.mood == Mood::Silent {
            self.counts.ignored_submits += u64::from(method == "mining.submit");
            return;
        }
        match method {
            "mining.submit" => self.submit(id, &message, now),
            "mining.configure" => self.configure(id, &message),
            "mining.subscribe" => self.subscribe(id, &message),
            "mining.authorize" => self.authorize(id, &message),
            "mining.extranonce.subscribe" => self.extranonce_subscribe(id, &message),
            "mining.suggest_difficulty" => self.suggest_difficulty(id, &message),
            "mining.ping" if !self.config.silent_to_unknown => {
                self.answer(id, message.id(), "\"pong\"");
            }
            "client.get_version" => self.answer(id, message.id(), "\"tieline-test-pool\""),
            _ if self.config.silent_to_unknown => {}
            _ => self.refuse(id, message.id(), 20, "Unknown method"),
        }
    }

    fn configure(&mut self, id: ConnectionId, message: &Envelope<'_>) {
        if self.config.early_difficulty {
            self.tell_difficulty(id);
        }
        let (pool_mask, configure_first) = (self.config.version_mask, self.config.configure_first);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if configure_first && connection.subscribed {
            return self.refuse(id, message.id(), 21, "ConfigurationOutOfOrder");
        }
        let Some(extensions) = message.params.get(0).and_then(Value::as_array) else {
            return self.refuse(id, message.id(), 20, "Invalid configure");
        };
        let mut result = serde_json::Map::new();
        for extension in extensions.iter().filter_map(Value::as_str) {
            match extension {
                "version-rolling" => {
                    let asked = asked_mask(message.params.get(1));
                    let granted = asked.unwrap_or(0) & pool_mask.unwrap_or(0);
                    connection.asked_mask = asked;
                    connection.counts.version_mask = granted;
                    result.insert("version-rolling".into(), (granted != 0).into());
                    if granted != 0 {
                        result
                            .insert("version-rolling.mask".into(), format!("{granted:08x}").into());
                    }
                }
                "subscribe-extranonce" => {
                    let accepted = self.config.extranonce_subscribe == ExtranonceSubscribe::Accept;
                    result.insert("subscribe-extranonce".into(), accepted.into());
                }
                other => {
                    result.insert(other.to_owned(), false.into());
                }
            }
        }
        let granted = connection.counts.version_mask != 0;
        self.answer(id, message.id(), &Value::Object(result).to_string());
        if self.config.early_version_mask && granted {
            self.tell_mask(id);
        }
    }

    fn subscribe(&mut self, id: ConnectionId, message: &Envelope<'_>) {
        let form = self.config.subscribe_reply;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.subscribed = true;
        connection.counts.user_agent =
            message.text(0).map(|agent| agent.chars().take(USER_AGENT_MAX).collect());
        let session = format!("{:08x}", id.0);
        let notify = serde_json::json!(["mining.notify", session]);
        let subscriptions = match form {
            SubscribeReply::OnePair => serde_json::json!([notify]),
            SubscribeReply::TwoPairs => {
                serde_json::json!([["mining.set_difficulty", session], notify])
            }
            SubscribeReply::TwoPairsNotifyFirst => {
                serde_json::json!([notify, ["mining.set_difficulty", session]])
            }
            SubscribeReply::Flat => notify,
        };
        let size = connection.counts.extranonce2_size;
        let size = if self.config.floats { format!("{size}.0") } else { size.to_string() };
        let result = format!("[{subscriptions},\"{}\",{size}]", connection.counts.extranonce1);
        self.answer(id, message.id(), &result);
        self.first_job(id);
    }

    fn authorize(&mut self, id: ConnectionId, message: &Envelope<'_>) {
        let Some(worker) = message.text(0) else {
            return self.refuse(id, message.id(), 24, "Unauthorized worker");
        };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let known = connection.counts.workers.iter().any(|known| known == worker);
        let allowed = match &self.config.authorize {
            Authorize::All => true,
            Authorize::Only(workers) => workers.iter().any(|allowed| allowed == worker),
            Authorize::Nobody => false,
        };
        if !allowed || (!known && connection.counts.workers.len() >= WORKERS_PER_CONNECTION) {
            return self.answer_unauthorized(id, message.id());
        }
        if !known {
            connection.counts.workers.push(worker.to_owned());
        }
        connection.authorized = true;
        let wished = message
            .text(1)
            .and_then(password_difficulty)
            .filter(|_| self.config.honour_suggestions);
        if let Some(wished) = wished {
            connection.counts.difficulty = wished;
        }
        self.answer(id, message.id(), "true");
        self.first_job(id);
        if wished.is_some() {
            self.tell_difficulty(id);
        }
    }

    fn extranonce_subscribe(&mut self, id: ConnectionId, message: &Envelope<'_>) {
        match self.config.extranonce_subscribe {
            ExtranonceSubscribe::Accept => self.answer(id, message.id(), "true"),
            ExtranonceSubscribe::Refuse => self.refuse(id, message.id(), 20, "Not supported."),
            ExtranonceSubscribe::Silence => {}
        }
    }

    fn suggest_difficulty(&mut self, id: ConnectionId, message: &Envelope<'_>) {
        let wished = message.params.get(0).and_then(Value::as_f64).filter(|wished| *wished > 0.0);
        let (Some(wished), true) = (wished, self.config.honour_suggestions) else {
            // This is the message of AntPool, in the form in which it sends it.
            let line = format!(
                "{{\"id\":{},\"result\":null,\"error\":[40,\"unfit, ignore\"]}}",
                message.id()
            );
            return self.reply(id, line);
        };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.counts.difficulty = wished.clamp(DIFFICULTY_MIN, DIFFICULTY_MAX);
        let subscribed = connection.subscribed;
        self.answer(id, message.id(), "true");
        if subscribed {
            self.tell_difficulty(id);
        }
    }

    fn submit(&mut self, id: ConnectionId, message: &Envelope<'_>, now: Moment) {
        if self.verdicts == Verdicts::RejectAll {
            self.counts.rejected_by_order += 1;
            return self.refuse(id, message.id(), 20, "Rejected");
        }
        let submission = Submission::of(message);
        let outcome = self.judge(id, submission.as_ref(), now);
        self.tally(id, submission.map_or("", |submission| submission.worker), |tally| {
            tally.add(&outcome, now.wall);
        });
        if let SubmitOutcome::Stale { age_ms, block } = outcome {
            self.counts.stale_age_ms_max = self.counts.stale_age_ms_max.max(age_ms);
            self.counts.stale_late += u64::from(age_ms > 1000);
            self.counts.stale_blocks += u64::from(block);
        }
        match (self.verdicts, outcome.refusal()) {
            (Verdicts::WrongIds, _) => self.answer(id, "\"nobody\"", "true"),
            (Verdicts::AcceptAll, _) | (_, None) => self.answer(id, message.id(), "true"),
            (_, Some((23, _))) => self.refuse(id, message.id(), 23, self.config.low_words),
            (_, Some((code, why))) => self.refuse(id, message.id(), code, why),
        }
        if self.config.clean_on_block
            && matches!(outcome, SubmitOutcome::Accepted { block: true, .. })
        {
            self.new_job(true, now);
        }
    }

    fn judge(
        &mut self,
        id: ConnectionId,
        submission: Option<&Submission<'_>>,
        now: Moment,
    ) -> SubmitOutcome {
        let malformed = |code, why| SubmitOutcome::Malformed { code, why };
        let Some(connection) = self.connections.get(&id) else {
            return malformed(25, "Not subscribed");
        };
        let Some(submission) = submission else { return malformed(20, "Invalid submit") };
        if !connection.subscribed {
            return malformed(25, "Not subscribed");
        }
        if !connection.counts.workers.iter().any(|worker| worker == submission.worker) {
            return malformed(24, "Unauthorized worker");
        }
        let Some(issued) = connection.issued(submission.job_id) else {
            return SubmitOutcome::UnknownJob;
        };
        let unasked = connection.asked_mask.is_none() && self.config.unasked_rolling;
        let mask = if unasked {
            self.config.version_mask.unwrap_or(0)
        } else {
            connection.counts.version_mask
        };
        if mask != 0 && self.config.wants_version_bits && !submission.has_version_bits() && !unasked
        {
            return malformed(20, "Version bits missing");
        }
        let rule = VersionRule { mask, rolling: self.config.rolling };
        let padded =
            if self.config.short_nonces { submission.padded_nonce() } else { String::new() };
        let read =
            if self.config.short_nonces { submission.with_nonce(&padded) } else { *submission };
        let weighed = match weigh(issued, &read, rule, self.config.ntime_window) {
            Ok(weighed) => weighed,
            Err(why) => return malformed(20, why),
        };
        if let Some(retired) = issued.retired {
            let age_ms = u64::try_from(now.at.saturating_duration_since(retired).as_millis())
                .unwrap_or(u64::MAX);
            return SubmitOutcome::Stale { age_ms, block: weighed.block };
        }
        if !weighed.good {
            return SubmitOutcome::Low;
        }
        let difficulty = issued.difficulty;
        if !self.seen.insert(weighed.hash) {
            return SubmitOutcome::Duplicate;
        }
        SubmitOutcome::Accepted { difficulty, block: weighed.block }
    }

    /// Writes a positive answer. `request` and `result` are JSON.
    fn answer(&mut self, id: ConnectionId, request: &str, result: &str) {
        let error = if self.config.omit_error_key { "" } else { ",\"error\":null" };
        self.reply(id, format!("{{\"id\":{request},\"result\":{result}{error}}}"));
    }

    fn answer_unauthorized(&mut self, id: ConnectionId, request: &str) {
        self.reply(
            id,
            format!(
                "{{\"id\":{request},\"result\":false,\"error\":[24,\"Unauthorized worker\",null]}}"
            ),
        );
    }

    /// Writes a refusal in the form of this pool. `why` is plain text without quotes.
    fn refuse(&mut self, id: ConnectionId, request: &str, code: i32, why: &str) {
        let body = match self.config.error_form {
            ErrorForm::Array => format!("\"result\":null,\"error\":[{code},\"{why}\",null]"),
            ErrorForm::RejectReason => {
                format!("\"result\":false,\"error\":null,\"reject-reason\":\"{why}\"")
            }
            ErrorForm::Text => format!("\"result\":null,\"error\":\"{why}\""),
            ErrorForm::TwoElements => format!("\"result\":null,\"error\":[{code},\"{why}\"]"),
            ErrorForm::StringCode => {
                format!("\"result\":null,\"error\":[\"{code}\",\"{why}\",null]")
            }
            ErrorForm::Negative => format!("\"result\":null,\"error\":[-{code},\"{why}\",null]"),
            ErrorForm::Bare => "\"result\":false".to_owned(),
            ErrorForm::Object => {
                format!("\"result\":null,\"error\":{{\"code\":{code},\"message\":\"{why}\"}}")
            }
        };
        self.reply(id, format!("{{\"id\":{request},{body}}}"));
    }
}

/// Reads the mask that a configure asks for: all bits if it names none, `None` if it is not a mask.
fn asked_mask(parameters: Option<&Value>) -> Option<u32> {
    let Some(mask) = parameters.and_then(|parameters| parameters.get("version-rolling.mask"))
    else {
        return Some(u32::MAX);
    };
    u32::from_str_radix(mask.as_str()?, 16).ok()
}

/// Reads the difficulty in a password such as `x,d=0.001`.
fn password_difficulty(password: &str) -> Option<f64> {
    let wished: f64 =
        password.split([',', ';']).find_map(|part| part.trim().strip_prefix("d="))?.parse().ok()?;
    (wished > 0.0).then(|| wished.clamp(DIFFICULTY_MIN, DIFFICULTY_MAX))
}
