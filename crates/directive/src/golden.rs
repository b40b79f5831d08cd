//! Pins the JSON of what travels between processes. `TIELINE_GOLDEN=write cargo test` writes the
//! files anew. Two versions of Tieline may be at the two ends of a link, so a change of a name or a
//! type is a change that both must be able to read.

use std::fmt::Debug;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Compares the JSON of `value` with `golden/{name}.json`, and reads it back.
pub(crate) fn pinned<T>(name: &str, value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/golden/{name}.json"));
    if std::env::var("TIELINE_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, golden, "{name}: the JSON between processes changed");
    assert_eq!(serde_json::from_str::<T>(&golden).unwrap(), *value, "{name}: read back");
    let mut later: Value = serde_json::from_str(&golden).unwrap();
    later["added_in_a_later_version"] = true.into();
    assert_eq!(serde_json::from_value::<T>(later).unwrap(), *value, "{name}: an unknown field");
}
