//! What density's subscribers ask of the cameras, answered from the plan that the driver made.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use framecode::Witness;
use serde_json::Value;

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/support/framecode.rs"]
pub mod framecode;

/// How long a camera may need to its first picture.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Send times kept per camera, as in `tests/farm/farm.py`.
const SEND_TIME_SLOTS: u64 = 16384;

/// The cameras that the driver started.
#[derive(Debug)]
pub struct Farm {
    /// Name, tag of the clip, pictures in it.
    cameras: Vec<(String, u8, u16)>,
    send_times: File,
}

impl Farm {
    /// As `plan.json` in this folder says.
    pub fn planned(folder: &Path) -> Farm {
        let text = fs::read_to_string(folder.join("plan.json")).expect("the driver made a plan");
        let plan: Value = serde_json::from_str(&text).expect("JSON");
        let number = |value: &Value| value.as_u64().expect("a number");
        let cameras = plan["cameras"].as_array().expect("an array").iter();
        let send_times = PathBuf::from(plan["sendts"].as_str().expect("a path"));
        Farm {
            cameras: cameras
                .map(|camera| {
                    (
                        camera["name"].as_str().expect("a name").to_owned(),
                        u8::try_from(number(&camera["tag"])).expect("a tag"),
                        u16::try_from(number(&camera["pictures"])).expect("a clip's length"),
                    )
                })
                .collect(),
            send_times: File::open(send_times).expect("the cameras keep send times"),
        }
    }

    pub fn cameras(&self) -> usize {
        self.cameras.len()
    }

    fn position(&self, name: &str) -> usize {
        let found = self.cameras.iter().position(|camera| camera.0 == name);
        found.expect("a camera of the plan")
    }

    /// To follow the camera by the content of its pictures.
    pub fn witness(&self, name: &str) -> Witness {
        let (_, tag, pictures) = self.cameras[self.position(name)];
        Witness::new(tag, pictures)
    }

    /// CLOCK_MONOTONIC in ns just before the camera last sent the picture with this index.
    pub fn sent_ns(&self, name: &str, index: u16) -> Option<u64> {
        let slot = self.position(name) as u64 * SEND_TIME_SLOTS + u64::from(index);
        let mut bytes = [0; 8];
        self.send_times.read_exact_at(&mut bytes, slot * 8).ok()?;
        Some(u64::from_le_bytes(bytes)).filter(|time| *time != 0)
    }
}
