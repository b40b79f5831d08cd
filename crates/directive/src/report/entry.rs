//! The entries of reports: a machine as its sessions show it, a machine as its device is read, and a
//! meter.
//!
//! Each entry of a delta has two forms. The owned one travels. The borrowed one ([`SeenSession`],
//! [`SeenMachine`]) is what a sender looks at to find out whether anything has changed: it copies
//! nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::{Fields, Fingerprint};
use crate::{DeviceState, MachineId, MeterId, Watts};

/// An entry of a [`super::Delta`], named by its machine.
pub trait Entry {
    /// The machine that the entry is about; a view has one entry for each machine.
    fn machine(&self) -> &MachineId;
    /// The fingerprint of all fields that are certainly equal at both ends.
    fn fingerprint(&self) -> Fingerprint;
}

/// The borrowed form of an entry.
pub trait SeenEntry {
    /// The owned form.
    type Entry: Entry;
    /// The machine.
    fn machine(&self) -> &MachineId;
    /// The fingerprint, which equals that of the owned form.
    fn fingerprint(&self) -> Fingerprint;
    /// Copies the entry into the owned form.
    fn to_entry(&self) -> Self::Entry;
}

/// How a machine's session is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serving {
    /// The machine has work.
    Working,
    /// The machine is connected and gets no new work.
    Parked,
    /// The machine has no session now.
    Gone,
}

/// One machine as its sessions show it. Two sessions with one name are one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionReport {
    /// The machine.
    pub machine: MachineId,
    /// Live sessions under the machine's name.
    pub sessions: u32,
    /// Whether the machine's sessions have work.
    pub serving: Serving,
    /// Shares that met their difficulty, since the proxy started.
    pub shares: u64,
    /// The sum of the difficulties of `shares`.
    pub work: f64,
    /// When the last of `shares` came.
    pub last_share_at: Option<Timestamp>,
    /// Shares that came although the machine is starved (no actuator reaches it).
    pub still_hashing: u64,
}

/// [`SessionReport`], borrowed: its fields are the same.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the owned form has them")]
pub struct SeenSession<'a> {
    pub machine: &'a MachineId,
    pub sessions: u32,
    pub serving: Serving,
    pub shares: u64,
    pub work: f64,
    pub last_share_at: Option<Timestamp>,
    pub still_hashing: u64,
}

/// Who put a machine to sleep. Only machines that Tieline put to sleep are woken by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AsleepBy {
    /// An agent did, at present or in a former life. It counts until the machine is seen awake.
    Us,
    /// Somebody else did: the machine was asleep before an agent had a reason to command it.
    Other,
}

/// One machine as its actuator reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineReport {
    /// The machine.
    pub machine: MachineId,
    /// What the device says it does.
    pub state: DeviceState,
    /// The power that the device reports.
    pub watts: Option<Watts>,
    /// When the device was last read successfully.
    pub read_at: Option<Timestamp>,
    /// When the device was last told to sleep.
    pub slept_at: Option<Timestamp>,
    /// Who put the machine to sleep, if it sleeps or may fall asleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asleep_by: Option<AsleepBy>,
    /// Whether the agent could not record the last command before it went out: the agent's disk
    /// does not know who put the machine to sleep.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unrecorded: bool,
    /// Commands in a row that failed or were not followed.
    pub failures: u32,
    /// The last failure, in words.
    pub fault: Option<String>,
}

/// [`MachineReport`], borrowed: its fields are the same.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the owned form has them")]
pub struct SeenMachine<'a> {
    pub machine: &'a MachineId,
    pub state: DeviceState,
    pub watts: Option<Watts>,
    pub read_at: Option<Timestamp>,
    pub slept_at: Option<Timestamp>,
    pub asleep_by: Option<AsleepBy>,
    pub unrecorded: bool,
    pub failures: u32,
    pub fault: Option<&'a str>,
}

