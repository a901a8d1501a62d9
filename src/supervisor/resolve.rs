//! Names of cameras, looked up for the readers, which see neither resolver nor file.
//!
//! The lookup blocks in libc, so it runs on a thread of its own; few of them, so that a name
//! server that does not answer cannot fill the machine with threads.
#![deny(unsafe_code)]

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::policy;

/// The lookup threads.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    free: Arc<Semaphore>,
}

impl Resolver {
    pub fn new() -> Self {
        Self {
            free: Arc::new(Semaphore::new(policy::RESOLVERS)),
        }
    }

    /// At least one address, or a sentence.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        // As in a URL: IPv6 addresses are in brackets.
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let lookup = async {
            let permit = self.free.clone().acquire_owned().await;
            let name = bare.to_owned();
            let found = tokio::task::spawn_blocking(move || {
                // Given back by the thread itself: one that still hangs when its time is over
                // keeps its place.
                let _permit = permit;
                lookup(&name)
            });
            let found = found.await;
            found.unwrap_or_else(|_| Err("the lookup failed".into()))
        };
        match timeout(policy::RESOLVE_TIMEOUT, lookup).await {
            Ok(result) => result,
            Err(_) => Err(format!(
                "no answer from the name server within {} s",
                policy::RESOLVE_TIMEOUT.as_secs()
            )),
        }
    }
}

fn lookup(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = (name, 0u16)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|address| address.ip()).take(16) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err("the name has no address".into());
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn addresses_need_no_lookup_and_localhost_is_known() {
        let resolver = Resolver::new();
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(resolver.resolve("127.0.0.1").await, Ok(vec![local]));
        let six: IpAddr = "::1".parse().unwrap();
        assert_eq!(resolver.resolve("[::1]").await, Ok(vec![six]));
        let found = resolver.resolve("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_impossible_name_is_a_sentence() {
        let error = Resolver::new().resolve("a b").await.unwrap_err();
        assert!(!error.is_empty());
    }
}
