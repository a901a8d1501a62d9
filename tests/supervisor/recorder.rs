//! A process that records nothing, but says that it does; and misbehaves as the folder of recordings
//! says, since a real one has nothing else in common with its tests.

use std::path::Path;
use std::time::Duration;

use camring::config::RecordMode;
use camring::control::hls::{self, FromHls, HlsReport, HlsState, ToHls};
use camring::control::{ControlError, ControlSocket, Received};

/// From its control socket to its exit code.
pub fn main(control: ControlSocket) -> i32 {
    match run(&control) {
        Ok(()) => 0,
        Err(error) => {
            let text = error.to_string();
            let _ = control.send(&FromHls::Fault { text }, &[]);
            3
        }
    }
}

fn run(control: &ControlSocket) -> Result<(), Box<dyn std::error::Error>> {
    let start = hls::begin(control)?;
    let plan = |name: &str| Path::new(&start.data_dir).join(name).exists();
    let mut report = HlsReport::default();
    if start.record.mode == RecordMode::Encode {
        report.state = HlsState::Queued;
        control.send(&FromHls::NeedEncoder, &[])?;
    } else {
        report.state = HlsState::Recording;
    }
    loop {
        match control.try_recv::<ToHls>() {
            Ok(None) => return Ok(()),
            Ok(Some(Received { message, .. })) => match message {
                ToHls::Stop => return Ok(()),
                ToHls::EncoderGranted => report.state = HlsState::Recording,
                ToHls::Start(_) => return Err("started twice".into()),
            },
            Err(ControlError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if plan("abort") {
            std::process::abort();
        }
        if plan("fail") {
            return Err("the disk fell off".into());
        }
        report.segments += 1;
        report.bytes += 1000;
        control.send(&FromHls::Report(report.clone()), &[])?;
        std::thread::sleep(Duration::from_millis(20));
    }
}
