//! The handshake of each firmware, from a new connection to its first job.

use std::sync::Arc;

use serde_json::Value;

use super::{Brain, Ending};
use crate::miner::lines;
use crate::miner::model::{Agreed, Model, Step};
use crate::wire::Envelope;

/// How often a WhatsMiner repeats configure on one connection before it disconnects. A real one
/// never stops.
const REPEATS_MAX: u32 = 8;

impl Brain {
    /// Sends the next request or, if the firmware does not wait for replies, all remaining ones.
    pub(super) fn proceed(&mut self) {
        let habits = self.config.model.habits();
        loop {
            let Some(session) = &mut self.session else { return };
            let Some(step) = habits.steps.get(session.steps) else { return };
            session.steps += 1;
            let asked = self.ask(*step);
            let last =
                self.session.as_ref().is_some_and(|session| session.steps == habits.steps.len());
            if last && habits.pipelined {
                self.suggest();
            }
            if asked && !habits.pipelined {
                return;
            }
        }
    }

    /// Writes one request of the handshake. Returns `false` if the firmware does not send it.
    fn ask(&mut self, step: Step) -> bool {
        let config = Arc::clone(&self.config);
        let id = match (step, config.model) {
            (Step::Configure, model) if model.asked_mask(config.rolling).is_none() => return false,
            (Step::Authorize, Model::Bfgminer) => "\"auth\"".to_owned(),
            _ => self.session.as_mut().map_or_else(String::new, super::Session::take_id),
        };
        let host = self.session.as_ref().map_or_else(String::new, |session| session.host.clone());
        let line = match step {
            Step::Configure => lines::configure(
                config.model,
                &id,
                config.model.asked_mask(config.rolling).unwrap_or(0),
            ),
            Step::Subscribe => {
                if config.model == Model::Bfgminer {
                    self.say(lines::SUGGEST_TARGET);
                }
                lines::subscribe(
                    config.model,
                    &id,
                    self.bare_subscribe,
                    self.last_session.as_deref(),
                    &host,
                )
            }
            Step::Authorize => {
                lines::authorize(config.model, &id, config.kept_name(), &config.password)
            }
        };
        if let Some(session) = &mut self.session {
            session.waiting.push_back((step, id));
        }
        self.say(&line);
        if step == Step::Authorize && config.model == Model::NerdMiner {
            self.suggest();
        }
        true
    }

    /// Handles a line that the firmware takes for the reply to its oldest open request.
    pub(super) fn replied(&mut self, step: Step, reply: &Envelope<'_>) {
        if let Some(session) = &mut self.session
            && let Some(at) = session.waiting.iter().position(|(waiting, _)| *waiting == step)
        {
            session.waiting.remove(at);
        }
        match step {
            Step::Configure => self.configured(reply),
            Step::Subscribe => self.subscribed(reply),
            Step::Authorize => self.authorized(reply),
        }
    }

    fn configured(&mut self, reply: &Envelope<'_>) {
        let habits = self.config.model.habits();
        let config = Arc::clone(&self.config);
        let Some(session) = &mut self.session else { return };
        if habits.fears_unasked_keys && lines::has_unasked_keys(reply) {
            session.repeats += 1;
            self.counts.configure_repeats += 1;
            if session.repeats > REPEATS_MAX {
                return self.end(Ending::Handshake);
            }
            self.ask(Step::Configure);
            return;
        }
        let granted =
            lines::granted_mask(reply) & config.model.asked_mask(config.rolling).unwrap_or(0);
        let (enough, leaves) = match habits.agreed {
            Agreed::Needs(bits) => (granted & bits == bits, false),
            Agreed::Leaves => (granted != 0, true),
            Agreed::MinesWithout | Agreed::RollsAnyway => (true, false),
        };
        self.counts.rolling_off += u64::from(!enough);
        if !enough && leaves {
            return self.end(Ending::Handshake);
        }
        session.set_mask(if enough { granted } else { 0 }, &config);
        self.proceed();
    }

    fn subscribed(&mut self, reply: &Envelope<'_>) {
        let Some((extranonce1, size)) = lines::subscription(reply) else {
            return self.end(Ending::Handshake);
        };
        let model = self.config.model;
        let name = lines::session_name(reply).map(str::to_owned);
        // NerdMiner does not disconnect at a size it does not support. A different model reads the
        // session id only from a nested pair.
        let leaves = match model {
            Model::NerdMiner => name.is_none(),
            _ => !model.takes_extranonce2(size),
        };
        if leaves {
            return self.end(Ending::Handshake);
        }
        self.last_session = name.filter(|_| model.habits().resumes);
        let changed = self.last_size.replace(size).is_some_and(|last| last != size);
        self.counts.extranonce_size_changes += u64::from(changed);
        let Some(session) = &mut self.session else { return };
        session.extranonce1 = extranonce1;
        session.extranonce2_size = size;
        self.proceed();
    }

    fn authorized(&mut self, reply: &Envelope<'_>) {
        if reply.result != Value::Bool(true) {
            return self.end(Ending::Handshake);
        }
        let Some(session) = &mut self.session else { return };
        session.ready = true;
        self.bare_subscribe = false;
        match self.config.model {
            Model::Cpuminer => {
                session.asked.insert("3".to_owned());
                self.say(lines::EXTRANONCE_SUBSCRIBE);
            }
            // It is not known when a real S9 sends this.
            Model::StockS9 => {
                let id = self.request_id();
                self.say(&lines::multi_version(&id));
            }
            _ => {}
        }
        self.proceed();
    }

    fn suggest(&mut self) {
        let id = self.request_id();
        self.say(&lines::suggest_difficulty(&id, self.config.suggestion()));
    }

    /// Takes the next id, for a request whose answer the firmware ignores.
    fn request_id(&mut self) -> String {
        let Some(session) = &mut self.session else { return "0".to_owned() };
        let id = session.take_id();
        session.asked.insert(id.clone());
        id
    }
}
