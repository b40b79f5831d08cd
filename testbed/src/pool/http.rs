//! A minimal HTTP server for demos: it returns the pool's counts and takes control lines, one
//! request per connection.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Command, PoolError, TestPool};

/// The maximum length of a request, head and body, in bytes.
const REQUEST_MAX: usize = 16 * 1024;
/// How long a request may take; requests are served one after the other.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

pub(super) async fn serve(pool: &Arc<TestPool>, addr: SocketAddr) -> Result<SocketAddr, PoolError> {
    let failed = |source| PoolError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let weak = Arc::downgrade(pool);
    pool.hub.spawn(async move {
        while let Some(stream) = accept(&listener, &weak).await {
            let Some(pool) = weak.upgrade() else { return };
            // The error is ignored: it concerns only a client that is slow or has gone.
            let _ = timeout(REQUEST_LIMIT, request(&pool, stream)).await;
        }
    });
    Ok(bound)
}

async fn accept(listener: &TcpListener, pool: &Weak<TestPool>) -> Option<TcpStream> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some(stream),
            Err(_) if pool.strong_count() == 0 => return None,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn request(pool: &TestPool, mut stream: TcpStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        if let Some(whole) = split(&bytes) {
            break whole;
        }
        let mut chunk = [0; 2048];
        let length = stream.read(&mut chunk).await?;
        if length == 0 || bytes.len() + length > REQUEST_MAX {
            return Ok(());
        }
        bytes.extend_from_slice(&chunk[..length]);
    };
    let (status, answer) = respond(pool, &head, &body).await;
    let length = answer.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn respond(pool: &TestPool, head: &str, body: &str) -> (&'static str, String) {
    let error = |why: String| serde_json::json!({ "error": why }).to_string();
    let mut words = head.split_whitespace();
    match (words.next(), words.next()) {
        (Some("GET"), Some("/counts")) => (
            "200 OK",
            serde_json::to_string(&pool.counts()).unwrap_or_else(|cause| error(cause.to_string())),
        ),
        (Some("POST"), Some("/control")) => {
            for line in body.lines().filter(|line| !line.trim().is_empty()) {
                let done = match line.parse::<Command>() {
                    Ok(command) => pool.perform(command).await.map_err(|cause| cause.to_string()),
                    Err(cause) => Err(cause.to_string()),
                };
                if let Err(why) = done {
                    return ("400 Bad Request", error(why));
                }
            }
            ("200 OK", "{}".to_owned())
        }
        _ => ("404 Not Found", error("try GET /counts or POST /control".to_owned())),
    }
}

/// Splits a request into head and body. Returns `None` while a part is missing.
fn split(bytes: &[u8]) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap_or(0));
    (body.len() >= length).then(|| (head.to_owned(), body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::PoolConfig;

    async fn ask(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn counts_are_served_and_orders_taken() {
        let pool = Arc::new(TestPool::start(PoolConfig::default()).await.unwrap());
        let addr = pool.serve_http("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let answer =
            ask(addr, "POST /control HTTP/1.1\r\nContent-Length: 9\r\n\r\njob clean").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let answer = ask(addr, "GET /counts HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let counts: crate::pool::Counts = serde_json::from_str(body).unwrap();
        assert_eq!(counts.jobs, 2);
        let answer = ask(addr, "POST /control HTTP/1.1\r\ncontent-length: 7\r\n\r\nexplode").await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("explode"), "{answer}");
        assert!(ask(addr, "GET / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404 "));
    }
}
