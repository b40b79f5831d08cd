//! What a receiver has heard last, for the record: a downlink is state, and what it says again is
//! nothing new.

use std::collections::BTreeSet;
use std::sync::Arc;

use directive::{Downlink, Generation, MachineId, Permit};

use crate::record::{Event, Message, Role};
use crate::stage::{Stage, name};

#[derive(Debug, Default)]
pub(crate) struct Heard {
    number: Option<Generation>,
    permit: Option<Permit>,
    asleep: Arc<BTreeSet<MachineId>>,
}

impl Heard {
    /// Records what `downlink` says that the one before did not.
    pub(crate) fn note(&mut self, stage: &mut Stage, role: Role, downlink: &Downlink) {
        let number = downlink.timeline.as_ref().map(|timeline| timeline.number);
        if let Some(timeline) = &downlink.timeline
            && self.number != number
        {
            stage.story.tell(stage.now, name(role), || {
                format!("hears timeline {} of {} steps", timeline.number, timeline.steps.len())
            });
            stage.note(Event::Heard { role, message: Message::Timeline(timeline.clone()) });
        }
        if self.permit != downlink.permit {
            let message = downlink.permit.clone().map_or(Message::Withdrawn, Message::Permit);
            stage.story.tell(stage.now, name(role), || match &downlink.permit {
                Some(permit) => format!("hears permit {} for {}", permit.serial, permit.number),
                None => "hears that the permit is withdrawn".to_owned(),
            });
            stage.note(Event::Heard { role, message });
        }
        if self.asleep != downlink.asleep {
            let message = Message::Asleep(downlink.asleep.clone());
            stage.note(Event::Heard { role, message });
        }
        self.number = number.or(self.number);
        self.permit.clone_from(&downlink.permit);
        self.asleep = downlink.asleep.clone();
    }
}
