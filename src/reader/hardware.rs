//! The device that decodes instead of the processor, if there is one.
//!
//! Promises: whatever it is, a reader without it decodes in software, and says why.
//! Must be called before a reader gives up what it does not need: drivers open files.
#![deny(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::config::DecodeBackend;
use crate::health::Health;
use crate::media::{HardwareDevice, HardwareKind};

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

/// Opens the first that can be opened. Where one was asked for by name and cannot be, that counts as a
/// fallback; with `auto`, a machine without any is as it should be.
pub fn open(backend: DecodeBackend, health: &Health) -> Option<Arc<HardwareDevice>> {
    for kind in kinds(backend) {
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
