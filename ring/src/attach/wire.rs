//! The messages on the attach socket: little endian, fixed fields, one per packet.
//!
//! Promises: decoding never panics, never allocates more than the packet's size, and refuses
//! anything that is not exactly one message. Tables: `docs/reference/ring-format.md`.

/// First field of HELLO: `b"CAMRATCH"`.
pub const ATTACH_MAGIC: u64 = u64::from_le_bytes(*b"CAMRATCH");
/// Version of this protocol.
pub const ATTACH_VERSION: u32 = 1;
/// Longest message in bytes.
pub const MAX_MESSAGE: usize = 4096;
/// Longest name in bytes: a camera's, a stream's and a view's, `yard/sub:detect`, of 63 each.
pub const MAX_NAME: usize = 192;
/// Longest text of a refusal in bytes.
pub const MAX_TEXT: usize = MAX_MESSAGE - 16;
/// Most descriptors that one message carries.
pub const MAX_DESCRIPTORS: usize = 3;

/// A packet that is no message of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Shorter or longer than its kind.
    #[error("message of kind {kind} with {found} bytes instead of {expected}")]
    Length {
        /// Kind of the message, 0 when not even that was there.
        kind: u32,
        /// Bytes received.
        found: usize,
        /// Bytes that it should have.
        expected: usize,
    },
    /// No such kind in this direction.
    #[error("unknown message kind {kind}")]
    Kind {
        /// Found.
        kind: u32,
    },
    /// A field has an impossible value.
    #[error("message of kind {kind}: {field} is {found}")]
    Field {
        /// Kind of the message.
        kind: u32,
        /// Which field.
        field: &'static str,
        /// Found.
        found: u64,
    },
    /// Text that is not UTF-8.
    #[error("message of kind {kind}: {field} is not UTF-8")]
    Text {
        /// Kind of the message.
        kind: u32,
        /// Which field.
        field: &'static str,
    },
}

/// Which ring of a camera.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RingKind {
    /// Decoded frames.
    Frames = 1,
    /// Access units.
    Packets = 2,
}

/// Why the daemon refuses.
#[repr(u16)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalCode {
    /// No camera of that name; the text lists those there are.
    UnknownCamera = 1,
    /// The ring does not exist yet: ask again.
    NotReady = 2,
    /// The ring's slots do not suffice for so many pins; the text has the numbers.
    PinsExhausted = 3,
    /// Too many connections, in all or of this user.
    TooManyClients = 4,
    /// Too many attachments on this connection.
    TooManyAttachments = 5,
    /// Memory for it is not in the budget; the text has the numbers.
    MemoryBudget = 6,
    /// The camera is disabled in the configuration.
    Disabled = 7,
    /// The versions do not fit; the text says which the daemon has.
    Version = 8,
    /// The client broke the protocol; the daemon hangs up.
    Protocol = 9,
    /// Something went wrong in the daemon; its log says what.
    Internal = 10,
}

