//! What the configuration says, as far as it is shown: no secrets.
#![deny(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::config::{Record, Site};

/// The site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteView {
    /// `[site] name`.
    pub name: String,
    /// In the order of the configuration.
    pub cameras: Vec<CameraView>,
}

/// A camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CameraView {
    /// Unique in the site.
    pub name: String,
    /// At least one.
    pub streams: Vec<StreamView>,
}

/// One stream of a camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamView {
    /// `front-door`, or `front-door/sub`.
    pub id: String,
    /// Where the camera has `[[camera.stream]]`.
    pub name: Option<String>,
    /// False: listed only.
    pub enabled: bool,
    /// Masked.
    pub url: String,
    /// The user that the camera asks for.
    pub username: Option<String>,
    /// Whether there is a password.
    pub has_password: bool,
    /// `tcp`, `udp`, `multicast`, `http`.
    pub transport: String,
    /// `always`, `on-demand`, `keyframes`, `activity`.
    pub decode: String,
    /// Whether and how it is recorded.
    pub record: Record,
}

impl SiteView {
    /// Of a resolved configuration.
    pub fn of(site: &Site) -> Self {
        let mut cameras: Vec<CameraView> = Vec::new();
        for stream in &site.streams {
            let view = StreamView {
                id: stream.id.clone(),
                name: stream.stream.clone(),
                enabled: stream.enabled,
                url: stream.public_url(),
                username: stream.username.clone(),
                has_password: stream.password.is_some(),
                transport: stream.transport.name().to_owned(),
                decode: stream.decode.mode.name().to_owned(),
                record: stream.record.clone(),
            };
            match cameras
                .iter_mut()
                .find(|camera| camera.name == stream.camera)
            {
                Some(camera) => camera.streams.push(view),
                None => cameras.push(CameraView {
                    name: stream.camera.clone(),
                    streams: vec![view],
                }),
            }
        }
        Self {
            name: site.name.clone(),
            cameras,
        }
    }

    /// The camera of this name.
    pub fn camera(&self, name: &str) -> Option<&CameraView> {
        self.cameras.iter().find(|camera| camera.name == name)
    }
}
