//! Who comes, and what they may do.
//!
//! Without users and tokens everybody is an administrator: such a server listens on loopback only
//! ([`crate::config`] sees to it). With any, a request comes with a token (`Authorization: Bearer`), a
//! name and a password (`Authorization: Basic`, where nobody can listen in) or a session's cookie.
//!
//! Promises: no handler runs for somebody whose role [`rules`] does not allow it; passwords are compared
//! off the threads that serve, few at a time; what is kept of whoever tries is bounded. No password,
//! token or cookie is in any answer, log or `Debug`.
#![deny(unsafe_code)]

mod attempts;
pub mod rules;
mod sessions;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use tokio::sync::{Semaphore, watch};

use super::audit::Actor;
use super::{App, Problem};
use crate::config::proof::{self, digest};
use crate::config::{Http, Login, Role};
use attempts::Attempts;
use rules::Needs;
use sessions::{Id, Sessions};

pub use sessions::LONGEST as LONGEST_SESSION;

/// Passwords compared at a time: each takes up to 128 MiB.
const AT_A_TIME: usize = 2;
/// Those that wait for it.
const WAITING: usize = 16;
/// How long a name and password of Basic authentication are remembered, so that not every segment of
/// a player costs a comparison.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);
/// How many of them.
const MOST_REMEMBERED: usize = 256;
/// How often an answer without end looks whether its reader may still have it.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Where a request comes from; the listener sets it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The other end of the connection.
    pub address: IpAddr,
    /// Whether nobody could listen in.
    pub tls: bool,
}

/// Who it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user's or token's; empty where there are none.
    pub name: String,
    /// How that is known.
    pub kind: Kind,
    /// What they may do.
    pub role: Role,
    /// What is known of them by name, at this moment.
    mark: Id,
}

/// How it is known who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is not: there are no users.
    Open,
    /// By a name and a password.
    User,
    /// By a session.
    Session(Id),
    /// By a token.
    Token,
}

impl Kind {
    /// In answers and in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::User | Self::Session(_) => "user",
            Self::Token => "token",
        }
    }
}

impl Identity {
    fn open() -> Self {
        Self {
            name: String::new(),
            kind: Kind::Open,
            role: Role::Admin,
            mark: [0; 32],
        }
    }

    fn of(login: &Login, kind: Kind) -> Self {
        Self {
            name: login.name.clone(),
            kind,
            role: login.role,
            mark: sessions::mark(login),
        }
    }
}

/// Users and tokens, as found by what comes with a request.
#[derive(Debug, Default)]
struct Logins {
    users: HashMap<String, Login>,
    /// By the hash of the token.
    tokens: HashMap<String, Login>,
}

impl Logins {
    fn of(http: &Http) -> Self {
        let users = http
            .users
            .iter()
            .map(|user| (user.name.clone(), user.clone()));
        let tokens = http
            .tokens
            .iter()
            .map(|token| (token.hash.clone(), token.clone()));
        Self {
            users: users.collect(),
            tokens: tokens.collect(),
        }
    }

    fn is_open(&self) -> bool {
        self.users.is_empty() && self.tokens.is_empty()
    }
}

/// Who has proven what lately; keys are digests with a secret of this process.
#[derive(Debug, Default)]
struct Proven(HashMap<Id, Instant>);

