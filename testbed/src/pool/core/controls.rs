//! The commands of a running test pool: each changes the state and notifies the connections.

use std::sync::Arc;

use serde_json::Value;

use super::Core;
use crate::clock::Moment;
use crate::pool::config::{ConfigError, check_difficulty, check_extranonce1, check_size};
use crate::pool::{ConnectionId, Mood};

impl Core {
    /// Changes the difficulty of every connection, for jobs from now on.
    pub(in crate::pool) fn set_difficulty(&mut self, difficulty: f64) -> Result<(), ConfigError> {
        check_difficulty(difficulty)?;
        self.config.difficulty = difficulty;
        for id in self.ids() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.counts.difficulty = difficulty;
            if connection.subscribed {
                self.tell_difficulty(id);
            }
        }
        Ok(())
    }

    /// Gives every connection a new extranonce1 and size, and a clean job with it. `None` gives
    /// each connection a value of its own.
    pub(in crate::pool) fn set_extranonce(
        &mut self,
        value: Option<&[u8]>,
        size: usize,
        now: Moment,
    ) -> Result<(), ConfigError> {
        check_size(size)?;
        if let Some(value) = value {
            check_extranonce1(value.len())?;
        }
        self.give_extranonces(value, size, now);
        Ok(())
    }

    /// Gives every connection a new extranonce1 of the same length.
    pub(super) fn change_extranonces(&mut self, now: Moment) {
        self.give_extranonces(None, self.config.extranonce2_size, now);
    }

    fn give_extranonces(&mut self, value: Option<&[u8]>, size: usize, now: Moment) {
        self.config.extranonce2_size = size;
        for id in self.ids() {
            let extranonce1 = value.map_or_else(|| self.fresh_extranonce1(), Arc::from);
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.retire(now);
            connection.counts.extranonce1 = const_hex::encode(&extranonce1);
            connection.counts.extranonce2_size = size;
            connection.extranonce1 = extranonce1;
            if connection.subscribed {
                let params = serde_json::json!([connection.counts.extranonce1, size]);
                self.notification(id, "mining.set_extranonce", &params);
            }
        }
        self.new_job(true, now);
    }

    /// Changes the version mask, at once; `None` forbids rolling.
    pub(in crate::pool) fn set_version_mask(&mut self, mask: Option<u32>) {
        self.config.version_mask = mask;
        for id in self.ids() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let Some(asked) = connection.asked_mask else { continue };
            connection.counts.version_mask = asked & mask.unwrap_or(0);
            self.tell_mask(id);
        }
    }

    pub(super) fn tell_mask(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let mask = format!("{:08x}", connection.counts.version_mask);
        self.notification(id, "mining.set_version_mask", &serde_json::json!([mask]));
    }

    /// Changes the mood; a change to normal makes a clean job.
    pub(in crate::pool) fn set_mood(&mut self, mood: Mood, now: Moment) {
        let before = std::mem::replace(&mut self.mood, mood);
        if mood == Mood::Normal && before != Mood::Normal {
            self.new_job(true, now);
        }
    }

    /// Sends every connection a `client.reconnect`.
    pub(in crate::pool) fn reconnect(&mut self, host: &str, port: u16, wait_secs: u32) {
        let params = if host.is_empty() {
            Value::Array(vec![])
        } else {
            serde_json::json!([host, port, wait_secs])
        };
        for id in self.ids() {
            self.notification(id, "client.reconnect", &params);
        }
    }

    /// Sends every connection a `client.show_message`.
    pub(in crate::pool) fn show_message(&mut self, text: &str) {
        let params = serde_json::json!([text]);
        for id in self.ids() {
            self.notification(id, "client.show_message", &params);
        }
    }
}
