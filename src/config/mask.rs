//! What hides secrets in text that people see.
//!
//! Promises to hide too much rather than too little: it works on text that may be malformed,
//! so it cannot know where exactly a password ends.

use std::ops::Range;

use super::raw::ALL;

/// What stands for a secret. Of one length, so that it says nothing about the secret's.
pub const MASK: &str = "***";

/// Names under which cameras take a password in a path or query, lower case.
const SECRET_PARAMETERS: [&str; 9] = [
    "password", "passwd", "passwort", "pass", "pwd", "pw", "token", "auth", "secret",
];

/// A URL, or what somebody took for one, without its secrets: the password before the `@`, and
/// the values of parameters that are named like one.
pub fn url(text: &str) -> String {
    parameters(&user_info(text))
}

/// `rtsp://user:secret@host` → `rtsp://user:***@host`; also without a scheme. A password that is
/// a reference, `${NAME}`, is no secret.
fn user_info(text: &str) -> String {
    let scheme = text.find("://").map_or(0, |i| i + 3);
    // The last `@`: a password may contain one, and so may a path, in which case more is hidden
    // than need be.
    let Some(at) = text.rfind('@').filter(|at| *at >= scheme) else {
        return no_user_info(text, scheme);
    };
    match colon(&text[scheme..at]) {
        Some(colon) if !is_reference(&text[scheme + colon + 1..at]) => {
            format!("{}{MASK}{}", &text[..=scheme + colon], &text[at..])
        }
        _ => text.to_owned(),
    }
}

/// `rtsp://user:secret`, cut short: what should be a port is hidden when it is not one.
fn no_user_info(text: &str, scheme: usize) -> String {
    if scheme == 0 {
        return text.to_owned();
    }
    let host = if text[scheme..].starts_with('[') {
        text[scheme..].find(']').map_or(scheme, |i| scheme + i)
    } else {
        scheme
    };
    let Some(colon) = colon(&text[host..]).map(|i| host + i) else {
        return text.to_owned();
    };
    let rest = &text[colon + 1..];
    let port = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if text[host..colon].contains('/')
        || is_reference(port)
        || port.trim_end().bytes().all(|byte| byte.is_ascii_digit())
    {
        return text.to_owned();
    }
    format!("{}{MASK}", &text[..=colon])
}

/// The first colon that is not inside of a reference.
fn colon(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let colon = from + text[from..].find(':')?;
        match text[from..].find("${").map(|i| from + i) {
            Some(open) if open < colon => from = open + text[open..].find('}')? + 1,
            _ => return Some(colon),
        }
    }
}

/// `${NAME}`, and nothing besides.
fn is_reference(text: &str) -> bool {
    text.strip_prefix("${")
        .and_then(|text| text.strip_suffix('}'))
        .is_some_and(|name| {
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte))
        })
}

/// `?user=admin&password=secret&channel=1` → `?user=admin&password=***&channel=1`.
fn parameters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(equals) = rest.find('=') {
        let (before, value) = (&rest[..equals], &rest[equals + 1..]);
        out.push_str(&rest[..=equals]);
        rest = value;
        let name = before
            .trim_end()
            .rsplit(|c: char| !c.is_ascii_alphanumeric())
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        if SECRET_PARAMETERS
            .iter()
            .any(|secret| name.ends_with(secret))
        {
            let end = value.find(['&', '/', ';', '?', '#']).unwrap_or(value.len());
            match &value[..end] {
                shown if shown.is_empty() || is_reference(shown) => out.push_str(shown),
                _ => out.push_str(MASK),
            }
            rest = &value[end..];
        }
    }
    out.push_str(rest);
    out
}

/// A configuration file as it may be shown, and where each byte of the original went.
///
/// Works line by line with a lexer that knows TOML only roughly, since it must also do for text
/// that is not TOML. What it lets through: keys, headers, numbers, and the values of keys that
/// exist and hold no secret, with URLs masked. All other values are hidden: `pasword = "…"` is
/// not a key, but what stands behind it is a password all the same. Comments are dropped.
#[derive(Clone, Debug)]
pub struct Masked {
    text: String,
    /// Ranges of the original and of `text` that were exchanged for each other, ascending.
    edits: Vec<(Range<usize>, Range<usize>)>,
    /// Where the lines of the original start.
    source_lines: Vec<usize>,
    /// Where the original has bytes that do not begin a character.
    continued: Vec<usize>,
}

