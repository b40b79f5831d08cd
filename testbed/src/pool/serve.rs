//! A test pool's tasks: they move bytes between sockets and [`Core`], and decide nothing.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stratum::frame::{MINER_LINE_MAX, Splitter};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ConnectionId;
use super::config::PoolConfig;
use super::core::{Core, Out};
use crate::clock::{Moment, moment};
use crate::tls::Identity;

/// What a pool's tasks share.
pub(super) struct Hub {
    inner: Mutex<Inner>,
    handshake: Mutex<Handshake>,
    changed: watch::Sender<u64>,
    /// Whether the pool must listen; `listening` says whether it does.
    alive: watch::Sender<bool>,
    listening: watch::Sender<bool>,
    token: CancellationToken,
    tasks: TaskTracker,
}

/// How a new connection begins.
#[derive(Debug, Clone)]
pub(super) enum Handshake {
    None,
    Tls(Identity),
    Stalled,
}

struct Inner {
    core: Core,
    outboxes: HashMap<ConnectionId, mpsc::Sender<Out>>,
}

/// The maximum number of lines waiting for one connection; at the bound, the connection is closed
/// and counted.
const OUTBOX_MAX: usize = 4096;
/// The maximum number of delayed answers of one connection; at the bound, reading pauses until one
/// is sent.
const DELAYED_MAX: usize = 65_536;
/// The length of the accept queue.
const BACKLOG: u32 = 1024;
/// The deadline of a write; after it the connection is closed.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// The pause before listening is tried again.
const REBIND_PAUSE: Duration = Duration::from_millis(20);

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("alive", &*self.alive.borrow()).finish_non_exhaustive()
    }
}

impl Hub {
    pub(super) fn start(config: PoolConfig, listener: TcpListener, addr: SocketAddr) -> Arc<Self> {
        let job_interval = config.job_interval;
        let handshake = config.tls.clone().map_or(Handshake::None, Handshake::Tls);
        let core = Core::new(config, moment());
        let hub = Arc::new(Self {
            handshake: Mutex::new(handshake),
            inner: Mutex::new(Inner { core, outboxes: HashMap::new() }),
            changed: watch::Sender::new(0),
            alive: watch::Sender::new(true),
            listening: watch::Sender::new(true),
            token: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        hub.spawn(Arc::clone(&hub).listen(listener, addr));
        if !job_interval.is_zero() {
            hub.spawn(Arc::clone(&hub).make_jobs(job_interval));
        }
        hub
    }

    /// Runs a task until it ends or the pool does.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let token = self.token.clone();
        self.tasks.spawn(async move { token.run_until_cancelled(task).await });
    }

    pub(super) fn cancel(&self) {
        self.token.cancel();
    }

    pub(super) async fn stop(&self) {
        self.act(|core, _| core.close_all());
        self.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Changes how new connections begin.
    pub(super) fn set_handshake(&self, handshake: Handshake) {
        *self.handshake.lock() = handshake;
    }

    /// A counter of state changes, for callers that wait for one.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn read<R>(&self, look: impl FnOnce(&Core) -> R) -> R {
        look(&self.inner.lock().core)
    }

    /// Changes the state, and passes the resulting actions to the connections, in order.
    pub(super) fn act<R>(&self, change: impl FnOnce(&mut Core, Moment) -> R) -> R {
        let mut inner = self.inner.lock();
        let Inner { core, outboxes } = &mut *inner;
        let result = change(core, moment());
        let mut slow = Vec::new();
        for (id, out) in core.drain() {
            let closes = out == Out::Close;
            let Some(outbox) = outboxes.get(&id) else { continue };
            if outbox.try_send(out).is_err() {
                slow.push(id);
                outboxes.remove(&id);
            } else if closes {
                outboxes.remove(&id);
            }
        }
        for id in slow {
            core.close_slow(id);
        }
        drop(inner);
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        result
    }

    /// Opens or closes the port. Closing it also closes every connection. Returns when this is
    /// done.
    pub(super) async fn set_alive(&self, alive: bool) {
        self.alive.send_replace(alive);
        let mut listening = self.listening.subscribe();
        // `self` owns the sender, so this returns only when the state is as wanted.
        let _ = listening.wait_for(|listening| *listening == alive).await;
        if !alive {
            self.act(|core, _| core.close_all());
        }
    }

    async fn make_jobs(self: Arc<Self>, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.act(Core::tick);
        }
    }

