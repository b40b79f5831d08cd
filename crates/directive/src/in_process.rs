//! The link between roles of one process: a watch channel down, a bounded queue up. A link from
//! another process ends in such a pair, too: its handler, which knows who is connected, makes the
//! pair and carries bytes to and from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};

use crate::{Downlink, Link, LinkClosed, ReceiverId, ReceiverRole, Report};

/// The receiver's end of an in-process link.
#[derive(Debug)]
pub struct InProcess {
    down: watch::Receiver<Downlink>,
    up: mpsc::Sender<Report>,
    dropped: Arc<AtomicU64>,
}

/// The switchboard's end of an in-process link. It says which receiver sent the reports that come
/// out of it.
#[derive(Debug)]
pub struct Outlet {
    receiver: ReceiverId,
    role: ReceiverRole,
    down: watch::Sender<Downlink>,
    up: mpsc::Receiver<Report>,
    dropped: Arc<AtomicU64>,
}

/// The maximum number of reports that wait for the switchboard; a further one is dropped and
/// counted.
const REPORTS_QUEUED: usize = 256;

/// Makes both ends of a link to `receiver`.
#[must_use]
pub fn in_process(receiver: ReceiverId, role: ReceiverRole) -> (InProcess, Outlet) {
    let (down_tx, down_rx) = watch::channel(Downlink::default());
    let (up_tx, up_rx) = mpsc::channel(REPORTS_QUEUED);
    let dropped = Arc::new(AtomicU64::new(0));
    (
        InProcess { down: down_rx, up: up_tx, dropped: dropped.clone() },
        Outlet { receiver, role, down: down_tx, up: up_rx, dropped },
    )
}

impl Link for InProcess {
    async fn changed(&mut self) -> Result<Downlink, LinkClosed> {
        self.down.changed().await.map_err(|_| LinkClosed)?;
        Ok(self.down.borrow_and_update().clone())
    }

    fn latest(&mut self) -> Downlink {
        self.down.borrow_and_update().clone()
    }

    fn report(&self, report: Report) -> bool {
        let sent = self.up.try_send(report).is_ok();
        if !sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}

impl Outlet {
    /// The receiver at the other end.
    #[must_use]
    pub fn receiver(&self) -> &ReceiverId {
        &self.receiver
    }

    /// The role of the receiver at the other end.
    #[must_use]
    pub fn role(&self) -> ReceiverRole {
        self.role
    }

    /// Changes the state for the receiver, which sees only the newest.
    pub fn update(&self, change: impl FnOnce(&mut Downlink)) {
        self.down.send_modify(change);
    }

    /// Waits for the next report. `None` when the receiver is gone.
    pub async fn report(&mut self) -> Option<Report> {
        self.up.recv().await
    }

    /// A report, if one waits.
    pub fn try_report(&mut self) -> Option<Report> {
        self.up.try_recv().ok()
    }

    /// Reports dropped because the switchboard was slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
