//! Power in JSON: one quantity is written as two fields, `NAME_kw` for people and `NAME_watts` for
//! programs. A field of a view uses it as `#[serde(flatten, with = "power::NAME")]`.

use std::fmt;
use std::marker::PhantomData;

use directive::Watts;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserializer, Serializer};

/// A type of power: known, or possibly unknown.
pub(super) trait Quantity: Copy {
    fn watts(self) -> Option<Watts>;
    /// Returns `None` if power that must be known is not.
    fn from_watts(watts: Option<Watts>) -> Option<Self>;
}

impl Quantity for Watts {
    fn watts(self) -> Option<Watts> {
        Some(self)
    }

    fn from_watts(watts: Option<Watts>) -> Option<Self> {
        watts
    }
}

impl Quantity for Option<Watts> {
    fn watts(self) -> Option<Watts> {
        self
    }

    fn from_watts(watts: Option<Watts>) -> Option<Self> {
        Some(watts)
    }
}

/// Makes a module with `serialize` and `deserialize` for each name.
macro_rules! quantities {
    ($($name:ident),+ $(,)?) => {$(
        pub(super) mod $name {
            const KEYS: &[&str] =
                &[concat!(stringify!($name), "_kw"), concat!(stringify!($name), "_watts")];

            pub(in crate::view) fn serialize<S: serde::Serializer>(
                quantity: &impl super::Quantity,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                super::write(KEYS, *quantity, serializer)
            }

            pub(in crate::view) fn deserialize<'de, Q, D>(deserializer: D) -> Result<Q, D::Error>
            where
                Q: super::Quantity,
                D: serde::Deserializer<'de>,
            {
                super::read(KEYS, deserializer)
            }
        }
    )+};
}

quantities!(
    asked,
    available,
    band,
    bound,
    committed,
    counted,
    gross,
    guardable,
    headroom,
    house,
    it,
    left,
    metered,
    mining,
    missing,
    off,
    permitted,
    residual,
    room,
    shed,
    shown,
    unassigned,
    unsheddable,
    usable,
    usable_next,
    wants,
);

/// Writes `[NAME_kw, NAME_watts]`, both null when the quantity is unknown.
fn write<S: Serializer>(
    keys: &[&'static str],
    quantity: impl Quantity,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let watts = quantity.watts();
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry(keys[0], &watts.map(Watts::kw))?;
    map.serialize_entry(keys[1], &watts)?;
    map.end()
}

fn read<'de, Q: Quantity, D: Deserializer<'de>>(
    keys: &'static [&'static str],
    deserializer: D,
) -> Result<Q, D::Error> {
    deserializer.deserialize_struct(
        "power",
        keys,
        Read { watts_key: keys[1], quantity: PhantomData },
    )
}

/// Reads the whole watts, which are exact; the kilowatts have the same value.
struct Read<Q> {
    watts_key: &'static str,
    quantity: PhantomData<Q>,
}

impl<'de, Q: Quantity> Visitor<'de> for Read<Q> {
    type Value = Q;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "power as {}", self.watts_key)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Q, A::Error> {
        let mut watts = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.watts_key {
                watts = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Q::from_watts(watts).ok_or_else(|| A::Error::missing_field(self.watts_key))
    }
}
