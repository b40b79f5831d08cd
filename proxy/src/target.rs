//! How the proxy refers to a target, and how it keeps a value for each.
//!
//! A [`TargetId`] names a `[[target]]` of the configuration for as long as the process runs, also
//! one that is not mined at just now, or never. The configuration has the list of targets;
//! whatever else is kept by target is a [`PerTarget`] made from that list, so that an id leads to
//! the same target everywhere.

use std::ops::{Index, IndexMut};

/// A `[[target]]` of the configuration. An id that is less than another comes earlier there, which
/// means a higher priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(u16);

impl TargetId {
    /// The target at this position of the configuration, counted from 0.
    #[must_use]
    pub const fn nth(position: u16) -> Self {
        Self(position)
    }
}

/// How a target is used. Every place that treats targets differently by this asks here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetUse {
    /// Miners of all listeners without `passthrough` mine at it, over connections that they share.
    /// It takes part in the choice of the target, and in everything that must suit all pools: the
    /// miners' extranonce2_size and their version bits.
    Shared,
    /// Each miner of a listener that names it in `passthrough` has a connection of its own to it.
    Passthrough,
    /// It stays in the configuration, and nothing is done with it.
    Disabled,
}

impl TargetUse {
    /// The use of a target, by what the configuration says of it. `disabled`: its own section says
    /// so. `passed_through`: a `[[server]]` names it in `passthrough`.
    #[must_use]
    pub const fn decide(disabled: bool, passed_through: bool) -> Self {
        match (disabled, passed_through) {
            (true, _) => Self::Disabled,
            (false, true) => Self::Passthrough,
            (false, false) => Self::Shared,
        }
    }

    /// Whether miners mine at the target over connections that they share.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Shared)
    }

    /// Whether the proxy does anything with the target: it is connected to, and has metrics.
    #[must_use]
    pub const fn is_used(self) -> bool {
        match self {
            Self::Shared | Self::Passthrough => true,
            Self::Disabled => false,
        }
    }
}

/// A value for each target, in the order of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerTarget<T>(Vec<T>);

impl<T> PerTarget<T> {
    /// All ids, in order of priority.
    pub fn ids(&self) -> impl Iterator<Item = TargetId> + use<T> {
        (0..=u16::MAX).take(self.0.len()).map(TargetId)
    }

    pub fn iter(&self) -> impl Iterator<Item = (TargetId, &T)> {
        self.ids().zip(&self.0)
    }

    pub fn values(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub fn values_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }

    /// The value of this target; `None` when nothing is kept for it here.
    #[must_use]
    pub fn get(&self, target: TargetId) -> Option<&T> {
        self.0.get(usize::from(target.0))
    }

    /// Makes another list from this one, for the same targets.
    #[must_use]
    pub fn map<U>(&self, mut value: impl FnMut(TargetId, &T) -> U) -> PerTarget<U> {
        self.iter().map(|(id, of)| value(id, of)).collect()
    }

    /// The first target for whose value `is_it` returns `true`.
    #[must_use]
    pub fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<TargetId> {
        self.iter().find(|(_, value)| is_it(value)).map(|(id, _)| id)
    }
}

impl<T> Default for PerTarget<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> From<Vec<T>> for PerTarget<T> {
    fn from(values: Vec<T>) -> Self {
        Self(values)
    }
}

impl<T> FromIterator<T> for PerTarget<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// For ids of the configuration that the list was made from. Use [`PerTarget::get`] where a list
/// may have fewer.
impl<T> Index<TargetId> for PerTarget<T> {
    type Output = T;

    fn index(&self, target: TargetId) -> &T {
        &self.0[usize::from(target.0)]
    }
}

impl<T> IndexMut<TargetId> for PerTarget<T> {
    fn index_mut(&mut self, target: TargetId) -> &mut T {
        &mut self.0[usize::from(target.0)]
    }
}
