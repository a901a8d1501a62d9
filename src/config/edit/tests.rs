//! Edits of a file that somebody has written by hand.

use serde_json::json;

use super::*;

const FILE: &str = r#"# The site at home.
[site]
name = "home"   # for people

# --- The cameras.

# At the door.
[[camera]]
name = "door"
url = "rtsp://192.0.2.1/"  # wired
password = "${DOOR}"
username = "admin"
# It is small.
[camera.ring]
depth = 4

# The yard has two.
[[camera]]
name = "yard"
[[camera.stream]]
name = "main"
url = "rtsp://192.0.2.2/1"
[[camera.stream]]
name = "sub"
url = "rtsp://192.0.2.2/2"

# The end.
"#;

fn keys(json: Json) -> Map<String, Json> {
    json.as_object().unwrap().clone()
}

fn patched(camera: &str, patch: Json) -> String {
    apply(FILE, &Edit::Patch(camera.into(), keys(patch))).unwrap()
}

#[test]
fn what_changes_is_one_line() {
    let text = patched("door", json!({"url": "rtsp://192.0.2.9/"}));
    let expected = FILE.replace("192.0.2.1", "192.0.2.9");
    assert_eq!(text, expected);
    let text = patched("door", json!({"ring": {"depth": 5}}));
    assert_eq!(text, FILE.replace("depth = 4", "depth = 5"));
    let text = patched(
        "yard",
        json!({"stream": [{"name": "sub", "url": "rtsp://192.0.2.3/"}]}),
    );
    assert_eq!(text, FILE.replace("192.0.2.2/2", "192.0.2.3/"));
}

#[test]
fn tables_and_keys_come_and_go_in_their_place() {
    let text = patched(
        "door",
        json!({"record": {"mode": "copy"}, "enabled": false}),
    );
    let (door, yard) = text.split_once("# The yard has two.").unwrap();
    assert!(door.contains("\nenabled = false\n"), "{text}");
    assert!(
        door.contains("[camera.record]\nmode = \"copy\"\n"),
        "{text}"
    );
    assert!(yard.contains("[[camera.stream]]\nname = \"sub\""), "{text}");
    let back = apply(
        &text,
        &Edit::Patch(
            "door".into(),
            keys(json!({"record": {"mode": null}, "enabled": null})),
        ),
    );
    assert_eq!(back.unwrap(), FILE);
}

#[test]
fn a_camera_more_is_the_last_and_a_camera_less_takes_its_comment_along() {
    let add = Edit::Add(keys(json!({
        "name": "gate",
        "url": "rtsp://192.0.2.4/",
        "record": {"mode": "encode", "renditions": [{"height": 720, "bitrate": "2M"}]},
    })));
    let text = apply(FILE, &add).unwrap();
    let added = "\n[[camera]]\nname = \"gate\"\nurl = \"rtsp://192.0.2.4/\"\n";
    assert!(text.contains(added), "{text}");
    assert!(text.ends_with("# The end.\n"), "{text}");
    let (site, _) = crate::config::parse(
        &text.replace("${DOOR}", "x"),
        Path::new("c.toml"),
        &crate::config::Environment::empty(),
    )
    .unwrap();
    let last = site.streams.last().unwrap();
    assert_eq!(
        (last.id.as_str(), last.record.renditions.len()),
        ("gate", 1)
    );
    let without = apply(&text, &Edit::Remove("gate".into())).unwrap();
    assert_eq!(without.trim_end(), FILE.trim_end());
    let without = apply(FILE, &Edit::Remove("door".into())).unwrap();
    assert!(!without.contains("At the door"), "{without}");
    for part in ["# --- The cameras.", "# The yard has two.", "# The end."] {
        assert!(without.contains(part), "no {part:?} in\n{without}");
    }
    let without = apply(FILE, &Edit::Remove("yard".into())).unwrap();
    assert!(without.contains("depth = 4") && without.contains("# The end."));
    assert!(!without.contains("192.0.2.2"), "{without}");
}

#[test]
fn references_to_the_environment_are_for_the_file_only() {
    let text = patched(
        "door",
        json!({"password": "${HOME}", "url": "rtsp://h/${X}"}),
    );
    assert!(text.contains("password = \"$${HOME}\""), "{text}");
    assert!(text.contains("url = \"rtsp://h/$${X}\""), "{text}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let patch = |name: &str, json| apply(FILE, &Edit::Patch(name.into(), keys(json)));
    assert_eq!(
        patch("gate", json!({})),
        Err(EditError::Unknown("gate".into()))
    );
    let taken = patch("door", json!({"name": "yard"}));
    assert_eq!(taken, Err(EditError::Exists("yard".into())));
    let add = Edit::Add(keys(json!({"name": "yard"})));
    assert_eq!(apply(FILE, &add), Err(EditError::Exists("yard".into())));
    let inline = "camera = [{ name = \"a\", url = \"rtsp://h/\" }]\n";
    let remove = Edit::Remove("a".into());
    assert_eq!(apply(inline, &remove), Err(EditError::Inline));
    let broken = apply("password = canary\n", &remove).unwrap_err();
    assert!(!broken.to_string().contains("canary"), "{broken}");
}

#[test]
fn a_file_is_replaced_whole_with_its_mode_and_not_if_it_changed() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("real.toml");
    let link = folder.path().join("config.toml");
    fs::write(&real, "a").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let text = Text::read(&link).unwrap();
    text.replace("b").unwrap();
    assert_eq!(fs::read_to_string(&link).unwrap(), "b");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
    let error = text.replace("c").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&real).unwrap(), "b");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "a rest");
}

#[test]
fn what_a_killed_edit_left_goes_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("c.toml"), "a").unwrap();
    // No process has this number; init always lives; the others are somebody else's.
    let dead = at(".c.toml.4294967295.new");
    let others = [".c.toml.1.new", ".c.toml.old.new", ".d.toml.4294967295.new"];
    fs::write(&dead, "password").unwrap();
    others
        .iter()
        .for_each(|name| fs::write(at(name), "").unwrap());
    let text = Text::read(&at("c.toml")).unwrap();
    text.replace("b").unwrap();
    assert!(!dead.exists());
    assert!(others.iter().all(|name| at(name).exists()));
}
