//! Why the proxy could not start.

use std::net::SocketAddr;
use std::path::PathBuf;

use daemon::state_file::StateError;

/// Why a proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address is in use, or is not ours.
    #[error("server {name}: cannot listen on {listen}: {source}")]
    Listen { name: String, listen: SocketAddr, source: std::io::Error },
    /// The system gives us no further thread.
    #[error("cannot start a thread for miners: {0}")]
    Thread(#[source] std::io::Error),
    /// The stored state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The share log's folder cannot be used.
    #[error("share log {}: {source}", dir.display())]
    ShareLog { dir: PathBuf, source: std::io::Error },
    /// A target's extranonce2 has no room for the slot and the miners' bytes.
    #[error(
        "target {target}: extranonce2_size {size} leaves no room for {miner} bytes of the miner and 1 of the slot, together \
         {need}; leave it out, or give it a [[server]] of its own with passthrough = {target:?}, one connection a miner",
        need = miner + 1
    )]
    DoesNotFit {
        target: String,
        /// The target's extranonce2_size.
        size: u8,
        /// The miners' extranonce2_size.
        miner: u8,
    },
}
