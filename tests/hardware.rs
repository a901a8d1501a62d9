//! A camera that is to be decoded on hardware, on a machine that may have none: pictures come either way,
//! and who asks is told what decodes.

mod support;

use std::time::Duration;

use support::{Camera, Daemon, Farm, wait_for};

#[test]
fn pictures_come_with_hardware_or_without() {
    let farm = Farm::start(&[
        Camera::new("yard", "h264-720p"),
        Camera::new("hall", "h264-720p"),
    ]);
    let cameras = [("yard", "cuda"), ("hall", "auto")].map(|(name, backend)| {
        let url = farm.url(name);
        format!(
            "[[camera]]\nname = \"{name}\"\nurl = \"{url}\"\n[camera.decode]\nbackend = \"{backend}\"\n"
        )
    });
    let daemon = Daemon::start(&cameras.concat());
    for name in ["yard", "hall"] {
        wait_for("ten frames", Duration::from_secs(60), || {
            let camera = daemon.camera(name);
            match camera["frames_published"].as_u64() >= Some(10) {
                true => Ok(()),
                false => Err(camera),
            }
        });
    }

    // What this machine has is what `camring check --hardware` says.
    let output = daemon.camring(["check", "--hardware", "--json"]).output();
    let output = output.expect("it runs");
    assert!(output.status.success());
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let found = found.as_array().expect("a list");
    let cuda = found.iter().find(|one| one["backend"] == "cuda");
    let usable = cuda.expect("cuda is in it")["usable"] == true;
    let yard = daemon.camera("yard");
    if usable {
        assert_eq!(yard["decoder"], "cuda");
    } else {
        assert_eq!(yard["decoder"], "software");
        assert_eq!(yard["hardware_fallbacks"], 1);
        assert!(
            daemon.log().contains("software decodes: "),
            "{}",
            daemon.log()
        );
    }
    for one in found.iter().filter(|one| one["usable"] == false) {
        assert!(!one["reason"].as_str().expect("a reason").is_empty());
    }
    // With `auto`, none is as good as any.
    if found.iter().all(|one| one["usable"] == false) {
        let hall = daemon.camera("hall");
        assert_eq!(
            (&hall["decoder"], &hall["hardware_fallbacks"]),
            (&"software".into(), &0.into())
        );
    }
}
