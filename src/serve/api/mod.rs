//! `/api/v1`: one file for each area, each with its routes.
#![deny(unsafe_code)]

pub mod audit;
pub mod cameras;
mod child;
pub mod events;
pub mod health;
pub mod markers;
pub mod media;
pub mod openapi;
pub mod params;
pub(super) mod probe;
pub mod protections;
pub mod recordings;
pub mod session;
pub mod timeline;
