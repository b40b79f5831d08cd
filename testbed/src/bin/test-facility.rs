//! The simulated facility as a program: files control its machines, and its meters are files. It
//! also has the two commands for an exec actuator. `testbed::facility::files` does the work; this
//! file parses options and waits.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use daemon::stdio::complain;
use directive::{DeviceState, MachineId, Watts};
use jiff::Timestamp;
use testbed::clock;
use testbed::facility::files::{self, FileFacility, MeterFiles};
use testbed::facility::{FacilitySpec, MachineSpec, TenantSpec};
use testbed::program::print;
use tokio::signal::unix::{SignalKind, signal};

/// Simulates a facility's machines and meters through files in a folder.
#[derive(Debug, Parser)]
#[command(
    name = "test-facility",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Folder of the machines' files
    #[arg(long, required = true)]
    dir: Option<PathBuf>,
    /// Machines as NAME:COUNT:WATTS:RESIDUAL, where `*` in NAME counts from 1; may be repeated
    #[arg(long, value_name = "NAME:COUNT:WATTS:RESIDUAL", value_parser = machines, required = true)]
    machines: Vec<MachineSpecs>,
    /// File of the feed's meter [default: DIR/feed.kw]
    #[arg(long)]
    feed_meter: Option<PathBuf>,
    /// File of the tenant's meter [default: none]
    #[arg(long)]
    tenant_meter: Option<PathBuf>,
    /// What the house draws
    #[arg(long, default_value = "0", value_parser = kilowatts)]
    house_kw: Watts,
    /// File with what the house draws in kW, read ten times a second [default: none]
    #[arg(long)]
    house_file: Option<PathBuf>,
    /// File with the factor by which the feed's meter is off, read ten times a second [default: none]
    #[arg(long)]
    feed_factor_file: Option<PathBuf>,
    /// What the AI tenant draws
    #[arg(long, default_value = "0", value_parser = kilowatts)]
    tenant_kw: Watts,
    /// When the tenant begins: RFC 3339, or +SPAN from now
    #[arg(long, default_value = "+0s", value_parser = moment)]
    tenant_start: When,
    /// When the tenant ends [default: never]
    #[arg(long, value_parser = moment)]
    tenant_end: Option<When>,
    /// How long the tenant takes to ramp up, and to ramp down
    #[arg(long, default_value = "10s", value_parser = clock::parse_span)]
    tenant_ramp: Duration,
    /// How long a machine takes to fall asleep
    #[arg(long, default_value = "1s", value_parser = clock::parse_span)]
    sleep_time: Duration,
    /// How long a machine takes to wake
    #[arg(long, default_value = "2s", value_parser = clock::parse_span)]
    wake_time: Duration,
    /// How long to run [default: until a signal]
    #[arg(long = "for", value_name = "SPAN", value_parser = clock::parse_span)]
    run_for: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells a machine to sleep or wake; exits with 1 if it refuses
    Set {
        /// Folder of the machines' files
        #[arg(long)]
        dir: PathBuf,
        /// The machine's name
        machine: String,
        /// The state to change to
        #[arg(value_parser = ["asleep", "awake"])]
        state: String,
    },
    /// Prints what a machine reports: `asleep 30`
    Read {
        /// Folder of the machines' files
        #[arg(long)]
        dir: PathBuf,
        /// The machine's name
        machine: String,
    },
}

/// The machines of one `--machines`.
#[derive(Debug, Clone)]
struct MachineSpecs(Vec<MachineSpec>);

/// A time as given on the command line.
#[derive(Debug, Clone, Copy)]
enum When {
    At(Timestamp),
    After(Duration),
}

impl When {
    fn from(self, now: Timestamp) -> Result<Timestamp, jiff::Error> {
        match self {
            Self::At(at) => Ok(at),
            Self::After(span) => now.checked_add(span),
        }
    }
}