impl Masked {
    pub fn new(source: &str) -> Self {
        let mut masker = Masker {
            source,
            at: 0,
            line_end: source.find('\n').unwrap_or(source.len()),
            text: String::new(),
            edits: Vec::new(),
        };
        masker.run();
        let Masker { text, edits, .. } = masker;
        let source_lines = std::iter::once(0)
            .chain(
                source
                    .bytes()
                    .enumerate()
                    .filter(|(_, b)| *b == b'\n')
                    .map(|(i, _)| i + 1),
            )
            .collect();
        let continued = source
            .bytes()
            .enumerate()
            .filter(|(_, byte)| byte & 0xc0 == 0x80)
            .map(|(i, _)| i)
            .collect();
        Self {
            text,
            edits,
            source_lines,
            continued,
        }
    }

    /// What may be shown.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where a range of the original is in [`Masked::text`]: on character boundaries, in bounds.
    pub fn span(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.offset(span.start, false);
        let end = self.offset(span.end.max(span.start), true).max(start);
        start..end
    }

    fn offset(&self, at: usize, end: bool) -> usize {
        let before = self.edits.partition_point(|(from, _)| {
            if end {
                from.start < at
            } else {
                from.start <= at
            }
        });
        let mut offset = match before.checked_sub(1).and_then(|i| self.edits.get(i)) {
            None => at,
            Some((from, to)) if at >= from.end => to.end + (at - from.end),
            Some((_, to)) if end => to.end,
            Some((_, to)) => to.start,
        }
        .min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    /// As [`Masked::position`], in what is shown.
    pub fn shown_position(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..self.offset(at, false)];
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        let lines = before.bytes().filter(|byte| *byte == b'\n').count();
        (lines + 1, before[start..].chars().count() + 1)
    }

    /// Line and column, from 1, of a byte of the original; columns in characters.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let line = self
            .source_lines
            .partition_point(|start| *start <= at)
            .max(1);
        let start = self.source_lines[line - 1];
        let continued = |to: usize| self.continued.partition_point(|byte| *byte < to);
        (line, at - start + 1 - (continued(at) - continued(start)))
    }
}

/// How freely the value of a key may be shown.
#[derive(Clone, Copy, PartialEq)]
enum Trust {
    /// A key that exists and holds no secret.
    Known,
    /// Not a key: numbers and the like only.
    Unknown,
    /// Nothing.
    Secret,
}

impl Trust {
    fn of(key: &str) -> Self {
        let key = key
            .rsplit('.')
            .next()
            .unwrap_or(key)
            .trim()
            .trim_matches(['"', '\'']);
        let lower = key.to_ascii_lowercase();
        let known = ALL.iter().any(|(_, keys)| keys.contains(&key));
        // `token`, `key` and `user` are tables or paths where they belong; elsewhere they may be anything.
        let secret = matches!(
            key,
            "password" | "password_hash" | "hash" | "token" | "key" | "user"
        );
        if !secret && (known || key == "bitrate") {
            Trust::Known
        } else if secret
            || SECRET_PARAMETERS
                .iter()
                .any(|secret| lower.contains(secret))
        {
            Trust::Secret
        } else {
            Trust::Unknown
        }
    }
}

struct Masker<'s> {
    source: &'s str,
    at: usize,
    /// Where the line that `at` is in ends.
    line_end: usize,
    text: String,
    edits: Vec<(Range<usize>, Range<usize>)>,
}

