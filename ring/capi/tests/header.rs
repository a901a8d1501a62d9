//! `include/camring.h` is what the crate says: made from it, and refused when it is out of date.

use std::path::Path;

use cbindgen::{Builder, Config, DocumentationStyle, Language};

const TOP: &str = "\
/* camring: frames of cameras, in place in shared memory. The C interface.
 *
 * Made from ring/capi/src by its test header.rs; do not edit. Guide: docs/guide/write-a-detector-c.md,
 * reference: docs/reference/c.md.
 *
 *   camring_receiver *door = NULL;
 *   if (camring_attach(\"front-door\", NULL, &door) != CAMRING_OK)
 *     fprintf(stderr, \"%s\\n\", camring_last_error());
 *   camring_frame *frame = NULL;
 *   while (camring_next(door, 5000, &frame) == CAMRING_OK) {
 *     camring_frame_info info;
 *     camring_frame_get_info(frame, &info, sizeof info);
 *     use(info.planes[0].data, info.planes[0].stride);
 *     camring_frame_release(&frame);
 *   }
 *   camring_detach(&door);
 *
 * Ownership: what a function returns through a `T **` is yours until you give it back with the
 * function named there, which sets your variable to NULL. Everything else stays the library's, as
 * long as its comment says. Handles are numbers that are looked up: one that was given back before
 * is CAMRING_E_HANDLE, not undefined behaviour. Pixels are plain memory: do not touch them after
 * the frame's release.
 *
 * Threads: every function may be called from any thread, with the same handles too. Do not use a
 * handle that was made before a fork() in the child.
 *
 * Errors: a negative camring_code, and a message of the calling thread in camring_last_error().
 * A function that fails has set what it returns through a pointer to NULL.
 */";

fn generate() -> String {
    let config = Config {
        language: Language::C,
        cpp_compat: true,
        header: Some(TOP.to_owned()),
        include_guard: Some("CAMRING_H".to_owned()),
        no_includes: true,
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        usize_is_size_t: true,
        documentation_style: DocumentationStyle::C99,
        line_length: 100,
        tab_width: 2,
        export: cbindgen::ExportConfig {
            // No function has them: fields of camring_frame_info hold their numbers.
            include: ["format", "flag", "time_source", "change", "range"]
                .map(|name| format!("camring_{name}"))
                .to_vec(),
            ..Default::default()
        },
        ..Config::default()
    };
    let mut bytes = Vec::new();
    Builder::new()
        .with_config(config)
        .with_crate(env!("CARGO_MANIFEST_DIR"))
        .generate()
        .expect("a header")
        .write(&mut bytes);
    // What concerns Rust only.
    let text = String::from_utf8(bytes).expect("UTF-8");
    let mut lines: Vec<&str> = Vec::new();
    let mut in_safety = false;
    for line in text.lines() {
        in_safety = (in_safety || line == "// # Safety") && line.starts_with("//");
        if in_safety {
            if lines.last() == Some(&"//") {
                lines.pop();
            }
            continue;
        }
        lines.push(line.trim_end());
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_header_is_that_of_the_crate() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/camring.h");
    let made = generate();
    if std::env::var_os("CAMRING_BLESS").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        made == committed,
        "ring/capi/include/camring.h is out of date. To make it anew:\n\n    CAMRING_BLESS=1 cargo \
         test -p camring-capi --test header\n"
    );
}

/// What is declared is there, and nothing else of ours.
#[test]
fn every_function_is_documented() {
    let text = generate();
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = 0;
    for (number, line) in lines.iter().enumerate() {
        let begins = line.contains(" camring_") && line.contains('(') && !line.starts_with("//");
        if !begins || line.starts_with(' ') || line.starts_with("typedef") {
            continue;
        }
        functions += 1;
        let before = lines[..number].iter().rev().find(|l| !l.is_empty());
        assert!(
            before.is_some_and(|before| before.starts_with("//")),
            "no comment before {line}"
        );
    }
    assert!(functions >= 20, "{functions} functions in\n{text}");
}
