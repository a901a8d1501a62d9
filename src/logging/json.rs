//! A log as JSON: one object on each line, for programs.
//!
//! ```json
//! {"camera":"front-door","fields":{"after":3},"level":"WARN","message":"the reader ended: killed by SIGKILL",
//!  "spans":["reader"],"target":"camring::supervisor::child","timestamp":"2026-11-21T09:00:00.123456Z"}
//! ```
//!
//! `camera` is the event's own field or that of the span around it; `fields` are all others, those of spans
//! among them; what there is not is left out. Under the journal a line begins with its priority, which the
//! journal takes off.
//!
//! Promises: whatever is in a message, it is one line of valid JSON: control characters, and those that
//! some programs take for the end of a line, are escaped.
#![deny(unsafe_code)]

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Keeps a span's fields as JSON.
#[derive(Debug)]
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut map = Collected::default();
        fields.record(&mut map);
        write!(writer, "{}", Value::Object(map.0))
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        let mut map = Collected(parsed(&current.fields));
        fields.record(&mut map);
        current.fields = Value::Object(map.0).to_string();
        Ok(())
    }
}

/// What [`Fields`] wrote.
fn parsed(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Fields by name.
#[derive(Default)]
struct Collected(Map<String, Value>);

impl Visit for Collected {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.0.insert(field.name().to_owned(), text.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        // One that is no number has no JSON: null.
        self.0.insert(field.name().to_owned(), value.into());
    }
}

/// Writes events.
#[derive(Debug)]
pub(super) struct Json {
    /// Each line begins with its priority.
    pub priority: bool,
}

impl<S> FormatEvent<S, Fields> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Fields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        let mut fields = Map::new();
        let mut spans = Vec::new();
        let scope = context.event_scope();
        for span in scope.into_iter().flat_map(|scope| scope.from_root()) {
            spans.push(Value::from(span.name()));
            if let Some(written) = span.extensions().get::<FormattedFields<Fields>>() {
                fields.extend(parsed(&written.fields));
            }
        }
        let mut own = Collected::default();
        event.record(&mut own);
        fields.extend(own.0);
        // Of what came through `log`: its target is told, the rest is where in whose source.
        fields.retain(|name, _| !name.starts_with("log."));
        let mut line = Map::new();
        let now = jiff::Timestamp::now();
        line.insert("timestamp".into(), format!("{now:.6}").into());
        line.insert("level".into(), level.as_str().into());
        line.insert("target".into(), super::target(event).into());
        for name in ["camera", "message"] {
            line.extend(fields.remove(name).map(|value| (name.to_owned(), value)));
        }
        if !fields.is_empty() {
            line.insert("fields".into(), fields.into());
        }
        if !spans.is_empty() {
            line.insert("spans".into(), spans.into());
        }
        if self.priority {
            write!(writer, "<{}>", super::priority(level))?;
        }
        let text = Value::Object(line).to_string();
        // Outside of strings JSON has none of these, so this escapes what is inside.
        for part in text.split_inclusive(ends_lines) {
            let end = part.trim_end_matches(ends_lines);
            writer.write_str(end)?;
            for c in part[end.len()..].chars() {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
        }
        writeln!(writer)
    }
}

/// What some program could take for the end of a line, or for an order to a terminal: what JSON itself
/// lets through of the control characters, and the separators of Unicode.
fn ends_lines(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::tests::Sink;

    /// What is written of some events.
    fn lines(priority: bool, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_max_level(tracing::level_filters::LevelFilter::TRACE)
            .with_ansi(false)
            .fmt_fields(Fields)
            .event_format(Json { priority })
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        sink.text()
    }

    #[test]
    fn each_message_is_an_object_with_its_camera_and_fields() {
        let written = lines(false, || {
            tracing::warn!(camera = %"yard", after = 3, share = 0.5, ok = true, "slow");
            let span = tracing::info_span!("reader", camera = "door", late = tracing::field::Empty);
            span.record("late", -7);
            let _in = span.entered();
            tracing::debug!("from {}", "inside");
        });
        let parsed: Vec<Value> = written
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(parsed.len(), 2, "{written}");
        let time: jiff::Timestamp = parsed[0]["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(time > jiff::Timestamp::UNIX_EPOCH);
        let rest = |index: usize| {
            let mut object = parsed[index].as_object().unwrap().clone();
            object.remove("timestamp");
            Value::Object(object)
        };
        let target = "camring::logging::json::tests";
        assert_eq!(
            rest(0),
            serde_json::json!({
                "level": "WARN", "target": target, "camera": "yard", "message": "slow",
                "fields": {"after": 3, "share": 0.5, "ok": true},
            })
        );
        assert_eq!(
            rest(1),
            serde_json::json!({
                "level": "DEBUG", "target": target, "camera": "door", "message": "from inside",
                "fields": {"late": -7}, "spans": ["reader"],
            })
        );
    }

    #[test]
    fn nothing_that_a_camera_says_forges_a_line() {
        let hostile = "a\"}\n{\"level\":\"ERROR\",\"message\":\"forged\r\u{85}\u{2028}\u{1b}[2J\u{9b}\0\u{7f}\\";
        let written = lines(false, || {
            tracing::info!(camera = %hostile, sdp = hostile, other = ?hostile, "{hostile}");
        });
        assert_eq!(written.matches('\n').count(), 1, "{written:?}");
        assert!(!written.trim_end().contains(ends_lines), "{written:?}");
        let parsed: Value = serde_json::from_str(&written).unwrap();
        for value in [
            &parsed["message"],
            &parsed["camera"],
            &parsed["fields"]["sdp"],
        ] {
            assert_eq!(value, hostile);
        }
        assert_eq!(parsed["level"], "INFO");
    }

    #[test]
    fn the_journal_gets_the_priority_before_the_object() {
        let written = lines(true, || tracing::error!("gone"));
        let object = written.strip_prefix("<3>").unwrap();
        let parsed: Value = serde_json::from_str(object).unwrap();
        assert_eq!(parsed["message"], "gone");
    }
}
