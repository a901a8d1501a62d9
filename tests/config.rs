//! What a configuration means: the shipped file, defaults, overrides, references, the file itself.
#![deny(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use camring::config::{
    self, Client, ConfigError, Cpu, Decode, DecodeMode, Environment, Fit, Http, Limits, Network,
    Record, RecordMode, Retention, Retry, Ring, Sandbox, Site, Stream, Transport, View, ViewFormat,
};
use secrecy::ExposeSecret as _;

fn environment() -> Environment {
    Environment {
        variable: Box::new(|name| match name {
            "USER_NAME" => Some(OsString::from("cam@ring")),
            "PASSWORD" => Some(OsString::from("p:a/s?s#w@o%r$d")),
            "HOST" => Some(OsString::from("192.0.2.7:8554")),
            _ => None,
        }),
        credentials: Some("tests/config/credentials".into()),
        stand_in: None,
        cores: vec![0, 1, 2, 3],
    }
}

fn site(text: &str) -> Site {
    match config::parse(text, Path::new("test.toml"), &environment()) {
        Ok((site, _)) => site,
        Err(error) => panic!("{error}"),
    }
}

/// The one stream of a camera with these keys.
fn stream(keys: &str) -> Stream {
    let text = format!("[[camera]]\nname = \"c\"\n{keys}\n");
    site(&text).streams.remove(0)
}

fn credentials(stream: &Stream) -> (Option<&str>, Option<&str>) {
    let password = stream
        .password
        .as_ref()
        .map(|password| password.expose_secret());
    (stream.username.as_deref(), password)
}

const SHIPPED: &str = include_str!("../config.toml");
const REFERENCE: &str = include_str!("../docs/reference/config.md");

#[test]
fn the_shipped_file_says_what_the_code_does_without_it() {
    let shipped = site(SHIPPED);
    let example = "[[camera]]\nname = \"front-door\"\nurl = \"rtsp://192.0.2.10/stream1\"\n\
                   enabled = false\n";
    assert_eq!(shipped, site(example));
    assert_eq!(shipped.ring, Ring::default());
    assert_eq!(shipped.decode, Decode::default());
    assert_eq!(shipped.limits, Limits::default());
    assert_eq!(shipped.retry, Retry::default());
    assert_eq!(shipped.streams[0].network, Network::default());
    assert_eq!(shipped.http, Http::default());
    assert_eq!(shipped.sandbox, Sandbox::default());
    assert_eq!(shipped.retention, Retention::default());
    let stream = &shipped.streams[0];
    assert_eq!(stream.record, Record::default());
    assert_eq!(stream.transport, Transport::Tcp);
    assert_eq!(stream.client, Client::Auto);
    assert_eq!(stream.cpu, Cpu::Auto);
    assert_eq!(stream.memory_per_camera, Limits::DEFAULT_MEMORY_PER_CAMERA);
}

