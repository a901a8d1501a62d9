//! One question to a device: a SOAP request over HTTP, with the login where it is asked for.
//!
//! Promises: every request is bounded in time and size; the password itself is never sent, only
//! digests of it (WS-UsernameToken, or HTTP digest where the device asks for that); a redirection is
//! not followed, a proxy is not used; after one refusal the login is not shown to the device again,
//! since cameras lock accounts. Must never: put the password or a digest of it into an error.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_auth::{DigestClient, PasswordParams};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use sha1::{Digest as _, Sha1};
use url::Url;

use super::clean;
use super::xml::{self, Element, XmlError};

/// One request, from connecting to the last byte of the answer. Slow cameras need a second.
pub const REQUEST: Duration = Duration::from_secs(8);
/// All requests to one device.
pub const DEVICE: Duration = Duration::from_secs(30);
/// Of an HTTP answer's head.
const MAX_HEADER: usize = 16 << 10;

/// Who asks.
#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub password: SecretString,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SoapError {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("did not answer in time")]
    Timeout,
    #[error("answers with more than {} KiB", xml::MAX_BYTES >> 10)]
    TooLarge,
    #[error("answers with HTTP status {0}")]
    Status(u16),
    #[error("sends elsewhere (HTTP status {0}), which is not followed")]
    Redirect(u16),
    #[error("its answer {0}")]
    Xml(#[from] XmlError),
    #[error("answers something else than was asked")]
    Other,
    #[error("refuses: {0}")]
    Fault(String),
    #[error("wants a login: --user NAME")]
    NoLogin,
    #[error("refuses the login; it is not tried again, since cameras lock accounts")]
    Refused,
    #[error("wants the password itself (HTTP {0}), which is not sent unencrypted")]
    Unsafe(String),
}

impl SoapError {
    /// Whether asking in another way is pointless.
    pub fn is_final(&self) -> bool {
        !matches!(
            self,
            SoapError::Fault(_) | SoapError::Status(_) | SoapError::Other
        )
    }
}

/// Asks one device.
#[derive(Debug)]
pub struct Caller<'l> {
    agent: ureq::Agent,
    login: Option<&'l Login>,
    /// The device's clock minus this machine's, in seconds: digests carry the time.
    pub offset: i64,
    until: Instant,
    digest: Option<DigestClient>,
    /// The last answer with that digest was accepted: a refusal of the next is about its nonce.
    proven: bool,
    refused: bool,
}