impl<'s> Masker<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    /// The rest of the line, without its end.
    fn line(&mut self) -> &'s str {
        if self.line_end < self.at || self.source[..self.at].ends_with('\n') {
            let rest = self.rest();
            self.line_end = self.at + rest.find('\n').unwrap_or(rest.len());
        }
        &self.source[self.at..self.line_end]
    }

    fn keep(&mut self, len: usize) {
        self.text.push_str(&self.source[self.at..self.at + len]);
        self.at += len;
    }

    fn exchange(&mut self, len: usize, with: &str) {
        if &self.source[self.at..self.at + len] == with {
            return self.keep(len);
        }
        let start = self.text.len();
        self.text.push_str(with);
        self.edits
            .push((self.at..self.at + len, start..self.text.len()));
        self.at += len;
    }

    fn hide(&mut self, len: usize) {
        let hidden = &self.source[self.at..self.at + len];
        // Line numbers stay right.
        let lines = hidden.bytes().filter(|byte| *byte == b'\n').count();
        let with = if hidden.trim().is_empty() {
            hidden.to_owned()
        } else {
            format!("{MASK}{}", "\n".repeat(lines))
        };
        self.exchange(len, &with);
    }

    fn run(&mut self) {
        while self.at < self.source.len() {
            let line = self.line();
            let blank = line.len() - line.trim_start().len();
            self.keep(blank);
            let line = &line[blank..];
            if line.starts_with('[') && !line.contains('=') {
                let bare = |c: char| c.is_ascii_alphanumeric() || "[]_-. ".contains(c);
                let header = &line[..line.find(|c| !bare(c)).unwrap_or(line.len())];
                self.keep(header.rfind(']').map_or(header.len(), |i| i + 1));
                self.values(Trust::Unknown);
            } else if line.contains('=') {
                self.values(Trust::Unknown);
            } else {
                self.no_assignment(line);
            }
            if self.rest().starts_with('\n') {
                self.keep(1);
            }
        }
    }

    /// A line without `=`: an element of a list, or nothing that is TOML.
    fn no_assignment(&mut self, line: &str) {
        if line.starts_with('#') {
            return self.comment();
        }
        let word = line
            .find(|c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c)))
            .unwrap_or(line.len());
        let harmless = |c: char| c.is_ascii_digit() || c.is_whitespace() || "[]{},".contains(c);
        if line.trim_end().chars().all(harmless) {
            self.keep(line.len());
        } else if word == 0 || word == line.trim_end().len() {
            self.hide(line.trim_end().len());
        } else if Trust::of(&line[..word]) == Trust::Known {
            self.keep(word);
            let rest = self.line();
            self.exchange(rest.len(), &url(rest));
        } else {
            self.keep(word);
            let rest = self.line();
            self.hide(rest.len());
        }
        let rest = self.line();
        self.keep(rest.len());
    }

    fn comment(&mut self) {
        let len = self.line().len();
        self.exchange(len, "");
    }

    /// Keys and values up to the end of the line, or of a string that goes on behind it.
    fn values(&mut self, mut trust: Trust) {
        // Whether what comes next is the first thing behind a `=`.
        let mut fresh = false;
        loop {
            let line = self.line();
            let Some(first) = line.chars().next() else {
                return;
            };
            match first {
                '#' => return self.comment(),
                '"' | '\'' => {
                    if !self.string(first, trust, fresh) {
                        return;
                    }
                    fresh = false;
                    // A quoted key.
                    if self.line().trim_start().starts_with('=')
                        && let Some(key) = self.text.rsplit(['{', ',', '\n']).next()
                    {
                        trust = Trust::of(key);
                    }
                }
                '=' => {
                    self.keep(1);
                    fresh = true;
                }
                '{' => {
                    self.keep(1);
                    fresh = false;
                }
                c if c.is_whitespace() && line.trim_start().starts_with('#') => {
                    return self.comment();
                }
                c if c.is_whitespace() || "[]},".contains(c) => self.keep(c.len_utf8()),
                _ => {
                    let end = line
                        .find(['=', ',', '[', ']', '{', '}', '"', '\'', '#'])
                        .unwrap_or(line.len());
                    let word = &line[..end];
                    if !fresh && line[end..].starts_with('=') {
                        trust = Trust::of(word);
                        self.keep(end);
                    } else if trust != Trust::Secret && is_plain(word) {
                        self.keep(end);
                        fresh = false;
                    } else if trust == Trust::Known && fresh {
                        // A URL without quotes, say: nobody knows where it ends.
                        return self.exchange(line.len(), &url(line));
                    } else {
                        return self.hide(line.len());
                    }
                }
            }
        }
    }

    /// A string; false when nothing of the line is left to look at.
    fn string(&mut self, quote: char, trust: Trust, value: bool) -> bool {
        let line = self.line();
        let triple = quote.to_string().repeat(3);
        if line.starts_with(&triple) {
            // Several lines: no key needs them, so they are hidden whatever they are.
            self.keep(3);
            match self.rest().find(&triple) {
                Some(end) => {
                    self.hide(end);
                    self.keep(3);
                    return true;
                }
                None => {
                    self.hide(self.rest().len());
                    return false;
                }
            }
        }
        let mut end = None;
        let mut escaped = false;
        for (i, c) in line.char_indices().skip(1) {
            if escaped {
                escaped = false;
            } else if c == '\\' && quote == '"' {
                escaped = true;
            } else if c == quote {
                end = Some(i);
                break;
            }
        }
        let behind = end.map_or("", |end| line[end + 1..].trim_start());
        let clean = behind.is_empty() || behind.starts_with([',', '}', ']', '#', '=']);
        match end.filter(|_| clean) {
            Some(end) => {
                self.keep(1);
                match trust {
                    Trust::Known | Trust::Unknown if behind.starts_with('=') && !value => {
                        self.keep(end - 1);
                    }
                    Trust::Known => self.exchange(end - 1, &url(&line[1..end])),
                    _ if is_reference(&line[1..end]) => self.keep(end - 1),
                    _ => self.hide(end - 1),
                }
                self.keep(1);
                true
            }
            // Not closed, or closed too early, by a quote in a password perhaps.
            None => {
                match trust {
                    Trust::Known => self.exchange(line.len(), &url(line)),
                    _ => self.hide(line.len()),
                }
                false
            }
        }
    }
}

