//! The listener: connections counted, slow ones ended, all of them closed in order at the end.
//!
//! Promises: at most [`Limits::connections`] at a time, further ones are told so and closed; a client
//! that has sent no whole request head after [`Limits::head`], idle ones and TLS handshakes too, or that
//! takes nothing of an answer for [`Limits::stall`], is disconnected; a listener that fails for want of descriptors
//! waits and goes on.
#![deny(unsafe_code)]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tower::ServiceExt as _;

use super::access::Peer;
use super::headers;

/// How much clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At the same time.
    pub connections: usize,
    /// For a request head, from the end of the answer before.
    pub head: Duration,
    /// Without a byte of an answer taken.
    pub stall: Duration,
    /// For answers that are under way when the server ends.
    pub goodbye: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            head: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            goodbye: Duration::from_secs(3),
        }
    }
}

/// Descriptors for files, databases and the daemon's socket, beside those of connections.
const OTHER_DESCRIPTORS: u64 = 512;
/// The longest request head: a long query, not a body.
const LONGEST_HEAD: usize = 32 << 10;

/// Binds. The address is the one that was really bound: port 0 is any.
///
/// # Errors
/// The kernel's answer, with the address.
pub async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let failed = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot listen on {address}: {error}; choose another [http] listen"),
        )
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Raises the limit of descriptors as far as allowed, and says how many connections that carries.
pub fn room_for(wanted: usize) -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let enough = wanted as u64 + OTHER_DESCRIPTORS;
    if limit.current.is_some_and(|now| now < enough) {
        let raised = rustix::process::Rlimit {
            current: Some(limit.maximum.map_or(enough, |most| most.min(enough))),
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    let room = limit
        .current
        .map_or(wanted as u64, |now| now.saturating_sub(OTHER_DESCRIPTORS));
    wanted.min(usize::try_from(room).unwrap_or(wanted)).max(16)
}

/// Requests that one HTTP/2 connection may have open: a wall of cameras and its parts.
const STREAMS: u32 = 100;

/// Serves until `stop` becomes true or its sender is gone. With a certificate, TLS only: HTTP/2 or HTTP/1.1,
/// as the client likes.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // EMFILE and the like: the connection stays in the queue.
                tracing::warn!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            tokio::spawn(refuse(stream));
            continue;
        };
        // Parts are small and urgent.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            router: router.clone(),
            limits,
            peer: Peer {
                address: address.ip(),
                tls: tls.is_some(),
            },
            stop: stop.clone(),
            watcher: graceful.watcher(),
        };
        let certificate = tls.as_ref().map(|tls| Arc::clone(&tls.borrow()));
        tokio::spawn(async move {
            if let Err(error) = connection.live(stream, certificate).await {
                tracing::debug!("connection: {error}");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.goodbye, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::debug!("clients were still connected");
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What a connection needs for its life.
struct Connection {
    router: Router,
    limits: Limits,
    peer: Peer,
    stop: watch::Receiver<bool>,
    watcher: Watcher,
}

impl Connection {
    async fn live(
        mut self,
        stream: TcpStream,
        certificate: Option<Arc<ServerConfig>>,
    ) -> Result<(), Failed> {
        let Some(certificate) = certificate else {
            let stream = Patient::new(stream, self.limits.stall);
            return self.http1(stream).await;
        };
        let patience = self.limits.head;
        let handshake = async {
            // Whoever speaks HTTP here should be told, not left with garbage.
            let mut first = [0];
            if stream.peek(&mut first).await? > 0 && first[0].is_ascii_alphabetic() {
                wants_tls(stream).await;
                return Ok(None);
            }
            let stream = Patient::new(stream, self.limits.stall);
            TlsAcceptor::from(certificate)
                .accept(stream)
                .await
                .map(Some)
        };
        let stream = tokio::select! {
            done = tokio::time::timeout(patience, handshake) => done??,
            _ = self.stop.wait_for(|stop| *stop) => return Ok(()),
        };
        match stream {
            None => Ok(()),
            Some(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.http2(stream).await
            }
            Some(stream) => self.http1(stream).await,
        }
    }

    async fn http1<S>(self, stream: S) -> Result<(), Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(LONGEST_HEAD)
            .half_close(false);
        let peer = self.peer;
        let router = self.router.map_request(move |mut request: Request| {
            request.extensions_mut().insert(peer);
            request
        });
        let service = TowerToHyperService::new(router);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        Ok(self.watcher.watch(connection).await?)
    }

    async fn http2<S>(mut self, stream: S) -> Result<(), Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(self.limits.head)
            .keep_alive_timeout(self.limits.stall)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(LONGEST_HEAD as u32);
        // How many requests are being answered, up to the last byte.
        let active = Arc::new(watch::Sender::new(0_usize));
        let mut answering = active.subscribe();
        let (peer, router) = (self.peer, self.router);
        let service = tower::service_fn(move |mut request: Request| {
            request.extensions_mut().insert(peer);
            let (router, one) = (router.clone(), One::of(&active));
            async move {
                let response = router.oneshot(request).await?;
                Ok::<_, std::convert::Infallible>(response.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        let _until_the_end = &one;
                        frame
                    }))
                }))
            }
        });
        let connection =
            http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = std::pin::pin!(connection);
        let mut ending = false;
        loop {
            tokio::select! {
                done = connection.as_mut() => break Ok(done?),
                _ = self.stop.wait_for(|stop| *stop), if !ending => {}
                () = idle(&mut answering, self.limits.head), if !ending => {}
            }
            ending = true;
            connection.as_mut().graceful_shutdown();
        }
    }
}

