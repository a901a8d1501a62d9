//! `[http]`: where, to whose pages, and to whom; each checked. Nothing here repeats a hash.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use serde_spanned::Spanned;

use super::super::certificate::{self, CertificateFault, Expiry};
use super::super::error::Problem;
use super::super::http::{Http, Login, Role, Tls};
use super::super::proof;
use super::super::raw::{Field, RawHttp, RawTls};
use super::Resolver;

/// The longest name of a user or token, in bytes.
const LONGEST_NAME: usize = 64;

/// What `[[http.user]]` and `[[http.token]]` have in common.
struct Written<'r> {
    /// How people write the table.
    table: &'static str,
    /// Where it is.
    span: &'r Range<usize>,
    name: &'r Field<String>,
    hash: &'r Field<String>,
    /// The key that the hash stands under.
    key: &'static str,
    /// How one gets a hash.
    made_by: &'static str,
    role: &'r Field<String>,
    check: fn(&str) -> Result<(), String>,
}

impl Resolver<'_> {
    pub(super) fn http(&mut self, raw: &RawHttp) -> Http {
        let mut http = Http::default();
        let mut names = HashMap::new();
        let users = raw.user.iter().map(|user| Written {
            table: "[[http.user]]",
            span: &user.span,
            name: &user.name,
            hash: &user.password_hash,
            key: "password_hash",
            made_by: "camring user hash",
            role: &user.role,
            check: proof::check_password_hash,
        });
        http.users = self.logins(users.collect(), &mut names);
        let tokens = raw.token.iter().map(|token| Written {
            table: "[[http.token]]",
            span: &token.span,
            name: &token.name,
            hash: &token.hash,
            key: "hash",
            made_by: "camring token new",
            role: &token.role,
            check: proof::check_token_hash,
        });
        http.tokens = self.logins(tokens.collect(), &mut names);
        http.tls = self.tls(&raw.tls);
        // One that is wrong has been complained about; it is not missing on top of that.
        let open = raw.user.is_empty() && raw.token.is_empty();
        if let Some(written) = raw.listen.set() {
            http.listen = self.listen(written, open, raw.tls.span.is_empty());
        }
        let Some(origins) = raw.cors_origins.set() else {
            return http;
        };
        let origins = &origins.get_ref().0;
        if let Some(extra) = origins.get(Http::MAX_ORIGINS) {
            self.problems.push(
                Problem::new("too many `cors_origins`", extra.span())
                    .label(format!("at most {} are allowed", Http::MAX_ORIGINS)),
            );
        }
        for origin in origins {
            let text = origin.get_ref();
            match origin_fault(text) {
                Some(fault) => self.problems.push(
                    Problem::new(
                        "`cors_origins` has something that is no origin",
                        origin.span(),
                    )
                    .label(fault),
                ),
                None => http.cors_origins.push(text.clone()),
            }
        }
        http
    }

    fn listen(&mut self, written: &Spanned<String>, open: bool, plain: bool) -> Option<SocketAddr> {
        let text = written.get_ref();
        if text == "off" {
            return None;
        }
        let Ok(address) = text.parse::<SocketAddr>() else {
            self.problems.push(
                Problem::new("`listen` is not an address", written.span()).label(
                    "must be \"off\", or an address and a port such as \"127.0.0.1:8080\" or \
                     \"[::1]:8080\"",
                ),
            );
            return None;
        };
        if address.ip().is_loopback() {
            return Some(address);
        }
        if open {
            self.problems.push(
                Problem::new(
                    "`listen` is open to the network, and there are no users",
                    written.span(),
                )
                .label("needs an [[http.user]] or [[http.token]], or must be a loopback address")
                .help(
                    "whoever reaches the address could see and change all cameras. \
                     `camring user hash` makes a user to paste here; or keep \"127.0.0.1:8080\" and come \
                     by `ssh -L 8080:127.0.0.1:8080 HOST`",
                ),
            );
            return None;
        }
        if plain {
            self.warnings.push(
                Problem::new(
                    "passwords and pictures cross the network in plain text",
                    written.span(),
                )
                .label("other machines can read them")
                .help("add [http.tls] with `certificate` and `key`, or put a web server with TLS in front"),
            );
        }
        Some(address)
    }

    fn logins(
        &mut self,
        all: Vec<Written<'_>>,
        names: &mut HashMap<String, Range<usize>>,
    ) -> Vec<Login> {
        if let Some(extra) = all.get(Http::MAX_LOGINS) {
            self.problems.push(
                Problem::new(format!("too many {}", extra.table), extra.span.clone())
                    .label(format!("at most {} are allowed", Http::MAX_LOGINS)),
            );
        }
        let mut logins = Vec::new();
        for written in all.iter().take(Http::MAX_LOGINS) {
            let name = self.login_name(written, names);
            let hash = self.login_hash(written);
            let roles = Role::ALL.map(|role| (role.name(), role));
            if written.role.is_absent() {
                self.missing("role", "\"viewer\", \"operator\" or \"admin\"", written);
            }
            let role = self.word("role", written.role, &roles, None);
            if let (Some(name), Some(hash), Some(role)) = (name, hash, role) {
                logins.push(Login { name, hash, role });
            }
        }
        logins
    }

    fn missing(&mut self, key: &str, wanted: &str, written: &Written<'_>) {
        self.problems.push(
            Problem::new(
                format!("`{key}` is missing in {}", written.table),
                written.span.clone(),
            )
            .label(format!("needs `{key}`: {wanted}")),
        );
    }

    fn login_name(
        &mut self,
        written: &Written<'_>,
        names: &mut HashMap<String, Range<usize>>,
    ) -> Option<String> {
        let Some(name) = written.name.set() else {
            if written.name.is_absent() {
                self.missing(
                    "name",
                    "who it is, in the log and in the dashboard",
                    written,
                );
            }
            return None;
        };
        let text = name.get_ref();
        // A colon ends the name in HTTP's Basic authentication (RFC 7617).
        let odd = |c: char| c.is_control() || c == ':';
        if text.trim() != text
            || text.is_empty()
            || text.len() > LONGEST_NAME
            || text.chars().any(odd)
        {
            self.problems.push(
                Problem::new("`name` cannot be used", name.span()).label(format!(
                    "must have 1 to {LONGEST_NAME} bytes, no `:`, and no blanks around it"
                )),
            );
            return None;
        }
        if let Some(first) = names.insert(text.clone(), name.span()) {
            self.problems.push(
                Problem::new("there are two users or tokens of this name", name.span())
                    .label("must be another name")
                    .related(first, "the first one"),
            );
        }
        Some(text.clone())
    }

    fn login_hash(&mut self, written: &Written<'_>) -> Option<String> {
        let Some(hash) = written.hash.set() else {
            if written.hash.is_absent() {
                let wanted = format!("`{}` makes one", written.made_by);
                self.missing(written.key, &wanted, written);
            }
            return None;
        };
        if let Err(fault) = (written.check)(hash.get_ref()) {
            self.problems
                .push(Problem::new(format!("`{}` is none", written.key), hash.span()).label(fault));
            return None;
        }
        Some(hash.get_ref().clone())
    }

    /// Where they are, if they can be served.
    fn tls(&mut self, raw: &RawTls) -> Option<Tls> {
        if raw.span.is_empty() {
            return None;
        }
        for (key, written) in [("certificate", &raw.certificate), ("key", &raw.key)] {
            if written.is_absent() {
                self.problems.push(
                    Problem::new(
                        format!("`{key}` is missing in [http.tls]"),
                        raw.span.clone(),
                    )
                    .label(format!("needs `{key} = \"/path/to/file.pem\"`")),
                );
            }
        }
        let before = self.problems.len();
        let (certificate, key) = (raw.certificate.set()?, raw.key.set()?);
        let path = |resolver: &mut Self, name, written: &Spanned<String>| {
            let text = resolver.text(written, None)?;
            let path = PathBuf::from(&text);
            if !path.is_absolute() || text.chars().any(char::is_control) {
                resolver.problems.push(
                    Problem::new(format!("`{name}` is not an absolute path"), written.span())
                        .label("must begin with `/`, such as \"/etc/camring/tls/key.pem\""),
                );
            }
            Some(path)
        };
        let tls = Tls {
            certificate: path(self, "certificate", certificate)?,
            key: path(self, "key", key)?,
        };
        if self.problems.len() > before {
            return None;
        }
        match certificate::load(&tls) {
            Ok(loaded) => {
                let trouble = loaded.expires.and_then(Expiry::trouble_now);
                self.warnings.extend(trouble.map(|text| {
                    Problem::new(format!("the certificate {text}"), certificate.span())
                        .label("should be renewed")
                        .help("put the new certificate and its key into these files; nothing needs to be restarted")
                }));
                Some(tls)
            }
            Err(fault) => {
                let (span, text) = match fault {
                    CertificateFault::Certificate(text) => (certificate.span(), text),
                    CertificateFault::Key(text) => (key.span(), text),
                };
                self.problems
                    .push(Problem::new("[http.tls] cannot be used", span).label(text));
                None
            }
        }
    }
}

/// What keeps a text from being the origin of a web page.
fn origin_fault(text: &str) -> Option<String> {
    if text == "*" {
        return Some(
            "would let every web page in the world use the cameras: name the pages".into(),
        );
    }
    let parsed = url::Url::parse(text).ok();
    let Some(parsed) = parsed.filter(|url| matches!(url.scheme(), "http" | "https")) else {
        return Some("must be as browsers write it, such as \"https://cameras.example\"".into());
    };
    let exact = parsed.origin().ascii_serialization();
    (exact != text)
        .then(|| format!("must be written {exact:?}, without a path or a `/` at the end"))
}