#[test]
fn the_shipped_file_has_every_key_and_writes_out_every_default() {
    for (path, keys) in config::KEYS {
        let mut text = SHIPPED;
        if !path.is_empty() {
            let header = text
                .find(&format!("[{path}]"))
                .unwrap_or_else(|| panic!("no [{path}]"));
            text = &text[header..];
            // Up to the next table that is not one of its own.
            let end = text.lines().skip(1).find(|line| {
                line.trim_start_matches(['#', ' ', '['])
                    .strip_prefix(path)
                    .is_none_or(|rest| !rest.starts_with(['.', ']']))
                    && line.trim_start_matches(['#', ' ']).starts_with('[')
            });
            text = end.map_or(text, |end| &text[..text.find(end).unwrap()]);
        }
        for key in *keys {
            // A stream's keys are those of a camera, but for the example of some.
            if *path == "camera.stream" && !["name", "url", "decode"].contains(key) {
                assert!(
                    config::KEYS
                        .iter()
                        .any(|(p, k)| *p == "camera" && k.contains(key))
                );
                continue;
            }
            let written = |line: &str| {
                let line = line.trim_start_matches(['#', ' ']);
                let table = line.trim_start_matches('[');
                line.strip_prefix(key)
                    .is_some_and(|rest| rest.trim_start().starts_with('='))
                    || table.starts_with(&format!("{key}]"))
                    || table.starts_with(&format!("{path}.{key}]"))
            };
            assert!(
                text.lines().any(written),
                "config.toml: [{path}] has no {key}"
            );
            // Who may log in, and a certificate, have no default.
            let optional = path.starts_with("http.") || ["tls", "user", "token"].contains(key);
            if !path.is_empty() && !path.starts_with("camera") && !optional {
                let live = text
                    .lines()
                    .any(|line| !line.starts_with('#') && written(line));
                assert!(
                    live,
                    "config.toml: the default of [{path}] {key} is commented out"
                );
            }
        }
    }
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    for (path, keys) in config::KEYS.iter().filter(|(path, _)| !path.is_empty()) {
        let list = path.starts_with("camera") || ["http.user", "http.token"].contains(path);
        let header = match list {
            true => format!("## `[[{path}]]`"),
            false => format!("## `[{path}]`"),
        };
        let (_, section) = REFERENCE
            .split_once(&header)
            .unwrap_or_else(|| panic!("no {header}"));
        let section = section.split("\n## ").next().unwrap();
        if *path == "camera.stream" {
            continue; // "All keys of [[camera]] but stream".
        }
        for key in *keys {
            assert!(
                section.contains(&format!("`{key}`")),
                "{header} has no {key}"
            );
        }
        for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
            let cell = row.split(" | ").next().unwrap().replace('`', "");
            for key in cell.split(", ") {
                assert!(
                    keys.contains(&key),
                    "{header} has {key}, the program has not"
                );
            }
        }
    }
}

#[test]
fn the_reference_has_the_defaults_of_the_shipped_file() {
    let mut table = String::new();
    for line in SHIPPED.lines().take_while(|line| !line.starts_with("[[")) {
        if line.starts_with('[') {
            table = line.to_owned();
        } else if let Some((key, value)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            let (_, section) = REFERENCE.split_once(&format!("## `{table}`")).unwrap();
            let row = format!("| `{key}` | `{value}` |");
            assert!(
                section.contains(&row),
                "docs/reference/config.md {table}: no {row}"
            );
        }
    }
}

#[test]
fn a_camera_overrides_the_site_key_by_key() {
    let site = site(
        r#"
        [ring]
        depth = 8
        [decode]
        max_fps = 5
        [limits]
        memory_per_camera = "100MiB"
        memory_total = "1GiB"
        [retry]
        stall_timeout = "1m"

        [[camera]]
        name = "a"
        url = "rtsp://192.0.2.1/"

        [[camera]]
        name = "b"
        url = "rtsp://192.0.2.2/"
        memory = "200MiB"
        transport = "udp"
        cpu = [3, 1, 3]
        [camera.ring]
        pins = 2
        [camera.decode]
        mode = "keyframes"
        max_fps = 0
        [camera.retry]
        initial = "1s"
        "#,
    );
    let [a, b] = site.streams.as_slice() else {
        panic!()
    };
    assert_eq!((a.ring.depth, a.ring.pins), (8, 16));
    assert_eq!((b.ring.depth, b.ring.pins), (8, 2));
    assert_eq!(
        (a.decode.mode, a.decode.max_fps),
        (DecodeMode::Always, Some(5.0))
    );
    assert_eq!(
        (b.decode.mode, b.decode.max_fps),
        (DecodeMode::KeyFrames, None)
    );
    assert_eq!(
        (a.memory_per_camera, b.memory_per_camera),
        (100 << 20, 200 << 20)
    );
    assert_eq!(site.limits.memory_total, Some(1 << 30));
    assert_eq!(a.retry.stall_timeout, Duration::from_secs(60));
    assert_eq!(b.retry.stall_timeout, Duration::from_secs(60));
    assert_eq!(b.retry.initial, Duration::from_secs(1));
    assert_eq!((a.transport, b.transport), (Transport::Tcp, Transport::Udp));
    assert_eq!(b.cpu, Cpu::Cores(vec![1, 3]));
}

