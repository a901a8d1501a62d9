//! URLs, credentials and references to them. Nothing here repeats a value in a message.

use std::ops::Range;
use std::path::Path;

use secrecy::SecretString;
use serde_spanned::Spanned;
use url::Url;

use super::super::error::Problem;
use super::super::mask;
use super::super::raw::{RawConfig, RawStream};
use super::super::site::{Client, Transport};
use super::super::value::{self, ReferenceFault};
use super::{Base, Resolver};

impl Resolver<'_> {
    /// Text with references followed.
    pub(super) fn text(
        &mut self,
        written: &Spanned<String>,
        camera: Option<&str>,
    ) -> Option<String> {
        match value::expand(written.get_ref(), self.environment) {
            Ok(text) => Some(text),
            Err(fault) => {
                self.reference(written.span(), fault, camera);
                None
            }
        }
    }

    pub(super) fn reference(
        &mut self,
        span: Range<usize>,
        fault: ReferenceFault,
        camera: Option<&str>,
    ) {
        // The reference itself, where it is written plainly.
        let at = self
            .source
            .get(span.clone())
            .and_then(|text| text.find(&fault.reference));
        let span = match at {
            Some(at) => span.start + at..span.start + at + fault.reference.len(),
            None => span,
        };
        let mut problem = Problem::new(fault.fault, span)
            .camera(camera)
            .label("needed here");
        if let Some(help) = fault.help {
            problem = problem.help(help);
        }
        self.problems.push(problem);
    }

    /// The URL without credentials, and the credentials from wherever they are.
    pub(super) fn url(
        &mut self,
        written: &Spanned<String>,
        base: &Base,
        camera: Option<&str>,
    ) -> Option<(Url, Option<String>, Option<SecretString>)> {
        let text = match value::expand_url(written.get_ref(), self.environment) {
            Ok(text) => text,
            Err(fault) => {
                self.reference(written.span(), fault, camera);
                return None;
            }
        };
        // Nothing of `text` may get into a message: it may hold a password.
        let (mut url, given) = match check_url(&text) {
            Ok(parts) => parts,
            Err((fault, help)) => {
                let mut problem = Problem::new("`url` cannot be used", written.span())
                    .camera(camera)
                    .label(fault);
                if let Some(help) = help {
                    problem = problem.help(help);
                }
                self.problems.push(problem);
                return None;
            }
        };
        let mut username = base.username.clone();
        let mut password = base.password.clone();
        if let Some((user, secret)) = given {
            if let Some((_, span)) = username.as_ref() {
                self.problems.push(
                    Problem::new("the user is written twice", span.clone())
                        .camera(camera)
                        .label("write either `username` and `password`, or user:password@ in `url`")
                        .related(written.span(), "here, too"),
                );
            } else if let Some((_, span)) = password.as_ref().filter(|_| secret.is_some()) {
                self.problems.push(
                    Problem::new("the password is written twice", span.clone())
                        .camera(camera)
                        .label("write it either here or in `url`")
                        .related(written.span(), "here, too"),
                );
            }
            username = Some((user, written.span()));
            password = secret.map(|secret| (secret, written.span())).or(password);
        }
        if let Some((_, span)) = password.as_ref().filter(|_| username.is_none()) {
            self.problems.push(
                Problem::new("there is a password, but no user", span.clone())
                    .camera(camera)
                    .label("needs `username` beside it"),
            );
        }
        // Cannot fail on a URL with a host; if it does, no secret stays behind.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return None;
        }
        Some((
            url,
            username.map(|(name, _)| name),
            password.map(|(secret, _)| secret),
        ))
    }
}

impl Resolver<'_> {
    /// Whether there is a client that can read such a URL in such a way.
    pub(super) fn reachable(
        &mut self,
        base: &Base,
        raw: &RawStream,
        url: &Url,
        url_span: Range<usize>,
        camera: Option<&str>,
    ) {
        let tls = url.scheme() == "rtsps";
        let transport = raw.transport.set().map(Spanned::span);
        if tls && base.tls_verify {
            self.problems.push(
                Problem::new(
                    "the camera's certificate cannot be checked",
                    url_span.clone(),
                )
                .camera(camera)
                .label("rtsps:// needs `tls_verify = false` here")
                .help(
                    "the FFmpeg of this system encrypts, but does not check who answers; with \
                         `tls_verify = false` nobody can listen in, but whoever can redirect the \
                         connection can pose as the camera and learn the login",
                ),
            );
        }
        if tls && base.transport != Transport::Tcp {
            let span = transport.clone().unwrap_or(url_span.clone());
            self.problems.push(
                Problem::new("rtsps:// goes with `transport = \"tcp\"` only", span)
                    .camera(camera)
                    .label("pictures would not be encrypted"),
            );
        }
        let other = !matches!(base.transport, Transport::Tcp | Transport::Udp);
        if base.client == Client::Retina && (tls || other) {
            let what = match tls {
                true => "rtsps://".to_owned(),
                false => format!("`transport = {:?}`", base.transport.name()),
            };
            let span = raw.client.set().map(Spanned::span).unwrap_or(url_span);
            self.problems.push(
                Problem::new("this client cannot read the camera", span)
                    .camera(camera)
                    .label(format!("{what} needs \"auto\" or \"ffmpeg\"")),
            );
        }
    }
}

