//! Logs, to standard error.
//!
//! Where the journal reads standard error, each line starts with its priority (sd-daemon(3)) and
//! has no time and no colour: the journal has its own. Everywhere else lines have UTC and, on a
//! terminal, colours. What retina and others log through `log` comes out the same way.
#![deny(unsafe_code)]

use std::fmt;
use std::io;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cmd;
use crate::config::Style;

/// The environment variable that holds a level or filter.
pub const VARIABLE: &str = "CAMRING_LOG";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// Neither a level nor a filter.
    #[error(
        "{source_name} has {given:?}, which is no log level: must be error, warn, info, debug or \
         trace, or a filter such as \"info,camring::supervisor=debug\""
    )]
    Filter {
        /// Where it was given.
        source_name: &'static str,
        /// What was given.
        given: String,
    },
    /// Somebody has set up logging before.
    #[error("logging is set up already")]
    Twice,
}

/// Sets up logging for the process. `given` is `--log`; without it, `$CAMRING_LOG`, then `info`.
///
/// # Errors
/// The level or filter is none; or a second call.
pub fn start(given: Option<&str>) -> Result<(), LoggingError> {
    let filter = filter(given, std::env::var(VARIABLE).ok().as_deref())?;
    let format = match journal_reads_stderr() {
        true => Format::Journal,
        false => Format::Terminal,
    };
    tracing_subscriber::fmt()
        .with_writer(crate::sys::stderr::line)
        .with_env_filter(filter)
        .with_ansi(format == Format::Terminal && cmd::style(&io::stderr()) == Style::Coloured)
        .event_format(format)
        .finish()
        .try_init()
        .map_err(|_| LoggingError::Twice)
}

fn filter(given: Option<&str>, variable: Option<&str>) -> Result<EnvFilter, LoggingError> {
    let (source_name, text) = match (given, variable) {
        (Some(given), _) => ("--log", given),
        (None, Some(variable)) if !variable.trim().is_empty() => ("$CAMRING_LOG", variable),
        _ => return Ok(EnvFilter::new("info,retina=off")),
    };
    let wrong = || LoggingError::Filter {
        source_name,
        given: text.to_owned(),
    };
    // A single word that is no level would be taken for the name of a module.
    if !text.contains(['=', ',', '[', ':']) && text.trim().parse::<LevelFilter>().is_err() {
        return Err(wrong());
    }
    let text = text.trim();
    // retina logs the URLs and bytes of cameras, at any rate that a camera likes; what matters of
    // it is said by our own messages.
    let quiet = if text.contains("retina") {
        ""
    } else {
        ",retina=off"
    };
    EnvFilter::try_new(format!("{text}{quiet}")).map_err(|_| wrong())
}

/// Whether the journal is at the other end of standard error: `$JOURNAL_STREAM` alone may be
/// inherited by a program whose output goes elsewhere (systemd.exec(5)).
fn journal_reads_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Journal,
    Terminal,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        let mut line = String::new();
        let target = target(event);
        // Our own messages say by themselves what they are about.
        if !target.starts_with("camring") || level > Level::INFO {
            line = format!("{target}: ");
        }
        {
            let mut fields = Writer::new(&mut line);
            for span in context
                .event_scope()
                .into_iter()
                .flat_map(|scope| scope.from_root())
            {
                fields.write_str(span.name())?;
                if let Some(written) = span.extensions().get::<FormattedFields<N>>()
                    && !written.fields.is_empty()
                {
                    write!(fields, "{{{}}}", written.fields)?;
                }
                fields.write_str(": ")?;
            }
            context
                .field_format()
                .format_fields(fields.by_ref(), event)?;
        }
        match self {
            Format::Journal => {
                // The journal ends an entry at each line end, and each needs its priority.
                for line in line.lines() {
                    writeln!(writer, "<{}>{}", priority(level), Printable(line))?;
                }
                Ok(())
            }
            Format::Terminal => {
                SystemTime.format_time(&mut writer)?;
                match writer.has_ansi_escapes() {
                    true => write!(writer, " \x1b[{}m{level:>5}\x1b[0m ", colour(level))?,
                    false => write!(writer, " {level:>5} ")?,
                }
                writeln!(writer, "{}", Printable(&line))
            }
        }
    }
}

/// The module that logged; what came through `log` has it in a field.
fn target(event: &Event<'_>) -> String {
    #[derive(Default)]
    struct Target(Option<String>);
    impl Visit for Target {
        fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "log.target" {
                self.0 = Some(value.to_owned());
            }
        }
    }
    let written = event.metadata().target();
    let mut target = Target::default();
    if written == "log" {
        event.record(&mut target);
    }
    target.0.unwrap_or_else(|| written.to_owned())
}

/// What a camera sends may get into a message: no control characters, so no forged lines and no
/// terminal tricks.
struct Printable<'t>(&'t str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(char::is_control) {
            let end = part.trim_end_matches(char::is_control);
            f.write_str(end)?;
            for control in part[end.len()..].chars() {
                write!(f, "{}", control.escape_default())?;
            }
        }
        Ok(())
    }
}

/// syslog(3)
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// What the format makes of some events.
    fn lines(format: Format, log: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .event_format(format)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_journal_gets_a_priority_on_each_line_and_no_time() {
        let written = lines(Format::Journal, || {
            let _span = tracing::info_span!("reader", camera = "yard").entered();
            tracing::error!("gone");
            tracing::warn!(after = 3, "slow");
            tracing::info!("two\nlines");
            tracing::debug!("detail");
        });
        assert_eq!(
            written,
            "<3>reader{camera=\"yard\"}: gone\n\
             <4>reader{camera=\"yard\"}: slow after=3\n\
             <6>reader{camera=\"yard\"}: two\n\
             <6>lines\n\
             <7>camring::logging::tests: reader{camera=\"yard\"}: detail\n"
        );
    }

    #[test]
    fn a_terminal_gets_time_and_level_and_one_line_for_each_message() {
        let written = lines(Format::Terminal, || tracing::warn!("a\nb\u{1b}[31m\u{7}c"));
        let (time, rest) = written.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{written}");
        assert_eq!(rest, " WARN a\\nb\\x1b[31m\\x07c\n");
    }

    #[test]
    fn a_filter_that_is_none_is_refused_with_its_source() {
        for (given, variable) in [(Some("loud"), None), (None, Some("loud"))] {
            let error = filter(given, variable).unwrap_err().to_string();
            let source = if given.is_some() {
                "--log has"
            } else {
                "$CAMRING_LOG has"
            };
            assert!(error.starts_with(source), "{error}");
        }
        assert!(filter(Some("info,retina=debug"), None).is_ok());
        assert!(filter(Some("WARN"), Some("loud")).is_ok());
        // What a camera says is left out, unless it is asked for.
        for (given, variable, filters) in [
            (None, None, "retina=off,info"),
            (None, Some(" "), "retina=off,info"),
            (None, Some("debug"), "retina=off,debug"),
            (Some("warn,retina=debug"), None, "retina=debug,warn"),
        ] {
            assert_eq!(filter(given, variable).unwrap().to_string(), filters);
        }
    }
}
