//! The rules of the repository that a compiler does not check.
#![deny(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `unsafe` may be written, and why there. Everywhere else in the sources it is refused.
const UNSAFE_MODULES: &[(&str, &str)] = &[
    ("python/src/buffer.rs", "Python's buffer protocol"),
    ("python/src/dlpack.rs", "tensors in capsules"),
    ("python/src/frame.rs", "the entry points of both"),
    (
        "ring/capi/src/",
        "C calls it: pointers of the caller's, functions without mangled names",
    ),
    (
        "ring/src/attach/socket.rs",
        "descriptors arrive in control messages",
    ),
    ("ring/src/frames/writer.rs", "hands out a slot's payload"),
    ("ring/src/memory.rs", "maps shared memory"),
    ("ring/src/model/", "loom's cells, only in models"),
    (
        "ring/src/subscriber/frame.rs",
        "a pinned payload becomes a slice",
    ),
    ("src/health/page.rs", "maps the health page"),
    ("src/media/ffi/", "FFmpeg"),
    ("src/sys/", "fork, prctl and the like"),
];

/// A file longer than this is two files.
const MAX_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder of the repository with this ending, as paths relative to the root.
fn files(below: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.map(|entry| entry.expect("a folder entry")) {
            let name = entry.file_name().into_string().expect("UTF-8");
            let hidden = name.starts_with('.') || name == "target" || name == "node_modules";
            if hidden {
                continue;
            }
            if entry.file_type().expect("a file type").is_dir() {
                folders.push(entry.path());
            } else if name.ends_with(ending) {
                found.push(
                    entry
                        .path()
                        .strip_prefix(root())
                        .expect("below the root")
                        .to_owned(),
                );
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Rust sources of the daemon, of the ring crate and of the Python extension.
fn sources() -> Vec<PathBuf> {
    let mut all = files("src", ".rs");
    all.extend(files("ring/src", ".rs"));
    all.extend(files("ring/capi/src", ".rs"));
    all.extend(files("python/src", ".rs"));
    assert!(all.len() >= 3, "the sources were not found");
    all
}

/// Whether a file holds only tests: `tests.rs`, or something in a folder `tests`.
fn is_test(path: &Path) -> bool {
    path.components()
        .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

fn cargo_tree(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--prefix",
            "none",
            "--format",
            "{lib} {p}",
        ])
        .args(["--package", "camring-ring"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A detector links the ring crate: it must not bring a runtime, RTSP or FFmpeg with it.
#[test]
fn the_ring_crate_needs_no_runtime_and_no_media_library() {
    // Also what only other targets or features would need, and what builds it.
    let tree = cargo_tree(&[
        "--edges",
        "normal,build",
        "--target",
        "all",
        "--all-features",
    ]);
    let crates: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert!(
        crates.contains("camring-ring"),
        "what cargo tree says has changed:\n{tree}"
    );
    for name in &crates {
        let refused = [
            "tokio", "retina", "ffmpeg", "async", "futures", "mio", "serde",
        ];
        assert!(
            !refused.iter().any(|r| name.starts_with(r)),
            "camring-ring needs {name}:\n{tree}"
        );
    }
}

#[test]
fn unsafe_is_written_only_where_it_may_be() {
    for path in sources().into_iter().filter(|path| !is_test(path)) {
        let name = path.to_str().expect("UTF-8");
        if UNSAFE_MODULES
            .iter()
            .any(|(allowed, _)| name.starts_with(allowed))
        {
            continue;
        }
        for (number, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            assert!(
                !words.any(|word| word == "unsafe"),
                "{name}:{}: unsafe code belongs into one of {UNSAFE_MODULES:#?}",
                number + 1
            );
        }
    }
    for library in [
        "src/lib.rs",
        "ring/src/lib.rs",
        "ring/capi/src/lib.rs",
        "python/src/lib.rs",
    ] {
        let text = read(Path::new(library));
        assert!(
            text.contains("#![deny(unsafe_code)]"),
            "{library} does not deny unsafe code"
        );
    }
}

#[test]
fn no_file_is_too_long() {
    let mut too_long = Vec::new();
    let python = files("tests/farm", ".py")
        .into_iter()
        .chain(files("python", ".py"));
    for path in sources()
        .into_iter()
        .chain(python)
        .filter(|path| !is_test(path))
    {
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("test_"))
        {
            continue;
        }
        let text = read(&path);
        // Unit tests at the end of a file do not count.
        let code = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        let lines = code.lines().count();
        if lines > MAX_LINES {
            too_long.push(format!("{}: {lines}", path.display()));
        }
    }
    assert!(
        too_long.is_empty(),
        "more than {MAX_LINES} lines: {too_long:#?}"
    );
}

#[test]
fn every_module_says_what_it_is() {
    for path in sources().into_iter().filter(|path| !is_test(path)) {
        let text = read(&path);
        assert!(
            text.starts_with("//!"),
            "{} does not open with //!",
            path.display()
        );
    }
}

/// The lines of a Markdown file that are not in a fenced code block, numbered from 1.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut in_code = false;
    text.lines()
        .enumerate()
        .filter(|(_, line)| {
            let fence = line.trim_start().starts_with("```");
            in_code ^= fence;
            !in_code && !fence
        })
        .map(|(number, line)| (number + 1, line))
        .collect()
}

/// The anchors that GitHub gives the headings of a file.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = prose(text).into_iter().filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len() && title.starts_with(' ')).then(|| title.trim().to_lowercase())
    });
    headings
        .map(|title| {
            let slug: String = title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            let count = seen.entry(slug.clone()).or_default();
            *count += 1;
            if *count == 1 {
                slug
            } else {
                format!("{slug}-{}", *count - 1)
            }
        })
        .collect()
}

