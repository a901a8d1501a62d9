//! The process for HTTP and recordings, from the supervisor's side.
//!
//! Executed, not forked: it has no media code, and threads of its own. It never gets a secret.
#![deny(unsafe_code)]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::Supervisor;
use super::policy;
use super::reaper::Watched;
use super::service::{Heard, Job, LaunchError};
use super::template;
use crate::config::Retry;
use crate::control::AsyncControl;
use crate::control::serve::{FromServe, ServeReport, ServeStart, ToServe, parts};
use crate::serve::{ARGUMENT, SiteView};

/// The job of serving.
#[derive(Debug, Default)]
pub(super) struct Server {
    report: RefCell<ServeReport>,
}

impl Server {
    /// As it says itself.
    pub fn report(&self) -> ServeReport {
        self.report.borrow().clone()
    }
}

impl Job for Server {
    type To = ToServe;
    type From = FromServe;
    const READY: Duration = policy::SERVE_READY_TIMEOUT;
    const FORKED: bool = false;

    fn name(&self) -> String {
        "server".to_owned()
    }

    fn retry(&self, supervisor: &Supervisor) -> Retry {
        supervisor.site().retry
    }

    async fn launch(
        &self,
        supervisor: &Supervisor,
    ) -> Result<(Watched, AsyncControl), LaunchError> {
        let log = supervisor.options.log.as_deref();
        let executed = template::execute(&supervisor.reaper, ARGUMENT, "camring: serve", log);
        Ok(executed?)
    }

    fn first(&self, supervisor: &Supervisor) -> Vec<ToServe> {
        let site = supervisor.site();
        let mut first = vec![ToServe::Start(Box::new(ServeStart {
            http: site.http.clone(),
            data_dir: site.data_dir.clone(),
            socket: site.attach_socket(),
            retention: site.retention,
            sandbox: site.sandbox,
            config: supervisor.options.config.clone(),
        }))];
        first.extend(parts(&SiteView::of(&site)));
        first
    }

    fn stop() -> ToServe {
        ToServe::Stop
    }

    fn hear(&self, supervisor: &Rc<Supervisor>, message: FromServe) -> Heard {
        match message {
            FromServe::Ready { address } => {
                self.report.borrow_mut().address = address;
                Heard::Ready
            }
            FromServe::Report(mut report) => {
                let printable = |text: String| super::ends::printable(&text);
                report.address = report.address.map(printable);
                report.error = report.error.map(printable);
                *self.report.borrow_mut() = report;
                Heard::Alive
            }
            FromServe::Ask { id, ask } => {
                supervisor.asked(id, ask);
                Heard::Other
            }
            FromServe::Fault { text } => Heard::Fault(text),
        }
    }

    fn ended(&self, _: &Rc<Supervisor>) {
        *self.report.borrow_mut() = ServeReport::default();
    }
}