impl<'l> Caller<'l> {
    /// For one device: its time begins now.
    pub fn new(login: Option<&'l Login>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_response_header_size(MAX_HEADER)
            .user_agent(concat!("camring/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(0)
            .build();
        Self {
            agent: config.new_agent(),
            login,
            offset: 0,
            until: Instant::now() + DEVICE,
            digest: None,
            proven: false,
            refused: false,
        }
    }

    /// The answer's element in the body, which must be `operation` + `Response`. `secured`: with the
    /// login, if there is one.
    ///
    /// # Errors
    /// See [`SoapError`].
    pub fn ask(
        &mut self,
        url: &Url,
        namespace: &str,
        operation: &str,
        inner: &str,
        secured: bool,
    ) -> Result<Element, SoapError> {
        if secured && self.refused {
            return Err(SoapError::Refused);
        }
        let login = self.login.filter(|_| secured);
        let header = login.map(|login| self.security(login)).unwrap_or_default();
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\">{header}\
             <s:Body><{operation} xmlns=\"{namespace}\">{inner}</{operation}></s:Body></s:Envelope>"
        );
        let kind =
            format!("application/soap+xml; charset=utf-8; action=\"{namespace}/{operation}\"");
        let mut answer = self.post(url, &kind, &text, login)?;
        if let (401, Some(login)) = (answer.status, login)
            && (self.digest.is_none() || self.proven)
        {
            self.digest = Some(challenged(&answer.challenges)?);
            answer = self.post(url, &kind, &text, Some(login))?;
        }
        if login.is_some() {
            self.proven = self.digest.is_some() && answer.status != 401;
        }
        self.judge(&answer, operation, login.is_some())
    }

    fn judge(
        &mut self,
        answer: &Answer,
        operation: &str,
        logged_in: bool,
    ) -> Result<Element, SoapError> {
        let root = std::str::from_utf8(&answer.body)
            .map_err(|_| SoapError::Xml(XmlError::Malformed))
            .and_then(|text| Ok(xml::parse(text)?));
        let body = root.as_ref().ok().and_then(|root| root.child("Body"));
        let fault = body.and_then(|body| body.child("Fault"));
        let denied = answer.status == 401 || fault.is_some_and(unauthorized);
        if denied {
            self.refused = logged_in;
            return Err(match logged_in {
                true => SoapError::Refused,
                false => SoapError::NoLogin,
            });
        }
        if let Some(fault) = fault {
            return Err(SoapError::Fault(reason(fault)));
        }
        match answer.status {
            200..300 => {}
            300..400 => return Err(SoapError::Redirect(answer.status)),
            status => return Err(SoapError::Status(status)),
        }
        let found = body.and_then(|body| {
            let mut children = body.children.iter();
            children.find(|child| child.name.strip_suffix("Response") == Some(operation))
        });
        match found {
            Some(found) => Ok(found.clone()),
            None => Err(root.err().unwrap_or(SoapError::Other)),
        }
    }

    fn post(
        &mut self,
        url: &Url,
        kind: &str,
        text: &str,
        login: Option<&Login>,
    ) -> Result<Answer, SoapError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SoapError::Timeout);
        }
        let mut request = self
            .agent
            .post(url.as_str())
            .header("Content-Type", kind)
            .config()
            .timeout_global(Some(left.min(REQUEST)))
            .build();
        if let (Some(login), Some(digest)) = (login, &mut self.digest) {
            let uri = &url[url::Position::BeforePath..url::Position::AfterQuery];
            let answer = digest
                .respond(&PasswordParams {
                    username: &login.user,
                    password: login.password.expose_secret(),
                    uri,
                    method: "POST",
                    body: Some(text.as_bytes()),
                })
                .map_err(|_| SoapError::Unsafe("digest of an unknown kind".into()))?;
            request = request.header("Authorization", answer);
        }
        let mut response = request.send(text).map_err(failure)?;
        let challenges = response
            .headers()
            .get_all("WWW-Authenticate")
            .iter()
            .filter_map(|value| Some(value.to_str().ok()?.to_owned()))
            .collect();
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .with_config()
            .limit(xml::MAX_BYTES as u64)
            .read_to_vec()
            .map_err(failure)?;
        Ok(Answer {
            status,
            challenges,
            body,
        })
    }

    /// WS-Security UsernameToken Profile 1.0, section 3.1: Base64(SHA-1(nonce + created + password)).
    fn security(&self, login: &Login) -> String {
        let nonce: [u8; 16] = random();
        let now = Timestamp::now().as_second().saturating_add(self.offset);
        let created = Timestamp::from_second(now).unwrap_or_else(|_| Timestamp::now());
        let created = created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let digest = password_digest(&nonce, &created, login.password.expose_secret());
        let user = quick_xml::escape::escape(login.user.as_str());
        let nonce = BASE64.encode(nonce);
        format!(
            "<s:Header><w:Security s:mustUnderstand=\"1\" xmlns:w=\"http://docs.oasis-open.org/wss/\
             2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd\" xmlns:u=\"http://docs.oasis-open.org/\
             wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd\"><w:UsernameToken>\
             <w:Username>{user}</w:Username><w:Password Type=\"http://docs.oasis-open.org/wss/2004/01/\
             oasis-200401-wss-username-token-profile-1.0#PasswordDigest\">{digest}</w:Password>\
             <w:Nonce EncodingType=\"http://docs.oasis-open.org/wss/2004/01/\
             oasis-200401-wss-soap-message-security-1.0#Base64Binary\">{nonce}</w:Nonce>\
             <u:Created>{created}</u:Created></w:UsernameToken></w:Security></s:Header>"
        )
    }
}

struct Answer {
    status: u16,
    challenges: Vec<String>,
    body: Vec<u8>,
}

fn password_digest(nonce: &[u8], created: &str, password: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(nonce);
    hash.update(created.as_bytes());
    hash.update(password.as_bytes());
    BASE64.encode(hash.finalize())
}

/// The digest that a device asks for.
fn challenged(headers: &[String]) -> Result<DigestClient, SoapError> {
    let mut offered = Vec::new();
    for header in headers.iter().take(8) {
        for challenge in http_auth::parse_challenges(header).unwrap_or_default() {
            if challenge.scheme.eq_ignore_ascii_case("digest")
                && let Ok(client) = DigestClient::try_from(&challenge)
            {
                return Ok(client);
            }
            offered.push(clean(challenge.scheme, 20));
        }
    }
    match offered.is_empty() {
        // It has taken the token for wrong.
        true => Err(SoapError::Refused),
        false => Err(SoapError::Unsafe(offered.join(", "))),
    }
}

