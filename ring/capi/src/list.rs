//! Which cameras there are, and what they do.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};

use camring_ring::Client;
use serde_json::Value;

use crate::error::{CAMRING_E_PROTOCOL, CAMRING_OK, Failure, c_string, call, camring_code};
use crate::handle::Table;
use crate::memory::{Out, Plain, take_handle, write_struct};
use crate::receiver::socket_path;

/// The cameras of a daemon, as they were when asked for. Not an address. Any thread may use it.
#[derive(Debug)]
pub struct camring_list(());

/// One camera of a list. Pointers in it are valid as long as the list.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct camring_camera {
    /// What to attach to: "front-door", or "front-door/sub".
    pub name: *const c_char,
    /// "streaming", "connecting", "backoff" …: docs/reference/status.md has all.
    pub state: *const c_char,
    /// Why it is in this state, in words. May be empty.
    pub reason: *const c_char,
    /// Of the last published picture, in pixels. 0: none yet.
    pub width: u32,
    /// Of the last published picture, in pixels. 0: none yet.
    pub height: u32,
    /// Frames published per second.
    pub fps: f64,
}

// SAFETY: repr(C); pointers and numbers, 3 × 8, 2 × 4 and 8 bytes: no padding.
unsafe impl Plain for camring_camera {
    const NAME: &'static str = "camring_camera";
}
const _: () = assert!(size_of::<camring_camera>() == 40);

#[derive(Debug)]
struct List {
    json: CString,
    cameras: Vec<Camera>,
}

#[derive(Debug)]
struct Camera {
    name: CString,
    state: CString,
    reason: CString,
    size: (u32, u32),
    fps: f64,
}

static LISTS: Table<List> = Table::new(3, "list");

impl List {
    /// From the daemon's status. What an older or newer daemon does not say is empty.
    fn parse(json: &str) -> Result<Self, Failure> {
        let status: Value = serde_json::from_str(json).map_err(|error| {
            let text = format!("the daemon's status is no JSON: {error}");
            Failure::new(CAMRING_E_PROTOCOL, text)
        })?;
        let cameras = status["cameras"].as_array().map_or(&[][..], |all| all);
        let text = |camera: &Value, key| c_string(camera[key].as_str().unwrap_or_default());
        let number =
            |camera: &Value, key: &str| camera[key].as_u64().and_then(|n| n.try_into().ok());
        Ok(Self {
            json: c_string(json),
            cameras: cameras
                .iter()
                .map(|camera| Camera {
                    name: text(camera, "name"),
                    state: text(camera, "state"),
                    reason: text(camera, "reason"),
                    size: (
                        number(camera, "width").unwrap_or(0),
                        number(camera, "height").unwrap_or(0),
                    ),
                    fps: camera["fps_published"].as_f64().unwrap_or(0.0),
                })
                .collect(),
        })
    }
}

/// Asks the daemon for its cameras. `socket_path` may be NULL: the default. Give the list back
/// with camring_list_free().
///
/// # Safety
/// `socket_path` is NULL or a C string, `list` NULL or a variable that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn camring_list_cameras(
    socket_path: *const c_char,
    list: *mut *mut camring_list,
) -> camring_code {
    call(|| {
        // SAFETY: the caller's word, twice.
        let (mut out, path) = unsafe {
            let out = Out::new(list, "list", std::ptr::null_mut())?;
            (out, self::socket_path(socket_path)?)
        };
        let json = Client::connect(&path)?.status_json()?;
        out.set(LISTS.insert(List::parse(&json)?)?);
        Ok(CAMRING_OK)
    })
}

/// How many cameras are in the list. 0 also when there is no such list.
#[unsafe(no_mangle)]
pub extern "C" fn camring_list_count(list: *const camring_list) -> usize {
    let mut count = 0;
    call(|| {
        count = LISTS.get(list)?.cameras.len();
        Ok(CAMRING_OK)
    });
    count
}

/// One camera of the list. `size` is sizeof(camring_camera).
///
/// # Safety
/// `camera` is NULL or `size` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn camring_list_get(
    list: *const camring_list,
    index: usize,
    camera: *mut camring_camera,
    size: usize,
) -> camring_code {
    call(|| {
        let list = LISTS.get(list)?;
        let found = list.cameras.get(index).ok_or_else(|| {
            Failure::argument(format!("camera {index} of {}", list.cameras.len()))
        })?;
        let value = camring_camera {
            name: found.name.as_ptr(),
            state: found.state.as_ptr(),
            reason: found.reason.as_ptr(),
            width: found.size.0,
            height: found.size.1,
            fps: found.fps,
        };
        // SAFETY: the caller's word.
        unsafe { write_struct(camera, size, value)? };
        Ok(CAMRING_OK)
    })
}

/// All that the daemon said: the JSON of `camring status --json`. Valid as long as the list. NULL:
/// no such list.
#[unsafe(no_mangle)]
pub extern "C" fn camring_list_json(list: *const camring_list) -> *const c_char {
    let mut json = std::ptr::null();
    call(|| {
        json = LISTS.get(list)?.json.as_ptr();
        Ok(CAMRING_OK)
    });
    json
}

/// Gives a list back and sets the variable to NULL. Nothing happens when it is NULL already.
///
/// # Safety
/// `list` is NULL or a variable that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn camring_list_free(list: *mut *mut camring_list) -> camring_code {
    call(|| {
        // SAFETY: the caller's word.
        if let Some(list) = unsafe { take_handle(list, "list")? } {
            LISTS.remove(list)?;
        }
        Ok(CAMRING_OK)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_another_version_is_read_as_far_as_possible() {
        let list = List::parse(r#"{"cameras": [{"name": "door", "width": 640, "height": null}]}"#);
        let list = list.unwrap();
        assert_eq!(list.cameras[0].name.to_str(), Ok("door"));
        assert_eq!(list.cameras[0].size, (640, 0));
        assert!(list.cameras[0].state.is_empty());
        assert!(List::parse("{}").unwrap().cameras.is_empty());
        assert!(List::parse("no").is_err());
    }
}