    async fn listen(self: Arc<Self>, listener: TcpListener, addr: SocketAddr) {
        let mut alive = self.alive.subscribe();
        let mut port = Port::Open(listener);
        loop {
            let wanted = *alive.borrow_and_update();
            port = match (port, wanted) {
                (Port::Open(listener), false) => {
                    drop(listener);
                    Port::Closed
                }
                (Port::Closed, _) => keep(addr).map_or(Port::Closed, Port::Kept),
                (Port::Kept(socket), true) => {
                    socket.listen(BACKLOG).map_or(Port::Closed, Port::Open)
                }
                (port, _) => port,
            };
            if matches!(port, Port::Closed) || wanted != matches!(port, Port::Open(_)) {
                sleep(REBIND_PAUSE).await;
                continue;
            }
            self.listening.send_replace(wanted);
            let accepted = async {
                match &port {
                    Port::Open(listener) => listener.accept().await,
                    Port::Kept(_) | Port::Closed => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = alive.changed() => if changed.is_err() { return },
                accepted = accepted => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer),
                    // No file descriptors are left, or the connection ended before it was accepted.
                    Err(_) => sleep(REBIND_PAUSE).await,
                },
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let (outbox, outs) = mpsc::channel(OUTBOX_MAX);
        let id = {
            let mut inner = self.inner.lock();
            let id = inner.core.open(peer);
            inner.outboxes.insert(id, outbox);
            id
        };
        // This fails only if the connection has ended, which the next read reports.
        let _ = stream.set_nodelay(true);
        let handshake = self.handshake.lock().clone();
        match handshake {
            Handshake::None => self.spawn(Arc::clone(self).connection(id, stream, outs)),
            Handshake::Tls(identity) => {
                self.spawn(Arc::clone(self).secured(id, stream, identity, outs));
            }
            Handshake::Stalled => self.spawn(Arc::clone(self).stalled(id, stream)),
        }
    }

    async fn secured(
        self: Arc<Self>,
        id: ConnectionId,
        stream: TcpStream,
        as_: Identity,
        outs: mpsc::Receiver<Out>,
    ) {
        match timeout(WRITE_LIMIT, TlsAcceptor::from(as_.config()).accept(stream)).await {
            Ok(Ok(stream)) => self.connection(id, stream, outs).await,
            Ok(Err(_)) | Err(_) => self.unsecured(id),
        }
    }

    /// Reads what the client sends without answering, until the client closes the connection.
    async fn stalled(self: Arc<Self>, id: ConnectionId, mut stream: TcpStream) {
        let mut buffer = vec![0; 8192];
        while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
        self.unsecured(id);
    }

    fn unsecured(&self, id: ConnectionId) {
        self.inner.lock().outboxes.remove(&id);
        self.act(|core, _| core.close_unsecured(id));
    }

    async fn connection<S>(
        self: Arc<Self>,
        id: ConnectionId,
        mut stream: S,
        mut outs: mpsc::Receiver<Out>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        let mut splitter = Splitter::new(MINER_LINE_MAX);
        let mut buffer = vec![0; 8192];
        let mut delayed: VecDeque<(Instant, Arc<str>)> = VecDeque::new();
        let mut batch = Vec::new();
        loop {
            let due = delayed.front().map(|(due, _)| *due);
            tokio::select! {
                biased;
                out = outs.recv() => {
                    let mut next = out;
                    let mut closing = next.is_none();
                    while let Some(out) = next.take() {
                        match out {
                            Out::Line(line) => push_line(&mut batch, &line),
                            Out::Late(line, delay) => delayed.push_back((moment().at + delay, line)),
                            Out::Close => { closing = true; break; }
                        }
                        next = outs.try_recv().ok();
                    }
                    if !write(&mut stream, &mut batch).await || closing {
                        break;
                    }
                }
                () = until(due), if due.is_some() => {
                    if let Some((_, line)) = delayed.pop_front() {
                        push_line(&mut batch, &line);
                    }
                    if !write(&mut stream, &mut batch).await {
                        break;
                    }
                }
                read = stream.read(&mut buffer), if delayed.len() < DELAYED_MAX => {
                    let Ok(length @ 1..) = read else { break };
                    let mut input = &buffer[..length];
                    let mut broken = false;
                    self.act(|core, now| {
                        core.received(length);
                        loop {
                            match splitter.next_line(&mut input) {
                                Ok(Some(line)) => core.line(id, line, now),
                                Ok(None) => break,
                                Err(_) => { broken = true; break; }
                            }
                        }
                    });
                    if broken {
                        break;
                    }
                }
            }
        }
        self.inner.lock().outboxes.remove(&id);
        self.act(|core, _| core.close(id));
    }
}

/// The state of the pool's port.
enum Port {
    Open(TcpListener),
    /// The port is bound without listening, so connections are refused. A port that was given back
    /// could soon belong to another program, which would be taken for the pool.
    Kept(TcpSocket),
    /// The port is neither kept nor listened on, for the moment.
    Closed,
}

/// Binds an address without listening.
fn keep(addr: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of the earlier listener may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

fn push_line(batch: &mut Vec<u8>, line: &str) {
    batch.extend_from_slice(line.as_bytes());
    batch.push(b'\n');
}

/// Writes and empties `batch`. Returns `false` if the connection has ended or the client does not
/// read.
async fn write<S: AsyncWrite + Unpin>(stream: &mut S, batch: &mut Vec<u8>) -> bool {
    if batch.is_empty() {
        return true;
    }
    let written = timeout(WRITE_LIMIT, async {
        stream.write_all(batch).await?;
        stream.flush().await
    });
    let written = written.await;
    batch.clear();
    matches!(written, Ok(Ok(())))
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