/// The targets of the links in a line: `[text](target)` and `[name]: target`. Code spans have none.
fn link_targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    if let Some((name, target)) = line.split_once("]: ")
        && name.starts_with('[')
    {
        targets.extend(target.split_whitespace().next());
    }
    for outside_code in line.split('`').step_by(2) {
        let parts = outside_code.split("](").skip(1);
        targets.extend(parts.filter_map(|part| part.split([')', ' ']).next()));
    }
    targets
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for path in files("", ".md") {
        let text = read(&path);
        for (number, line) in prose(&text) {
            for target in link_targets(line) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue; // no network in tests
                }
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let folder = root().join(&path);
                let folder = folder.parent().expect("a folder");
                let linked = if file.is_empty() {
                    root().join(&path)
                } else {
                    folder.join(file)
                };
                let good = linked.exists()
                    && (anchor.is_empty()
                        || fs::read_to_string(&linked)
                            .is_ok_and(|text| anchors(&text).contains(anchor)));
                if !good {
                    broken.push(format!("{}:{number}: {target}", path.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn links_and_anchors_are_found_in_markdown() {
    let line = "see [a](x.md#one), `[no](code)` and [b](<y>) [c](z \"title\")";
    assert_eq!(link_targets(line), ["x.md#one", "<y>", "z"]);
    assert_eq!(link_targets("[name]: target.md"), ["target.md"]);
    let text = "# The `frame` ring: what?\n```\n# code\n```\n## Same\n## Same\n#no heading\n";
    let expected = ["same", "same-1", "the-frame-ring-what"].map(String::from);
    assert_eq!(anchors(text), BTreeSet::from(expected));
}

/// What a `Cargo.lock` says: each package, as `name version` with its checksum, and what it depends on.
fn locked(path: &str) -> BTreeMap<(String, String), Locked> {
    let lock: toml::Table = read(Path::new(path)).parse().expect("TOML");
    let packages = lock["package"].as_array().expect("packages");
    let text = |package: &toml::Value, key: &str| {
        let text = package.get(key).and_then(toml::Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let mut versions: HashMap<String, String> = HashMap::new();
    for package in packages {
        versions.insert(text(package, "name"), text(package, "version"));
    }
    let each = packages.iter().map(|package| {
        let named = package.get("dependencies").and_then(toml::Value::as_array);
        let needs = named.into_iter().flatten().map(|need| {
            // The version stands there only where there are several.
            let mut words = need.as_str().expect("a name").split(' ');
            let name = words.next().expect("a name").to_owned();
            let version = words
                .next()
                .map_or_else(|| versions[&name].clone(), str::to_owned);
            (name, version)
        });
        let locked = Locked {
            checksum: text(package, "checksum"),
            needs: needs.collect(),
        };
        ((text(package, "name"), text(package, "version")), locked)
    });
    each.collect()
}

struct Locked {
    checksum: String,
    needs: BTreeSet<(String, String)>,
}

/// `fuzz/` is a workspace of its own, which nothing else builds: its lock file must follow the repository's, or
/// `fuzz/run` ends before it has begun.
#[test]
fn the_fuzz_targets_are_built_from_what_the_tests_are_built_from() {
    const HOW: &str = "run: cp Cargo.lock fuzz/ && cargo metadata --manifest-path fuzz/Cargo.toml --format-version 1 >/dev/null";
    let (ours, theirs) = (locked("Cargo.lock"), locked("fuzz/Cargo.lock"));
    let known: BTreeSet<&str> = ours.keys().map(|(name, _)| name.as_str()).collect();
    for (package, locked) in &theirs {
        // What ours does not know, libFuzzer brings.
        let same = ours.get(package).map(|ours| &ours.checksum) == Some(&locked.checksum);
        let other = known.contains(package.0.as_str()) && !same;
        assert!(
            !other,
            "{package:?} has another version in fuzz/Cargo.lock; {HOW}"
        );
    }
    for (folder, name) in [("", "camring"), ("ring/", "camring-ring")] {
        let manifest: toml::Table = read(Path::new(&format!("{folder}Cargo.toml")))
            .parse()
            .expect("TOML");
        let package = (name.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let needs = &theirs
            .get(&package)
            .unwrap_or_else(|| panic!("no {package:?} in fuzz/Cargo.lock; {HOW}"))
            .needs;
        assert!(
            needs.is_subset(&ours[&package].needs),
            "other versions in fuzz/Cargo.lock; {HOW}"
        );
        for wanted in manifest["dependencies"].as_table().expect("a table").keys() {
            let there = needs.iter().any(|(need, _)| need == wanted);
            assert!(
                there,
                "{name} needs {wanted}, fuzz/Cargo.lock knows nothing of it; {HOW}"
            );
        }
    }
}

/// What `fuzz/Cargo.toml` builds is what lies there; that each calls its target is for the unit tests of the crates.
#[test]
fn every_fuzz_target_is_built() {
    let manifest: toml::Table = read(Path::new("fuzz/Cargo.toml")).parse().expect("TOML");
    let built = manifest["bin"]
        .as_array()
        .expect("binaries")
        .iter()
        .map(|bin| {
            let path = bin["path"].as_str().expect("a path");
            assert_eq!(
                path,
                format!("fuzz_targets/{}.rs", bin["name"].as_str().expect("a name"))
            );
            let daemon = read(&Path::new("fuzz").join(path)).contains(" camring::");
            assert_eq!(
                bin.get("required-features").is_some(),
                daemon,
                "{path}: needs feature daemon, or not"
            );
            Path::new("fuzz").join(path)
        });
    assert_eq!(
        built.collect::<BTreeSet<_>>(),
        files("fuzz/fuzz_targets", ".rs").into_iter().collect()
    );
}
