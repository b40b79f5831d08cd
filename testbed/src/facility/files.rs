//! The simulated facility controlled by files, for a facility and an agent in separate processes.
//!
//! One folder holds, for each machine, `NAME.state` (`awake` or `asleep`: the last command; without
//! a file, `awake`), `NAME.now` (what the machine reports: `asleep 30`) and, if the machine is not
//! to obey, `NAME.behaviour`. A command ([`set`], [`read`]) touches only these files;
//! [`FileFacility::step`] applies them, advances the simulation and rewrites the meters.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use directive::{DeviceState, MachineId, MeterId, Watts};

use super::{Behaviour, FacilitySpec, SimFacility, SpecError, TenantSpec};
use crate::clock::{Moment, parse_span};

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The file system reported an error.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A machine's name cannot be a file name.
    #[error(
        "machine name {0:?}: must be 1 to 128 printable ASCII characters without spaces and slashes, and not start with a dot"
    )]
    Name(String),
    /// A file has unexpected content.
    #[error("{}: {found:?} is not {wanted}", path.display())]
    Content {
        path: PathBuf,
        /// The content of the file, truncated.
        found: String,
        wanted: &'static str,
    },
    /// The machine's behaviour is to refuse.
    #[error("{0} refuses to sleep")]
    Refused(MachineId),
    /// The machines cannot be built.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// Tells a machine to sleep or wake by writing its state file.
///
/// # Errors
/// When the name cannot be a file name, the file cannot be written, or the machine's behaviour is
/// to refuse.
pub fn set(dir: &Path, machine: &MachineId, state: DeviceState) -> Result<(), FilesError> {
    let path = file(dir, machine, "state")?;
    if state == DeviceState::Asleep && behaviour(dir, machine)? == Behaviour::Refuses {
        return Err(FilesError::Refused(machine.clone()));
    }
    replace(&path, word(state))
}

/// Reads what a machine reports: `asleep 30`, or only the state if no facility has processed the
/// machine yet.
///
/// # Errors
/// When the name is no file name or the file cannot be read.
pub fn read(dir: &Path, machine: &MachineId) -> Result<String, FilesError> {
    match text(&file(dir, machine, "now")?)? {
        Some(says) => Ok(says),
        None => Ok(word(told(dir, machine)?).to_owned()),
    }
}

/// Whether a machine really hashes, for a test miner in another process. A machine that lies hashes
/// whatever it reports.
///
/// # Errors
/// When the name is no file name or a file cannot be read.
pub fn is_hashing(dir: &Path, machine: &MachineId) -> Result<bool, FilesError> {
    Ok(behaviour(dir, machine)? == Behaviour::Lies
        || read(dir, machine)?.starts_with(word(DeviceState::Awake)))
}

/// Where the meters are written.
#[derive(Debug, Clone)]
pub struct MeterFiles {
    pub feed: PathBuf,
    /// The tenant's meter, if there is one.
    pub tenant: Option<PathBuf>,
}

/// A simulated facility that is controlled by the files of a folder.
#[derive(Debug)]
pub struct FileFacility {
    facility: SimFacility,
    dir: PathBuf,
    meters: MeterFiles,
    tenant: MeterId,
    /// By which factor the feed's meter is off.
    feed_factor: f64,
    followed: BTreeMap<MachineId, Followed>,
}

#[derive(Debug)]
struct Followed {
    told: DeviceState,
    behaviour: Behaviour,
    says: String,
}

/// The maximum length of a file of the folder, in bytes; more is not read.
const FILE_MAX_BYTES: u64 = 256;

impl FileFacility {
    /// Opens the folder, and creates it if it is missing. Machines whose state file says `asleep`
    /// are asleep from the start.
    ///
    /// # Errors
    /// When a machine's name cannot be a file name, a file cannot be read or written, or the
    /// machines cannot be built.
    pub fn open(
        dir: &Path,
        mut spec: FacilitySpec,
        tenant: Option<TenantSpec>,
        meters: MeterFiles,
        now: Moment,
    ) -> Result<Self, FilesError> {
        fs::create_dir_all(dir).map_err(|source| FilesError::Io { path: dir.into(), source })?;
        let mut followed = BTreeMap::new();
        for machine in &mut spec.machines {
            let (told, behaviour) = (told(dir, &machine.id)?, behaviour(dir, &machine.id)?);
            machine.behaviour = behaviour;
            machine.asleep = told == DeviceState::Asleep && behaviour != Behaviour::Lies;
            followed.insert(machine.id.clone(), Followed { told, behaviour, says: String::new() });
        }
        let name = MeterId::from("tenant");
        spec.tenants.extend(tenant.map(|tenant| (name.clone(), tenant)));
        let facility = SimFacility::new(spec, now)?;
        for (machine, followed) in &followed {
            if followed.behaviour == Behaviour::Lies && followed.told == DeviceState::Asleep {
                // The machine accepts the command, as it did before.
                drop(facility.sleep(machine, now));
            }
        }
        let dir = dir.into();
        Ok(Self { facility, dir, meters, tenant: name, feed_factor: 1.0, followed })
    }

    /// The simulated facility itself.
    #[must_use]
    pub fn facility(&self) -> &SimFacility {
        &self.facility
    }