/// A number, a truth, a date: what cannot well be a password.
fn is_plain(word: &str) -> bool {
    let word = word.trim();
    matches!(word, "true" | "false")
        || word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
            && word
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"+-_.:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_before_the_host_are_hidden() {
        for (written, shown) in [
            ("rtsp://admin:canary@h/x", "rtsp://admin:***@h/x"),
            ("rtsp://admin:can@ary@h/x", "rtsp://admin:***@h/x"),
            ("rtsp://admin:can/ary@h/x", "rtsp://admin:***@h/x"),
            ("admin:canary@h/x", "admin:***@h/x"),
            ("rtsp://admin:@h/x", "rtsp://admin:***@h/x"),
            ("rtsp://admin@h/x", "rtsp://admin@h/x"),
            ("rtsp://h:554/x", "rtsp://h:554/x"),
            ("rtsp://[::1]:554/x", "rtsp://[::1]:554/x"),
            ("rtsp://admin:canary", "rtsp://admin:***"),
            ("rtsp://admin:1canary/x", "rtsp://admin:***"),
            ("rtsp://admin:${PW}@h/x", "rtsp://admin:${PW}@h/x"),
            ("rtsp://admin:${PW}canary@h/x", "rtsp://admin:***@h/x"),
            (
                "rtsp://${credential:u}:${credential:p}@h",
                "rtsp://${credential:u}:${credential:p}@h",
            ),
            (
                "rtsp://${credential:u}:canary@h",
                "rtsp://${credential:u}:***@h",
            ),
        ] {
            assert_eq!(url(written), shown);
        }
    }

    #[test]
    fn passwords_in_path_and_query_are_hidden() {
        for (written, shown) in [
            (
                "rtsp://h/user=admin&password=canary&channel=1",
                "rtsp://h/user=admin&password=***&channel=1",
            ),
            (
                "rtsp://h/user=admin_password=canary_channel=1_stream=0.sdp?real_stream",
                "rtsp://h/user=admin_password=***?real_stream",
            ),
            ("rtsp://h/?usr=a&PWD=canary", "rtsp://h/?usr=a&PWD=***"),
            ("rtsp://h/?loginPass=canary", "rtsp://h/?loginPass=***"),
            ("rtsp://h/?password=", "rtsp://h/?password="),
            ("rtsp://h/?channel=1", "rtsp://h/?channel=1"),
        ] {
            assert_eq!(url(written), shown);
        }
    }
}
