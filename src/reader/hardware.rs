//! The device that decodes instead of the processor, if there is one.
//!
//! Promises: whatever it is, a reader without it decodes in software, and says why.
//! Drivers open files and devices, whenever a decoder is made: the sandbox of a reader that may use one
//! lets it ([`is_wanted`]).
#![deny(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::config::DecodeBackend;
use crate::health::Health;
use crate::media::{HardwareDevice, HardwareKind};
use crate::sandbox;

/// The kinds to try, in order.
pub fn kinds(backend: DecodeBackend) -> &'static [HardwareKind] {
    match backend {
        DecodeBackend::Software => &[],
        DecodeBackend::Auto => &HardwareKind::ALL,
        DecodeBackend::Cuda => &[HardwareKind::Cuda],
        DecodeBackend::Vaapi => &[HardwareKind::Vaapi],
        DecodeBackend::Qsv => &[HardwareKind::Qsv],
        DecodeBackend::V4l2m2m => &[HardwareKind::V4l2m2m],
    }
}

/// Whether a device is to be tried: one that is asked for by name, to say why it cannot be; with `auto`
/// only where there is something to open, so that other readers have the stricter sandbox.
pub fn is_wanted(backend: DecodeBackend) -> bool {
    match backend {
        DecodeBackend::Software => false,
        DecodeBackend::Auto => sandbox::devices().next().is_some(),
        _ => true,
    }
}

/// Opens the first that can be opened. Where one was asked for by name and cannot be, that counts as a
/// fallback; with `auto`, a machine without any is as it should be.
pub fn open(backend: DecodeBackend, health: &Health) -> Option<Arc<HardwareDevice>> {
    let kinds = match is_wanted(backend) {
        true => kinds(backend),
        false => &[],
    };
    for kind in kinds {
        match HardwareDevice::open(*kind, None) {
            Ok(device) => {
                tracing::debug!(%kind, "decodes on hardware");
                return Some(Arc::new(device));
            }
            Err(error) if backend == DecodeBackend::Auto => {
                tracing::debug!(%error, "not on this one")
            }
            Err(error) => {
                health.hardware_fallbacks.fetch_add(1, Relaxed);
                tracing::warn!("software decodes: {error}");
            }
        }
    }
    None
}
