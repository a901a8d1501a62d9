//! Pieces of a recording, asked for one after the other, and read as if each were a file.
#![deny(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use super::protocol::{FromWorker, Span, ToWorker, Trouble, TroubleKind};
use crate::control::{ControlSocket, Received};
use crate::media::Mp4Reader;

/// The longest init segment: they are below 4 KiB.
const MAX_INIT: u64 = 1 << 20;

/// The pieces there are.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    control: &'a ControlSocket,
    next: u32,
    count: u32,
}

/// A piece that can be read.
pub(super) struct Piece {
    /// Its number.
    pub index: u32,
    pub span: Span,
    pub reader: Mp4Reader,
}

impl<'a> Inputs<'a> {
    pub fn new(control: &'a ControlSocket, count: u32) -> Self {
        Self {
            control,
            next: 0,
            count,
        }
    }

    /// The next piece that is still there and can be read; `None`: that was the last.
    pub fn next(&mut self) -> Result<Option<Piece>, Trouble> {
        while self.next < self.count {
            let index = self.next;
            self.next += 1;
            let lost = |_| Trouble::internal("the server does not answer");
            let need = FromWorker::Need { span: index };
            self.control.send(&need, &[]).map_err(lost)?;
            let answer = self.control.recv::<ToWorker>().map_err(lost)?;
            let Some(Received { message, fds }) = answer else {
                return Err(Trouble::new(TroubleKind::HungUp, "the server has ended"));
            };
            let ToWorker::Span(span) = message else {
                continue;
            };
            let mut fds = fds.into_iter();
            let (Some(init), Some(media)) = (fds.next(), fds.next()) else {
                return Err(Trouble::internal("a span without its files"));
            };
            match Source::new(init, media, &span).map(|source| Mp4Reader::open(Box::new(source))) {
                Ok(Ok(reader)) => {
                    return Ok(Some(Piece {
                        index,
                        span,
                        reader,
                    }));
                }
                Ok(Err(error)) => tracing::warn!("a piece of a recording is left out: {error}"),
                Err(error) => tracing::warn!("a piece of a recording is left out: {error}"),
            }
        }
        Ok(None)
    }

    /// The next piece.
    ///
    /// # Errors
    /// There is none.
    pub fn only(&mut self) -> Result<Piece, Trouble> {
        let gone = "the recording was deleted meanwhile, or cannot be read";
        self.next()?
            .ok_or_else(|| Trouble::new(TroubleKind::Gone, gone))
    }
}

/// Init segment and chunks as one file.
struct Source {
    init: io::Cursor<Vec<u8>>,
    media: File,
    at: u64,
    end: u64,
}

impl Source {
    fn new(init: OwnedFd, media: OwnedFd, span: &Span) -> io::Result<Self> {
        let mut bytes = Vec::new();
        // Opened for this job alone, but its offset may be shared all the same: read by place.
        let file = File::from(init);
        let len = file.metadata()?.len().min(MAX_INIT);
        bytes.resize(usize::try_from(len).unwrap_or(0), 0);
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Self {
            init: io::Cursor::new(bytes),
            media: File::from(media),
            at: span.bytes.0,
            end: span.bytes.1,
        })
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.init.read(into)?;
        if read > 0 || into.is_empty() {
            return Ok(read);
        }
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = into.len().min(left);
        let read = self.media.read_at(&mut into[..wanted], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
