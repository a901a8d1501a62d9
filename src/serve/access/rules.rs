//! Who may do what: the one table of all routes.
//!
//! A route that is not in it is answered to nobody ([`super::middleware`]), so that a new one cannot
//! be forgotten.

use axum::http::Method;

use crate::config::Role;

/// What a route asks of whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: what a browser must load before somebody can log in, and the login itself.
    Nothing,
    /// This role, or one that may do more.
    Role(Role),
}

const NOTHING: Needs = Needs::Nothing;
const VIEWER: Needs = Needs::Role(Role::Viewer);
const OPERATOR: Needs = Needs::Role(Role::Operator);
const ADMIN: Needs = Needs::Role(Role::Admin);

/// Method, path as the router knows it, needs. HEAD is as GET.
pub const TABLE: &[(Method, &str, Needs)] = &[
    // The dashboard: the same program for all, without data.
    (Method::GET, "/", NOTHING),
    (Method::GET, "/recordings", NOTHING),
    (Method::GET, "/camera/{name}", NOTHING),
    (Method::GET, "/favicon.svg", NOTHING),
    (Method::GET, "/assets/{*path}", NOTHING),
    (Method::GET, "/api", NOTHING),
    (Method::GET, "/api/openapi.json", NOTHING),
    (Method::GET, "/api/v1/session", NOTHING),
    (Method::POST, "/api/v1/session", NOTHING),
    (Method::DELETE, "/api/v1/session", NOTHING),
    // What cameras see and saw.
    (Method::GET, "/hls/{camera}/index.m3u8", VIEWER),
    (
        Method::GET,
        "/hls/{camera}/{stream}/{rendition}/live.m3u8",
        VIEWER,
    ),
    (
        Method::GET,
        "/hls/{camera}/{stream}/{rendition}/dvr.m3u8",
        VIEWER,
    ),
    (
        Method::GET,
        "/hls/{camera}/{stream}/{rendition}/range.m3u8",
        VIEWER,
    ),
    (
        Method::GET,
        "/hls/{camera}/{stream}/{rendition}/s/{name}",
        VIEWER,
    ),
    (
        Method::GET,
        "/hls/{camera}/{stream}/{rendition}/p/{name}",
        VIEWER,
    ),
    (
        Method::GET,
        "/hls/{camera}/{stream}/{rendition}/{init}",
        VIEWER,
    ),
    (Method::GET, "/dash/{camera}/manifest.mpd", VIEWER),
    (Method::GET, "/api/v1/cameras", VIEWER),
    (Method::GET, "/api/v1/cameras/{camera}", VIEWER),
    (Method::GET, "/api/v1/cameras/{camera}/health", VIEWER),
    (Method::GET, "/api/v1/cameras/{camera}/markers", VIEWER),
    (Method::GET, "/api/v1/cameras/{camera}/markers/{id}", VIEWER),
    (Method::GET, "/api/v1/cameras/{camera}/recordings", VIEWER),
    (Method::GET, "/api/v1/cameras/{camera}/snapshot.jpg", VIEWER),
    (
        Method::GET,
        "/api/v1/cameras/{camera}/storyboard.jpg",
        VIEWER,
    ),
    (
        Method::GET,
        "/api/v1/cameras/{camera}/storyboard.json",
        VIEWER,
    ),
    (
        Method::GET,
        "/api/v1/cameras/{camera}/storyboard.vtt",
        VIEWER,
    ),
    (Method::GET, "/api/v1/cameras/{camera}/preview.mp4", VIEWER),
    (Method::GET, "/api/v1/cameras/{camera}/preview.gif", VIEWER),
    (Method::GET, "/api/v1/cameras/{camera}/timeline", VIEWER),
    (Method::GET, "/metrics", VIEWER),
    (Method::GET, "/api/v1/disk", VIEWER),
    (Method::GET, "/api/v1/events", VIEWER),
    (Method::GET, "/api/v1/cameras/{camera}/protections", VIEWER),
    (Method::GET, "/api/v1/recordings", VIEWER),
    // What people on duty do.
    (Method::GET, "/api/v1/cameras/{camera}/export.mp4", OPERATOR),
    (Method::POST, "/api/v1/cameras/{camera}/markers", OPERATOR),
    (
        Method::PATCH,
        "/api/v1/cameras/{camera}/markers/{id}",
        OPERATOR,
    ),
    (
        Method::DELETE,
        "/api/v1/cameras/{camera}/markers/{id}",
        OPERATOR,
    ),
    (Method::POST, "/api/v1/cameras/{camera}/start", OPERATOR),
    (Method::POST, "/api/v1/cameras/{camera}/stop", OPERATOR),
    (Method::POST, "/api/v1/cameras/{camera}/restart", OPERATOR),
    (
        Method::POST,
        "/api/v1/cameras/{camera}/protections",
        OPERATOR,
    ),
    (
        Method::PATCH,
        "/api/v1/cameras/{camera}/protections/{id}",
        OPERATOR,
    ),
    (
        Method::DELETE,
        "/api/v1/cameras/{camera}/protections/{id}",
        OPERATOR,
    ),
    // What changes the site, or cannot be taken back.
    (Method::POST, "/api/v1/cameras", ADMIN),
    (Method::PATCH, "/api/v1/cameras/{camera}", ADMIN),
    (Method::DELETE, "/api/v1/cameras/{camera}", ADMIN),
    (Method::PATCH, "/api/v1/cameras/{camera}/recordings", ADMIN),
    (Method::DELETE, "/api/v1/cameras/{camera}/recordings", ADMIN),
    (Method::POST, "/api/v1/probe", ADMIN),
    (Method::GET, "/api/v1/audit", ADMIN),
];

/// What a route asks; `None`: the path is not in the table. A method that the path does not take asks
/// for the most: whoever has that is told so by the router.
pub fn needs(method: &Method, path: &str) -> Option<Needs> {
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let mut known = false;
    for (of, at, needs) in TABLE {
        if *at == path {
            if of == method {
                return Some(*needs);
            }
            known = true;
        }
    }
    known.then_some(ADMIN)
}
