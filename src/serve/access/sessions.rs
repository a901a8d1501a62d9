//! Who is logged in, in memory only: a restart of the server logs everybody out.
//!
//! Promises: a session is known by 256 random bits, of which only a digest is kept; it ends when it
//! was not used for [`IDLE`], [`LONGEST`] after it began, and when its user changes in any way; there
//! are at most [`MOST`].

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use crate::config::Login;
use crate::config::proof::{digest, hex, random};

/// Without a request.
pub const IDLE: Duration = Duration::from_secs(12 * 3600);
/// However much it is used.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Of all users.
pub const MOST: usize = 1024;
/// Of one user: others keep their places.
const MOST_OF_USER: usize = 64;

/// What a session is stored under: the digest of what the browser has.
pub type Id = [u8; 32];

#[derive(Debug)]
struct Session {
    user: String,
    /// Of everything that the configuration says of the user.
    mark: Id,
    began: Instant,
    seen: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen) > IDLE
            || now.saturating_duration_since(self.began) > LONGEST
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<Id, Session>);

/// What changes when a user's password or role does.
pub fn mark(login: &Login) -> Id {
    digest(format!("{}\0{}\0{}", login.name, login.hash, login.role.name()).as_bytes())
}

impl Sessions {
    /// A new one. Returns what the browser keeps.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn begin(&mut self, login: &Login, now: Instant) -> io::Result<String> {
        let secret = hex(&random()?);
        self.0.retain(|_, session| !session.is_over(now));
        self.make_room(MOST_OF_USER, |session| session.user == login.name);
        self.make_room(MOST, |_| true);
        self.0.insert(
            digest(secret.as_bytes()),
            Session {
                user: login.name.clone(),
                mark: mark(login),
                began: now,
                seen: now,
            },
        );
        Ok(secret)
    }

    /// Ends those of `which` that were not used for longest, until there is a place.
    fn make_room(&mut self, most: usize, which: impl Fn(&Session) -> bool) {
        while self.0.values().filter(|session| which(session)).count() >= most {
            let of_them = self.0.iter().filter(|(_, session)| which(session));
            let Some(id) = of_them
                .min_by_key(|(_, session)| session.seen)
                .map(|(id, _)| *id)
            else {
                return;
            };
            self.0.remove(&id);
        }
    }

    /// Whose it is, if it still holds: `user` finds the user as configured now. With `now` it counts as used.
    pub fn user<'u>(
        &mut self,
        id: &Id,
        now: Instant,
        used: bool,
        user: impl FnOnce(&str) -> Option<&'u Login>,
    ) -> Option<&'u Login> {
        let session = self.0.get_mut(id)?;
        let login = user(&session.user).filter(|login| mark(login) == session.mark);
        match login.filter(|_| !session.is_over(now)) {
            Some(login) => {
                if used {
                    session.seen = now;
                }
                Some(login)
            }
            None => {
                self.0.remove(id);
                None
            }
        }
    }

    /// When it ends at the latest, from `now`.
    pub fn left(&self, id: &Id, now: Instant) -> Option<Duration> {
        let session = self.0.get(id)?;
        let end = (session.seen + IDLE).min(session.began + LONGEST);
        Some(end.saturating_duration_since(now))
    }

    /// Ends it; whether there was one.
    pub fn end(&mut self, id: &Id) -> bool {
        self.0.remove(id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    fn login(name: &str, role: Role) -> Login {
        Login {
            name: name.into(),
            hash: "hash".into(),
            role,
        }
    }

    #[test]
    fn a_session_ends_by_itself() {
        let anna = login("anna", Role::Viewer);
        let mut sessions = Sessions::default();
        let start = Instant::now();
        let secret = sessions.begin(&anna, start).unwrap();
        let id = digest(secret.as_bytes());
        let mut holds = |now, used| sessions.user(&id, now, used, |_| Some(&anna)).is_some();
        let mut now = start;
        while now + IDLE < start + LONGEST {
            now += IDLE;
            assert!(holds(now, true));
        }
        assert!(!holds(start + LONGEST + Duration::from_secs(1), true));
        assert!(!holds(start, true), "for good");

        let secret = sessions.begin(&anna, start).unwrap();
        let id = digest(secret.as_bytes());
        let later = start + IDLE + Duration::from_secs(1);
        assert!(sessions.user(&id, later, true, |_| Some(&anna)).is_none());
    }

    #[test]
    fn a_session_ends_when_its_user_changes() {
        let anna = login("anna", Role::Viewer);
        for changed in [
            None,
            Some(login("anna", Role::Admin)),
            Some(Login {
                hash: "other".into(),
                ..anna.clone()
            }),
        ] {
            let mut sessions = Sessions::default();
            let now = Instant::now();
            let secret = sessions.begin(&anna, now).unwrap();
            let id = digest(secret.as_bytes());
            assert!(sessions.user(&id, now, true, |_| Some(&anna)).is_some());
            let found = sessions.user(&id, now, true, |_| changed.as_ref());
            assert!(found.is_none());
            // Nor does it come back with the old password.
            assert!(sessions.user(&id, now, true, |_| Some(&anna)).is_none());
        }
    }

    #[test]
    fn there_are_never_too_many() {
        let mut sessions = Sessions::default();
        let start = Instant::now();
        let kept = login("kept", Role::Viewer);
        let secret = sessions.begin(&kept, start).unwrap();
        for number in 0..MOST_OF_USER * 2 {
            let now = start + Duration::from_secs(number as u64);
            sessions.begin(&login("many", Role::Viewer), now).unwrap();
        }
        assert_eq!(
            sessions.0.len(),
            MOST_OF_USER + 1,
            "others keep their places"
        );
        let id = digest(secret.as_bytes());
        assert!(sessions.user(&id, start, true, |_| Some(&kept)).is_some());
        for number in 0..MOST + 10 {
            let each = login(&number.to_string(), Role::Viewer);
            sessions
                .begin(&each, start + Duration::from_secs(1000))
                .unwrap();
        }
        assert_eq!(sessions.0.len(), MOST);
        assert!(sessions.end(&id) || sessions.user(&id, start, true, |_| None).is_none());
    }
}