#[test]
fn sockets_are_set_for_the_site_and_for_each_stream() {
    let site = site(
        r#"
        [network]
        dscp = 24
        [[camera]]
        name = "a"
        url = "rtsp://192.0.2.1/"
        [[camera]]
        name = "b"
        [camera.network]
        receive_buffer = "4MiB"
        [[camera.stream]]
        name = "main"
        url = "rtsp://192.0.2.2/1"
        [camera.stream.network]
        dscp = 0
        [[camera.stream]]
        name = "sub"
        url = "rtsp://192.0.2.2/2"
        "#,
    );
    let seen = site
        .streams
        .iter()
        .map(|s| (s.network.dscp, s.network.receive_buffer));
    let seen: Vec<_> = seen.collect();
    assert_eq!(seen, [(24, 1 << 20), (0, 4 << 20), (24, 4 << 20)]);
}

#[test]
fn streams_take_from_their_camera_and_the_camera_means_the_first() {
    let site = site(
        r#"
        [[camera]]
        name = "yard"
        username = "admin"
        password = "one"
        transport = "udp"
        [camera.ring]
        depth = 2
        [[camera.stream]]
        name = "main"
        url = "rtsp://192.0.2.1/main"
        [[camera.stream]]
        name = "sub"
        url = "rtsp://192.0.2.1/sub"
        password = "two"
        enabled = false
        [camera.stream.ring]
        pins = 4

        [[camera]]
        name = "main"
        url = "rtsp://192.0.2.2/"

        [[camera]]
        name = "off"
        enabled = false
        [[camera.stream]]
        name = "main"
        url = "rtsp://192.0.2.3/"
        enabled = true
        "#,
    );
    let ids: Vec<_> = site
        .streams
        .iter()
        .map(|stream| stream.id.as_str())
        .collect();
    assert_eq!(ids, ["yard/main", "yard/sub", "main", "off/main"]);
    let id = |name: &str| site.stream(name).map(|stream| stream.id.as_str());
    assert_eq!(id("yard"), Some("yard/main"));
    assert_eq!(id("yard/sub"), Some("yard/sub"));
    assert_eq!(id("main"), Some("main"));
    assert_eq!(id("sub"), None);
    let [main, sub, single, off] = site.streams.as_slice() else {
        panic!()
    };
    assert_eq!(credentials(main), (Some("admin"), Some("one")));
    assert_eq!(credentials(sub), (Some("admin"), Some("two")));
    assert_eq!(sub.transport, Transport::Udp);
    assert_eq!((main.ring.depth, main.ring.pins), (2, 16));
    assert_eq!((sub.ring.depth, sub.ring.pins), (2, 4));
    assert_eq!(single.alias, None);
    assert!(main.enabled && !sub.enabled && !off.enabled);
    assert_eq!(site.enabled().count(), 2);
}

