//! What is said about a configuration that cannot be used.
//!
//! Each problem is shown with file, line and column, the line itself with a caret below, what
//! would be right there, and the camera it is about. No text made here contains a password: the
//! source is masked before a line of it is shown (`mask.rs`), and values of keys that may hold a
//! secret are never quoted. `toml`'s own errors print the line as it is, so only their message is
//! used.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::mask::Masked;

/// With or without colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text only.
    Plain,
    /// With the escape sequences of a terminal.
    Coloured,
}

/// More than this nobody reads at once.
const SHOWN: usize = 25;

/// One thing that is wrong, or doubtful, and where.
#[derive(Clone, Debug)]
pub struct Problem {
    message: String,
    camera: Option<String>,
    span: Range<usize>,
    label: String,
    /// Another place that has to do with it, earlier or later in the file.
    related: Option<(Range<usize>, String)>,
    help: Vec<String>,
}

impl Problem {
    /// Bytes `span` of the file are wrong.
    pub(super) fn new(message: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            message: message.into(),
            camera: None,
            span,
            label: String::new(),
            related: None,
            help: Vec::new(),
        }
    }

    pub(super) fn camera(mut self, name: Option<&str>) -> Self {
        self.camera = name.map(str::to_owned);
        self
    }

    /// Beside the caret: what would be right.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(super) fn related(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related = Some((span, label.into()));
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    fn title(&self) -> String {
        match &self.camera {
            Some(camera) => format!("camera `{camera}`: {}", self.message),
            None => self.message.clone(),
        }
    }
}

/// Problems, and the text they are about.
#[derive(Clone, Debug)]
pub struct Report {
    path: PathBuf,
    masked: Masked,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(path: &Path, source: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span.start);
        Self {
            path: path.to_owned(),
            masked: Masked::new(source),
            problems,
        }
    }

    /// How many problems there are.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// What each problem is, in one line, without its place.
    pub fn messages(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(Problem::title)
    }

    /// What is wrong with which key: its name, where one is to blame, and what is allowed.
    pub fn faults(&self) -> impl Iterator<Item = (Option<&str>, String)> {
        self.problems.iter().map(|problem| {
            // Messages name the key first, or second after what it is.
            let key = problem.message.split('`').nth(1);
            let text = match problem.label.as_str() {
                "" => problem.message.clone(),
                label => format!("{}: {label}", problem.message),
            };
            (key, text)
        })
    }

    fn render(&self, level: Level<'_>, style: Style) -> String {
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Coloured => Renderer::styled(),
        }
        // Lines are shown whole, whatever the width of the terminal: a folded one would hide
        // what the caret is about.
        .term_width(4096);
        let mut out = String::new();
        for problem in self.problems.iter().take(SHOWN) {
            if !out.is_empty() {
                out.push_str("\n\n");
            }
            let text = renderer.render(&[self.group(problem, level.clone())]);
            // The renderer counts columns in the masked text; people need those of the file.
            let shown = self.place(self.masked.shown_position(problem.span.start));
            let real = self.place(self.masked.position(problem.span.start));
            out.push_str(&text.replacen(&shown, &real, 1));
        }
        if self.problems.len() > SHOWN {
            let more = self.problems.len() - SHOWN;
            out.push_str(&format!("\n\n… and {more} more"));
        }
        out
    }

    fn place(&self, (line, column): (usize, usize)) -> String {
        format!("{}:{line}:{column}", self.path.display())
    }

    fn group<'a>(&'a self, problem: &'a Problem, level: Level<'a>) -> Group<'a> {
        let path = self.path.display().to_string();
        let mut group = Group::with_title(level.primary_title(problem.title()));
        let text = self.masked.text();
        if text.trim().is_empty() {
            group = group.element(Origin::path(path));
        } else {
            let primary = AnnotationKind::Primary
                .span(self.masked.span(&problem.span))
                .label(problem.label.as_str());
            let mut snippet = Snippet::source(text).path(path).annotation(primary);
            if let Some((span, label)) = &problem.related {
                let context = AnnotationKind::Context.span(self.masked.span(span));
                snippet = snippet.annotation(context.label(label.as_str()));
            }
            group = group.element(snippet);
        }
        for help in &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }
}

