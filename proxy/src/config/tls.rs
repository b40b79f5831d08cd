//! The keys of a `[[target]]` about TLS: how the pool proves its identity. A mistake in them never
//! leads to a connection without TLS.

use std::cell::OnceCell;

use daemon::settings::Section;

use super::HostPort;
use crate::tls::{Pin, Tls, server_name};

/// The certificate authorities of this system, read once for all targets, and only if one needs
/// them.
#[derive(Debug, Default)]
pub(super) struct PlatformRoots(OnceCell<Result<Tls, String>>);

impl PlatformRoots {
    fn tls(&self) -> Result<Tls, String> {
        self.0.get_or_init(|| Tls::platform().map_err(|why| why.to_string())).clone()
    }
}

/// Keys that are valid only with a TLS url.
const KEYS: [&str; 3] = ["tls_pin", "tls_ca_file", "tls_verify"];

/// Reads the TLS settings of a target; `None` for a target without TLS, and after a mistake.
pub(super) fn read(
    section: &Section<'_>,
    url: Option<&(HostPort, bool)>,
    roots: &PlatformRoots,
) -> Option<Tls> {
    let pins = read_pins(section);
    let authorities = section.optional_path("tls_ca_file");
    let verify = section.choice_or("tls_verify", &[("on", true), ("off", false)], true);
    let allow_insecure = section.bool_or("allow_insecure", false);
    let (at, tls) = url?;
    if !tls {
        for key in KEYS.into_iter().filter(|key| section.has(key)) {
            section.mistake(key, "the url is plain: nothing would be checked. Use stratum+ssl://");
        }
        return None;
    }
    if server_name(&at.host).is_none() {
        section.mistake("url", format!("{:?} is no name that a certificate can bear", at.host));
        return None;
    }
    if !verify {
        if !allow_insecure {
            let why = "\"off\" lets anybody be the pool: it needs allow_insecure = true beside it; tls_pin is better";
            section.mistake("tls_verify", why);
        }
        for key in KEYS.into_iter().take(2).filter(|key| section.has(key)) {
            section.mistake(key, "would not be asked with tls_verify = \"off\": keep one of them");
        }
        return Some(Tls::unverified());
    }
    if section.has("tls_pin") {
        if authorities.is_some() {
            let why = "a pin is checked instead of the authorities, not beside them: keep one of tls_pin and tls_ca_file";
            section.mistake("tls_ca_file", why);
        }
        return Some(Tls::pinned(pins?));
    }
    let (key, tls) = match authorities {
        None => ("url", roots.tls()),
        Some(path) => ("tls_ca_file", read_authorities(&path)),
    };
    tls.map_err(|why| section.mistake(key, why)).ok()
}

fn read_pins(section: &Section<'_>) -> Option<Vec<Pin>> {
    let texts = section.strings("tls_pin")?;
    if texts.is_empty() {
        section.mistake("tls_pin", "must not be empty: leave it out to trust the authorities");
        return None;
    }
    let mut pins = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(pin) => pins.push(pin),
            Err(why) => section.mistake("tls_pin", format!("{text:?}: {why}")),
        }
    }
    (!pins.is_empty()).then_some(pins)
}

fn read_authorities(path: &std::path::Path) -> Result<Tls, String> {
    let pem = std::fs::read(path).map_err(|failure| format!("{}: {failure}", path.display()))?;
    Tls::authorities(&pem).map_err(|why| format!("{}: {why}", path.display()))
}
