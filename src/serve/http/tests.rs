use std::io::{Read as _, Write as _};
use std::net::TcpStream as Client;
use std::thread;

use axum::body::{Body, Bytes};
use axum::routing::get;

use super::*;

const LIMITS: Limits = Limits {
    connections: 4,
    head: Duration::from_millis(300),
    stall: Duration::from_millis(300),
    goodbye: Duration::from_secs(60),
};

/// A server with a short patience; ends when dropped.
struct Served {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Served {
    fn new(limits: Limits) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let endless = || async {
                    let piece = Bytes::from_static(&[7; 65536]);
                    let pieces =
                        futures::stream::repeat_with(move || io::Result::Ok(piece.clone()));
                    Body::from_stream(pieces)
                };
                let slow = || async {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    "done"
                };
                let router = Router::new()
                    .route("/", get(|| async { "hello" }))
                    .route("/endless", get(endless))
                    .route("/slow", get(slow));
                let (listener, address) = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
                tell.send(address).unwrap();
                serve(listener, router, limits, stopped, None).await;
            });
        });
        Self {
            address: told.recv().unwrap(),
            stop,
            thread: Some(thread),
        }
    }

    fn client(&self, request: &str) -> Client {
        let mut client = Client::connect(self.address).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        client.write_all(request.as_bytes()).unwrap();
        client
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let _ = self.thread.take().unwrap().join();
    }
}

fn rest(mut client: Client) -> String {
    let mut text = Vec::new();
    // A reset is an end too.
    let _ = client.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn who_sends_no_whole_request_is_disconnected() {
    let served = Served::new(LIMITS);
    for begun in ["", "GET", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let text = rest(served.client(begun));
        assert!(!text.contains("hello"), "{text}");
    }
    // One byte after the other, for ever.
    let mut slow = served.client("GET / HTTP/1.1\r\n");
    let begun = Instant::now();
    while slow.write_all(b"a").is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it may go on");
        thread::sleep(Duration::from_millis(20));
    }
    // Idle after an answer.
    let idle = rest(served.client("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(idle.ends_with("hello"), "{idle}");
}

#[test]
fn who_takes_nothing_of_an_answer_is_disconnected_and_who_takes_it_slowly_is_not() {
    let served = Served::new(LIMITS);
    let request = "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut slow = served.client(request);
    let stuck = served.client(request);
    let mut buffer = vec![0; 1 << 20];
    // Far longer than the patience.
    for _ in 0..40 {
        assert!(slow.read(&mut buffer).unwrap() > 0);
        thread::sleep(Duration::from_millis(30));
    }
    drop(slow);
    // What the kernel had taken comes, and then the end.
    let mut stuck = stuck;
    let begun = Instant::now();
    while matches!(stuck.read(&mut buffer), Ok(read) if read > 0) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it was served on"
        );
    }
}

#[test]
fn one_client_too_many_is_told_so() {
    let served = Served::new(Limits {
        head: Duration::from_secs(60),
        ..LIMITS
    });
    let idle: Vec<Client> = (0..LIMITS.connections).map(|_| served.client("")).collect();
    // Accepted one after the other, in this order.
    let text = rest(served.client(""));
    assert!(
        text.starts_with("HTTP/1.1 503") && text.contains("too-many-connections"),
        "{text}"
    );
    for said in ["nosniff", "default-src 'none'", "Cache-Control: no-store"] {
        assert!(text.contains(said), "{text}");
    }
    drop(idle);
    let begun = Instant::now();
    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    while !rest(served.client(request)).ends_with("hello") {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "there is room again"
        );
    }
}

#[test]
fn an_answer_under_way_is_finished_at_the_end() {
    let served = Served::new(LIMITS);
    let client = served.client("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(100));
    drop(served);
    assert!(rest(client).ends_with("done"));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let served = Served::new(LIMITS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime.block_on(bind(served.address)).unwrap_err();
    assert!(
        error.to_string().contains(&served.address.to_string()),
        "{error}"
    );
}