impl RefusalCode {
    fn from_u16(value: u16) -> Option<Self> {
        use RefusalCode::*;
        [
            UnknownCamera,
            NotReady,
            PinsExhausted,
            TooManyClients,
            TooManyAttachments,
            MemoryBudget,
            Disabled,
            Version,
            Protocol,
            Internal,
        ]
        .into_iter()
        .find(|code| *code as u16 == value)
    }
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientMessage {
    /// First message. The daemon answers WELCOME or REFUSED, request 0.
    Hello {
        /// [`ATTACH_VERSION`] of the client.
        version: u32,
    },
    /// Asks for a ring. Answer: ATTACHED or REFUSED.
    Attach {
        /// Number of the request, not 0; the answer carries it.
        request: u32,
        /// Which ring.
        kind: RingKind,
        /// Frames that the subscriber wants to hold at a time; 0 for packets.
        pins: u8,
        /// Whether it wants a descriptor to poll.
        pollable: bool,
        /// Camera, or `camera/stream`.
        name: String,
    },
    /// Gives an attachment back. No answer.
    Detach {
        /// Number from ATTACHED.
        attachment: u64,
    },
    /// Asks for the daemon's status. Answer: STATUS or REFUSED.
    Status {
        /// Number of the request, not 0.
        request: u32,
    },
    /// The descriptors of this answer have arrived: the daemon sends no others before.
    Received {
        /// Number of the request that was answered; 0: WELCOME.
        request: u32,
    },
}

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DaemonMessage {
    /// Answer to HELLO, with the client's bell page.
    Welcome {
        /// [`ATTACH_VERSION`] of the daemon.
        version: u32,
        /// The daemon's uid.
        uid: u32,
    },
    /// Answer to ATTACH, with the ring (read-only), the pin page (frames only), and a socket to
    /// poll (if asked for), in this order.
    Attached {
        /// Number of the request.
        request: u32,
        /// Number of the attachment.
        attachment: u64,
        /// Number of the ring.
        ring_id: u64,
        /// Pins granted.
        pins: u32,
    },
    /// The request cannot be fulfilled.
    Refused {
        /// Number of the request; 0: HELLO.
        request: u32,
        /// Kind of reason.
        code: RefusalCode,
        /// For the user.
        text: String,
    },
    /// Answer to STATUS, with a sealed memory that holds the text.
    Status {
        /// Number of the request.
        request: u32,
        /// Bytes of UTF-8 JSON.
        len: u64,
    },
}

const HELLO: u32 = 1;
const ATTACH: u32 = 2;
const DETACH: u32 = 3;
const STATUS: u32 = 4;
const RECEIVED: u32 = 5;
const WELCOME: u32 = 129;
const ATTACHED: u32 = 130;
const REFUSED: u32 = 131;
const STATUS_IS: u32 = 132;

impl ClientMessage {
    /// The packet. A name longer than [`MAX_NAME`] is cut (and will be unknown).
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello { version } => {
                Writer::new(HELLO, 0)
                    .u64(ATTACH_MAGIC)
                    .u32(*version)
                    .u32(0)
                    .0
            }
            Self::Attach {
                request,
                kind,
                pins,
                pollable,
                name,
            } => {
                let name = cut(name, MAX_NAME);
                Writer::new(ATTACH, *request)
                    .u8(*kind as u8)
                    .u8(*pins)
                    .u8(u8::from(*pollable))
                    .u8(name.len() as u8)
                    .bytes(name.as_bytes())
                    .0
            }
            Self::Detach { attachment } => Writer::new(DETACH, 0).u64(*attachment).0,
            Self::Status { request } => Writer::new(STATUS, *request).0,
            Self::Received { request } => Writer::new(RECEIVED, *request).0,
        }
    }

    /// Reads a packet that a client sent, which may hold anything.
    pub fn decode(packet: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(packet)?;
        let (kind, request) = (reader.kind, reader.request);
        let field = |field, found| WireError::Field { kind, field, found };
        let message = match kind {
            HELLO => {
                let magic = reader.u64()?;
                if magic != ATTACH_MAGIC {
                    return Err(field("magic", magic));
                }
                let version = reader.u32()?;
                reader.u32()?;
                Self::Hello { version }
            }
            ATTACH => {
                let ring = match reader.u8()? {
                    1 => RingKind::Frames,
                    2 => RingKind::Packets,
                    other => return Err(field("ring", other.into())),
                };
                let pins = reader.u8()?;
                let pollable = match reader.u8()? {
                    0 => false,
                    1 => true,
                    other => return Err(field("pollable", other.into())),
                };
                let len = usize::from(reader.u8()?);
                if len == 0 || len > MAX_NAME {
                    return Err(field("name length", len as u64));
                }
                let name = reader.text("name", len)?;
                Self::Attach {
                    request,
                    kind: ring,
                    pins,
                    pollable,
                    name,
                }
            }
            DETACH => Self::Detach {
                attachment: reader.u64()?,
            },
            STATUS => Self::Status { request },
            RECEIVED => Self::Received { request },
            kind => return Err(WireError::Kind { kind }),
        };
        reader.end(message)
    }
}

