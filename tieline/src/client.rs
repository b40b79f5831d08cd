//! A client for the HTTP API of a running process. Answers are read into the types with which the
//! roles answer, so that a missing field is an error and not an empty cell.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use switchboard::view::{ErrorAnswer, ErrorView};
use ureq::http::Uri;

use crate::cli::Server;
use crate::failure::Failure;
use crate::output::{LEAST_WIDTH, wrapped};

#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<Token>,
}

#[derive(Debug)]
struct Token {
    file: PathBuf,
    text: String,
}

/// An answer, which may be an error.
#[derive(Debug)]
pub struct Answer {
    /// The URL of the request.
    url: String,
    pub status: u16,
    /// The body, as received.
    pub text: String,
}

impl Client {
    /// Makes a client for the process named on the command line.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the URL or the token's file cannot be used.
    pub fn new(server: &Server) -> Result<Self, Failure> {
        let token = server.token_file.as_deref().map(read_token).transpose()?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .into();
        Ok(Self { agent, url: base_url(&server.url)?, token })
    }

    /// Sends a `GET`. An error answer is returned like any other.
    ///
    /// # Errors When the process does not answer.
    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        let url = format!("{}{path}", self.url);
        self.answer(self.with_token(self.agent.get(&url)).call(), url)
    }

    /// Sends a `GET` for something that must exist.
    ///
    /// # Errors When the process does not answer, or the answer is an error.
    pub fn require(&self, path: &str) -> Result<Answer, Failure> {
        let answer = self.get(path)?;
        if answer.is_error() { Err(self.failure_of(&answer)) } else { Ok(answer) }
    }

    /// Like [`Self::require`], for something that only a process with a switchboard has.
    ///
    /// # Errors When the process does not answer, the answer is an error, or the process has no
    /// switchboard.
    pub fn require_of_switchboard(&self, path: &str) -> Result<Answer, Failure> {
        let answer = self.get(path)?;
        match () {
            () if answer.has_no_such_route() => Err(self.no_switchboard()),
            () if answer.is_error() => Err(self.failure_of(&answer)),
            () => Ok(answer),
        }
    }

    /// Sends a `POST`.
    ///
    /// # Errors When the process does not answer.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        let url = format!("{}{path}", self.url);
        let request = self.agent.post(&url).content_type("application/json");
        self.answer(self.with_token(request).send(body.to_string()), url)
    }

    /// Sends a `PATCH`.
    ///
    /// # Errors When the process does not answer.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        let url = format!("{}{path}", self.url);
        let request = self.agent.patch(&url).content_type("application/json");
        self.answer(self.with_token(request).send(body.to_string()), url)
    }

    /// Sends a `DELETE`.
    ///
    /// # Errors When the process does not answer.
    pub fn delete(&self, path: &str) -> Result<Answer, Failure> {
        let url = format!("{}{path}", self.url);
        let request = self.agent.delete(&url).header("content-type", "application/json");
        self.answer(self.with_token(request).call(), url)
    }

    /// The message for an error answer: what was refused, or which token is needed.
    #[must_use]
    pub fn failure_of(&self, answer: &Answer) -> Failure {
        if answer.has_no_such_route() {
            return self.no_switchboard();
        }
        let error = answer.error();
        Failure::runtime(match (error.code.as_str(), &self.token) {
            ("no_token", _) => {
                "refused: the process has no token, so it takes no changes over HTTP.\n\
                 Set token_file in the [admin] section of its configuration and restart it."
                    .to_owned()
            }
            ("unauthorized", Some(token)) => {
                format!(
                    "refused: the process does not accept the token in {}",
                    token.file.display()
                )
            }
            ("unauthorized", None) => {
                "refused: this needs the token of the process. Name its file, the token_file of\n\
                 the [admin] section of its configuration, by --token-file or TIELINE_TOKEN_FILE."
                    .to_owned()
            }
            // The request contradicts the current state. Other messages are complete by themselves.
            _ if answer.status == 409 => format!("refused: {}", error.message),
            _ => words_of(&error),
        })
    }

    fn no_switchboard(&self) -> Failure {
        let need = "They need `tieline run` with a [switchboard] section in its configuration.";
        self.lacks("has no switchboard, so it has no leases and no plan.", need)
    }

    /// The message for a process without a proxy that is asked for miners.
    #[must_use]
    pub fn no_proxy(&self) -> Failure {
        let need = "They need a [[server]] and a [[target]] in its configuration.";
        self.lacks("has no proxy, so it has no workers and no sessions.", need)
    }

    fn lacks(&self, what: &str, need: &str) -> Failure {
        let what = format!("the process at {} {what}", self.url);
        Failure::runtime(format!("{}{need}", wrapped(&what, LEAST_WIDTH, 0)))
    }

    fn with_token<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {}", token.text)),
            None => request,
        }
    }

    fn answer(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        url: String,
    ) -> Result<Answer, Failure> {
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .read_to_string()
            .map_err(|error| Failure::runtime(format!("{url}: the answer broke off: {error}")))?;
        Ok(Answer { url, status, text })
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let why = why_unreachable(error);
        let what = format!("cannot reach {}: {why}.", self.url);
        Failure::runtime(format!(
            "{}Start the process with `tieline run -c FILE`, or name the address of its\n\
             [admin] section by --url or TIELINE_URL.",
            wrapped(&what, LEAST_WIDTH, 0)
        ))
    }
}

