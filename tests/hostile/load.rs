//! More than a camera should send, or than it lets itself be asked.

use std::time::Duration;

use std::sync::atomic::{AtomicU64, Ordering};

use camring_ring::{AttachOptions, Client, FrameFlags};

use crate::camera::{Camera, Script};
use crate::clip::{Clip, TAG};
use crate::support::{Daemon, PATIENCE, framecode};
use crate::world::{Fault, run};

pub fn faults() -> Vec<Fault> {
    vec![
        Fault::passes(
            "500-fps",
            Script::play(|p| {
                p.period = Duration::from_millis(2);
                p.step = 180;
                while p.faulty() {
                    p.picture()?;
                }
                p.period = crate::player::PERIOD;
                p.step = crate::player::STEP;
                crate::rtp::to_key(p)
            }),
        )
        .cores(1.5)
        .frames(300),
        Fault::passes(
            "100-mb-per-s",
            Script::play(|p| {
                // Filler data between the pictures: 8 MB for each of 12.5.
                let filler = [vec![0x0c], vec![0xff; 60_000]].concat();
                while p.faulty() {
                    for _ in 0..133 {
                        let packet = p.rtp_packet(&filler, false);
                        p.packet(0, &packet)?;
                    }
                    p.picture()?;
                }
                Ok(())
            }),
        )
        .cores(2.0)
        .memory(192),
        Fault::fails(
            "zero-window",
            "backoff",
            &["stopped answering", "keepalive"],
            Script::play(|p| {
                p.pictures(10)?;
                p.broken();
                p.camera.go_deaf();
                p.silence()
            })
            .session_timeout(2),
        )
        .tries(2),
    ]
}

#[test]
fn more_than_a_camera_should_send() {
    run(faults());
}

/// A key frame every so often that the packet ring has lost it when somebody comes: as with 60 s
/// between key frames, only sooner. The first picture is the next key frame, and it is whole.
#[test]
fn groups_of_pictures_longer_than_the_packet_ring() {
    static SENT: AtomicU64 = AtomicU64::new(0);
    // 25 pictures of 60 kB; the ring holds 1 MiB.
    let script = Script::play(|p| {
        let filler = [vec![0x0c], vec![0xff; 60_000]].concat();
        loop {
            let packet = p.rtp_packet(&filler, false);
            p.packet(0, &packet)?;
            p.picture()?;
            SENT.fetch_add(1, Ordering::SeqCst);
        }
    });
    let camera = Camera::start(script, &Clip::usual());
    let daemon = Daemon::start(&format!(
        "[ring]\npackets = \"1MiB\"\n\n[decode]\nmode = \"on-demand\"\n\n[[camera]]\nname = \"long\"\n\
         url = \"{}\"\n",
        camera.url()
    ));
    daemon.wait_for_state("long", "streaming");
    let client = Client::connect(&daemon.socket()).expect("a connection");
    let options = AttachOptions {
        timeout: PATIENCE,
        ..AttachOptions::default()
    };
    for place in [20, 23, 18] {
        daemon.wait_for_camera("long", "idle", |camera| camera["decode"] == "idle");
        // So far into a group that its key frame is gone.
        let began = SENT.load(Ordering::SeqCst).next_multiple_of(25);
        while SENT.load(Ordering::SeqCst) < began + place {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut frames = client.attach("long", &options).expect("frames");
        let mut seen = 0;
        while seen < 10 {
            let Some(frame) = frames.next_timeout(PATIENCE).expect("a ring") else {
                panic!("no frame in {PATIENCE:?}");
            };
            let descriptor = frame.descriptor();
            assert!(!descriptor.flags.contains(FrameFlags::CORRUPT));
            let size = (descriptor.width as usize, descriptor.height as usize);
            let stride = frame.plane_stride(0) as usize;
            let code = framecode::read(frame.plane(0), stride, size.0, size.1).expect("whole");
            assert_eq!(code.tag, TAG);
            println!("attached at {place}: picture {}", code.index);
            seen += 1;
        }
    }
    let status = daemon.camera("long");
    assert!(
        status["frames_dropped"]["catch_up"].as_u64() > Some(0),
        "{status}"
    );
    camera.end();
    daemon.stop();
}
