//! Talking to a running process over its HTTP.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cli::Server;

#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Client {
    /// Makes a client for the process named on the command line.
    ///
    /// # Errors
    /// When the token's file cannot be read.
    pub fn new(server: &Server) -> anyhow::Result<Self> {
        let token = server.token_file.as_deref().map(read_token).transpose()?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .into();
        Ok(Self { agent, url: server.url.trim_end_matches('/').to_owned(), token })
    }

    /// Asks for something.
    ///
    /// # Errors
    /// When nobody answers, or not in JSON.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let url = format!("{}{path}", self.url);
        read(self.agent.get(&url).call(), &url)
    }

    /// Asks for something that must be there.
    ///
    /// # Errors
    /// Also when the answer is an error.
    pub fn require(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.get(path)?;
        if answer.status >= 400 {
            bail!("{path}: {}", message_of(&answer.body));
        }
        Ok(answer.body)
    }

    /// Changes something.
    ///
    /// # Errors
    /// When nobody answers, or not in JSON.
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        let url = format!("{}{path}", self.url);
        let mut request = self.agent.post(&url).content_type("application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        read(request.send(body.to_string()), &url)
    }

    /// Takes something away.
    ///
    /// # Errors
    /// When nobody answers, or not in JSON.
    pub fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        let url = format!("{}{path}", self.url);
        let mut request = self.agent.delete(&url).header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        read(request.call(), &url)
    }
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read token file {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn read(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    url: &str,
) -> anyhow::Result<Answer> {
    let mut response = response.with_context(|| format!("failed to reach {url}"))?;
    let status = response.status().as_u16();
    let text = response
        .body_mut()
        .read_to_string()
        .with_context(|| format!("failed to read the answer of {url}"))?;
    let body = if text.trim().is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    Ok(Answer { status, body })
}

/// The words of an error answer.
#[must_use]
pub fn message_of(body: &Value) -> String {
    let error = &body["error"];
    let message = error["message"].as_str().or_else(|| body.as_str()).unwrap_or("no reason given");
    match error["field"].as_str() {
        Some(field) if !message.starts_with(field) => format!("{field}: {message}"),
        _ => message.to_owned(),
    }
}
