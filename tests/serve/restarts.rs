//! The server dies and comes back, while it is written: what it serves is what is on the disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use camring::recording::{ChunkFlags, IndexReader, Rendition};

use crate::recorder::{Clip, Recorder, SECOND};
use crate::rules::Playlist;
use crate::server::{Server, data_dir};

const START_NS: i64 = 1_795_248_900 * SECOND;

/// Media sequence and bytes of each segment that has ended, by the files alone.
fn on_disk(rendition: &Rendition) -> Vec<(u64, u64)> {
    let mut names: Vec<_> = (rendition.hours().unwrap().iter())
        .flat_map(|hour| hour.files().unwrap())
        .collect();
    names.sort_by_key(|name| name.media_sequence);
    let mut found = Vec::new();
    for name in names {
        let mut bytes = 0;
        for chunk in IndexReader::open(&rendition.index(&name))
            .unwrap()
            .next_chunks()
            .unwrap()
        {
            bytes += u64::from(chunk.len);
            if chunk.flags.contains(ChunkFlags::SEGMENT_END) {
                found.push((chunk.media_sequence, std::mem::take(&mut bytes)));
            }
        }
    }
    found
}

/// Killed again and again; `CAMRING_KILLS` says how often.
#[test]
fn killed_at_any_moment_it_comes_back_with_what_the_files_say() {
    let kills: u32 = std::env::var("CAMRING_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let (_folder, data) = data_dir();
    let mut recorder = Recorder::new(&data, "yard", Clip::of_ffmpeg(), START_NS);
    recorder.seconds(150);
    let rendition = recorder.rendition.clone();
    let stop = AtomicBool::new(false);
    let (pause, paused) = mpsc::channel::<mpsc::Sender<()>>();
    std::thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            // Two hundred times as fast as a camera, with a break now and then.
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                recorder.chunk();
                n += 1;
                if n % 700 == 0 {
                    recorder.pause(5);
                }
                if let Ok(here) = paused.try_recv() {
                    // Held here until the other side has looked.
                    let _ = here.send(());
                    let _ = paused.recv();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for kill in 0..kills {
            let server = Server::start(&data);
            std::thread::sleep(Duration::from_millis(u64::from(kill * 37 % 150)));
            server.kill();
        }
        let (here, held) = mpsc::channel();
        pause.send(here).unwrap();
        held.recv().unwrap();
        let server = Server::start(&data);
        let list = server.get("/hls/yard/main/source/dvr.m3u8");
        let list = Playlist::read(&list.text());
        let disk = on_disk(&rendition);
        let listed: Vec<u64> = list.segments.iter().map(|one| one.sequence).collect();
        let numbers: Vec<u64> = disk.iter().map(|(sequence, _)| *sequence).collect();
        assert!(
            listed == numbers,
            "listed {listed:?}, on the disk {numbers:?}"
        );
        for (sequence, bytes) in disk.iter().step_by(disk.len() / 50 + 1) {
            let media = server.get(&format!("/hls/yard/main/source/s/{sequence}.m4s"));
            assert_eq!(media.body.len() as u64, *bytes, "segment {sequence}");
        }
        assert!(!server.log().contains("damaged"), "{}", server.log());
        stop.store(true, Ordering::Relaxed);
        let (here, _held) = mpsc::channel();
        pause.send(here).unwrap();
    });
}

#[test]
fn a_folder_has_one_server_and_reindex_waits_for_it() {
    let (folder, data) = data_dir();
    Recorder::new(&data, "yard", Clip::of_ffmpeg(), START_NS).seconds(70);
    let config = folder.path().join("config.toml");
    let text = format!(
        "[site]\ndata_dir = {data:?}\nruntime_dir = {:?}\n[sandbox]\non_violation = \"kill\"\n[[camera]]\nname = \"yard\"\n\
         url = \"rtsp://127.0.0.1/yard\"\n",
        folder.path()
    );
    std::fs::write(&config, text).unwrap();
    let run = |command: &[&str]| {
        let run = std::process::Command::new(env!("CARGO_BIN_EXE_camring"))
            .args(command)
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        let text = [run.stdout, run.stderr].concat();
        (run.status.code(), String::from_utf8(text).unwrap())
    };
    let mut server = Server::start(&data);
    let before = server.get("/hls/yard/main/source/dvr.m3u8").text();
    for command in [&["reindex"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let (code, text) = run(command);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("is served already"), "{text}");
    }
    assert_eq!(server.stop(), Some(0));
    let (code, text) = run(&["reindex"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("yard/source: 2 files, 35 segments"), "{text}");
    let server = Server::start(&data);
    assert_eq!(server.get("/hls/yard/main/source/dvr.m3u8").text(), before);
    // An address that is taken.
    let (code, text) = run(&["serve", "--listen", &server.address.to_string()]);
    assert_eq!(code, Some(1), "{text}");
}

#[test]
fn a_damaged_index_is_set_aside_and_made_anew() {
    let (_folder, data) = data_dir();
    Recorder::new(&data, "yard", Clip::of_ffmpeg(), START_NS).seconds(130);
    let mut server = Server::start(&data);
    let before = server.get("/hls/yard/main/source/dvr.m3u8").text();
    server.stop();
    drop(server);
    let path = data.join("index.db");
    let mut bytes = std::fs::read(&path).unwrap();
    for byte in bytes.iter_mut().skip(24) {
        *byte ^= 0x5A;
    }
    std::fs::write(&path, bytes).unwrap();
    let server = Server::start(&data);
    assert_eq!(server.get("/hls/yard/main/source/dvr.m3u8").text(), before);
    assert!(
        server.log().contains("index.db.damaged"),
        "{}",
        server.log()
    );
    assert!(data.join("index.db.damaged").exists());
}
