//! Sessions with cameras that send sound, most of them wrongly: whatever becomes of it, the pictures do
//! not notice.

#[path = "support/session_scripted.rs"]
mod scripted;
#[path = "support/session.rs"]
mod support;

use std::time::Duration;

use camring::reader::session::{Sound, State};
use camring::reader::source::SourceConfig;
use scripted::{Behaviour, Camera, GOP, Sound as Sends};
use support::{Running, patient};
use url::Url;

const PICTURES: usize = 3 * GOP as usize;

fn config(url: &str) -> SourceConfig {
    let mut config = SourceConfig::new("cam", Url::parse(url).unwrap());
    config.timeouts = patient();
    config.sound = true;
    config
}

/// Pictures came, in one session and without a loss.
fn assert_pictures(running: &Running) {
    running.look(|o| {
        assert_eq!((o.sessions_started, o.reconnects), (1, 0), "{:?}", o.states);
        assert!(o.units.iter().all(|unit| unit.lost_before == 0));
        let steps = o.units.windows(2).map(|u| u[1].rtp_time - u[0].rtp_time);
        assert!(steps.into_iter().all(|step| step == 3600));
    });
}

fn setups(camera: &Camera, connection: usize) -> usize {
    let connection = camera.connections()[connection].clone();
    connection.requests.iter().filter(|r| *r == "SETUP").count()
}

async fn pictures(running: &Running) {
    running
        .until("pictures come", |o| o.units.len() >= PICTURES)
        .await;
}

#[tokio::test]
async fn sound_comes_with_the_pictures() {
    let camera = Camera::start(Behaviour::sound(Sends::Aac)).await;
    let running = Running::start(config(&camera.url()));
    pictures(&running).await;
    running
        .until("sound comes", |o| o.audio.len() >= PICTURES)
        .await;
    assert_pictures(&running);
    running.look(|o| {
        assert_eq!(o.sounds, [Sound::Silent]);
        let first = &o.audio[0];
        assert_eq!((first.data.len(), first.clock_rate), (32, 16_000));
        assert_eq!(first.config.sample_rate(), 16_000);
        assert!(
            o.audio
                .windows(2)
                .all(|a| a[1].rtp_time == a[0].rtp_time + 1024)
        );
    });
    running.stop().await;
    camera.assert_torn_down();
}

#[tokio::test]
async fn sound_that_is_not_wanted_or_not_recorded_is_not_set_up() {
    for (sends, wanted, known) in [
        (Sends::Aac, false, vec![]),
        (Sends::Alaw, true, vec![Sound::OtherCodec]),
        (Sends::None, true, vec![Sound::None]),
    ] {
        let camera = Camera::start(Behaviour::sound(sends)).await;
        let mut config = config(&camera.url());
        config.sound = wanted;
        let running = Running::start(config);
        pictures(&running).await;
        assert_pictures(&running);
        assert_eq!(setups(&camera, 0), 1, "{sends:?}");
        running.look(|o| assert_eq!(o.sounds, known));
        running.stop().await;
    }
}

#[tokio::test]
async fn sound_that_is_refused_is_left_out_of_the_same_session() {
    for status in [400, 404, 461, 500] {
        let camera = Camera::start(Behaviour::sound(Sends::Refused(status))).await;
        let running = Running::start(config(&camera.url()));
        pictures(&running).await;
        assert_pictures(&running);
        assert_eq!((camera.connections().len(), setups(&camera, 0)), (1, 2));
        running.look(|o| assert_eq!(o.sounds, [Sound::Refused]));
        running.stop().await;
    }
}

#[tokio::test]
async fn a_camera_that_hangs_over_its_sound_is_asked_again_for_its_pictures_alone() {
    let camera = Camera::start(Behaviour::sound(Sends::Hangs)).await;
    let mut config = config(&camera.url());
    // Short for the sound, and so for the pictures: these are answered at once.
    config.timeouts.setup = Duration::from_secs(2);
    let running = Running::start(config);
    pictures(&running).await;
    assert_pictures(&running);
    assert_eq!((setups(&camera, 0), setups(&camera, 1)), (2, 1));
    running.look(|o| {
        assert_eq!(o.sounds, [Sound::Refused]);
        assert!(!o.was(State::Backoff), "{:?}", o.states);
    });
    running.stop().await;
}

#[tokio::test]
async fn broken_sound_costs_no_picture() {
    for sends in [Sends::Truncated, Sends::Ssrc, Sends::Bye, Sends::BadRtcp] {
        let camera = Camera::start(Behaviour::sound(sends)).await;
        let mut config = config(&camera.url());
        // Errors of pictures would end the session.
        config.limits.max_errors = 3;
        let running = Running::start(config);
        // More than enough errors to call it broken.
        running
            .until("pictures come", |o| o.units.len() >= 60)
            .await;
        assert_pictures(&running);
        let broken = matches!(sends, Sends::Truncated | Sends::Ssrc);
        running.look(|o| {
            assert_eq!(
                o.sounds.contains(&Sound::Broken),
                broken,
                "{sends:?}: {:?}",
                o.sounds
            );
            assert!(o.audio.len() <= 1, "{sends:?}");
        });
        running.stop().await;
    }
}

#[tokio::test]
async fn sound_that_ends_the_session_does_so_once() {
    let camera = Camera::start(Behaviour::sound(Sends::Unmarked)).await;
    let running = Running::start(config(&camera.url()));
    pictures(&running).await;
    running
        .until("the second session", |o| o.sessions_started == 2)
        .await;
    let before = running.look(|o| o.units.len());
    running
        .until("pictures go on", |o| o.units.len() >= before + PICTURES)
        .await;
    running.look(|o| {
        assert_eq!((o.sessions_started, o.reconnects), (2, 1));
        assert!(
            !o.was(State::Backoff),
            "no wait lies between: {:?}",
            o.states
        );
        assert_eq!(o.sounds, [Sound::Silent, Sound::Broken]);
    });
    assert_eq!((setups(&camera, 0), setups(&camera, 1)), (2, 1));
    running.stop().await;
    camera.assert_torn_down();
}
