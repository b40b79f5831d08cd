//! How each firmware gets from a fresh connection to its first job.

use std::sync::Arc;

use serde_json::Value;

use super::{Brain, Ending, Stage};
use crate::miner::config::Model;
use crate::miner::lines;
use crate::wire::Envelope;

impl Brain {
    pub(super) fn configured(&mut self, reply: &Envelope<'_>) {
        let asked = self.config.model.asked_mask(self.config.rolling).unwrap_or(0);
        let Some(session) = &mut self.session else { return };
        session.mask = lines::granted_mask(reply) & asked;
        self.subscribe();
    }

    pub(super) fn subscribe(&mut self) {
        if self.config.model == Model::Bfgminer {
            self.say(lines::SUGGEST_TARGET);
        }
        let id = self.request_id();
        if let Some(session) = &mut self.session {
            session.stage = Stage::Subscribing;
        }
        self.say(&lines::subscribe(self.config.model, &id, self.bare_subscribe));
    }

    pub(super) fn subscribed(&mut self, reply: &Envelope<'_>) {
        let Some((extranonce1, size)) = lines::subscription(reply) else { return self.end(Ending::Handshake) };
        let changed = self.last_size.replace(size).is_some_and(|last| last != size);
        self.counts.extranonce_size_changes += u64::from(changed);
        let id = match self.config.model {
            Model::Bfgminer => "\"auth\"".to_owned(),
            _ => self.request_id(),
        };
        let Some(session) = &mut self.session else { return };
        session.extranonce1 = extranonce1;
        session.extranonce2_size = size;
        session.stage = Stage::Authorizing;
        session.asked.insert(id.clone());
        let config = Arc::clone(&self.config);
        self.say(&lines::authorize(&id, &config.worker, &config.password));
    }

    pub(super) fn authorized(&mut self, reply: &Envelope<'_>) {
        if reply.result != Value::Bool(true) {
            return self.end(Ending::Handshake);
        }
        let Some(session) = &mut self.session else { return };
        session.stage = Stage::Ready;
        self.bare_subscribe = false;
        if self.config.model == Model::Cpuminer {
            session.asked.insert("3".to_owned());
            // 4 is every submit's.
            session.next_id = 4;
            self.say(lines::EXTRANONCE_SUBSCRIBE);
        }
    }

    /// Takes the next id for a handshake request.
    pub(super) fn request_id(&mut self) -> String {
        let Some(session) = &mut self.session else { return "0".to_owned() };
        let id = session.take_id();
        session.asked.insert(id.clone());
        id
    }
}
