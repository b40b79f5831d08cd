//! Asking a pool for its sizes without mining there.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stratum::client_role::{ClientEvent, ClientRole};
use stratum::frame::{POOL_LINE_MAX, Splitter};
use tokio::time::timeout;

use super::client_config::client_config;
use super::connect::connect;
use super::end::{End, Fault};
use crate::config::Target;
use crate::label::Label as _;

/// Asks one target for its extranonce2_size on a connection of its own.
pub(super) async fn extranonce_size(target: &Target, within: Duration) -> Result<u8, Fault> {
    let broken = |failure: std::io::Error| Fault::new(End::Connect, failure.to_string());
    timeout(within, async {
        let mut stream = connect(target, &target.at(), &Mutex::default()).await?;
        let mut role = ClientRole::new(client_config(target));
        let mut out = Vec::new();
        role.start(&mut out);
        stream.write_all(&out).await.map_err(broken)?;
        let mut splitter = Splitter::new(POOL_LINE_MAX);
        let mut scratch = vec![0; 8192];
        loop {
            let read = stream.read(&mut scratch).await.map_err(broken)?;
            if read == 0 {
                return Err(Fault::new(End::Closed, "closed before subscribe was answered"));
            }
            let mut input = &scratch[..read];
            let mut ignored = Vec::new();
            let malformed = |fault: String| Fault::new(End::Malformed, fault);
            while let Some(line) =
                splitter.next_line(&mut input).map_err(|fault| malformed(fault.to_string()))?
            {
                match role.receive(line, &mut ignored) {
                    Ok(ClientEvent::Subscribed { extranonce2_size, .. }) => {
                        return Ok(extranonce2_size);
                    }
                    Ok(ClientEvent::Fatal(error)) => {
                        return Err(Fault::new(End::Unusable, error.to_string()));
                    }
                    Ok(_) => {}
                    Err(fault) => return Err(malformed(fault.to_string())),
                }
            }
        }
    })
    .await
    .unwrap_or_else(|_| Err(Fault::new(End::HandshakeTimeout, "no answer in time")))
}

/// Asks all targets at once. An entry is `None` where a target did not answer in time.
pub(crate) async fn probe_sizes(targets: &[Target], within: Duration) -> Vec<Option<u8>> {
    let probes: Vec<_> = targets
        .iter()
        .cloned()
        .map(Arc::new)
        .map(|target| {
            tokio::spawn(async move {
                match extranonce_size(&target, within).await {
                    Ok(size) => Some(size),
                    Err(Fault { end, detail }) => {
                        tracing::warn!(target = %target.name, reason = end.label(), ?detail, "extranonce2_size not learned");
                        None
                    }
                }
            })
        })
        .collect();
    let mut sizes = Vec::with_capacity(probes.len());
    for probe in probes {
        sizes.push(probe.await.unwrap_or(None));
    }
    sizes
}
