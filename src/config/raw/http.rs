//! `[http]` as written.

use std::ops::Range;

use super::{Field, Problem, Section, TextList};

table! {
    /// `[http]`
    RawHttp {
        listen: String,
        cors_origins: TextList,
        ;
        tls: RawTls,
        ; []
        user: RawUser,
        token: RawToken,
    }
}

table! {
    /// `[http.tls]`
    RawTls {
        certificate: String,
        key: String,
    }
}

table! {
    /// `[[http.user]]`
    RawUser {
        name: String,
        password_hash: String,
        role: String,
    }
}

table! {
    /// `[[http.token]]`
    RawToken {
        name: String,
        hash: String,
        role: String,
    }
}
