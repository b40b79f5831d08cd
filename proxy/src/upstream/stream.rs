//! The byte stream of a pool, with or without TLS, behind one narrow interface: wait until ready,
//! try to read, try to write.
//!
//! TLS needs no task of its own, because it uses the readiness of the same socket; so one loop
//! serves both kinds. A stream without TLS costs one branch more than the socket itself.

use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::end::{End, Fault};
use crate::tls::{self, Tls, TlsFault};

/// Reads the bytes that have arrived. Unlike `try_read`, a read that does not fill the buffer also
/// clears the readiness: the next wait is for new bytes, and no extra read is needed to find out
/// that there are none.
fn read_plain(tcp: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = ReadBuf::new(buffer);
    match Pin::new(tcp).poll_read(&mut Context::from_waker(Waker::noop()), &mut read) {
        Poll::Ready(Ok(())) => Ok(read.filled().len()),
        Poll::Ready(Err(failure)) => Err(failure),
        // Callers wait with `readable`, which this does not affect. A task that has used up its
        // budget also gets this result although there are bytes; then it must yield, or it would
        // wait for ever.
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

/// A connection to a pool.
#[derive(Debug)]
pub(super) struct PoolStream {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

/// How long a handshake may take (U54).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum number of bytes encrypted before the socket accepts them. A block cannot overtake
/// bytes that are already encrypted.
const AHEAD_MAX: usize = 16 * 1024;

impl PoolStream {
    /// A stream without TLS.
    pub(super) const fn plain(tcp: TcpStream) -> Self {
        Self { tcp, tls: None }
    }

    /// Makes the TLS handshake and checks the pool's identity. If that fails, nothing of ours has
    /// been sent.
    pub(super) async fn secure(
        tcp: TcpStream,
        tls: &Tls,
        name: ServerName<'static>,
    ) -> Result<Self, Fault> {
        let started = ClientConnection::new(tls.client(), name);
        let mut connection = started
            .map_err(|fault| Fault::new(End::Tls(TlsFault::of(&fault)), fault.to_string()))?;
        connection.set_buffer_limit(Some(AHEAD_MAX));
        let mut stream = Self { tcp, tls: Some(Box::new(connection)) };
        match timeout(HANDSHAKE_TIMEOUT, stream.handshake()).await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(failure)) => Err(fault(&failure, End::Tls(TlsFault::Closed))),
            Err(_) => {
                let detail = format!("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs());
                Err(Fault::new(End::Tls(TlsFault::HandshakeTimeout), detail))
            }
        }
    }

    async fn handshake(&mut self) -> io::Result<()> {
        loop {
            self.flush()?;
            let Some(tls) = &self.tls else { return Ok(()) };
            if tls.wants_write() {
                self.tcp.writable().await?;
                continue;
            }
            if !tls.is_handshaking() {
                return Ok(());
            }
            self.tcp.readable().await?;
            match self.receive() {
                Ok(0) => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "closed in the handshake",
                    ));
                }
                Ok(_) => {}
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Waits for bytes from the pool.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    /// Waits until the socket accepts bytes.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Whether bytes wait here for the socket. If so, wait with [`Self::writable`] and call
    /// [`Self::flush`].
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Reads at least one byte, or returns `WouldBlock`. Returns 0 at the end of the stream, with
    /// `close_notify` or without.
    pub(super) fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(tls) = &mut self.tls else { return read_plain(&mut self.tcp, buffer) };
            match tls.reader().read(buffer) {
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => {}
                // A pool that dies sends no `close_notify`. An unfinished last line is ignored, so
                // an attacker gains nothing by cutting the stream.
                Err(failure) if failure.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            self.receive()?;
        }
    }

    /// Reads bytes from the socket and decrypts them. Returns 0 at the end of the stream.
    fn receive(&mut self) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return Ok(0) };
        let read = tls.read_tls(&mut Ready(&self.tcp))?;
        if let Err(fault) = tls.process_new_packets() {
            // Send the peer the alert with the reason.
            let _ = tls.write_tls(&mut Ready(&self.tcp));
            return Err(io::Error::new(ErrorKind::InvalidData, fault));
        }
        Ok(read)
    }

    /// Writes as many bytes as the socket accepts, or returns `WouldBlock`.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let Some(tls) = &mut self.tls else { return self.tcp.try_write(bytes) };
        if tls.wants_write() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = tls.writer().write(bytes)?;
        self.flush()?;
        Ok(taken)
    }

    /// Writes waiting bytes, as many as the socket accepts.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut Ready(&self.tcp)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

/// Methods for a probe: a short exchange in a fixed order.
impl PoolStream {
    /// Writes all of `bytes`.
    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => {
                    self.tcp.writable().await?;
                }
                Err(failure) => return Err(failure),
            }
            if bytes.is_empty() && !self.wants_write() {
                return Ok(());
            }
        }
    }

    /// Reads at least one byte; returns 0 at the end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Without this, a socket that is always ready would never let other tasks or a timeout
            // run.
            tokio::task::consume_budget().await;
            match self.try_read(buffer) {
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => {
                    self.tcp.readable().await?;
                }
                read => return read,
            }
        }
    }
}

/// Returns the fault for a failed read or write: a TLS fault, or else `otherwise`.
pub(super) fn fault(failure: &io::Error, otherwise: End) -> Fault {
    let of_tls: Option<&rustls::Error> = failure.get_ref().and_then(|inner| inner.downcast_ref());
    match of_tls {
        Some(error) => Fault::new(End::Tls(TlsFault::of(error)), tls::detail(error)),
        None => Fault::new(otherwise, failure.to_string()),
    }
}

/// A socket as a blocking-style reader and writer, for rustls.
struct Ready<'a>(&'a TcpStream);

impl Read for Ready<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Ready<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
