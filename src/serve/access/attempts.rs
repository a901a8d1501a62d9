//! How often somebody may try a password.
//!
//! Promises: guessing gets slow, for each address and for each user, from the fourth wrong one on; its
//! memory is bounded whoever tries; nobody is shut out for longer than the delays below, and an
//! address from which a user has logged in waits for nobody else's attempts on that user.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Wrong passwords that cost nothing: typing errors.
const FREE: u32 = 3;
/// The longest delay of an address.
const ADDRESS_DELAY: Duration = Duration::from_secs(60);
/// The longest delay of a user, for addresses that are new to it.
const USER_DELAY: Duration = Duration::from_secs(10);
/// After so much peace, all is forgotten.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// Addresses, and names that are no user's, that are remembered.
const MOST: usize = 4096;
/// Addresses of a user that are remembered as good.
const GOOD: usize = 8;

/// An IPv4 address, or the network of an IPv6 address that one subscriber has (/64).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place([u8; 8]);

impl Place {
    fn of(address: IpAddr) -> Self {
        let mut place = [0; 8];
        match address.to_canonical() {
            IpAddr::V4(v4) => place[4..].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => place.copy_from_slice(&v6.octets()[..8]),
        }
        Self(place)
    }
}

/// Wrong ones in a row.
#[derive(Clone, Copy, Debug)]
struct Tries {
    wrong: u32,
    last: Instant,
}

impl Tries {
    /// How long from `now` until the next may come.
    fn wait(&self, longest: Duration, now: Instant) -> Duration {
        let Some(beyond) = self.wrong.checked_sub(FREE).filter(|beyond| *beyond > 0) else {
            return Duration::ZERO;
        };
        let delay = Duration::from_secs(1 << (beyond - 1).min(10)).min(longest);
        (self.last + delay).saturating_duration_since(now)
    }

    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) > FORGET
    }
}

/// The same, for many.
#[derive(Debug)]
struct Table<K>(HashMap<K, Tries>);

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Clone + Eq + Hash> Table<K> {
    fn wait(&self, key: &K, longest: Duration, now: Instant) -> Duration {
        let tries = self.0.get(key).filter(|tries| !tries.is_old(now));
        tries.map_or(Duration::ZERO, |tries| tries.wait(longest, now))
    }

    fn wrong(&mut self, key: K, now: Instant) {
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            self.0.retain(|_, tries| !tries.is_old(now));
            // Still full: the one that has been quiet for longest.
            if self.0.len() >= MOST
                && let Some(oldest) = self.0.iter().min_by_key(|(_, tries)| tries.last)
            {
                let oldest = oldest.0.clone();
                self.0.remove(&oldest);
            }
        }
        let tries = self.0.entry(key).or_insert(Tries {
            wrong: 0,
            last: now,
        });
        if tries.is_old(now) {
            tries.wrong = 0;
        }
        tries.wrong = tries.wrong.saturating_add(1);
        tries.last = now;
    }

    /// It was none after all.
    fn forgive(&mut self, key: &K) {
        if let Some(tries) = self.0.get_mut(key) {
            tries.wrong = tries.wrong.saturating_sub(1);
            if tries.wrong == 0 {
                self.0.remove(key);
            }
        }
    }
}

/// What is remembered of attempts to log in.
#[derive(Debug, Default)]
pub struct Attempts {
    places: Table<Place>,
    /// Users that exist: as many as are configured, never pushed out by others.
    users: Table<String>,
    /// Names that do not, by a hash.
    strangers: Table<u64>,
    good: HashMap<String, VecDeque<Place>>,
    hasher: std::hash::RandomState,
}

impl Attempts {
    /// An attempt begins, and counts as wrong until [`Attempts::right`]: so that many at the same time
    /// gain nothing.
    ///
    /// # Errors
    /// It is too early; how long to wait.
    pub fn begin(
        &mut self,
        address: IpAddr,
        name: &str,
        is_user: bool,
        now: Instant,
    ) -> Result<(), Duration> {
        let place = Place::of(address);
        let stranger = self.stranger(name);
        let good = (self.good.get(name)).is_some_and(|places| places.contains(&place));
        let of_name = match (good, is_user) {
            (true, _) => Duration::ZERO,
            (_, true) => self.users.wait(&name.to_owned(), USER_DELAY, now),
            (_, false) => self.strangers.wait(&stranger, USER_DELAY, now),
        };
        let wait = of_name.max(self.places.wait(&place, ADDRESS_DELAY, now));
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.places.wrong(place, now);
        match is_user {
            true => self.users.wrong(name.to_owned(), now),
            false => self.strangers.wrong(stranger, now),
        }
        Ok(())
    }

