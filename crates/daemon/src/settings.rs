//! Settings: a TOML file becomes typed values, and every mistake in it is collected with its file,
//! line, column and key, so that an operator can correct all of them at once. Environment variables
//! can override the file; a mistake in a variable is reported with the name of the variable. The
//! loaders of the roles decide what the keys mean and how they depend on each other.
//!
//! A loader reads a [`Document`], walks it with [`Section`]s, and ends with [`Document::conclude`]:
//!
//! ```
//! use daemon::settings::Document;
//!
//! let document = Document::parse("site.toml", "[site]\nname = \"demo\"\n").unwrap();
//! let root = document.root();
//! let site = root.required_table("site");
//! let name = site.required_str("name");
//! site.finish();
//! root.finish();
//! assert_eq!(document.conclude(name).unwrap(), "demo");
//! ```

mod environment;
mod file;
mod mistake;
mod secret;
mod section;
mod tree;

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::NamedSource;

pub use file::FILE_MAX;
pub use mistake::{Mistake, Mistakes, Origin, Position, Severity, log_warnings};
pub use secret::{SECRET_MAX, Secret, SecretError, secret_file};
pub use section::{Raw, Section, Spot, nearest};

use tree::{Place, Table};

/// A parsed settings file with the environment variables that override it, and the mistakes found
/// so far.
#[derive(Debug)]
pub struct Document {
    source: Source,
    folder: PathBuf,
    root: Table,
    mistakes: Findings,
    warnings: Findings,
}

impl Document {
    /// Reads and parses a file. Returns a single mistake if there is no readable regular file of at
    /// most [`FILE_MAX`] bytes, and several if its TOML is broken in several places.
    pub fn read(path: &Path) -> Result<Self, Mistakes> {
        let name = path.display().to_string();
        let bytes =
            file::read_regular(path, FILE_MAX).map_err(|why| Mistakes::whole_file(&name, why))?;
        Self::from_bytes(&name, &bytes)
    }

    /// The text of `key` in `[table]` of a file with syntax errors elsewhere, so that another file
    /// that it names can still be checked.
    #[must_use]
    pub fn salvage(path: &Path, table: &str, key: &str) -> Option<String> {
        let bytes = file::read_regular(path, FILE_MAX).ok()?;
        tree::salvage(std::str::from_utf8(&bytes).ok()?, table, key)
    }

    /// Parses bytes. If they are not UTF-8, the mistake has the offset of the first byte that is
    /// not.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, Mistakes> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(name, text),
            Err(err) => {
                let good = String::from_utf8_lossy(&bytes[..err.valid_up_to()]).into_owned();
                let at = good.len();
                let source = Source::new(name, &good);
                let message = format!("not UTF-8 at byte offset {at}");
                Err(Mistakes::from(vec![source.mistake(
                    &Place::File(at..at),
                    String::new(),
                    message,
                    None,
                )]))
            }
        }
    }

    /// Parses TOML text. `name` is the file's path: mistakes show it, and relative paths start from
    /// its folder.
    pub fn parse(name: &str, text: &str) -> Result<Self, Mistakes> {
        if text.len() > FILE_MAX {
            let why = format!("is {} bytes long, more than the {FILE_MAX} allowed", text.len());
            return Err(Mistakes::whole_file(name, why));
        }
        let source = Source::new(name, text);
        let (root, mistakes) = tree::parse(&source);
        if !mistakes.is_empty() {
            return Err(Mistakes::from(mistakes));
        }
        let folder = Path::new(name).parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(Self {
            source,
            folder,
            root,
            mistakes: Findings::default(),
            warnings: Findings::default(),
        })
    }

    /// Overrides values of the file by the process's environment variables `PREFIX__SECTION__KEY`.
    /// [`Self::conclude`] reports the mistakes in them.
    #[must_use]
    pub fn with_environment(self, prefix: &str) -> Self {
        self.with_variables(prefix, std::env::vars_os())
    }

    /// Overrides values of the file by the given variables, as [`Self::with_environment`] does.
    #[must_use]
    pub fn with_variables<K, V>(
        mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self
    where
        K: Into<std::ffi::OsString>,
        V: Into<std::ffi::OsString>,
    {
        let variables = variables.into_iter().map(|(key, value)| (key.into(), value.into()));
        for mistake in environment::lay_over(&mut self.root, prefix, variables) {
            self.mistakes.add(mistake);
        }
        self
    }

    /// The top-level table of the file.
    pub fn root(&self) -> Section<'_> {
        Section::root(self, &self.root)
    }

    /// The folder from which relative paths in the file start.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The text that was parsed.
    #[must_use]
    pub fn text(&self) -> &str {
        self.source.named.inner()
    }

    /// Records a mistake at a spot that [`Section::spot`] gave earlier, for checks between
    /// sections.
    pub fn report(&self, spot: &Spot, message: impl Into<String>, suggestion: Option<String>) {
        let key = spot.key.clone();
        self.mistakes.add(self.source.mistake(&spot.place, key, message.into(), suggestion));
    }

    /// Records a warning: something that can be right, but probably is not. A warning does not make
    /// [`Self::conclude`] fail.
    pub fn warn(&self, spot: &Spot, message: impl Into<String>, suggestion: Option<String>) {
        let key = spot.key.clone();
        let found = self.source.mistake(&spot.place, key, message.into(), suggestion);
        self.warnings.add(Mistake { severity: Severity::Warning, ..found });
    }

    /// Returns the warnings recorded so far, in the order of the file.
    #[must_use]
    pub fn warnings(&self) -> Mistakes {
        self.warnings.sorted()
    }

    /// The line of a spot, for messages that point from one place to another; `None` for a
    /// variable.
    #[must_use]
    pub fn line(&self, spot: &Spot) -> Option<usize> {
        match &spot.place {
            Place::File(span) => Some(self.source.position(span.start).line),
            Place::Variable(_) => None,
        }
    }

    /// The candidate that `name` was probably meant to be, as [`nearest`] finds it. `None` once the
    /// bound on recorded mistakes is reached, because more are not shown.
    #[must_use]
    pub fn suggest<'c>(
        &self,
        name: &str,
        candidates: impl Iterator<Item = &'c str>,
    ) -> Option<String> {
        let room = self.mistakes.list.borrow().len() < MISTAKES_MAX;
        room.then(|| nearest(name, candidates)).flatten()
    }

    /// Whether any mistake was recorded yet.
    #[must_use]
    pub fn has_mistakes(&self) -> bool {
        !self.mistakes.list.borrow().is_empty()
    }

    /// Returns the value if no mistake was recorded, else all mistakes in the order of the file.
    pub fn conclude<T>(&self, value: Option<T>) -> Result<T, Mistakes> {
        let found = self.mistakes.sorted();
        match value {
            Some(value) if found.is_empty() => Ok(value),
            _ if found.is_empty() => {
                let message = "could not be understood".to_owned();
                let place = Place::File(0..0);
                Err(Mistakes::from(vec![self.source.mistake(&place, String::new(), message, None)]))
            }
            _ => Err(found),
        }
    }
}