#[test]
fn credentials_come_from_the_url_or_from_keys_and_are_taken_out_of_the_url() {
    let cases = [
        (r#"url = "rtsp://h/""#, None, None),
        (
            r#"url = "rtsp://admin:secret@h/""#,
            Some("admin"),
            Some("secret"),
        ),
        (r#"url = "rtsp://admin@h/""#, Some("admin"), None),
        (r#"url = "rtsp://admin:@h/""#, Some("admin"), None),
        (
            r#"url = "rtsp://ad%40min:a%3Ab%2F%25c%zz@h/""#,
            Some("ad@min"),
            Some("a:b/%c%zz"),
        ),
        (
            "url = \"rtsp://h/\"\nusername = \"a\"\npassword = \"p%40:@/\"",
            Some("a"),
            Some("p%40:@/"),
        ),
        (
            "url = \"rtsp://admin@h/\"\npassword = \"p\"",
            Some("admin"),
            Some("p"),
        ),
        (
            r#"url = "rtsp://${USER_NAME}:${PASSWORD}@h/""#,
            Some("cam@ring"),
            Some("p:a/s?s#w@o%r$d"),
        ),
        (
            "url = \"rtsp://h/\"\nusername = \"x-${USER_NAME}\"\npassword = \"${PASSWORD}\"",
            Some("x-cam@ring"),
            Some("p:a/s?s#w@o%r$d"),
        ),
        (
            "url = \"rtsp://h/\"\nusername = \"a\"\npassword = \"${credential:front-door}\"",
            Some("a"),
            Some("canary-credential"),
        ),
        (
            "url = \"rtsp://h/\"\nusername = \"a\"\npassword = \"$${x}$\"",
            Some("a"),
            Some("${x}$"),
        ),
    ];
    for (keys, username, password) in cases {
        let stream = stream(keys);
        assert_eq!(credentials(&stream), (username, password), "{keys}");
        assert_eq!(stream.url.as_str(), "rtsp://h/", "{keys}");
        let shown = format!("{stream:?} {}", stream.public_url());
        for secret in password.into_iter().filter(|secret| secret.len() > 1) {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[test]
fn references_work_in_any_part_of_a_url() {
    let stream = stream(r#"url = "rtsp://${HOST}/cam?user=${USER_NAME}&password=${PASSWORD}""#);
    assert_eq!(stream.url.port(), Some(8554));
    assert_eq!(
        stream.public_url(),
        "rtsp://192.0.2.7:8554/cam?user=cam%40ring&password=***"
    );
}

#[test]
fn urls_of_all_sorts_are_accepted() {
    for url in [
        "rtsp://192.0.2.1",
        "RTSP://camera.lan:8554/a/b?c=d&e=f",
        "rtsp://[2001:db8::1]:554/main",
        "rtsp://cam_1.lan/Streaming/Channels/101/?transportmode=unicast",
        "rtsp://admin:pw@192.0.2.1/axis-media/media.amp?at=%40",
        "rtsp://192.0.2.1/user=admin&password=x&channel=1&stream=0.sdp?real_stream--rtp-caching=100",
    ] {
        let stream = stream(&format!("url = {url:?}"));
        assert!(stream.url.host_str().is_some(), "{url}");
    }
}

#[test]
fn sizes_and_durations_have_units() {
    let site = site(
        r#"
        [ring]
        packets = "2 MB"
        [limits]
        memory_per_camera = "1.5GiB"
        memory_total = "1000000000"
        [retry]
        initial = "1500ms"
        max = "1m 30s"
        unauthorized = "1h"
        [[camera]]
        name = "c"
        url = "rtsp://h/"
        "#,
    );
    assert_eq!(site.ring.packets, 2_000_000);
    assert_eq!(site.limits.memory_per_camera, 3 << 29);
    assert_eq!(site.limits.memory_total, Some(1_000_000_000));
    assert_eq!(site.retry.initial, Duration::from_millis(1500));
    assert_eq!(site.retry.max, Duration::from_secs(90));
    assert_eq!(site.retry.unauthorized, Duration::from_secs(3600));
}

#[test]
fn line_ends_and_a_byte_order_mark_of_other_systems_are_no_problem() {
    let text = "\u{feff}[[camera]]\r\nname = \"c\"\r\nurl = \"rtsp://h/\"\r\n";
    assert_eq!(site(text).streams.len(), 1);
    let bad =
        "\u{feff}[ring]\r\ndepth = 0\r\n[[camera]]\r\nname = \"c\"\r\nurl = \"rtsp://h/\"\r\n";
    let error = config::parse(bad, Path::new("t.toml"), &environment())
        .unwrap_err()
        .to_string();
    assert!(error.contains("--> t.toml:2:9"), "{error}");
}

#[test]
fn columns_are_those_of_the_file_though_secrets_are_masked() {
    let text = "camera = [{ name = \"c\", url = \"rtsp://a:canary-canary@h/\", pins = 1 }] # é\n";
    let error = config::parse(text, Path::new("t.toml"), &environment())
        .unwrap_err()
        .to_string();
    let column = text.find("pins").unwrap() + 1;
    assert!(
        error.contains(&format!("--> t.toml:1:{column}\n")),
        "{error}"
    );
    assert!(!error.contains("canary"), "{error}");
}

mod files {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn read(bytes: &[u8], mode: u32) -> (tempfile::TempDir, Result<config::Loaded, ConfigError>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let loaded = config::read(Some(&path));
        (folder, loaded)
    }

    #[test]
    fn what_is_no_configuration_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let missing = config::read(Some(&folder.path().join("none.toml"))).unwrap_err();
        assert!(
            missing.to_string().contains("No such file or directory"),
            "{missing}"
        );
        assert!(
            missing.to_string().contains("/etc/camring/config.toml"),
            "{missing}"
        );

        let directory = config::read(Some(folder.path())).unwrap_err().to_string();
        assert!(directory.contains("is a directory"), "{directory}");
        assert!(directory.contains("config.toml"), "{directory}");

        let (_folder, latin) = read(b"# a\n# \xfcber\n", 0o600);
        let latin = latin.unwrap_err().to_string();
        assert!(latin.contains("not UTF-8 text (line 2)"), "{latin}");

        let (_folder, large) = read(&vec![b'#'; 5 << 20], 0o600);
        let large = large.unwrap_err().to_string();
        assert!(large.contains("larger than"), "{large}");
    }

    #[test]
    fn permission_denied_says_who_needs_it() {
        let error = ConfigError::Read {
            path: "/etc/camring/config.toml".into(),
            source: std::io::Error::from_raw_os_error(13),
        };
        assert_eq!(
            error.to_string(),
            "error: cannot read /etc/camring/config.toml: Permission denied\n |\n = help: the file \
             must be readable by the user that runs camring: `chown root:camring \
             /etc/camring/config.toml && chmod 640 /etc/camring/config.toml`"
        );
    }

    #[test]
    fn nothing_there_says_where_it_was_looked_for() {
        let error = ConfigError::Missing {
            tried: config::PLACES.map(Into::into).to_vec(),
        };
        let text = error.to_string();
        assert!(
            text.contains("no /etc/camring/config.toml and no ./config.toml"),
            "{text}"
        );
        assert!(text.contains("--config FILE"), "{text}");
    }

    #[test]
    fn a_password_that_all_may_read_is_warned_about() {
        let camera = "[[camera]]\nname = \"c\"\nurl = \"rtsp://192.0.2.1/\"\n";
        let cases = [
            ("username = \"a\"\npassword = \"canary\"\n", 0o644, 1),
            ("username = \"a\"\npassword = \"canary\"\n", 0o640, 0),
            ("username = \"a\"\n", 0o644, 0),
        ];
        for (keys, mode, expected) in cases {
            let (_folder, loaded) = read(format!("{camera}{keys}").as_bytes(), mode);
            let warnings = loaded.unwrap().warnings;
            let text = warnings.render(config::Style::Plain);
            assert_eq!(warnings.report().len(), expected, "{text}");
            assert!(!text.contains("canary"), "{text}");
            assert_eq!(text.contains("chmod 640"), expected == 1, "{text}");
        }
        let url = "[[camera]]\nname = \"c\"\nurl = \"rtsp://a:canary@192.0.2.1/\"\n";
        let (_folder, loaded) = read(url.as_bytes(), 0o644);
        assert_eq!(loaded.unwrap().warnings.report().len(), 1);
    }

    #[test]
    fn the_socket_is_found_without_the_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let text = "[site]\nruntime_dir = \"/run/x\"\n[[camera]]\nname = \"c\"\n\
                    url = \"rtsp://a:${CAMRING_TEST_IS_NOT_SET}@h/\"\n";
        fs::write(&path, text).unwrap();
        assert!(config::load(Some(&path)).is_err());
        assert_eq!(
            config::socket_of(Some(&path)).unwrap(),
            Path::new("/run/x/attach.sock")
        );
        for bad in [
            "[site]\nruntime_dir = 5\n",
            "[site]\nruntime_dir = \"x\"\n",
            "[site\n",
        ] {
            fs::write(&path, bad).unwrap();
            assert!(config::socket_of(Some(&path)).is_err(), "{bad}");
        }
    }
}

#[test]
fn recording_is_of_the_site_the_camera_and_the_stream_key_by_key() {
    let site = site(
        "[record]\nmode = \"copy\"\nsegment = \"4s\"\nkeep = \"7d\"\nmax_size = \"1TB\"\n\
         min_free = \"0B\"\nmax_encoders = 3\n\
         renditions = [{ height = 360, bitrate = \"500k\" }, { height = 720, bitrate = \"1.5M\" }]\n\
         [[camera]]\nname = \"a\"\nurl = \"rtsp://192.0.2.1/\"\n\
         [[camera]]\nname = \"b\"\n[camera.record]\nmode = \"encode\"\npart = \"500ms\"\n\
         [[camera.stream]]\nname = \"main\"\nurl = \"rtsp://192.0.2.2/\"\n\
         [camera.stream.record]\nmode = \"off\"\n\
         [[camera.stream]]\nname = \"sub\"\nurl = \"rtsp://192.0.2.3/\"\n\
         [camera.stream.record]\nrenditions = []\naudio = false\n",
    );
    assert_eq!(site.retention.keep, Duration::from_secs(7 * 86_400));
    assert_eq!(site.retention.max_bytes, Some(1_000_000_000_000));
    assert_eq!(site.retention.min_free, 0);
    assert_eq!(site.max_encoders, 3);
    let record = |index: usize| &site.streams[index].record;
    let ladder = |of: &Record| -> Vec<(u32, u64)> {
        let pair = |r: &config::RenditionSpec| (r.height, r.bitrate);
        of.renditions.iter().map(pair).collect()
    };
    let [a, main, sub] = [record(0), record(1), record(2)];
    let modes = [a, main, sub].map(|record| record.mode);
    use RecordMode::{Copy, Encode, Off};
    assert_eq!(modes, [Copy, Off, Encode]);
    let whole = vec![(720, 1_500_000), (360, 500_000)];
    assert_eq!([a, main, sub].map(ladder), [whole.clone(), whole, vec![]]);
    let millis = |of: fn(&Record) -> Duration| [a, main, sub].map(|r| of(r).as_millis());
    assert_eq!(millis(|record| record.segment), [4000; 3]);
    assert_eq!(millis(|record| record.part), [200, 500, 500]);
    assert_eq!(
        [a, main, sub].map(|record| record.audio),
        [true, true, false]
    );
    // Three readers, two that record, the spawner, and the one for HTTP and recordings.
    assert_eq!(site.processes(), 7);
}

#[test]
fn http_is_for_this_machine_or_off() {
    let http = |text: &str| {
        let camera = "[[camera]]\nname = \"a\"\nurl = \"rtsp://192.0.2.1/\"\n";
        site(&format!("[http]\n{text}\n{camera}"))
    };
    let off = http("listen = \"off\"");
    assert_eq!((off.http.listen, off.serves()), (None, false));
    let six = http("listen = \"[::1]:0\"\ncors_origins = [\"https://cameras.example\"]");
    assert_eq!(six.http.listen.unwrap().to_string(), "[::1]:0");
    assert_eq!(six.http.cors_origins, ["https://cameras.example"]);
    assert!(six.serves());
}

#[test]
fn views_belong_to_a_stream_and_have_few_defaults() {
    let site = site(
        r#"
        [[camera]]
        name = "a"
        url = "rtsp://192.0.2.1/"
        [[camera.view]]
        name = "detect"
        width = 640
        height = 360
        format = "rgb24"
        fps = 2.5
        fit = "letterbox"
        [[camera.view]]
        name = "small"
        width = 17
        height = 19
        format = "gray"
        fps = 0

        [[camera]]
        name = "b"
        [[camera.stream]]
        name = "main"
        url = "rtsp://192.0.2.2/"
        [[camera.stream]]
        name = "sub"
        url = "rtsp://192.0.2.3/"
        [[camera.stream.view]]
        name = "detect"
        width = 416
        height = 416
        format = "nv12"
        "#,
    );
    let view = |name: &str, width, height, format, fps, fit| View {
        name: name.into(),
        width,
        height,
        format,
        fps,
        fit,
    };
    let [a, main, sub] = site.streams.as_slice() else {
        panic!()
    };
    let expected = [
        view(
            "detect",
            640,
            360,
            ViewFormat::Rgb24,
            Some(2.5),
            Fit::Letterbox,
        ),
        view("small", 17, 19, ViewFormat::Gray, None, Fit::Stretch),
    ];
    assert_eq!(a.views, expected);
    assert!(main.views.is_empty());
    let expected = [view(
        "detect",
        416,
        416,
        ViewFormat::Nv12,
        None,
        Fit::Stretch,
    )];
    assert_eq!(sub.views, expected);
}
