//! What hides secrets in text that people see.
//!
//! Promises to hide too much rather than too little: it works on text that may be malformed,
//! so it cannot know where exactly a password ends.

/// What stands for a secret. Of one length, so that it says nothing about the secret's.
pub const MASK: &str = "***";

/// Names under which cameras take a password in a path or query, lower case.
const SECRET_PARAMETERS: [&str; 9] = [
    "password", "passwd", "passwort", "pass", "pwd", "pw", "token", "auth", "secret",
];

/// A URL, or what somebody took for one, without its secrets: the password before the `@`, and
/// the values of parameters that are named like one.
pub fn url(text: &str) -> String {
    parameters(&user_info(text))
}

/// `rtsp://user:secret@host` → `rtsp://user:***@host`; also without a scheme.
fn user_info(text: &str) -> String {
    // The last `@`: a password may contain one, and so may a path, in which case more is hidden
    // than need be.
    let Some(at) = text.rfind('@') else {
        return text.to_owned();
    };
    let start = text[..at].find("://").map_or(0, |i| i + 3);
    let user = match text[start..at].find(':') {
        Some(colon) => &text[..start + colon],
        // A user alone is no secret, but a reference is not to be mistaken for one.
        None => return text.to_owned(),
    };
    format!("{user}:{MASK}{}", &text[at..])
}

/// `?user=admin&password=secret&channel=1` → `?user=admin&password=***&channel=1`.
fn parameters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(equals) = rest.find('=') {
        let (before, value) = (&rest[..equals], &rest[equals + 1..]);
        out.push_str(&rest[..=equals]);
        rest = value;
        let name = before
            .rsplit(|c: char| !c.is_ascii_alphanumeric())
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        if SECRET_PARAMETERS
            .iter()
            .any(|secret| name.ends_with(secret))
        {
            let end = value.find(['&', '/', ';', '?', '#']).unwrap_or(value.len());
            if end > 0 {
                out.push_str(MASK);
            }
            rest = &value[end..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_before_the_host_are_hidden() {
        for (written, shown) in [
            ("rtsp://admin:canary@h/x", "rtsp://admin:***@h/x"),
            ("rtsp://admin:can@ary@h/x", "rtsp://admin:***@h/x"),
            ("rtsp://admin:can/ary@h/x", "rtsp://admin:***@h/x"),
            ("admin:canary@h/x", "admin:***@h/x"),
            ("rtsp://admin:@h/x", "rtsp://admin:***@h/x"),
            ("rtsp://admin@h/x", "rtsp://admin@h/x"),
            ("rtsp://h:554/x", "rtsp://h:554/x"),
        ] {
            assert_eq!(url(written), shown);
        }
    }

    #[test]
    fn passwords_in_path_and_query_are_hidden() {
        for (written, shown) in [
            (
                "rtsp://h/user=admin&password=canary&channel=1",
                "rtsp://h/user=admin&password=***&channel=1",
            ),
            (
                "rtsp://h/user=admin_password=canary_channel=1_stream=0.sdp?real_stream",
                "rtsp://h/user=admin_password=***?real_stream",
            ),
            ("rtsp://h/?usr=a&PWD=canary", "rtsp://h/?usr=a&PWD=***"),
            ("rtsp://h/?loginPass=canary", "rtsp://h/?loginPass=***"),
            ("rtsp://h/?password=", "rtsp://h/?password="),
            ("rtsp://h/?channel=1", "rtsp://h/?channel=1"),
        ] {
            assert_eq!(url(written), shown);
        }
    }
}