/// The mistakes and warnings found so far in one document.
#[derive(Debug, Default)]
struct Findings {
    list: RefCell<Vec<Mistake>>,
    beyond: Cell<usize>,
}

impl Findings {
    /// Adds a finding, once: two readers of one section find the same mistake.
    fn add(&self, found: Mistake) {
        let mut list = self.list.borrow_mut();
        if list.iter().any(|known| known.says_the_same_as(&found)) {
            return;
        }
        if list.len() < MISTAKES_MAX {
            list.push(found);
        } else {
            self.beyond.set(self.beyond.get() + 1);
        }
    }

    /// Returns the findings in the order of the file.
    fn sorted(&self) -> Mistakes {
        let mut list = self.list.borrow().clone();
        list.sort_by_key(Mistake::rank);
        Mistakes::new(list, self.beyond.get())
    }
}

/// The text of a file, its name, and the offsets at which its lines start.
#[derive(Debug, Clone)]
struct Source {
    named: Arc<NamedSource<String>>,
    name: Arc<str>,
    lines: Vec<usize>,
}

impl Source {
    fn new(name: &str, text: &str) -> Self {
        let lines =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { named: Arc::new(NamedSource::new(name, text.to_owned())), name: name.into(), lines }
    }

    fn text(&self) -> &str {
        self.named.inner()
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines[line - 1];
        // A byte order mark does not count as a column.
        let before =
            self.text().get(start..offset).unwrap_or_default().trim_start_matches('\u{feff}');
        Position { line, column: before.chars().count() + 1 }
    }

    fn mistake(
        &self,
        place: &Place,
        key: String,
        message: String,
        suggestion: Option<String>,
    ) -> Mistake {
        match place {
            Place::File(span) => Mistake {
                severity: Severity::Mistake,
                origin: Origin::File {
                    file: self.name.clone(),
                    position: Some(self.position(span.start)),
                },
                key,
                message,
                suggestion,
                snippet: Some((self.named.clone(), self.clip(span))),
            },
            Place::Variable(variable) => Mistake {
                severity: Severity::Mistake,
                origin: Origin::Environment { variable: variable.clone() },
                key,
                message,
                suggestion,
                snippet: None,
            },
        }
    }

    /// Limits a span to the length of the text.
    fn clip(&self, span: &Range<usize>) -> Range<usize> {
        let len = self.text().len();
        span.start.min(len)..span.end.min(len).max(span.start.min(len))
    }
}

/// How many mistakes, and how many warnings, are kept for one document; more are only counted.
const MISTAKES_MAX: usize = 200;

#[cfg(test)]
mod tests;