type Request = axum::http::Request<Incoming>;

/// One of those that are being answered.
struct One(Arc<watch::Sender<usize>>);

impl One {
    fn of(all: &Arc<watch::Sender<usize>>) -> Self {
        all.send_modify(|count| *count += 1);
        Self(Arc::clone(all))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Until nothing was answered for so long.
async fn idle(answering: &mut watch::Receiver<usize>, patience: Duration) {
    loop {
        if answering.wait_for(|count| *count == 0).await.is_err() {
            return std::future::pending().await;
        }
        let changed = tokio::time::timeout(patience, answering.changed()).await;
        if changed.is_err() {
            return;
        }
    }
}

/// HTTP where TLS is spoken.
async fn wants_tls(mut stream: TcpStream) {
    // What was sent and not read would turn the end into a reset, and the sentence might be lost.
    let mut sent = vec![0; LONGEST_HEAD];
    let _ = stream.read(&mut sent).await;
    const BODY: &str = r#"{"type":"/problems/https-only","title":"HTTPS only","status":400,"detail":"this port speaks HTTPS: write https:// instead of http://"}"#;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n{}\
         Content-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        headers::WITHOUT_A_ROUTER,
        BODY.len()
    );
    tell(&mut stream, &answer).await;
}

/// One too many.
async fn refuse(mut stream: TcpStream) {
    const BODY: &str = r#"{"type":"/problems/too-many-connections","title":"Too many connections","status":503,"detail":"this server has as many connections as it takes; close some, or try again in a moment"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n{}\
         Content-Length: {}\r\nRetry-After: 5\r\nConnection: close\r\n\r\n{BODY}",
        headers::WITHOUT_A_ROUTER,
        BODY.len()
    );
    tell(&mut stream, &answer).await;
}

async fn tell(stream: &mut TcpStream, answer: &str) {
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // Whoever does not listen is not told.
    let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
}

/// A stream whose writes fail once nothing could be written for a while.
#[derive(Debug)]
struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// Runs while a write is stuck.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            deadline: None,
        }
    }

    fn watched(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.deadline = None;
            return result;
        }
        let patience = self.patience;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes nothing",
        )))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watched(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
