//! Waits until counts are as a test wants them, without sleeping.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

/// The counts were not as wanted in time.
#[derive(Debug, thiserror::Error)]
#[error("not within {waited:?}; last counts: {last}")]
pub struct NotInTime {
    /// How long the test waited.
    pub waited: Duration,
    /// The latest counts, as JSON.
    pub last: String,
}

/// Reads the counts after each change until they are as wanted.
pub(crate) async fn until<T: Serialize>(
    mut changes: watch::Receiver<u64>,
    limit: Duration,
    read: impl Fn() -> T,
    mut wanted: impl FnMut(&T) -> bool,
) -> Result<T, NotInTime> {
    let mut last = read();
    let waited = tokio::time::timeout(limit, async {
        while !wanted(&last) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            last = read();
        }
    });
    match waited.await {
        Ok(()) => Ok(last),
        Err(_) => Err(NotInTime {
            waited: limit,
            last: serde_json::to_string(&read()).unwrap_or_default(),
        }),
    }
}
