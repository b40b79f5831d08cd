//! Runs one program to its end, within a time limit and without a shell.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use directive::ActuatorError;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

/// The maximum number of bytes kept of a program's output.
pub(crate) const OUTPUT_MAX_BYTES: usize = 4096;
/// The maximum number of characters of a program's error output in a message.
const COMPLAINT_MAX: usize = 200;
/// How long a pipe may stay open after the program has ended: one of its children may hold it.
const PIPE_GRACE: Duration = Duration::from_millis(100);

/// Runs a program with its arguments and with these environment variables added to ours, and returns
/// what it printed. If it takes longer than `timeout`,
/// or nobody waits for it any more, it is killed with all that it has started.
pub(crate) async fn run(
    argv: &[String],
    variables: &[(&str, String)],
    timeout: Duration,
) -> Result<Vec<u8>, ActuatorError> {
    let mut child = Command::new(&argv[0])
        .args(&argv[1..])
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .process_group(0)
        .spawn()
        .map_err(|error| ActuatorError::Failed { why: format!("{}: {error}", argv[0]) })?;
    let group = Group::of(&child);
    let Ok(ended) = tokio::time::timeout(timeout, finish(&mut child)).await else {
        // The program is killed and reaped here, so that nothing of it is left when the machine
        // gets its next command.
        drop(group);
        drop(child.kill().await);
        return Err(ActuatorError::Timeout { millis: millis(timeout) });
    };
    group.ended();
    let ended =
        ended.map_err(|error| ActuatorError::Failed { why: format!("{}: {error}", argv[0]) })?;
    if ended.status.success() {
        return Ok(ended.stdout);
    }
    Err(ActuatorError::Refused { why: complaint(ended.status, &ended.stderr) })
}

/// A program with all processes that it has started: a script's children would otherwise outlive
/// it, and carry out its command after a newer one. Dropping this kills them. It must be dropped
/// before the program is reaped, because then the process id may belong to another process.
struct Group(Option<rustix::process::Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Self(pid.and_then(rustix::process::Pid::from_raw))
    }

    /// Records that the program ended by itself: processes that it left behind were left on
    /// purpose.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The process group may have ended just now.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Waits for the program's end and reads its output. A pipe that stays open after that is read for
/// [`PIPE_GRACE`] only.
async fn finish(child: &mut Child) -> std::io::Result<Ended> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = {
        let pipes =
            async { tokio::join!(keep_some(out, &mut stdout), keep_some(err, &mut stderr)) };
        tokio::pin!(pipes);
        let mut closed = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                _ = &mut pipes, if !closed => closed = true,
            }
        };
        if !closed {
            // After a timeout, the output read so far is used.
            let _gave_up = tokio::time::timeout(PIPE_GRACE, pipes).await;
        }
        status
    };
    Ok(Ended { status, stdout, stderr })
}

/// Reads to the end and keeps one byte more than allowed, so that too much output can be detected.
async fn keep_some(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut scratch = [0u8; 1024];
    // A pipe that fails has ended: the output before that is used.
    while let Ok(count @ 1..) = pipe.read(&mut scratch).await {
        let room = (OUTPUT_MAX_BYTES + 1).saturating_sub(kept.len());
        kept.extend_from_slice(&scratch[..count.min(room)]);
    }
}

fn complaint(status: ExitStatus, stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let said: String = said.trim().escape_debug().take(COMPLAINT_MAX).collect();
    if said.is_empty() { status.to_string() } else { format!("{status}: {said}") }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
