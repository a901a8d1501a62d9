//! What users and tokens prove themselves with: how it is hashed, and what a hash may look like.
//!
//! Promises: a hash that is accepted takes at most [`MAX_MEMORY_KIB`] and a bounded time to compare
//! with; what was hashed is in no error. It must never log anything.

use std::ops::RangeInclusive;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params};
use sha2::{Digest as _, Sha256};

/// What comparing one password may take.
pub const MAX_MEMORY_KIB: u32 = 128 << 10;
/// As weak as is accepted: OWASP's smallest for Argon2id is 7 MiB
/// (<https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html>).
pub const MIN_MEMORY_KIB: u32 = 7 << 10;
/// Passes over the memory.
const PASSES: RangeInclusive<u32> = 1..=16;
const LANES: RangeInclusive<u32> = 1..=16;
/// Passwords, in bytes.
pub const PASSWORD_BYTES: RangeInclusive<usize> = 8..=1024;
/// Before the digits of a token's hash.
const SHA256: &str = "sha256:";
/// Before a token, so that programs that look for lost secrets know one.
pub const TOKEN_PREFIX: &str = "camring_";

/// Hashes a password with a salt of its own: Argon2id, 19 MiB, 2 passes.
///
/// # Errors
/// Its length, or the system has no random numbers.
pub fn hash_password(password: &str) -> Result<String, String> {
    if !PASSWORD_BYTES.contains(&password.len()) {
        return Err(format!(
            "a password must have {} to {} bytes, this one has {}",
            PASSWORD_BYTES.start(),
            PASSWORD_BYTES.end(),
            password.len()
        ));
    }
    let hash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|error| format!("cannot hash the password: {error}"))?;
    Ok(hash.to_string())
}

/// Why a text is no hash that passwords can be compared with: a sentence's end, without the text.
///
/// # Errors
/// That.
pub fn check_password_hash(text: &str) -> Result<(), String> {
    const WANTED: &str = "must be what `camring user hash` prints: \"$argon2id$v=19$…\"";
    let hash = PasswordHash::new(text).map_err(|_| WANTED.to_owned())?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| WANTED.to_owned())?;
    if algorithm != Algorithm::Argon2id {
        return Err("is not of the Argon2id kind: make it with `camring user hash`".into());
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err("is cut short: it needs a salt and a hash".into());
    }
    let params = Params::try_from(&hash).map_err(|_| WANTED.to_owned())?;
    if !(MIN_MEMORY_KIB..=MAX_MEMORY_KIB).contains(&params.m_cost())
        || !PASSES.contains(&params.t_cost())
        || !LANES.contains(&params.p_cost())
    {
        return Err(format!(
            "must have m from {MIN_MEMORY_KIB} to {MAX_MEMORY_KIB}, t and p from 1 to 16"
        ));
    }
    Ok(())
}

/// Whether the password is the one that was hashed. Takes some ten milliseconds, and the memory
/// that the hash says: not for a thread that others wait for.
pub fn is_password(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

/// A token of 256 random bits, and its hash. Because of its length the hash need not be slow.
///
/// # Errors
/// The system has no random numbers.
pub fn new_token() -> std::io::Result<(String, String)> {
    let token = format!("{TOKEN_PREFIX}{}", hex(&random()?));
    let hash = hash_token(&token);
    Ok((token, hash))
}

/// As `[[http.token]] hash` has it.
pub fn hash_token(token: &str) -> String {
    format!("{SHA256}{}", hex(&digest(token.as_bytes())))
}

/// Why a text is no hash of a token.
///
/// # Errors
/// That.
pub fn check_token_hash(text: &str) -> Result<(), String> {
    let digits = text.strip_prefix(SHA256).unwrap_or_default();
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match digits.len() == 64 && digits.bytes().all(lower_hex) {
        true => Ok(()),
        false => Err(
            "must be what `camring token new` prints: \"sha256:\" and 64 digits 0-9, a-f".into(),
        ),
    }
}

/// SHA-256.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// 256 bits that nobody can guess.
///
/// # Errors
/// The kernel has none.
pub fn random() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        // Blocks only in the first seconds after a boot.
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[filled..], flags) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash() {
        let hash = hash_password("correct horse").unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert_eq!(check_password_hash(&hash), Ok(()));
        assert!(is_password("correct horse", &hash));
        assert!(!is_password("correct horsE", &hash));
        assert!(!is_password("", &hash));
        assert_ne!(hash, hash_password("correct horse").unwrap(), "salted");
        assert!(hash_password("short").is_err());
        assert!(hash_password(&"x".repeat(2000)).is_err());
    }

    #[test]
    fn hashes_that_are_weak_endless_or_none_are_refused() {
        let salted = "$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let of = |start: &str| check_password_hash(&format!("{start}{salted}"));
        assert_eq!(of("$argon2id$v=19$m=19456,t=2,p=1"), Ok(()));
        for bad in [
            "$argon2i$v=19$m=19456,t=2,p=1",
            "$argon2id$v=19$m=1024,t=2,p=1",
            "$argon2id$v=19$m=4194304,t=2,p=1",
            "$argon2id$v=19$m=19456,t=200,p=1",
            "$argon2id$v=19$m=19456,t=2,p=64",
            "$2b$10",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
        for bad in ["", "secret", "$argon2id$v=19$m=19456,t=2,p=1"] {
            let error = check_password_hash(bad).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_token_is_known_by_its_hash() {
        let (token, hash) = new_token().unwrap();
        assert_eq!(token.len(), TOKEN_PREFIX.len() + 64);
        assert_eq!(check_token_hash(&hash), Ok(()));
        assert_eq!(hash_token(&token), hash);
        assert_ne!(new_token().unwrap().0, token);
        // The digest of "abc" (FIPS 180-2, B.1).
        assert!(hash_token("abc").starts_with("sha256:ba7816bf8f01cfea"));
        for bad in ["", "sha256:", "ba7816bf", &hash.to_uppercase(), &hash[..70]] {
            assert!(check_token_hash(bad).is_err(), "{bad}");
        }
    }
}
