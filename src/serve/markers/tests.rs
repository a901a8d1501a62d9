use serde_json::{Value, json};

use super::*;
use crate::serve::{Fault, Store, schema};

const T: i64 = 1_795_248_900_123_456_789;

fn faults(body: &Value) -> Vec<Fault> {
    batch(body).unwrap_err().errors.into_vec()
}

fn pointers(body: &Value) -> Vec<String> {
    faults(body)
        .into_iter()
        .map(|fault| fault.pointer)
        .collect()
}

fn marker(start_ns: i64, label: &str) -> NewMarker {
    NewMarker {
        start_ns,
        label: label.to_owned(),
        ..NewMarker::default()
    }
}

#[test]
fn a_whole_marker_is_read_to_the_nanosecond() {
    let body = json!({
        "id": "a-1", "stream": "sub", "start": "2026-11-21T08:15:00.123456789Z",
        "end": "2026-11-21T08:15:02Z", "label": "person \"x\" é", "score": 0.5,
        "box": [0.25, 0, 0.75, 1], "data": {"deep": [1, null]},
    });
    let (read, is_batch) = batch(&body).unwrap();
    let expected = NewMarker {
        id: Some("a-1".into()),
        stream: Some("sub".into()),
        start_ns: T,
        end_ns: Some(1_795_248_902_000_000_000),
        label: "person \"x\" é".into(),
        score: Some(0.5),
        region: Some([0.25, 0.0, 0.75, 1.0]),
        data: Some(json!({"deep": [1, null]})),
        seen: None,
    };
    assert_eq!((read, is_batch), (vec![expected.clone()], false));
    let (read, is_batch) = batch(&json!({ "markers": [body, body_of("b")] })).unwrap();
    assert_eq!((read.len(), &read[0], is_batch), (2, &expected, true));
    let nulls = json!({"start": 1.5, "label": "x", "id": null, "end": null, "score": null, "box": null,
                       "data": null, "stream": null});
    let (read, _) = batch(&nulls).unwrap();
    assert_eq!(read[0], marker(1_500_000_000, "x"));
}

#[test]
fn a_marker_of_1970_is_as_limited_as_any() {
    let body = |end: i64| json!({ "start": 0, "end": end, "label": "x" });
    assert_eq!(pointers(&body(86_401)), ["#/end"]);
    assert!(batch(&body(86_400)).is_ok());
}

fn body_of(id: &str) -> Value {
    json!({"start": 1, "label": "x", "id": id})
}

#[test]
fn every_fault_is_named_with_its_place() {
    let with = |key: &str, value: Value| {
        let mut body = json!({"start": 1000, "label": "x"});
        body[key] = value;
        body
    };
    let wrong = [
        ("start", json!("yesterday")),
        ("start", json!(-1)),
        ("start", json!(null)),
        ("start", json!([])),
        ("start", json!(1e300)),
        ("end", json!("0")),
        ("end", json!(999)),
        ("end", json!(1000 + 86_401)),
        ("label", json!("")),
        ("label", json!("  ")),
        ("label", json!("a\nb")),
        ("label", json!("a\u{1b}[31mb")),
        ("label", json!("x".repeat(129))),
        ("label", json!(7)),
        ("score", json!("0.5")),
        ("box", json!([0, 0, 1])),
        ("box", json!([0, 0, 1, 1, 1])),
        ("box", json!([0, 0, 1, "1"])),
        ("box", json!([-0.1, 0, 1, 1])),
        ("box", json!([0.5, 0, 0.6, 1])),
        ("box", json!({"x": 0})),
        ("data", json!("x".repeat(16 << 10))),
        ("id", json!("../../etc/passwd")),
        ("id", json!("")),
        ("id", json!("x".repeat(65))),
        ("stream", json!("a/b")),
        ("lable", json!("x")),
        ("a/b~c d", json!(1)),
    ];
    for (key, value) in wrong {
        let found = pointers(&with(key, value.clone()));
        let expected = match key {
            "a/b~c d" => "#/a~1b~0c%20d".to_owned(),
            _ => format!("#/{key}"),
        };
        assert_eq!(found, [expected], "{key}: {value}");
    }
    for body in [json!(null), json!([]), json!("x"), json!(7)] {
        assert_eq!(pointers(&body), ["#"]);
    }
    assert_eq!(pointers(&json!({})), ["#/start", "#/label"]);
    assert_eq!(pointers(&json!({"markers": []})), ["#/markers"]);
    assert_eq!(pointers(&json!({"markers": 7})), ["#/markers"]);
    assert_eq!(
        pointers(&json!({"markers": [body_of("a")], "x": 1})),
        ["#/x"]
    );
    let twice = json!({"markers": [body_of("a"), body_of("b"), body_of("a")]});
    assert_eq!(pointers(&twice), ["#/markers/2/id"]);
    let bad = json!({"markers": [body_of("a"), {"start": 1, "label": "x", "box": [0, 0, 2, 1]}]});
    assert_eq!(pointers(&bad), ["#/markers/1/box"]);
    let many = json!({ "markers": vec![json!({"start": 1, "label": "x"}); 1001] });
    assert_eq!(pointers(&many), ["#/markers"]);
    // Bounded, whatever comes.
    let awful = json!({ "markers": vec![json!({"a": 1}); 1000] });
    assert_eq!(faults(&awful).len(), 32);
}