/// Doubts about a configuration that can be used.
#[derive(Clone, Debug)]
pub struct Warnings(pub(super) Report);

impl Warnings {
    /// The report to render or count.
    pub fn report(&self) -> &Report {
        &self.0
    }

    /// As people see it.
    pub fn render(&self, style: Style) -> String {
        self.0.render(Level::WARNING, style)
    }
}

/// Why there is no configuration. The exit code for all of them is 2.
#[derive(Debug)]
pub enum ConfigError {
    /// No file was named, and there is none where one is looked for.
    Missing {
        /// Where.
        tried: Vec<PathBuf>,
    },
    /// The file is there, or was named, but cannot be read.
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than any configuration.
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// The file is not text.
    NotUtf8 {
        /// Which.
        path: PathBuf,
        /// The line of the first byte that is not text.
        line: usize,
    },
    /// The file was read, and is wrong.
    Invalid(Box<Report>),
}

impl ConfigError {
    /// As people see it; several lines.
    pub fn render(&self, style: Style) -> String {
        let (title, help) = match self {
            ConfigError::Invalid(report) => return report.render(Level::ERROR, style),
            ConfigError::Missing { tried } => {
                let tried: Vec<_> = tried
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                (
                    format!("no configuration: there is no {}", tried.join(" and no ")),
                    "name one with --config FILE, or start from the annotated config.toml that \
                     comes with camring"
                        .to_owned(),
                )
            }
            ConfigError::Read { path, source } => (
                format!("cannot read {}: {}", path.display(), plain(source)),
                match source.kind() {
                    io::ErrorKind::PermissionDenied => format!(
                        "the file must be readable by the user that runs camring: \
                         `chown root:camring {0} && chmod 640 {0}`",
                        path.display()
                    ),
                    io::ErrorKind::IsADirectory => format!(
                        "name the file in it, for example --config {}",
                        path.join("config.toml").display()
                    ),
                    io::ErrorKind::NotFound => "is the path right? Without --config, \
                         /etc/camring/config.toml and then ./config.toml are read"
                        .to_owned(),
                    _ => "name another file with --config FILE".to_owned(),
                },
            ),
            ConfigError::TooLarge { path, limit } => (
                format!("{} is larger than {limit} bytes", path.display()),
                "is it the configuration? 1000 cameras take about 100 kB".to_owned(),
            ),
            ConfigError::NotUtf8 { path, line } => (
                format!("{} is not UTF-8 text (line {line})", path.display()),
                "save it as UTF-8, for example with `iconv -f latin1 -t utf8`".to_owned(),
            ),
        };
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Coloured => Renderer::styled(),
        };
        let group = Level::ERROR
            .primary_title(title)
            .element(Level::HELP.message(help));
        renderer.term_width(4096).render(&[group])
    }
}

/// `Permission denied`, without `(os error 13)`.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_owned()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for ConfigError {}

/// The one of `known` that `written` was probably meant to be.
pub(super) fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    // Long keys cost quadratic time and are no typing errors.
    if written.len() > 64 {
        return None;
    }
    let lower = written.to_ascii_lowercase().replace('-', "_");
    let allowed = match lower.chars().count() {
        0..=2 => 0,
        3..=4 => 1,
        _ => 2,
    };
    let part =
        |known: &&&str| lower.len() >= 3 && (known.starts_with(&lower) || known.ends_with(&lower));
    known
        .iter()
        .map(|known| (distance(&lower, known), *known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, known)| known)
        .or_else(|| known.iter().find(part).copied())
}

/// Edits from `a` to `b`: insertions, deletions, replacements, exchanges of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typing_errors_and_nothing_else() {
        let known = ["depth", "pins", "packets", "max_fps"];
        for (written, meant) in [
            ("dept", Some("depth")),
            ("detph", Some("depth")),
            ("Depth", Some("depth")),
            ("max-fps", Some("max_fps")),
            ("paket", Some("packets")),
            ("pin", Some("pins")),
            ("fps", Some("max_fps")),
            ("colour", None),
            ("p", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, &known), meant, "{written}");
        }
    }
}
