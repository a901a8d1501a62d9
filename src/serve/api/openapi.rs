//! `/api/openapi.json`: the description of the API, generated from its handlers, and a page that links to it.
//!
//! What every request goes through before it reaches a handler (the guard, the router, the reading of
//! bodies) can answer for each of them; [`complete`] writes that down once.
#![deny(unsafe_code)]

use std::sync::Arc;

use axum::http::header;
use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, OpenApi, PathItem, Ref, RefOr, ResponseBuilder, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::serve::access::rules::{self, Needs};
use crate::serve::{App, Fault, PROBLEM_MEDIA_TYPE, Problem};

/// The description is fixed when the program is built.
pub fn routes(mut description: OpenApi) -> Router<Arc<App>> {
    complete(&mut description);
    let page = Arc::new(page(&description));
    let description = Arc::new(description);
    let answer = move || async move {
        (
            [(header::CACHE_CONTROL, "no-cache")],
            Json((*description).clone()),
        )
    };
    let human =
        move || async move { ([(header::CACHE_CONTROL, "no-cache")], Html((*page).clone())) };
    Router::new()
        .route("/api/openapi.json", get(answer))
        .route("/api", get(human))
}

/// Adds the problems that any handler may be answered by, where it does not name its own.
fn complete(description: &mut OpenApi) {
    let components = description.components.get_or_insert_with(Default::default);
    for (name, schema) in [
        (Problem::name(), Problem::schema()),
        (Fault::name(), Fault::schema()),
    ] {
        components.schemas.insert(name.into_owned(), schema);
    }
    components
        .security_schemes
        .extend(schemes().map(|(name, scheme)| (name.to_owned(), scheme.into())));
    for (path, item) in &mut description.paths.paths {
        for (method, operation) in operations(item) {
            add_problems(operation, path.contains('{'));
            add_security(operation, path, method);
        }
    }
}

/// The ways to say who one is, and their names in the description.
fn schemes() -> [(&'static str, SecurityScheme); 3] {
    let http = |scheme, text: &str| {
        let scheme = HttpBuilder::new().scheme(scheme).description(Some(text));
        SecurityScheme::Http(scheme.build())
    };
    [
        (
            "token",
            http(HttpAuthScheme::Bearer, "A token of [[http.token]]"),
        ),
        (
            "password",
            http(
                HttpAuthScheme::Basic,
                "A user's name and password, or any name and a token; over HTTPS, or on this machine",
            ),
        ),
        (
            "session",
            SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
                "camring-8080",
                "What POST /api/v1/session sets, for browsers; the number is the port, and over HTTPS \
                 __Host- stands before it",
            ))),
        ),
    ]
}

/// Says who may, where there are users: by any of the schemes.
fn add_security(operation: &mut Operation, path: &str, method: &str) {
    let method = method.to_uppercase().parse().unwrap_or_default();
    let Some(Needs::Role(role)) = rules::needs(&method, path) else {
        return;
    };
    let any = schemes().map(|(name, _)| SecurityRequirement::new(name, Vec::<String>::new()));
    // Nothing at all is needed where there are no users.
    let none = SecurityRequirement::default();
    operation.security = Some(any.into_iter().chain([none]).collect());
    let text = format!("Where there are users: needs the role {}.", role.name());
    let before = operation.description.take().filter(|text| !text.is_empty());
    operation.description = Some(match before {
        Some(before) => format!("{before}\n\n{text}"),
        None => text,
    });
}

fn operations(item: &mut PathItem) -> Vec<(&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("post", &mut item.post),
        ("put", &mut item.put),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ];
    let there = all.into_iter();
    there
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
        .collect()
}

fn add_problems(operation: &mut Operation, has_names: bool) {
    let mut problems = vec![
        (
            "400",
            "The request is malformed: its query, its body, its Host",
        ),
        ("401", "There are users, and nobody is logged in"),
        (
            "403",
            "The role is too low, or a web page of a foreign origin would change something",
        ),
        ("408", "The body did not come in time"),
        ("421", "The request is for another server's name"),
        (
            "429",
            "Wrong passwords too often; Retry-After says how long to wait",
        ),
        ("500", "The server failed; its log says how"),
        (
            "503",
            "Not now: a database, the disk or the daemon is not available",
        ),
    ];
    if has_names {
        problems.push(("404", "Nothing has this name"));
    }
    if operation.request_body.is_some() {
        problems.push(("413", "The body is too large"));
        problems.push(("415", "The body is not JSON"));
    }
    for (status, text) in problems {
        if !operation.responses.responses.contains_key(status) {
            let schema: RefOr<Schema> = Ref::from_schema_name(Problem::name()).into();
            let content = ContentBuilder::new().schema(Some(schema)).build();
            let response = ResponseBuilder::new()
                .description(text)
                .content(PROBLEM_MEDIA_TYPE, content);
            let all = &mut operation.responses.responses;
            all.insert(status.to_owned(), response.build().into());
        }
    }
}

/// A list for people. Everything in it is written in this program.
fn page(description: &OpenApi) -> String {
    let mut list = String::new();
    for (path, item) in &description.paths.paths {
        let mut item = item.clone();
        for (method, operation) in operations(&mut item) {
            let summary = operation.summary.clone().unwrap_or_default();
            let (method, path) = (method.to_uppercase(), escaped(path));
            let summary = escaped(&summary);
            list += &format!(
                "<tr><td>{method}</td><td><code>{path}</code></td><td>{summary}</td></tr>\n"
            );
        }
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>camring API</title>\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <h1>camring API</h1><p>The whole description is <a href=\"/api/openapi.json\">OpenAPI 3.1</a>; errors \
         are <a href=\"https://www.rfc-editor.org/rfc/rfc9457\">problem+json</a>.</p>\n<table>\n{list}</table></html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
