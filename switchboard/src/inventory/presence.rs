//! How machines show themselves.

use directive::{DeviceState, MachineId, Serving};

use super::Inventory;

/// How a machine shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Presence {
    /// Not at all.
    Away,
    /// Its device answers.
    Answers,
    /// It has a session without work.
    Connected,
    Works,
}

impl Inventory {
    pub(super) fn presence(&self, machine: &MachineId) -> Presence {
        let sessions = self.sessions(machine).filter(|session| session.sessions > 0);
        let session = sessions.map(|session| match session.serving {
            Serving::Working => Presence::Works,
            Serving::Parked | Serving::Gone => Presence::Connected,
        });
        let device = self.device(machine).map_or(Presence::Away, |device| {
            let answers = device.report.state != DeviceState::Unknown;
            if answers { Presence::Answers } else { Presence::Away }
        });
        session.max().unwrap_or(device)
    }
}