/// The message if the process does not answer.
fn why_unreachable(error: &ureq::Error) -> String {
    use std::io::ErrorKind;
    match error {
        ureq::Error::HostNotFound => "this host name is not known".to_owned(),
        ureq::Error::Timeout(_) => "no answer came in time".to_owned(),
        ureq::Error::Protocol(_) => "what listens there does not speak HTTP".to_owned(),
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
            ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
                "what listens there closed the connection without an answer in HTTP".to_owned()
            }
            // Errors of the name lookup have no kind of their own.
            _ if error.to_string().starts_with("failed to lookup address") => {
                "this host name is not known".to_owned()
            }
            _ if error.to_string() == "Peer disconnected" => {
                "what listens there closed the connection without an answer in HTTP".to_owned()
            }
            _ => error.to_string(),
        },
        other => other.to_string(),
    }
}

impl Answer {
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.status >= 400
    }

    /// Parses the answer as the type that it must be.
    ///
    /// # Errors
    /// The error names the URL, and the field that is wrong or missing.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let mut json = serde_json::Deserializer::from_str(&self.text);
        serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { String::new() } else { format!("{path}: ") };
            Failure::runtime(format!(
                "cannot read the answer of {}: {field}{}.\n\
                 Is the process another version of tieline than this command?",
                self.url,
                error.into_inner()
            ))
        })
    }

    /// The error in the answer.
    #[must_use]
    pub fn error(&self) -> ErrorView {
        serde_json::from_str::<ErrorAnswer>(&self.text).map_or_else(
            |_| ErrorView {
                message: format!("{} answers with HTTP status {}", self.url, self.status),
                ..ErrorView::default()
            },
            |answer| answer.error,
        )
    }

    /// Whether the process does not have this path, because it has no role that answers it.
    #[must_use]
    pub fn has_no_such_route(&self) -> bool {
        self.status == 404 && self.error().code == "not_found"
    }
}

/// The message of an error, with the field at fault.
#[must_use]
pub fn words_of(error: &ErrorView) -> String {
    match &error.field {
        Some(field) if !error.message.starts_with(field) => format!("{field}: {}", error.message),
        _ => error.message.clone(),
    }
}

