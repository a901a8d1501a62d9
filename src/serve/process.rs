//! The server as a child of the supervisor: what it is told, and what it says.
#![deny(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::confine::{confine, until_shut_out};
use super::state::Asked;
use super::{App, Fault, Problem, Server, Settings, SiteView, Supervisor};
use crate::control::serve::{
    self, Ask, AskError, AskErrorKind, Begun, FromServe, ServeReport, ServeStart, Sites, ToServe,
};
use crate::control::{AsyncControl, ControlError, ControlSocket, Received};

/// How often the supervisor hears of it.
const REPORTS: Duration = Duration::from_secs(1);
/// Questions that wait for the supervisor.
const QUESTIONS: usize = 64;

/// The whole life of a server that the supervisor started. Returns the exit code.
pub fn main() -> i32 {
    let begun = match serve::begin() {
        Ok(begun) => begun,
        Err(error) => {
            eprintln!("camring serve: {error}");
            return 1;
        }
    };
    let Begun {
        start,
        site,
        control,
    } = begun;
    let settings = settings(&start);
    if let Err(error) = confine(&settings, start.config.as_deref()) {
        let text = error.to_string();
        let _ = control.send(&FromServe::Fault { text }, &[]);
        tracing::error!("{error}");
        return 1;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime.and_then(|runtime| {
        let served = runtime.block_on(live(settings, site, control));
        // A client's file on a slow disk must not hold up the end.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!("{error}");
            1
        }
    }
}

fn settings(start: &ServeStart) -> Settings {
    Settings {
        http: start.http.clone(),
        data_dir: start.data_dir.clone(),
        socket: start.socket.clone(),
        retention: start.retention,
        sandbox: start.sandbox,
    }
}

/// From the start to the end.
async fn live(settings: Settings, site: SiteView, control: ControlSocket) -> io::Result<()> {
    let (ask, questions) = mpsc::channel(QUESTIONS);
    let server = match Server::start(settings, site, Supervisor::new(ask)).await {
        Ok(server) => server,
        Err(error) => {
            let text = error.to_string();
            let _ = control.send(&FromServe::Fault { text }, &[]);
            return Err(io::Error::other(error));
        }
    };
    let address = server.app.listening.borrow().address;
    serve::ready(&control, address.map(|address| address.to_string())).map_err(io::Error::other)?;
    let control = AsyncControl::new(control)?;
    let (stop, stopped) = watch::channel(false);
    let app = Arc::clone(&server.app);
    let talk = async move {
        let talk = Talk {
            control,
            app,
            waiting: HashMap::new(),
            asked: 0,
        };
        let talked = talk.run(questions).await;
        let _ = stop.send(true);
        talked
    };
    let settings = server.app.settings.clone();
    let served = async { tokio::join!(talk, server.run(stopped)).0 };
    tokio::select! {
        talked = served => talked.map_err(io::Error::other),
        what = until_shut_out(&settings) => Err(io::Error::other(what)),
    }
}

/// The conversation with the supervisor.
struct Talk {
    control: AsyncControl,
    app: Arc<App>,
    waiting: HashMap<u64, oneshot::Sender<Result<serde_json::Value, Problem>>>,
    asked: u64,
}

impl Talk {
    /// Until the supervisor says stop, or is gone.
    async fn run(mut self, mut questions: mpsc::Receiver<Asked>) -> Result<(), ControlError> {
        let mut reports = interval(REPORTS);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sites = Sites::default();
        loop {
            tokio::select! {
                message = self.control.recv::<ToServe>() => match message? {
                    None | Some(Received { message: ToServe::Stop, .. }) => return Ok(()),
                    Some(Received { message: ToServe::Start(_), .. }) => {}
                    Some(Received { message: ToServe::Site(part), .. }) => {
                        if let Some(site) = sites.add(*part) {
                            self.site_changed(site);
                        }
                    }
                    Some(Received { message: ToServe::Access(http), .. }) => {
                        self.app.access.change(&http);
                        self.app.look_at_files.notify_one();
                    }
                    Some(Received { message: ToServe::Answer { id, result }, .. }) => {
                        if let Some(waiting) = self.waiting.remove(&id) {
                            let _ = waiting.send(result.map_err(problem));
                        }
                    }
                },
                Some((ask, answer)) = questions.recv() => self.ask(ask, answer).await?,
                _ = reports.tick() => {
                    self.waiting.retain(|_, waiting| !waiting.is_closed());
                    let listening = self.app.listening.borrow().clone();
                    let report = ServeReport {
                        address: listening.address.map(|address| address.to_string()),
                        error: listening.error,
                        certificate_expires: self.app.certificate_expires.borrow().map(|end| end.0),
                    };
                    self.control.send(&FromServe::Report(report), &[]).await?;
                }
            }
        }
    }

    fn site_changed(&self, site: SiteView) {
        self.app.site.send_replace(Arc::new(site));
    }

    async fn ask(
        &mut self,
        ask: serde_json::Value,
        answer: oneshot::Sender<Result<serde_json::Value, Problem>>,
    ) -> Result<(), ControlError> {
        let Ok(ask) = serde_json::from_value::<Ask>(ask) else {
            let _ = answer.send(Err(Problem::internal("a question that is none")));
            return Ok(());
        };
        self.asked += 1;
        let id = self.asked;
        match self.control.send(&FromServe::Ask { id, ask }, &[]).await {
            Ok(()) => {
                self.waiting.insert(id, answer);
                Ok(())
            }
            Err(ControlError::TooLong) => {
                let text = "a camera of that size cannot be configured";
                let _ = answer.send(Err(Problem::bad_request("too-long", "Too long", text)));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// What the supervisor refused, over HTTP.
fn problem(error: AskError) -> Problem {
    let (status, slug, title) = match error.kind {
        AskErrorKind::UnknownCamera => (StatusCode::NOT_FOUND, "unknown-camera", "Unknown camera"),
        AskErrorKind::Exists => (StatusCode::CONFLICT, "camera-exists", "Camera exists"),
        AskErrorKind::Invalid => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-camera",
            "Invalid camera",
        ),
        AskErrorKind::Conflict => (StatusCode::CONFLICT, "conflict", "Not possible now"),
        AskErrorKind::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "not-saved", "Not saved"),
    };
    let errors = error.faults.into_iter().map(|fault| Fault {
        pointer: format!("#/{}", fault.field),
        detail: fault.detail,
    });
    Problem {
        errors: errors.collect(),
        ..Problem::new(status, slug, title, error.detail)
    }
}