#[test]
fn a_patch_takes_away_what_is_null_and_leaves_what_is_not_named() {
    let read = patch(&json!({"end": null, "score": 1, "label": "car"})).unwrap();
    let expected = Patch {
        end_ns: Some(None),
        score: Some(Some(1.0)),
        label: Some("car".into()),
        ..Patch::default()
    };
    assert_eq!(read, expected);
    for (body, pointer) in [
        (json!({"id": "x"}), "#/id"),
        (json!({"label": null}), "#/label"),
        (json!({"start": null}), "#/start"),
        (json!({"camera": "x"}), "#/camera"),
        (json!([]), "#"),
    ] {
        assert_eq!(patch(&body).unwrap_err().errors[0].pointer, pointer);
    }
}

struct Place {
    _folder: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.db"), schema::MIGRATIONS).unwrap();
        Self {
            _folder: folder,
            store,
        }
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> T {
        self.store.call_blocking(work).unwrap()
    }

    fn insert(&self, camera: &'static str, new: Vec<NewMarker>) -> Stored {
        self.call(move |db| {
            let mut made = 0;
            insert(db, camera, &new, T, &mut || {
                made += 1;
                format!("{}{made}", new[0].label)
            })
        })
    }

    fn list(&self, filter: Filter) -> Vec<String> {
        let (found, _) = self.call(move |db| list(db, &filter));
        found.into_iter().map(|marker| marker.id).collect()
    }

    fn all(&self, camera: &str) -> Vec<String> {
        self.list(of(camera))
    }
}

fn of(camera: &str) -> Filter {
    Filter {
        camera: camera.to_owned(),
        limit: 1000,
        ..Filter::default()
    }
}

fn named(id: &str, start_ns: i64, end_ns: Option<i64>, label: &str) -> NewMarker {
    NewMarker {
        id: Some(id.to_owned()),
        end_ns,
        ..marker(start_ns, label)
    }
}

