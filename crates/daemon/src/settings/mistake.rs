//! A mistake in the settings: its place, what is wrong, and what was probably meant. Mistakes are
//! printed as one line each or, for a terminal, with the lines of the file around them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};

/// A line and column, both counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// Where the faulty value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file, and the place in it unless the whole file is at fault.
    File {
        /// The file's name as given.
        file: Arc<str>,
        position: Option<Position>,
    },
    Environment {
        variable: Arc<str>,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, position: None } => write!(f, "{file}"),
            Self::File { file, position: Some(at) } => {
                write!(f, "{file}:{}:{}", at.line, at.column)
            }
            Self::Environment { variable } => write!(f, "{variable}"),
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The settings cannot be used.
    Mistake,
    /// The settings can be used, but probably do not say what was meant.
    Warning,
}

/// Something found in the settings: a mistake or, with [`Severity::Warning`], something that can be
/// right but probably is not.
#[derive(Debug, Clone)]
pub struct Mistake {
    pub severity: Severity,
    pub origin: Origin,
    /// The key at fault, from the top: `feed.xfmr-a.limit_kw`. Parts that are not bare keys are
    /// quoted and escaped, so that no control character of a file reaches a terminal. Empty if no
    /// key is at fault.
    pub key: String,
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
    pub(super) snippet: Option<(Arc<NamedSource<String>>, Range<usize>)>,
}

impl Mistake {
    /// The line and column, if the mistake stands in a file.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match &self.origin {
            Origin::File { position, .. } => *position,
            Origin::Environment { .. } => None,
        }
    }

    /// Whether this mistake and `other` are shown as the same line.
    pub(super) fn says_the_same_as(&self, other: &Self) -> bool {
        (&self.origin, &self.key, &self.message) == (&other.origin, &other.key, &other.message)
    }

    /// The order in which mistakes are shown: by place in the file, then by the name of the
    /// variable.
    pub(super) fn rank(&self) -> (Option<Arc<str>>, Option<Position>) {
        match &self.origin {
            Origin::File { position, .. } => (None, *position),
            Origin::Environment { variable } => (Some(variable.clone()), None),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        self.fmt_what(f)?;
        match &self.suggestion {
            Some(meant) => write!(f, ", did you mean {meant:?}?"),
            None => Ok(()),
        }
    }
}

impl Mistake {
    fn fmt_what(&self, f: &mut impl fmt::Write) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

/// All mistakes, or all warnings, of one set of settings.
#[derive(Debug, Clone, Default)]
pub struct Mistakes {
    list: Vec<Mistake>,
    beyond: usize,
}

/// Logs each warning on a line of its own.
pub fn log_warnings(warnings: &Mistakes) {
    for line in warnings.to_string().lines() {
        // The level of the log line already says that it is a warning.
        tracing::warn!("{}", line.replacen(": warning: ", ": ", 1));
    }
}

impl Mistakes {
    pub(super) fn new(list: Vec<Mistake>, beyond: usize) -> Self {
        Self { list, beyond }
    }

    /// A mistake about a whole file: it is missing, too long or not a regular file.
    #[must_use]
    pub fn whole_file(name: &str, why: impl Into<String>) -> Self {
        let origin = Origin::File { file: name.into(), position: None };
        Self::from(vec![Mistake {
            severity: Severity::Mistake,
            origin,
            key: String::new(),
            message: why.into(),
            suggestion: None,
            snippet: None,
        }])
    }

    /// The mistakes, in the order of the file.
    #[must_use]
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many mistakes there are, including those beyond the bound, which are only counted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len() + self.beyond
    }

    /// Adds the mistakes of another file.
    pub fn append(&mut self, other: Self) {
        self.list.extend(other.list);
        self.beyond += other.beyond;
    }

    /// Draws each mistake with the lines of the file around it, for a terminal. `color` adds
    /// colours and line drawing characters.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false);
        let mut out = String::new();
        for mistake in &self.list {
            if handler.render_report(&mut out, &Shown(mistake)).is_err() {
                out.push_str(&mistake.to_string());
            }
            out.push('\n');
        }
        if self.beyond > 0 {
            out.push_str(&format!("and {} more\n", self.beyond));
        }
        out
    }
}

impl From<Vec<Mistake>> for Mistakes {
    fn from(list: Vec<Mistake>) -> Self {
        Self { list, beyond: 0 }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        match self.beyond {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Mistakes {}

/// A mistake as miette draws it. The frame shows the place, so the message does not repeat it.
#[derive(Debug)]
struct Shown<'a>(&'a Mistake);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.snippet.is_none() {
            write!(f, "{}: ", self.0.origin)?;
        }
        self.0.fmt_what(f)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.0.severity {
            Severity::Mistake => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0
            .suggestion
            .as_ref()
            .map(|meant| Box::new(format!("did you mean {meant:?}?")) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.snippet.as_ref().map(|(source, _)| &**source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (_, span) = self.0.snippet.as_ref()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(
            Some("here".to_owned()),
            span.clone(),
        ))))
    }
}