/// Everything about who may do what.
#[derive(Debug)]
pub struct Access {
    /// Changes also when a session ends.
    logins: watch::Sender<Arc<Logins>>,
    sessions: Mutex<Sessions>,
    attempts: Mutex<Attempts>,
    proven: Mutex<Proven>,
    /// Makes digests of passwords useless to others.
    secret: Id,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Nobody panics while holding one of these; if somebody did, what is in it is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Access {
    /// For these users and tokens.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(http: &Http) -> std::io::Result<Self> {
        Ok(Self {
            logins: watch::Sender::new(Arc::new(Logins::of(http))),
            sessions: Mutex::default(),
            attempts: Mutex::default(),
            proven: Mutex::default(),
            secret: proof::random()?,
            running: Arc::new(Semaphore::new(AT_A_TIME)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        })
    }

    /// Others hold from now on. Sessions of users that are the same go on.
    pub fn change(&self, http: &Http) {
        let logins = Logins::of(http);
        lock(&self.attempts).keep(|name| logins.users.contains_key(name));
        lock(&self.proven).0.clear();
        self.logins.send_replace(Arc::new(logins));
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.logins.borrow().is_open()
    }

    /// Whether there is a user of this name. For those who log in only: others must not learn it.
    pub fn knows(&self, name: &str) -> bool {
        self.logins.borrow().users.contains_key(name)
    }

    /// Who comes with these headers. `None`: nobody says.
    ///
    /// # Errors
    /// What was shown is wrong, or it was tried too often.
    pub async fn identify(
        &self,
        headers: &HeaderMap,
        peer: Peer,
        cookie: &str,
    ) -> Result<Option<Identity>, Problem> {
        let logins = Arc::clone(&self.logins.borrow());
        if logins.is_open() {
            return Ok(Some(Identity::open()));
        }
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' '))
            else {
                return Err(wrong("the Authorization header is malformed"));
            };
            let rest = rest.trim();
            return match scheme.to_ascii_lowercase().as_str() {
                "bearer" => match logins.tokens.get(&proof::hash_token(rest)) {
                    Some(token) => Ok(Some(Identity::of(token, Kind::Token))),
                    None => Err(wrong("there is no such token")),
                },
                "basic" => self.basic(&logins, rest, headers, peer).await.map(Some),
                _ => Err(wrong("this server knows the schemes Bearer and Basic")),
            };
        }
        let Some(id) = session_of(headers, cookie, peer) else {
            return Ok(None);
        };
        let find = |name: &str| logins.users.get(name);
        let mut sessions = lock(&self.sessions);
        let user = sessions.user(&id, Instant::now(), true, find);
        Ok(user.map(|user| Identity::of(user, Kind::Session(id))))
    }

    async fn basic(
        &self,
        logins: &Logins,
        coded: &str,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Identity, Problem> {
        if !peer.tls && !peer.address.to_canonical().is_loopback() {
            return Err(wrong(
                "names and passwords are taken over HTTPS only: add [http.tls], or log in with a token",
            ));
        }
        let malformed = || wrong("the Authorization header is malformed");
        let bytes = STANDARD.decode(coded).map_err(|_| malformed())?;
        let text = String::from_utf8(bytes).map_err(|_| malformed())?;
        let (name, password) = text.split_once(':').ok_or_else(malformed)?;
        // A token in place of a password, for players that can send nothing else.
        if password.starts_with(proof::TOKEN_PREFIX)
            && let Some(token) = logins.tokens.get(&proof::hash_token(password))
        {
            return Ok(Identity::of(token, Kind::Token));
        }
        let key = logins.users.get(name).map(|user| {
            let parts = [&self.secret[..], &sessions::mark(user), password.as_bytes()];
            digest(&parts.concat())
        });
        if let Some((user, key)) = logins.users.get(name).zip(key) {
            let known = lock(&self.proven).0.get(&key).copied();
            if known.is_some_and(|since| since.elapsed() < REMEMBERED) {
                return Ok(Identity::of(user, Kind::User));
            }
        }
        let user = self.prove(name, password, client(headers, peer)).await?;
        if let Some(key) = key {
            let mut proven = lock(&self.proven);
            proven.0.retain(|_, since| since.elapsed() < REMEMBERED);
            if proven.0.len() < MOST_REMEMBERED {
                proven.0.insert(key, Instant::now());
            }
        }
        Ok(Identity::of(&user, Kind::User))
    }

    /// The user of this name and password.
    ///
    /// # Errors
    /// 401: there is none, 429: it was tried too often, 503: too many try at once.
    async fn prove(&self, name: &str, password: &str, client: IpAddr) -> Result<Login, Problem> {
        /// Takes as long as those of users, so that nobody learns whether there is one.
        static NOBODY: LazyLock<String> =
            LazyLock::new(|| proof::hash_password("a user that is not there").unwrap_or_default());
        let user = self.logins.borrow().users.get(name).cloned();
        let begun = lock(&self.attempts).begin(client, name, user.is_some(), Instant::now());
        begun.map_err(too_often)?;
        let undo = |problem| {
            lock(&self.attempts).undo(client, name, user.is_some());
            problem
        };
        let busy = || {
            let text = "many people log in at this moment: try again in some seconds";
            undo(Problem::unavailable("busy", "Too much at once", text))
        };
        let _place = Arc::clone(&self.waiting)
            .try_acquire_owned()
            .map_err(|_| busy())?;
        let permit = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(|_| busy())?;
        let hash = user.as_ref().map(|user| user.hash.clone());
        let password = password.to_owned();
        let compared = tokio::task::spawn_blocking(move || {
            // Until it is done, whether or not the client waits for it.
            let _permit = permit;
            let short = password.len() <= *proof::PASSWORD_BYTES.end();
            let hash = hash.as_deref().unwrap_or_else(|| NOBODY.as_str());
            short && proof::is_password(&password, hash)
        });
        let right = compared.await.unwrap_or(false);
        match user.filter(|_| right) {
            Some(user) => {
                lock(&self.attempts).right(client, name);
                Ok(user)
            }
            None => Err(wrong("the name or the password is wrong")),
        }
    }

    /// Logs in. Returns who it is, and what the cookie holds.
    ///
    /// # Errors
    /// As [`Access::prove`].
    pub async fn log_in(
        &self,
        name: &str,
        password: &str,
        client: IpAddr,
    ) -> Result<(Identity, String), Problem> {
        let user = self.prove(name, password, client).await?;
        let secret = lock(&self.sessions)
            .begin(&user, Instant::now())
            .map_err(|error| {
                tracing::error!("no random numbers for a session: {error}");
                Problem::internal("a session could not be made")
            })?;
        let id = digest(secret.as_bytes());
        Ok((Identity::of(&user, Kind::Session(id)), secret))
    }

    /// Ends the session of these headers, if there is one.
    pub fn log_out(&self, headers: &HeaderMap, cookie: &str, peer: Peer) {
        if let Some(id) = session_of(headers, cookie, peer) {
            lock(&self.sessions).end(&id);
            // Wakes what was promised to it.
            self.logins.send_modify(|_| {});
        }
    }

    /// How long the session still is, at most.
    pub fn left(&self, id: &Id) -> Option<Duration> {
        lock(&self.sessions).left(id, Instant::now())
    }

    /// Whether it is still as it was.
    fn holds(&self, identity: &Identity) -> bool {
        let logins = Arc::clone(&self.logins.borrow());
        let same = |login: &Login| sessions::mark(login) == identity.mark;
        match &identity.kind {
            Kind::Open => logins.is_open(),
            Kind::User => logins.users.get(&identity.name).is_some_and(same),
            Kind::Token => logins.tokens.values().any(same),
            Kind::Session(id) => {
                let find = |name: &str| logins.users.get(name);
                lock(&self.sessions)
                    .user(id, Instant::now(), false, find)
                    .is_some()
            }
        }
    }

    /// Ends when somebody may not have anymore what they had.
    async fn revoked(self: Arc<Self>, identity: Identity) {
        let mut changes = self.logins.subscribe();
        while self.holds(&identity) {
            let _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
        }
    }
}