#[test]
fn a_batch_is_stored_whole_or_not_at_all_and_can_be_sent_again() {
    let place = Place::new();
    let two = vec![named("a", 1, None, "x"), named("b", 2, Some(5), "y")];
    let Stored::All(stored) = place.insert("door", two.clone()) else {
        panic!("not stored")
    };
    assert_eq!(
        stored.iter().map(|(_, change)| *change).collect::<Vec<_>>(),
        [Some(1), Some(2)]
    );
    let Stored::All(again) = place.insert("door", two) else {
        panic!("not stored")
    };
    assert!(again.iter().all(|(_, change)| change.is_none()));
    assert_eq!(again[1].0, stored[1].0);
    // The second is another marker: the first is not stored either.
    let mixed = vec![named("c", 3, None, "x"), named("b", 2, Some(6), "y")];
    assert_eq!(place.insert("door", mixed), Stored::Conflict(1));
    assert_eq!(place.all("door"), ["a", "b"]);
    // An id belongs to a camera.
    let Stored::All(_) = place.insert("yard", vec![named("a", 9, None, "x")]) else {
        panic!("not stored")
    };
    assert_eq!(place.all("yard"), ["a"]);
    assert_eq!(place.call(cameras), ["door", "yard"]);
}

#[test]
fn a_camera_has_so_many_and_no_more() {
    let place = Place::new();
    place.insert("door", vec![named("a", 1, None, "x")]);
    place.call(|db| db.execute("UPDATE marker_count SET count = ?", [MAX_OF_CAMERA]));
    let more = place.insert("door", vec![named("b", 1, None, "x")]);
    assert_eq!(more, Stored::Full(MAX_OF_CAMERA));
    // One that is there already is no more.
    let again = place.insert("door", vec![named("a", 1, None, "x")]);
    assert!(matches!(again, Stored::All(_)));
    assert_eq!(place.all("door"), ["a"]);
}

#[test]
fn ranges_find_what_touches_them_page_by_page() {
    let place = Place::new();
    let markers = (0..50).map(|n| {
        // Every tenth lasts for 15.
        let end = (n % 10 == 0).then_some(n * 10 + 150);
        named(
            &format!("m{n:02}"),
            n * 10,
            end,
            if n % 2 == 0 { "even" } else { "odd" },
        )
    });
    place.insert("door", markers.collect());
    let range = |from, to| Filter {
        from_ns: Some(from),
        to_ns: Some(to),
        ..of("door")
    };
    assert_eq!(
        place.list(range(200, 231)),
        ["m10", "m20", "m21", "m22", "m23"]
    );
    assert_eq!(place.list(range(251, 252)), ["m20"]);
    assert_eq!(place.list(range(491, 10_000)), ["m40"]);
    assert_eq!(place.list(range(551, 10_000)), [] as [&str; 0]);
    let odd = Filter {
        label: Some("odd".into()),
        to_ns: Some(50),
        newest_first: true,
        ..of("door")
    };
    assert_eq!(place.list(odd), ["m03", "m01"]);
    for newest_first in [false, true] {
        let mut filter = Filter {
            limit: 7,
            newest_first,
            ..of("door")
        };
        let mut seen = Vec::new();
        loop {
            let page = filter.clone();
            let (found, next) = place.call(move |db| list(db, &page));
            seen.extend(found.into_iter().map(|marker| marker.id));
            let Some(next) = next else { break };
            assert_eq!(Cursor::read(&next.text()), Some(next));
            filter.after = Some(next);
        }
        if newest_first {
            seen.reverse();
        }
        let all: Vec<String> = (0..50).map(|n| format!("m{n:02}")).collect();
        assert_eq!(seen, all);
    }
    for wrong in [
        "",
        ".",
        "1",
        "1.2.3",
        "-1.2",
        "+1.2",
        "01.2",
        "x.y",
        "99999999999999999999.1",
    ] {
        assert_eq!(Cursor::read(wrong), None, "{wrong}");
    }
}