/// One meter as last read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeterReport {
    /// The meter.
    pub meter: MeterId,
    /// The power measured; `None` if the measurement failed.
    pub watts: Option<Watts>,
    /// When the power was measured.
    pub taken_at: Option<Timestamp>,
    /// Why there is no measurement.
    pub fault: Option<String>,
}

impl SessionReport {
    /// The borrowed form of this entry.
    #[must_use]
    pub fn seen(&self) -> SeenSession<'_> {
        SeenSession {
            machine: &self.machine,
            sessions: self.sessions,
            serving: self.serving,
            shares: self.shares,
            work: self.work,
            last_share_at: self.last_share_at,
            still_hashing: self.still_hashing,
        }
    }
}

impl Entry for SessionReport {
    fn machine(&self) -> &MachineId {
        &self.machine
    }

    fn fingerprint(&self) -> Fingerprint {
        self.seen().fingerprint()
    }
}

impl SeenEntry for SeenSession<'_> {
    type Entry = SessionReport;

    fn machine(&self) -> &MachineId {
        self.machine
    }

    /// The fingerprint of all fields but `work`, a float that may come out of JSON with a different
    /// last digit. It changes only together with `shares`.
    fn fingerprint(&self) -> Fingerprint {
        let serving = match self.serving {
            Serving::Working => 0,
            Serving::Parked => 1,
            Serving::Gone => 2,
        };
        Fields::new()
            .text(self.machine.as_str())
            .number(u64::from(self.sessions))
            .number(serving)
            .number(self.shares)
            .time(self.last_share_at)
            .number(self.still_hashing)
            .fingerprint()
    }

    fn to_entry(&self) -> SessionReport {
        SessionReport {
            machine: self.machine.clone(),
            sessions: self.sessions,
            serving: self.serving,
            shares: self.shares,
            work: self.work,
            last_share_at: self.last_share_at,
            still_hashing: self.still_hashing,
        }
    }
}

impl MachineReport {
    /// The borrowed form of this entry.
    #[must_use]
    pub fn seen(&self) -> SeenMachine<'_> {
        SeenMachine {
            machine: &self.machine,
            state: self.state,
            watts: self.watts,
            read_at: self.read_at,
            slept_at: self.slept_at,
            asleep_by: self.asleep_by,
            unrecorded: self.unrecorded,
            failures: self.failures,
            fault: self.fault.as_deref(),
        }
    }
}

impl Entry for MachineReport {
    fn machine(&self) -> &MachineId {
        &self.machine
    }

    fn fingerprint(&self) -> Fingerprint {
        self.seen().fingerprint()
    }
}

impl SeenEntry for SeenMachine<'_> {
    type Entry = MachineReport;

    fn machine(&self) -> &MachineId {
        self.machine
    }

    fn fingerprint(&self) -> Fingerprint {
        let state = match self.state {
            DeviceState::Awake => 0,
            DeviceState::Asleep => 1,
            DeviceState::Unknown => 2,
        };
        let fields = Fields::new()
            .text(self.machine.as_str())
            .number(state)
            .optional(self.watts, |fields, watts| fields.signed(watts.0))
            .time(self.read_at)
            .time(self.slept_at)
            .number(u64::from(self.failures))
            .optional(self.fault, Fields::text);
        // Entries without them have the fingerprint that they had before these fields existed.
        let by = match self.asleep_by {
            None => fields,
            Some(AsleepBy::Us) => fields.number(1),
            Some(AsleepBy::Other) => fields.number(2),
        };
        let recorded = if self.unrecorded { by.number(3) } else { by };
        recorded.fingerprint()
    }

    fn to_entry(&self) -> MachineReport {
        MachineReport {
            machine: self.machine.clone(),
            state: self.state,
            watts: self.watts,
            read_at: self.read_at,
            slept_at: self.slept_at,
            asleep_by: self.asleep_by,
            unrecorded: self.unrecorded,
            failures: self.failures,
            fault: self.fault.map(str::to_owned),
        }
    }
}