/// How often the files are read and the meters rewritten.
const STEP_EVERY: Duration = Duration::from_millis(200);
/// The maximum number of machines of one `--machines`: the files of each are read five times a
/// second.
const MACHINES_MAX: u32 = 2_000;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::Set { dir, machine, state }) => {
            let state = if state == "asleep" { DeviceState::Asleep } else { DeviceState::Awake };
            files::set(dir, &MachineId::from(machine.as_str()), state).map_err(Into::into)
        }
        Some(Command::Read { dir, machine }) => {
            files::read(dir, &MachineId::from(machine.as_str()))
                .map_err(Into::into)
                .and_then(|says| print(&says.to_string()))
        }
        None => run(cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("test-facility: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let now = clock::moment();
    let dir = cli.dir.context("--dir is missing")?;
    let mut machines: Vec<MachineSpec> =
        cli.machines.into_iter().flat_map(|machines| machines.0).collect();
    for machine in &mut machines {
        machine.sleep_time = cli.sleep_time;
        machine.wake_time = cli.wake_time;
    }
    let tenant = TenantSpec {
        watts: cli.tenant_kw,
        start: cli.tenant_start.from(now.wall).context("--tenant-start")?,
        end: cli.tenant_end.map(|end| end.from(now.wall)).transpose().context("--tenant-end")?,
        ramp: cli.tenant_ramp,
    };
    let meters = MeterFiles {
        feed: cli.feed_meter.unwrap_or_else(|| dir.join("feed.kw")),
        tenant: cli.tenant_meter,
    };
    let spec = FacilitySpec { machines, house: cli.house_kw, ..FacilitySpec::default() };
    let facility = FileFacility::open(&dir, spec, Some(tenant), meters, now)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let files = ControlFiles { house: cli.house_file, feed_factor: cli.feed_factor_file };
    runtime.block_on(follow(facility, files, cli.run_for))
}

/// Files by which a test changes the facility while it runs.
#[derive(Debug)]
struct ControlFiles {
    house: Option<PathBuf>,
    feed_factor: Option<PathBuf>,
}

async fn follow(
    mut facility: FileFacility,
    files: ControlFiles,
    run_for: Option<Duration>,
) -> anyhow::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut every = tokio::time::interval(STEP_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let end = async {
        match run_for {
            Some(span) => tokio::time::sleep(span).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let mut complaint = String::new();
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            () = &mut end => return Ok(()),
            _ = every.tick() => {}
        }
        // Until the file has been written, the house draws what the options say.
        let text = |path: &Option<PathBuf>| std::fs::read_to_string(path.as_deref()?).ok();
        if let Some(house) = text(&files.house).and_then(|text| kilowatts(text.trim()).ok()) {
            facility.facility().set_house(house);
        }
        let factor = text(&files.feed_factor).and_then(|text| text.trim().parse::<f64>().ok());
        if let Some(factor) = factor.filter(|factor| factor.is_finite() && *factor >= 0.0) {
            facility.set_feed_factor(factor);
        }
        // A bad file is reported once, and the facility continues: the test may be about that file.
        let said =
            facility.step(clock::moment()).err().map(|error| error.to_string()).unwrap_or_default();
        if said != complaint && !said.is_empty() {
            complain(&format!("test-facility: {said}"));
        }
        complaint = said;
    }
}

fn machines(text: &str) -> Result<MachineSpecs, String> {
    let wanted = || format!("`{text}` is not NAME:COUNT:WATTS:RESIDUAL");
    let mut parts = text.rsplitn(4, ':');
    let (Some(residual), Some(watts), Some(count), Some(name)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wanted());
    };
    let (Ok(residual), Ok(watts), Ok(count)) =
        (residual.parse::<u32>(), watts.parse::<u32>(), count.parse::<u32>())
    else {
        return Err(wanted());
    };
    if !(1..=MACHINES_MAX).contains(&count) {
        return Err(format!("COUNT must be 1 to {MACHINES_MAX}"));
    }
    if count > 1 && !name.contains('*') {
        return Err(format!("`{name}` needs a `*` to name {count} machines"));
    }
    let one = |number: u32| {
        MachineSpec::new(
            name.replacen('*', &number.to_string(), 1),
            Watts(watts.into()),
            Watts(residual.into()),
        )
    };
    Ok(MachineSpecs((1..=count).map(one).collect()))
}

fn kilowatts(text: &str) -> Result<Watts, String> {
    let watts = text.parse().ok().and_then(Watts::from_kw).filter(|watts| *watts >= Watts::ZERO);
    watts.ok_or_else(|| format!("`{text}` is no power in kW"))
}

fn moment(text: &str) -> Result<When, String> {
    match text.strip_prefix('+') {
        Some(span) => clock::parse_span(span).map(When::After),
        None => text.parse().map(When::At).map_err(|error| format!("`{text}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        let run = [
            "test-facility",
            "--dir",
            "d",
            "--machines",
            "acme.rig-*:12:3400:30",
            "--tenant-start",
            "+30s",
        ];
        assert_eq!(Cli::try_parse_from(run).unwrap().machines[0].0.len(), 12);
        assert!(
            Cli::try_parse_from(["test-facility", "set", "--dir", "d", "acme.rig-1", "asleep"])
                .is_ok()
        );
        assert!(
            Cli::try_parse_from(["test-facility", "set", "--dir", "d", "acme.rig-1", "off"])
                .is_err()
        );
        assert!(Cli::try_parse_from(["test-facility"]).is_err());
    }

    #[test]
    fn machines_are_named_and_counted() {
        let MachineSpecs(specs) = machines("acme.rig-*:12:3400:30").unwrap();
        assert_eq!((specs.len(), specs[11].id.as_str()), (12, "acme.rig-12"));
        assert_eq!((specs[0].awake, specs[0].residual), (Watts(3400), Watts(30)));
        assert_eq!(machines("a:b:1:10:0").unwrap().0[0].id.as_str(), "a:b");
        for bad in ["", "a", "a*:0:1:1", "a:2:1:1", "a*:x:1:1", "a*:1:-1:0", "a*:999999:1:1"] {
            assert!(machines(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_are_absolute_or_from_now() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(moment("+30s").unwrap().from(now).unwrap(), now + Duration::from_secs(30));
        assert_eq!(moment("2027-01-15T08:00:00Z").unwrap().from(Timestamp::MIN).unwrap(), now);
        assert!(moment("soon").is_err() && moment("+soon").is_err() && kilowatts("NaN").is_err());
        assert!(kilowatts("-1").is_err() && kilowatts("1.5") == Ok(Watts(1500)));
    }
}
