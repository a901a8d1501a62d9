//! `camring serve`: the server in the foreground, from the configuration.
#![deny(unsafe_code)]

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::{Global, ServeArgs};
use crate::config::{self, Http};
use crate::serve::{self, Server, Settings, SiteView, Supervisor};

/// Everybody on the network could see and change everything. Ends the command with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error(
    "--listen {0} is open to the network, and there are no users: add an [[http.user]] or [[http.token]] to \
     the configuration (`camring user hash` makes one), or listen on 127.0.0.1"
)]
pub struct Open(std::net::SocketAddr);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration is wrong, the address is taken, a database cannot be opened.
pub fn run(args: ServeArgs, global: &Global) -> anyhow::Result<()> {
    let (path, site) = config::load(global.config.as_deref())?;
    // Asked for by hand, it listens also where the daemon's own server does not.
    let listen = (args.listen)
        .or(site.http.listen)
        .unwrap_or(Http::DEFAULT_LISTEN);
    if site.http.is_open() && !listen.ip().is_loopback() {
        return Err(Open(listen).into());
    }
    let settings = Settings {
        http: Http {
            listen: Some(listen),
            ..site.http.clone()
        },
        data_dir: site.data_dir.clone(),
        socket: site.attach_socket(),
        retention: site.retention,
        sandbox: site.sandbox,
    };
    // Sessions, and the key of a certificate.
    crate::sys::process::not_dumpable()?;
    serve::confine(&settings, Some(&path))?;
    let view = SiteView::of(&site);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (tell, stop) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let server = Server::start(settings, view, Supervisor::none()).await?;
        // By hand one wants to know, and not to wait.
        let listening = server.app.listening.borrow().clone();
        if let Some(error) = listening.error {
            anyhow::bail!(error);
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = tell.send(true);
        });
        server.run(stop).await;
        anyhow::Ok(())
    })?;
    // A client's file on a slow disk must not hold up the end.
    runtime.shutdown_background();
    Ok(())
}