/// The URL without a trailing slash; `host:port` becomes an HTTP URL.
fn base_url(text: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::Usage(format!("--url {text:?}: {why}"));
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let parsed: Uri = url.parse().map_err(|_| wrong(URL_FORM))?;
    match parsed.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(wrong("https is not spoken by the process: write http://host:port"));
        }
        _ => return Err(wrong(URL_FORM)),
    }
    let authority = parsed.authority().map_or("", |authority| authority.as_str());
    let host = parsed.host().unwrap_or_default();
    let port_is_wrong = authority != host && parsed.port_u16().is_none();
    // A URL with a path is refused: below it the process would seem to have no switchboard.
    let path_is_wrong = !matches!(parsed.path(), "" | "/") || parsed.query().is_some();
    if host.is_empty() || port_is_wrong || path_is_wrong {
        return Err(wrong(URL_FORM));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

const URL_FORM: &str = "must be http://host:port or host:port, without a path";

fn read_token(path: &Path) -> Result<Token, Failure> {
    let wrong = |why: String| Failure::Usage(format!("--token-file {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("holds no token: one line of printable ASCII is expected".into()));
    }
    Ok(Token { file: path.to_owned(), text: text.to_owned() })
}

/// Escapes a name for a path or a query.
#[must_use]
pub fn encode(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, text: &str) -> Answer {
        Answer { url: "http://127.0.0.1:8080/v1/x".into(), status, text: text.into() }
    }

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        assert_eq!(encode("a/../b c"), "a%2F..%2Fb%20c");
    }

    #[test]
    fn a_url_may_leave_out_its_scheme() {
        for (text, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("site-a:8080/", "http://site-a:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ] {
            assert_eq!(base_url(text).expect(text), url);
        }
        for text in [
            "",
            "https://site-a:8080",
            "ftp://site-a",
            "http://",
            "http://a b",
            ":8080",
            "a:b",
            "http://site-a:8080/v1",
            "site-a:8080/?q",
        ] {
            let why = base_url(text).expect_err(text);
            assert!(matches!(why, Failure::Usage(_)), "{why:?}");
            assert!(why.to_string().contains("http://host:port"), "{why}");
        }
    }

    #[test]
    fn it_is_said_in_words_why_there_is_no_answer() {
        use std::io::Read as _;
        let server = |url: &str| Server { url: url.to_owned(), token_file: None, json: false };
        let said = |url: &str| {
            let client = Client::new(&server(url)).expect("a URL");
            client.get("/v1/status").expect_err("no answer").to_string()
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let silent = listener.local_addr().expect("its address").to_string();
        let closing = std::thread::spawn(move || {
            let (mut miner, _) = listener.accept().expect("a connection");
            let _ = miner.read(&mut [0; 4096]);
        });
        let text = said(&silent);
        closing.join().expect("it closed");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("closed the connection without an answer in HTTP. "), "{text}");
        // The port of the silent process is free again.
        assert!(said(&silent).contains("nothing listens there.\n"));
        assert!(text.lines().all(|line| line.len() <= LEAST_WIDTH), "{text}");
    }

    #[test]
    fn an_answer_that_cannot_be_read_names_url_and_field() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "it is never read with success")]
        struct Outer {
            inner: Vec<Inner>,
        }
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "it is never read with success")]
        struct Inner {
            figure: u32,
        }
        let failure = answer(200, "{\"inner\":[{\"figure\":1},{\"figure\":\"2\"}]}")
            .read::<Outer>()
            .expect_err("a text is no figure")
            .to_string();
        assert!(
            failure.contains("http://127.0.0.1:8080/v1/x") && failure.contains("inner[1].figure"),
            "{failure}"
        );
        let missing = answer(200, "{\"inner\":[{}]}").read::<Outer>().expect_err("missing");
        assert!(missing.to_string().contains("missing field `figure`"), "{missing}");
    }

    #[test]
    fn errors_that_are_no_json_still_say_something() {
        let error = answer(502, "<html>bad gateway</html>").error();
        assert_eq!(error.message, "http://127.0.0.1:8080/v1/x answers with HTTP status 502");
    }
}
