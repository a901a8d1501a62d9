//! The server's sandbox: entered before its first thread, and left by ending where what it may reach has
//! been replaced.
#![deny(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Settings;
use crate::config::SandboxMode;
use crate::sandbox::{self, Profile, SandboxError};

/// How often it is looked whether the folder is still the one that was there.
const LOOKS: Duration = Duration::from_secs(5);

/// Gives up what a server does not need. `config` is hidden from it. With one thread only.
///
/// # Errors
/// Something could not be given up that must be.
pub fn confine(settings: &Settings, config: Option<&Path>) -> Result<(), SandboxError> {
    // What is not there cannot be named to the kernel. Where that fails, the server says so itself.
    let _ = fs::create_dir_all(&settings.data_dir);
    let profile = Profile::Server {
        data_dir: settings.data_dir.clone(),
        read: certificates(settings, config),
        hidden: config.map(Path::to_path_buf).into_iter().collect(),
        port: settings.http.listen.map(|address| address.port()),
    };
    sandbox::enter(settings.sandbox, &profile).map(|_| ())
}

/// What it reads a certificate from: the folders, so that new files of the same names are found. Of a
/// folder that has the configuration, too, with its passwords, only the files as they are now.
fn certificates(settings: &Settings, config: Option<&Path>) -> Vec<PathBuf> {
    let config = config.and_then(|path| fs::canonicalize(path).ok());
    let files = settings.http.tls.iter();
    let files = files.flat_map(|tls| [&tls.certificate, &tls.key]);
    // Links, as of those who renew certificates, lead elsewhere.
    let real = files.clone().filter_map(|path| fs::canonicalize(path).ok());
    let all = files.cloned().chain(real);
    all.map(|path| match path.parent() {
        Some(folder)
            if config
                .as_ref()
                .is_none_or(|config| !config.starts_with(folder)) =>
        {
            folder.to_owned()
        }
        _ => path,
    })
    .collect()
}

/// Returns, with a sentence, when the server has to begin anew: the disk with the recordings was mounted
/// after it began, or the rules for names were written anew.
pub(super) async fn until_shut_out(settings: &Settings) -> String {
    if settings.sandbox.enabled == SandboxMode::Off {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(LOOKS).await;
        let data_dir = settings.data_dir.clone();
        // A disk may take its time.
        let looked = tokio::task::spawn_blocking(move || {
            if sandbox::is_shut_out(&data_dir) {
                return Some(data_dir.display().to_string());
            }
            // What it starts to try a camera looks names up.
            let resolver = File::open("/etc/resolv.conf");
            let refused = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
            let replaced = resolver.is_err_and(refused);
            replaced.then(|| "/etc/resolv.conf".to_owned())
        });
        if let Ok(Some(what)) = looked.await {
            return format!(
                "{what} was replaced while the server ran; it begins anew with the new one"
            );
        }
    }
}