/// A camera's URL as given on the command line: references followed, credentials taken out.
///
/// # Errors
/// What is wrong with it, in words that repeat nothing of it.
pub fn camera_url(
    text: &str,
    environment: &value::Environment,
) -> Result<(Url, Option<String>, Option<SecretString>), String> {
    let text = value::expand_url(text, environment).map_err(|fault| match fault.help {
        Some(help) => format!("{} ({help})", fault.fault),
        None => fault.fault,
    })?;
    let (mut url, given) = check_url(&text).map_err(|(fault, help)| match help {
        Some(help) => format!("{fault}; {help}"),
        None => fault,
    })?;
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return Err("has a host that is none".to_owned());
    }
    let (username, password) = given.unzip();
    Ok((url, username, password.flatten()))
}

type UrlParts = (Url, Option<(String, Option<SecretString>)>);

/// The URL as parsed, and its user and password decoded; or what is wrong with it and what to do,
/// in words that repeat nothing of it.
fn check_url(text: &str) -> Result<UrlParts, (String, Option<String>)> {
    let encode = || {
        Some(
            "in a user or password, write `@` as %40, `:` as %3A, `/` as %2F, `?` as %3F, `#` as \
             %23, `%` as %25; or use the keys `username` and `password`, which take them as they are"
                .to_owned(),
        )
    };
    let plain = |fault: &str| (fault.to_owned(), None);
    if text.is_empty() {
        return Err(plain(
            "is empty, must be such as \"rtsp://192.0.2.10/stream1\"",
        ));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(plain(
            "has a space or control character in it; a space is written %20",
        ));
    }
    let Some((scheme, _)) = text.split_once("://") else {
        return Err(plain("must begin with rtsp://"));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "rtsp" | "rtsps" => {}
        "http" | "https" => return Err(plain("this is a web address, must begin with rtsp://")),
        _ => return Err(plain("must begin with rtsp://")),
    }
    let url = Url::parse(text).map_err(|error| {
        use url::ParseError;
        let fault = match error {
            ParseError::EmptyHost => "has no host behind rtsp://",
            ParseError::InvalidPort => "has a port that is not a number from 1 to 65535",
            ParseError::InvalidIpv6Address => "has an IPv6 address that is none",
            ParseError::InvalidIpv4Address => "has an IPv4 address that is none",
            _ => "has a host that is none",
        };
        let suspicious = text.matches(['@', ':', '%']).count() > 1;
        (fault.to_owned(), suspicious.then(encode).flatten())
    })?;
    let host = url.host_str().unwrap_or_default();
    if host.is_empty() {
        return Err(plain("has no host behind rtsp://"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if !host.chars().all(allowed) {
        return Err(("has a host that is none".to_owned(), encode()));
    }
    if url.port() == Some(0) {
        return Err(plain("has the port 0"));
    }
    if url.fragment().is_some() {
        return Err(("has a `#` in it".to_owned(), encode()));
    }
    let user = url.username();
    if user.is_empty() && url.password().is_none() {
        // `rtsp://admin:12/34@host/`: the host would be `admin`.
        if url.as_str()[url.scheme().len()..].contains('@') {
            return Err((
                "has an `@` behind the host; is that a password with a `/` or `?` in it?"
                    .to_owned(),
                encode(),
            ));
        }
        return Ok((url, None));
    }
    if user.is_empty() {
        return Err(plain("has a password, but no user"));
    }
    let not_text = || plain("has a user or password that is not UTF-8 once decoded");
    let user = value::percent_decode(user).ok_or_else(not_text)?;
    let password = match url.password() {
        Some(password) => Some(SecretString::from(
            value::percent_decode(password).ok_or_else(not_text)?,
        )),
        None => None,
    };
    Ok((url, Some((user, password))))
}

/// The doubt about a file that everybody may read and that holds a password in plain text.
pub fn plain_password(raw: &RawConfig, path: &Path) -> Option<Problem> {
    let streams = raw
        .cameras
        .iter()
        .flat_map(|camera| std::iter::once(&camera.own).chain(camera.streams.iter().flatten()));
    let secret = |stream: &RawStream| {
        let password = stream
            .password
            .set()
            .filter(|text| !text.get_ref().contains("${"));
        let url = stream
            .url
            .set()
            .filter(|text| mask::url(text.get_ref()) != *text.get_ref());
        password.or(url).map(Spanned::span)
    };
    let span = streams.filter_map(secret).next()?;
    Some(
        Problem::new(
            "everybody on this machine can read a camera's password",
            span,
        )
        .label("is in plain text, and the file is readable for all")
        .help(format!(
            "`chown root:camring {0} && chmod 640 {0}`, or keep the password elsewhere and \
                 write ${{NAME}} or ${{credential:NAME}}",
            path.display()
        )),
    )
}