    /// Makes the feed's meter show this multiple of the power from now on.
    pub fn set_feed_factor(&mut self, factor: f64) {
        self.feed_factor = factor;
    }

    /// Applies the files, and writes the state at `now`.
    ///
    /// # Errors When a file cannot be read or written, or has unexpected content. The other files
    /// have been applied nevertheless.
    pub fn step(&mut self, now: Moment) -> Result<(), FilesError> {
        let mut result = Ok(());
        for (machine, followed) in &mut self.followed {
            let one = follow(&self.facility, &self.dir, machine, followed, now);
            result = result.and(one);
        }
        self.facility.sample(now);
        let line = |watts: Watts| format!("{:.3} {}", watts.kw(), now.wall);
        replace(&self.meters.feed, &line(self.facility.power(now).feed().scale(self.feed_factor)))?;
        if let Some(path) = &self.meters.tenant {
            replace(path, &line(self.facility.tenant_watts(&self.tenant, now)))?;
        }
        result
    }
}

fn follow(
    facility: &SimFacility,
    dir: &Path,
    machine: &MachineId,
    followed: &mut Followed,
    now: Moment,
) -> Result<(), FilesError> {
    let behaviour = behaviour(dir, machine)?;
    if behaviour != followed.behaviour {
        facility.set_behaviour(machine, behaviour, now);
        followed.behaviour = behaviour;
    }
    let told = told(dir, machine)?;
    if told != followed.told {
        followed.told = told;
        if told == DeviceState::Awake {
            drop(facility.wake(machine, now));
        } else {
            // A machine that refuses is not put to sleep by its state file, either; its `.now` file
            // shows that.
            drop(facility.sleep(machine, now));
        }
    }
    let Ok(reading) = facility.read(machine, now) else { return Ok(()) };
    let says = match (reading.state, reading.watts) {
        (state, Some(watts)) => format!("{} {}", word(state), watts.0),
        (state, None) => word(state).to_owned(),
    };
    if says != followed.says {
        replace(&file(dir, machine, "now")?, &says)?;
        // A machine that woke on its own has lost its command: the next command counts as new.
        let woke = says.starts_with("awake")
            && followed.says.starts_with("asleep")
            && told == DeviceState::Asleep;
        followed.says = says;
        if woke {
            followed.told = DeviceState::Awake;
            replace(&file(dir, machine, "state")?, word(DeviceState::Awake))?;
        }
    }
    Ok(())
}

fn told(dir: &Path, machine: &MachineId) -> Result<DeviceState, FilesError> {
    let path = file(dir, machine, "state")?;
    match text(&path)?.as_deref() {
        None | Some("awake") => Ok(DeviceState::Awake),
        Some("asleep") => Ok(DeviceState::Asleep),
        Some(other) => Err(content(path, other, "`awake` or `asleep`")),
    }
}

fn behaviour(dir: &Path, machine: &MachineId) -> Result<Behaviour, FilesError> {
    let path = file(dir, machine, "behaviour")?;
    let Some(text) = text(&path)? else { return Ok(Behaviour::Obeys) };
    let mut words = text.split_whitespace();
    let behaviour = match (words.next(), words.next(), words.next()) {
        (Some("obeys"), None, None) => Some(Behaviour::Obeys),
        (Some("refuses"), None, None) => Some(Behaviour::Refuses),
        (Some("lies"), None, None) => Some(Behaviour::Lies),
        (Some("slow"), None, None) => Some(Behaviour::SlowSleeper),
        (Some("wakes"), Some(after), None) => {
            parse_span(after).ok().map(|after| Behaviour::WakesByItself { after })
        }
        _ => None,
    };
    behaviour
        .ok_or_else(|| content(path, &text, "`obeys`, `refuses`, `lies`, `slow` or `wakes SPAN`"))
}

fn word(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Awake => "awake",
        DeviceState::Asleep => "asleep",
        DeviceState::Unknown => "unknown",
    }
}

fn file(dir: &Path, machine: &MachineId, kind: &str) -> Result<PathBuf, FilesError> {
    let name = machine.as_str();
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(good) {
        return Err(FilesError::Name(name.chars().take(128).collect()));
    }
    Ok(dir.join(format!("{name}.{kind}")))
}

/// The file's text without its line end; `None` if there is no such file.
fn text(path: &Path) -> Result<Option<String>, FilesError> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        io::Read::read_to_string(
            &mut io::Read::take(fs::File::open(path)?, FILE_MAX_BYTES),
            &mut text,
        )?;
        Ok(text.trim().to_owned())
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FilesError::Io { path: path.into(), source }),
    }
}

/// Replaces a whole file, so that a reader never sees half a line. Each writer uses a temporary
/// file of its own.
fn replace(path: &Path, line: &str) -> Result<(), FilesError> {
    let io = |source| FilesError::Io { path: path.into(), source };
    let mut beside = path.to_path_buf().into_os_string();
    beside.push(format!(".{}.new", std::process::id()));
    fs::write(&beside, format!("{line}\n")).map_err(io)?;
    fs::rename(&beside, path).map_err(io)
}

fn content(path: PathBuf, found: &str, wanted: &'static str) -> FilesError {
    FilesError::Content { path, found: found.chars().take(40).collect(), wanted }
}

#[cfg(test)]
mod tests;