pub(super) fn unauthorized(fault: &Element) -> bool {
    let mut code = fault.child("Code");
    while let Some(element) = code {
        let value = element
            .child("Value")
            .map(Element::text)
            .unwrap_or_default();
        let value = value.rsplit(':').next().unwrap_or_default();
        if matches!(
            value,
            "NotAuthorized" | "FailedAuthentication" | "InvalidSecurity"
        ) {
            return true;
        }
        code = element.child("Subcode");
    }
    // SOAP 1.1, and those that say it in words only.
    let code = fault
        .child("faultcode")
        .map(Element::text)
        .unwrap_or_default();
    code.ends_with("NotAuthorized") || code.ends_with("FailedAuthentication")
}

pub(super) fn reason(fault: &Element) -> String {
    let text = fault
        .text_at(&["Reason", "Text"])
        .or(fault.text_at(&["faultstring"]))
        .or(fault.text_at(&["Code", "Subcode", "Value"]));
    clean(text.unwrap_or("without a reason"), 120)
}

fn failure(error: ureq::Error) -> SoapError {
    match error {
        ureq::Error::Timeout(_) => SoapError::Timeout,
        ureq::Error::BodyExceedsLimit(_) | ureq::Error::LargeResponseHeader(..) => {
            SoapError::TooLarge
        }
        other => SoapError::Unreachable(clean(&other.to_string(), 120)),
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        // Never fails for a few bytes once the kernel has started; an error would be EINTR.
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .unwrap_or(0);
    }
    bytes
}

/// A random UUID (RFC 9562, version 4).
pub fn uuid() -> String {
    let bits = u128::from_be_bytes(random()) & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
    let hex = format!("{bits:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_onvif_programmers_guide() {
        // ONVIF Application Programmer's Guide 1.0, section 6.1.1.3.
        let nonce = BASE64.decode("LKqI6G/AikKCQrN0zqZFlg==").unwrap();
        assert_eq!(
            password_digest(&nonce, "2010-09-16T07:50:45Z", "userpassword"),
            "tuOSpGlFlIXsozq4HFNeeGeFLEI="
        );
    }

    #[test]
    fn uuids_are_of_version_4_and_differ() {
        let (a, b) = (uuid(), uuid());
        assert_ne!(a, b);
        assert_eq!((a.len(), &a[14..15]), (36, "4"));
        assert!("89ab".contains(&a[19..20]), "{a}");
    }

    #[test]
    fn faults_are_told_apart() {
        let fault = |text: &str| xml::parse(text).unwrap();
        assert!(unauthorized(&fault(
            "<Fault><Code><Value>s:Sender</Value><Subcode><Value>ter:NotAuthorized</Value></Subcode>\
             </Code></Fault>"
        )));
        assert!(unauthorized(&fault(
            "<Fault><faultcode>wsse:FailedAuthentication</faultcode></Fault>"
        )));
        let other = fault(
            "<Fault><Code><Value>s:Receiver</Value><Subcode><Value>ter:ActionNotSupported</Value>\
             </Subcode></Code><Reason><Text>no\u{7}t here</Text></Reason></Fault>",
        );
        assert!(!unauthorized(&other));
        assert_eq!(reason(&other), "no t here");
    }

    #[test]
    fn a_password_is_not_sent_and_no_login_is_shown() {
        let login = Login {
            user: "a<b&c".into(),
            password: "canary".to_owned().into(),
        };
        let text = Caller::new(Some(&login)).security(&login);
        assert!(
            !text.contains("canary") && text.contains("a&lt;b&amp;c"),
            "{text}"
        );
        assert!(!format!("{login:?}").contains("canary"));
        assert_eq!(
            challenged(&["Basic realm=\"x\"".into()]).unwrap_err(),
            SoapError::Unsafe("Basic".into())
        );
        assert_eq!(challenged(&[]).unwrap_err(), SoapError::Refused);
        let both = "Basic realm=\"x\", Digest realm=\"x\", nonce=\"1\", qop=\"auth\"";
        assert!(challenged(&[both.into()]).is_ok());
    }
}
