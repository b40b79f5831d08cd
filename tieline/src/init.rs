//! `tieline init`: writes a configuration and a policy that work at once, for a site that has not
//! been described yet. The policy lets every machine run and promises nothing. Invented figures in
//! it are marked.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use daemon::settings::{Document, Mistake};
use tempfile::NamedTempFile;

use crate::cli::Init;
use crate::failure::Failure;
use crate::output::print;
use crate::settings::Settings;

/// Writes `tieline.toml` and `policy.toml`.
///
/// # Errors
/// [`Failure::Usage`] when an option cannot be used; [`Failure::Runtime`] when one of the files
/// exists or cannot be written. Nothing is written then.
pub fn init(options: &Init) -> Result<(), Failure> {
    let zone = jiff::tz::TimeZone::system();
    let texts = Texts::new(options, zone.iana_name().unwrap_or("UTC"));
    texts.check(&options.dir)?;
    let [config, policy] = write(&options.dir, &texts)?;
    let port = options.listen.port();
    let argument = for_a_shell(&config);
    let (config, policy) = (config.display(), policy.display());
    print(&format!(
        "wrote {config}\nwrote {policy}\n\n\
         next:\n  tieline check -c {argument}\n  tieline run -c {argument}\n\n\
         Miners connect to stratum+tcp://<this machine>:{port}. The figures of the site in\n\
         {policy} are invented: it says what to replace."
    ))
}

/// The contents of the two files.
struct Texts {
    config: String,
    policy: String,
}

impl Texts {
    fn new(options: &Init, zone: &str) -> Self {
        let port = options.listen.port().to_string();
        let [listen, pool, user, site] =
            [&options.listen.to_string(), &options.pool, &options.user, &options.site]
                .map(|text| quoted(text));
        let machines = underscored(MACHINES);
        let limit = underscored(MACHINES * 7 / 2);
        let config = fill(
            include_str!("init/tieline.toml.in"),
            &[("PORT", &port), ("LISTEN", &listen), ("POOL", &pool), ("USER", &user)],
        );
        let policy = fill(
            include_str!("init/policy.toml.in"),
            &[("SITE", &site), ("ZONE", &quoted(zone)), ("MACHINES", &machines), ("LIMIT", &limit)],
        );
        Self { config, policy }
    }

    /// Checks both files like `tieline check`. A mistake is at the place where an option was
    /// inserted.
    fn check(&self, dir: &Path) -> Result<(), Failure> {
        let name = |file: &str| shown(&dir.join(file)).display().to_string();
        let mut mistakes: Vec<Mistake> = Vec::new();
        match Document::parse(&name(CONFIG), &self.config) {
            Ok(document) => {
                let settings = Settings::read(&document).settings;
                mistakes.extend(
                    document.conclude(settings).err().iter().flat_map(|all| all.list()).cloned(),
                );
            }
            Err(all) => mistakes.extend_from_slice(all.list()),
        }
        let policy = switchboard::policy::parse(&self.policy, &name(POLICY));
        mistakes.extend(policy.err().iter().flat_map(|all| all.list()).cloned());
        if mistakes.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = mistakes.iter().map(said_of_option).collect();
        Err(Failure::Usage(lines.join("\n")))
    }
}

/// A mistake as a message about the option.
fn said_of_option(mistake: &Mistake) -> String {
    let option = match mistake.key.as_str() {
        "target[0].url" => "--pool",
        "target[0].user_identity" => "--user",
        "server[0].listen" => "--listen",
        "site.name" => "--site",
        _ => return mistake.to_string(),
    };
    format!("{option}: {}", mistake.message)
}

/// Writes both files or none: neither may exist, and both are written completely before the first
/// gets its name.
fn write(dir: &Path, texts: &Texts) -> Result<[PathBuf; 2], anyhow::Error> {
    let paths = [CONFIG, POLICY].map(|file| shown(&dir.join(file)).to_owned());
    for path in &paths {
        if path.symlink_metadata().is_ok() {
            anyhow::bail!("{} exists; nothing was written", path.display());
        }
    }
    if dir.exists() && !dir.is_dir() {
        anyhow::bail!("{} is not a folder; nothing was written", dir.display());
    }
    std::fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    let config = prepare(dir, &texts.config)?;
    let policy = prepare(dir, &texts.policy)?;
    let [config_path, policy_path] = &paths;
    name(policy, policy_path)?;
    if let Err(failure) = name(config, config_path) {
        // Somebody else created the other file: one of our two files alone would be useless.
        std::fs::remove_file(policy_path)
            .with_context(|| format!("failed to remove {}", policy_path.display()))?;
        return Err(failure);
    }
    Ok(paths)
}

/// The path quoted as one argument for a shell.
fn for_a_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%:,=".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The path without a leading `./`.
fn shown(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

/// Writes a complete temporary file.
fn prepare(dir: &Path, text: &str) -> anyhow::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = || format!("failed to write in {}", dir.display());
    let readable = std::fs::Permissions::from_mode(0o644);
    let mut file =
        tempfile::Builder::new().permissions(readable).tempfile_in(dir).with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    Ok(file)
}

fn name(file: NamedTempFile, path: &Path) -> anyhow::Result<()> {
    file.persist_noclobber(path)
        .map(drop)
        .map_err(|failure| failure.error)
        .with_context(|| format!("failed to write {}", path.display()))
}

/// Replaces `@NAME@` by values.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    // Every second part was between two `@`.
    let parts = template.split('@').enumerate().map(|(index, part)| {
        let value = values.iter().find(|(name, _)| *name == part).map(|(_, value)| *value);
        if index % 2 == 0 { part } else { value.expect("the templates name only these values") }
    });
    parts.collect()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A number with underscores between its thousands: `10_000`.
fn underscored(number: u32) -> String {
    let (thousands, rest) = (number / 1000, number % 1000);
    if thousands == 0 { rest.to_string() } else { format!("{thousands}_{rest:03}") }
}

const CONFIG: &str = "tieline.toml";
const POLICY: &str = "policy.toml";

/// The default of `sessions_max`: as many miners as a proxy accepts.
const MACHINES: u32 = 10_000;

#[cfg(test)]
mod tests;