    /// The password was right.
    pub fn right(&mut self, address: IpAddr, name: &str) {
        let place = Place::of(address);
        // Not all of it: with one account of one's own, one could guess at others for ever.
        self.places.forgive(&place);
        self.users.0.remove(name);
        let places = self.good.entry(name.to_owned()).or_default();
        if !places.contains(&place) {
            places.push_front(place);
            places.truncate(GOOD);
        }
    }

    /// Nobody was asked whether it is right.
    pub fn undo(&mut self, address: IpAddr, name: &str, is_user: bool) {
        let stranger = self.stranger(name);
        self.places.forgive(&Place::of(address));
        match is_user {
            true => self.users.forgive(&name.to_owned()),
            false => self.strangers.forgive(&stranger),
        }
    }

    /// The users have changed.
    pub fn keep(&mut self, exists: impl Fn(&str) -> bool) {
        self.users.0.retain(|name, _| exists(name));
        self.good.retain(|name, _| exists(name));
    }

    fn stranger(&self, name: &str) -> u64 {
        use std::hash::BuildHasher as _;
        self.hasher.hash_one(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn guessing_gets_slow_but_never_stops_for_ever() {
        let mut attempts = Attempts::default();
        let mut now = Instant::now();
        for _ in 0..=FREE {
            assert_eq!(attempts.begin(HERE, "anna", true, now), Ok(()));
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(attempts.begin(HERE, "anna", true, now), Err(wait));
            // Being refused does not make it longer.
            assert_eq!(attempts.begin(HERE, "anna", true, now), Err(wait));
            now += wait;
            assert_eq!(attempts.begin(HERE, "anna", true, now), Ok(()));
        }
        // From elsewhere the same user has the shorter limit, and others none.
        assert_eq!(attempts.begin(THERE, "anna", true, now), Err(USER_DELAY));
        assert_eq!(attempts.begin(THERE, "bert", true, now), Ok(()));
        now += FORGET + Duration::from_secs(1);
        assert_eq!(attempts.begin(HERE, "anna", true, now), Ok(()));
    }

    #[test]
    fn whoever_has_logged_in_from_somewhere_is_not_held_up_by_others() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        attempts.begin(HERE, "anna", true, now).unwrap();
        attempts.right(HERE, "anna");
        for _ in 0..=FREE {
            attempts.begin(THERE, "anna", true, now).unwrap();
        }
        assert!(attempts.begin(THERE, "anna", true, now).is_err());
        assert_eq!(attempts.begin(HERE, "anna", true, now), Ok(()));
        // A right one makes up for the wrong ones of the user, but not for all of the address.
        for _ in 0..FREE {
            attempts.begin(HERE, "bert", true, now).unwrap();
        }
        assert!(attempts.begin(HERE, "anna", true, now).is_err());
    }

    #[test]
    fn the_memory_is_bounded_and_users_are_not_pushed_out() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        for _ in 0..=FREE {
            attempts.begin(HERE, "anna", true, now).unwrap();
        }
        for number in 0..2 * MOST as u32 {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            let later = now + Duration::from_micros(u64::from(number));
            attempts
                .begin(address, &number.to_string(), false, later)
                .unwrap();
        }
        assert_eq!(attempts.places.0.len(), MOST);
        assert_eq!(attempts.strangers.0.len(), MOST);
        assert!(attempts.begin(THERE, "anna", true, now).is_err());
        attempts.keep(|_| false);
        assert_eq!(attempts.begin(THERE, "anna", true, now), Ok(()));
    }

    #[test]
    fn one_subscriber_is_one_place() {
        let place = |text: &str| Place::of(text.parse().unwrap());
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:1"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:0:1::1"));
        assert_eq!(place("::ffff:192.0.2.1"), place("192.0.2.1"));
        assert_ne!(place("192.0.2.1"), place("192.0.2.2"));
    }
}