/// Who asked: the other end, or, where that is a web server on this machine, whom it names.
pub fn client(headers: &HeaderMap, peer: Peer) -> IpAddr {
    if !peer.address.to_canonical().is_loopback() {
        return peer.address;
    }
    let named = headers.get_all("x-forwarded-for").iter().next_back();
    named
        .and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok())
        .unwrap_or(peer.address)
}

/// What the cookie is called: cookies are for all ports of a machine, and there may be two servers.
pub fn cookie_name(app: &App, secure: bool) -> String {
    let port = app
        .listening
        .borrow()
        .address
        .map_or(0, |address| address.port());
    match secure {
        true => format!("__Host-camring-{port}"),
        false => format!("camring-{port}"),
    }
}

/// With its prefix a cookie was set by this very host, over HTTPS; without it, by anybody on the way or on
/// another port who wants a browser to go on in a session of theirs. So the one goes before the other, and
/// over HTTPS there is only the one.
fn session_of(headers: &HeaderMap, cookie: &str, peer: Peer) -> Option<Id> {
    let pairs = || {
        let all = headers.get_all(header::COOKIE).iter();
        all.filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
    };
    let value = |prefix: &str| {
        let ours = |name: &str| name.strip_prefix(prefix) == Some(cookie);
        pairs().find_map(|(name, value)| ours(name).then_some(value))
    };
    let found = value("__Host-").or_else(|| value("").filter(|_| !peer.tls));
    found.map(|value| digest(value.as_bytes()))
}

