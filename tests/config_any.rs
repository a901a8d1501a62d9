//! Any text at all: a site or an explanation, never a panic, never a password.
#![deny(unsafe_code)]

use std::path::Path;

use camring::config::{self, Environment};
use proptest::prelude::*;

const SHIPPED: &str = include_str!("../config.toml");

fn environment() -> Environment {
    Environment::empty()
}

/// Pieces that configurations, and mistakes in them, are made of.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("[[camera]]\n".to_owned()),
        Just("[[camera.stream]]\n".to_owned()),
        Just("[camera.ring]\n".to_owned()),
        Just("[ring]\n".to_owned()),
        Just("= ".to_owned()),
        Just("{ ".to_owned()),
        Just(" }".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just(", ".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("# ".to_owned()),
        Just("\\".to_owned()),
        Just("${".to_owned()),
        Just("é".to_owned()),
        Just("\r".to_owned()),
        Just("name = \"a\"\n".to_owned()),
        Just("url = \"rtsp://192.0.2.1/\"\n".to_owned()),
        Just("depth".to_owned()),
        Just("[record]\n".to_owned()),
        Just("renditions = [{ height = 720, bitrate = \"2M\" }]\n".to_owned()),
        Just("[http]\n".to_owned()),
        Just("cors_origins = [\"http://a\"]\n".to_owned()),
        Just("cpu = [0, 1]\n".to_owned()),
        Just("initial = \"9999999999999999999999y\"\n".to_owned()),
        "[a-z_]{1,8}( = )?",
        "-?[0-9]{1,25}(\\.[0-9]+)?",
        "\"[ -~]{0,12}\"",
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn never_panics(text: &str) {
    if let Err(error) = config::parse(text, Path::new("t.toml"), &environment()) {
        let _ = (error.to_string(), format!("{error:?}"));
    }
}

/// Every way that a password is likely to be written, in files that may be broken elsewhere.
fn with_secret() -> impl Strategy<Value = String> {
    let secret = prop_oneof![
        Just("password = \"canary\"".to_owned()),
        Just("password = canary".to_owned()),
        Just("password = 'canary'".to_owned()),
        Just("password=\"\"\"canary\"\"\"".to_owned()),
        Just("\"password\" = \"canary\"".to_owned()),
        Just("camera.password = \"canary\"".to_owned()),
        Just("Passwort = \"canary\"".to_owned()),
        Just("pasword = \"canary\"".to_owned()),
        Just("password: canary".to_owned()),
        Just("password canary".to_owned()),
        Just("x = { password = \"canary\" }".to_owned()),
        Just("url = \"rtsp://admin:canary@192.0.2.1/\"".to_owned()),
        Just("url = rtsp://admin:canary@192.0.2.1/".to_owned()),
        Just("url = \"rtsp://admin:canary".to_owned()),
        Just("url = \"rtsp://admin:ca\"nary@192.0.2.1/\"".to_owned()),
        Just("url = \"rtsp://192.0.2.1/?user=a&password=canary\"".to_owned()),
        Just("# rtsp://admin:canary@192.0.2.1/".to_owned()),
    ];
    (pieces(), secret, pieces()).prop_map(|(before, secret, after)| {
        // Pieces that open a string turn what follows inside out: those are other tests' business.
        let plain = |text: String| text.replace(['"', '\'', '\\', '#'], "");
        format!("{}\n{secret}\n{}", plain(before), plain(after))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_site_or_an_explanation(text in any::<String>()) {
        never_panics(&text);
    }

    #[test]
    fn any_likely_text_is_a_site_or_an_explanation(text in pieces()) {
        never_panics(&text);
    }

    #[test]
    fn a_damaged_shipped_file_is_a_site_or_an_explanation(
        at in 0..SHIPPED.len(), cut in 0..200_usize, with in "[ -~\n]{0,4}",
    ) {
        let from = SHIPPED.floor_char_boundary(at);
        let to = SHIPPED.ceil_char_boundary((at + cut).min(SHIPPED.len()));
        never_panics(&format!("{}{with}{}", &SHIPPED[..from], &SHIPPED[to..]));
    }

    #[test]
    fn no_message_has_a_password(text in with_secret()) {
        if let Err(error) = config::parse(&text, Path::new("t.toml"), &environment()) {
            let shown = format!("{error} {error:?} {}", error.render(config::Style::Coloured));
            prop_assert!(!shown.contains("canary") && !shown.contains("nary@"), "{}", shown);
        }
    }
}