impl DaemonMessage {
    /// The packet. A text longer than [`MAX_TEXT`] is cut.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Welcome { version, uid } => Writer::new(WELCOME, 0).u32(*version).u32(*uid).0,
            Self::Attached {
                request,
                attachment,
                ring_id,
                pins,
            } => {
                Writer::new(ATTACHED, *request)
                    .u64(*attachment)
                    .u64(*ring_id)
                    .u32(*pins)
                    .u32(0)
                    .0
            }
            Self::Refused {
                request,
                code,
                text,
            } => {
                let text = cut(text, MAX_TEXT);
                Writer::new(REFUSED, *request)
                    .u16(*code as u16)
                    .u16(text.len() as u16)
                    .bytes(text.as_bytes())
                    .0
            }
            Self::Status { request, len } => Writer::new(STATUS_IS, *request).u64(*len).0,
        }
    }

    /// Reads a packet that a daemon sent.
    pub fn decode(packet: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(packet)?;
        let (kind, request) = (reader.kind, reader.request);
        let message = match kind {
            WELCOME => Self::Welcome {
                version: reader.u32()?,
                uid: reader.u32()?,
            },
            ATTACHED => {
                let attachment = reader.u64()?;
                let ring_id = reader.u64()?;
                let pins = reader.u32()?;
                reader.u32()?;
                Self::Attached {
                    request,
                    attachment,
                    ring_id,
                    pins,
                }
            }
            REFUSED => {
                let code = reader.u16()?;
                // A code that is newer than this client still has its text.
                let code = RefusalCode::from_u16(code).unwrap_or(RefusalCode::Internal);
                let len = usize::from(reader.u16()?);
                Self::Refused {
                    request,
                    code,
                    text: reader.text("text", len)?,
                }
            }
            STATUS_IS => Self::Status {
                request,
                len: reader.u64()?,
            },
            kind => return Err(WireError::Kind { kind }),
        };
        reader.end(message)
    }

    /// Number of the request that this answers; 0: HELLO.
    pub fn request(&self) -> u32 {
        match self {
            Self::Welcome { .. } => 0,
            Self::Attached { request, .. }
            | Self::Refused { request, .. }
            | Self::Status { request, .. } => *request,
        }
    }

    /// Whether it carries descriptors, and so wants a RECEIVED.
    pub fn carries_descriptors(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

/// At most `limit` bytes of a text, cut at a character.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: u32, request: u32) -> Self {
        Self(Vec::with_capacity(64)).u32(kind).u32(request)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
    kind: u32,
    request: u32,
}

impl<'a> Reader<'a> {
    fn new(packet: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Self {
            rest: packet,
            len: packet.len(),
            kind: 0,
            request: 0,
        };
        reader.kind = reader.u32()?;
        reader.request = reader.u32()?;
        Ok(reader)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(self.short(N)),
        }
    }

    fn short(&self, wanted: usize) -> WireError {
        let read = self.len - self.rest.len();
        WireError::Length {
            kind: self.kind,
            found: self.len,
            expected: read + wanted,
        }
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.take()?))
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn text(&mut self, field: &'static str, len: usize) -> Result<String, WireError> {
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.short(len));
        };
        self.rest = rest;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(WireError::Text {
                kind: self.kind,
                field,
            }),
        }
    }

    fn end<T>(self, message: T) -> Result<T, WireError> {
        if self.rest.is_empty() {
            return Ok(message);
        }
        let expected = self.len - self.rest.len();
        Err(WireError::Length {
            kind: self.kind,
            found: self.len,
            expected,
        })
    }
}

#[cfg(test)]
mod tests;