fn wrong(detail: &str) -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "Not logged in",
        detail,
    )
}

fn too_often(wait: Duration) -> Problem {
    let seconds = wait.as_secs() + 1;
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too-many-attempts",
        "Too many attempts",
        format!("wrong too often: try again in {seconds} s"),
    )
    .after(seconds)
}

/// Lets only those through who may; who it is goes along with the request.
pub async fn middleware(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        // Nothing is there, for nobody.
        return next.run(request).await;
    };
    let Some(needs) = rules::needs(request.method(), path.as_str()) else {
        tracing::error!("{} is in no rule of who may have it", path.as_str());
        return Problem::internal("nobody may have this").into_response();
    };
    let peer = peer(&request);
    let identity = match app
        .access
        .identify(request.headers(), peer, &cookie_name(&app, false))
        .await
    {
        Ok(identity) => identity,
        // A login replaces what was wrong before it.
        Err(_) if needs == Needs::Nothing => None,
        Err(problem) => return refuse(problem, request.headers()),
    };
    if let (Some(identity), Some(actor)) = (&identity, request.extensions().get::<Actor>()) {
        actor.is(identity);
    }
    if let Needs::Role(role) = needs {
        let Some(identity) = &identity else {
            let problem = wrong("log in, or send a token: `Authorization: Bearer …`");
            return refuse(problem, request.headers());
        };
        if identity.role < role {
            return too_low(identity.role, role).into_response();
        }
    }
    // A cookie comes along with requests that other pages made.
    if let Some(identity) = &identity
        && matches!(identity.kind, Kind::Session(_))
        && !request.method().is_safe()
        && let Err(problem) = own_page(&request, peer)
    {
        return problem.into_response();
    }
    if let Some(identity) = identity.clone() {
        request.extensions_mut().insert(identity);
    }
    let response = next.run(request).await;
    match identity {
        Some(identity) if is_endless(&response) => {
            let revoked = Arc::clone(&app.access).revoked(identity);
            response.map(|body| {
                let body = body.into_data_stream().take_until(Box::pin(revoked));
                Body::from_stream(body)
            })
        }
        _ => response,
    }
}

/// Where the request comes from. Without the listener, in tests, from this machine.
pub fn peer(request: &Request) -> Peer {
    let peer = request.extensions().get::<Peer>().copied();
    peer.unwrap_or(Peer {
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        tls: false,
    })
}

fn is_endless(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

fn too_low(has: Role, needs: Role) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "role-too-low",
        "Not allowed",
        format!(
            "this needs the role {}; yours is {}",
            needs.name(),
            has.name()
        ),
    )
}

/// 401, with what would help; browsers that run our dashboard shall not open a window of their own.
fn refuse(problem: Problem, headers: &HeaderMap) -> Response {
    let unauthorized = problem.status == StatusCode::UNAUTHORIZED;
    let mut response = problem.into_response();
    if unauthorized {
        let challenge = match headers.contains_key("sec-fetch-mode") {
            true => "Bearer realm=\"camring\"",
            false => "Basic realm=\"camring\", charset=\"UTF-8\"",
        };
        let value = HeaderValue::from_static(challenge);
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

/// Whether one of our own pages sent it, as the browser says, and as only scripts can.
fn own_page(request: &Request, peer: Peer) -> Result<(), Problem> {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let authority = request.uri().authority().map(ToString::to_string);
    let host = authority.as_deref().or_else(|| text("host"));
    let same = match (text("origin"), text("sec-fetch-site")) {
        (Some(origin), _) => host.is_some_and(|host| {
            origin.split_once("://").is_some_and(|(scheme, of)| {
                (scheme == "https" || scheme == "http" && !peer.tls)
                    && of.eq_ignore_ascii_case(host)
            })
        }),
        (None, site) => site == Some("same-origin"),
    };
    if !same {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "origin-not-allowed",
            "Origin not allowed",
            "with a session, only the dashboard's own pages may change anything: programs use tokens",
        ));
    }
    let empty = text("content-length").is_none_or(|length| length == "0")
        && !headers.contains_key(header::TRANSFER_ENCODING);
    let json = text("content-type").is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    });
    match empty || json {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Unsupported media type",
            "send JSON, with Content-Type: application/json",
        )),
    }
}

#[cfg(test)]
mod tests;