#[test]
fn changes_are_numbered_and_only_the_newest_are_kept() {
    let place = Place::new();
    place.insert(
        "door",
        vec![named("a", 1, None, "x"), named("b", 2, None, "x")],
    );
    let change = Patch {
        label: Some("new".into()),
        ..Patch::default()
    };
    let changed = place
        .call(move |db| patch_row(db, "door", "a", &change, 7))
        .unwrap()
        .unwrap();
    assert_eq!(
        (changed.0.label.as_str(), changed.0.updated_ns, changed.1),
        ("new", 7, 3)
    );
    assert_eq!(place.call(|db| delete(db, "door", "b")), Some(4));
    assert_eq!(place.call(|db| delete(db, "door", "b")), None);
    let seen = place.call(|db| changes(db, 1, 10));
    let what: Vec<_> = seen
        .iter()
        .map(|change| (change.0, change.1.as_str(), change.4.is_some()))
        .collect();
    assert_eq!(
        what,
        [
            (2, "created", false),
            (3, "updated", true),
            (4, "deleted", false)
        ]
    );
    assert_eq!(place.call(change_numbers), (Some(1), 4));
    place.call(|db| {
        db.execute(
            "UPDATE sqlite_sequence SET seq = 20000 WHERE name = 'marker_change'",
            [],
        )
    });
    place.insert("door", vec![named("c", 1, None, "x")]);
    assert_eq!(place.call(change_numbers), (Some(20_001), 20_001));
    let too_long = Patch {
        end_ns: Some(Some(MAX_LENGTH + 2)),
        ..Patch::default()
    };
    let refused = place
        .call(move |db| patch_row(db, "door", "a", &too_long, 7))
        .unwrap();
    assert!(refused.unwrap_err().contains("more than a day"));
}

fn patch_row(
    db: &mut rusqlite::Connection,
    camera: &str,
    id: &str,
    change: &Patch,
    now: i64,
) -> rusqlite::Result<Option<Result<(Marker, i64), String>>> {
    store_patch(db, camera, id, change, now)
}

#[test]
fn a_moved_marker_looks_for_its_picture_anew() {
    let place = Place::new();
    place.insert("door", vec![named("a", 1, None, "x")]);
    assert_eq!(place.call(|db| unsettled(db, 10)).len(), 1);
    let found = vec![("door".to_owned(), "a".to_owned(), Some((5, 450)))];
    let settled = place.call(move |db| settle(db, &found));
    assert_eq!((settled.len(), settled[0].0.frame), (1, Some((5, 450))));
    assert_eq!(place.call(|db| unsettled(db, 10)), []);
    let shown = settled[0].0.json();
    assert_eq!(shown["frame_time"], "1970-01-01T00:00:00.000000005Z");
    assert_eq!(shown["pts"], 450);
    let change = Patch {
        score: Some(Some(1.0)),
        ..Patch::default()
    };
    place
        .call(move |db| patch_row(db, "door", "a", &change, 7))
        .unwrap()
        .unwrap();
    assert_eq!(place.call(|db| unsettled(db, 10)), []);
    let change = Patch {
        start_ns: Some(2),
        ..Patch::default()
    };
    place
        .call(move |db| patch_row(db, "door", "a", &change, 7))
        .unwrap()
        .unwrap();
    let waiting = place.call(|db| unsettled(db, 10));
    assert_eq!((waiting.len(), waiting[0].frame), (1, None));
}

#[test]
fn what_ended_before_goes_but_for_what_is_protected() {
    let place = Place::new();
    place.insert(
        "door",
        vec![
            named("before", 10, Some(20), "x"),
            named("into", 25, Some(35), "x"),
            named("inside", 40, None, "x"),
            named("out", 45, Some(60), "x"),
            named("between", 70, None, "x"),
            named("lasts", 90, Some(110), "x"),
            named("after", 120, None, "x"),
        ],
    );
    let gone = place.call(|db| expire(db, "door", (0, 100), &[(30, 50)], 1));
    assert_eq!(gone, 1);
    let gone = place.call(|db| expire(db, "door", (0, 100), &[(30, 50)], 1000));
    assert_eq!(gone, 1);
    assert_eq!(
        place.all("door"),
        ["into", "inside", "out", "lasts", "after"]
    );
    assert_eq!(place.call(|db| delete_range(db, "door", 0, 100, 1000)), 3);
    assert_eq!(place.all("door"), ["lasts", "after"]);
}
