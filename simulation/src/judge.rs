//! Judges a run by its record: what held throughout, and what did not.
//!
//! The judge does its own arithmetic on watts, times, timelines and promises. It shares no code with
//! the roles and never asks them. What physics and the world excuse is allowed for by [`Terms`] and by the
//! record itself, and each predicate says which.
//!
//! A finding has a kind (which rule) and a cause (what brought it about). Causes are found by
//! arithmetic too: an excess of power, for example, is the house's only if the house drew as much
//! above what is declared. So a known weakness is recognised by its kind and cause, and whatever
//! else breaks the same rule stays [`Cause::Decision`].

use crate::facility::spec::FacilitySpec;
use crate::record::Record;

mod answers;
mod causes;
mod confirmed;
mod excess;
mod history;
mod leases;
mod meters;
mod orders;
mod permits;
mod power;
mod ramps;
mod sleepers;
mod spare;
mod supply;
mod surplus;
mod terms;
mod violation;

pub use terms::Terms;
pub use violation::{Cause, Kind, Place, Violation};

use history::History;
use terms::Allowances;

/// Everything that was wrong in a run of `spec`, in order of time.
#[must_use]
pub fn judge(spec: &FacilitySpec, terms: &Terms, record: &Record) -> Vec<Violation> {
    let history = History::new(spec, record);
    let allow = Allowances::new(terms, spec);
    let mut found = power::judge(&history, &allow);
    found.extend(answers::judge(&history, &allow));
    found.extend(permits::judge(&history, &allow));
    found.extend(confirmed::judge(&history, &allow));
    found.extend(orders::judge(&history, &allow));
    found.extend(leases::judge(&history, &allow));
    found.extend(meters::judge(&history, &allow));
    found.extend(sleepers::judge(&history, &allow));
    found.extend(causes::judge(&history, &allow));
    found.extend(supply::judge(&history, &allow));
    found.extend(surplus::judge(&history, &allow));
    found.extend(ramps::judge(&history, &allow));
    found.sort_by(|a, b| (a.span.from, a.kind, &a.place).cmp(&(b.span.from, b.kind, &b.place)));
    found
}

#[cfg(test)]
mod tests;
