//! Frames: how bytes of a connection become messages. Drawn in docs/format.md, "Transport".
//!
//! `length u32 | crc32 u32 | version u8 | kind u8 | payload`, little-endian. The checksum covers
//! all but itself. [`Parser`] takes bytes in any pieces; it holds never more than a fixed multiple
//! of what has arrived, whatever a length says.

use std::io;

/// The version of frames and of all messages in them.
pub(crate) const VERSION: u8 = 1;
/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 10;
/// The smallest amount that the parser allocates or reads at once.
const STAGE_BYTES: usize = 64 * 1024;
/// A payload's buffer grows by this factor when full: so much is allocated per byte arrived.
const GROWTH: usize = 4;

/// Largest greeting or refusal.
pub(crate) const GREETING_BYTES_MAX: usize = 4 * 1024;
/// Largest message without entries.
pub(crate) const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// Largest message with entries: a batch of 1 MiB, one record more, and what surrounds them.
pub(crate) const ENTRIES_BYTES_MAX: usize = 2 * 1024 * 1024 + CONTROL_BYTES_MAX;
/// Largest message of the content connections: 4 MiB and a header of 64 KiB.
pub const CONTENT_BYTES_MAX: usize = 4 * 1024 * 1024 + 64 * 1024;

const _: () = assert!(GREETING_BYTES_MAX < CONTROL_BYTES_MAX, "greetings are the smallest");
const _: () = assert!(ENTRIES_BYTES_MAX < CONTENT_BYTES_MAX, "contents are the largest");

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The dialer introduces itself.
    Hello,
    /// The acceptor agrees.
    Welcome,
    /// The acceptor does not; it closes.
    Refused,
    /// A message of Raft without (many) entries.
    Control,
    /// A message of Raft with entries.
    Entries,
    /// A message between the loops of two members: changes of the members on their way to the
    /// leader, and the answers.
    Errand,
    /// Bytes of the room above.
    Content,
    /// The answer to a node that asks to become a member, or how far a node is.
    Joined,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Hello,
        Self::Welcome,
        Self::Refused,
        Self::Control,
        Self::Entries,
        Self::Errand,
        Self::Content,
        Self::Joined,
    ];

    /// Its number on the wire.
    const fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Welcome => 2,
            Self::Refused => 3,
            Self::Control => 4,
            Self::Entries => 5,
            Self::Errand => 6,
            Self::Content => 7,
            Self::Joined => 9,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The largest payload.
    pub(crate) const fn bytes_max(self) -> usize {
        match self {
            Self::Hello | Self::Welcome | Self::Refused => GREETING_BYTES_MAX,
            Self::Control | Self::Errand | Self::Joined => CONTROL_BYTES_MAX,
            Self::Entries => ENTRIES_BYTES_MAX,
            Self::Content => CONTENT_BYTES_MAX,
        }
    }
}

/// What may arrive on a connection, by how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// An accepted connection that has said nothing yet.
    AwaitHello,
    /// A dialed connection whose greeting is not answered yet, and afterwards: nothing more is
    /// expected from that side.
    AwaitWelcome,
    /// Messages of Raft.
    Consensus,
    /// Messages of the room above.
    Bulk,
    /// The answer to a request to join or to a survey.
    AwaitJoined,
}

impl Phase {
    const fn admits(self, kind: Kind) -> bool {
        match self {
            Self::AwaitHello => matches!(kind, Kind::Hello),
            Self::AwaitWelcome => matches!(kind, Kind::Welcome | Kind::Refused),
            Self::Consensus => matches!(kind, Kind::Control | Kind::Entries | Kind::Errand),
            Self::Bulk => matches!(kind, Kind::Content),
            Self::AwaitJoined => matches!(kind, Kind::Joined | Kind::Refused),
        }
    }
}

/// Why bytes are no frame. The connection is of no use afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// Another version of the protocol, or none of ours at all.
    Version(u8),
    /// A kind that does not exist.
    Kind(u8),
    /// A kind that has no place here.
    Unexpected(Kind),
    /// Longer than its kind may be.
    TooLong(u32),
    /// The checksum does not match.
    Checksum,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => write!(f, "frame of version {version}, not {VERSION}"),
            Self::Kind(code) => write!(f, "unknown kind of frame {code}"),
            Self::Unexpected(kind) => write!(f, "a {kind:?} frame has no place here"),
            Self::TooLong(length) => write!(f, "frame of {length} bytes is over its bound"),
            Self::Checksum => write!(f, "frame fails its checksum"),
        }
    }
}

impl std::error::Error for FrameError {}

/// One frame, as it goes out: the header apart, so that large payloads are never copied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) header: [u8; HEADER_BYTES],
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Frames a payload, unless it is over the bound of its kind.
    pub(crate) fn new(kind: Kind, payload: Vec<u8>) -> Option<Self> {
        if payload.len() > kind.bytes_max() {
            return None;
        }
        let length = u32::try_from(payload.len()).ok()?.to_le_bytes();
        let tail = [VERSION, kind.code()];
        let crc = checksum(length, tail, &payload).to_le_bytes();
        let [l0, l1, l2, l3] = length;
        let [c0, c1, c2, c3] = crc;
        let [version, code] = tail;
        Some(Self { header: [l0, l1, l2, l3, c0, c1, c2, c3, version, code], payload })
    }

    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

fn checksum(length: [u8; 4], tail: [u8; 2], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(&tail);
    hasher.update(payload);
    hasher.finalize()
}

/// The checked header of a frame under way.
#[derive(Clone, Copy, Debug)]
struct Header {
    length: usize,
    crc: u32,
    kind: Kind,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub(crate) struct Parser {
    phase: Phase,
    /// Bytes that arrived and are not yet part of `payload`; `taken` of them are used up.
    stage: Vec<u8>,
    taken: usize,
    header: Option<Header>,
    payload: Vec<u8>,
}

impl Parser {
    pub(crate) fn new(phase: Phase) -> Self {
        Self { phase, stage: Vec::new(), taken: 0, header: None, payload: Vec::new() }
    }

    /// From now on these frames are admitted.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Whether nothing is left over beyond the frames taken.
    pub(crate) fn is_clean(&self) -> bool {
        self.staged().is_empty() && self.header.is_none()
    }

    /// Lets `read` append once to a buffer of ours; its result is handed on. Call
    /// [`Parser::next_frame`] until it has no more before filling again.
    pub(crate) fn fill(
        &mut self,
        read: impl FnOnce(&mut Vec<u8>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if let Some(header) = self.header
            && self.staged().is_empty()
            && header.length.saturating_sub(self.payload.len()) >= STAGE_BYTES
        {
            // The rest of a large payload goes straight to where it belongs.
            self.grow(header.length);
            return read(&mut self.payload);
        }
        self.compact();
        self.stage.reserve(STAGE_BYTES.saturating_sub(self.stage.len()).max(HEADER_BYTES));
        read(&mut self.stage)
    }

    /// The next whole frame, if it has arrived.
    pub(crate) fn next_frame(&mut self) -> Result<Option<(Kind, Vec<u8>)>, FrameError> {
        let header = match self.header {
            Some(header) => header,
            None => match self.take_header()? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        self.header = Some(header);
        self.return_surplus(header.length);
        let missing = header.length.saturating_sub(self.payload.len());
        let (start, count) = (self.taken, missing.min(self.staged().len()));
        if count > 0 {
            let wanted = self.payload.len().saturating_add(count);
            self.payload.reserve_exact(wanted.saturating_sub(self.payload.len()));
            let bytes = self.stage.get(start..start.saturating_add(count)).unwrap_or_default();
            self.payload.extend_from_slice(bytes);
            self.taken = start.saturating_add(count);
        }
        if count < missing {
            return Ok(None);
        }
        self.header = None;
        let payload = std::mem::take(&mut self.payload);
        let length = u32::try_from(header.length).unwrap_or(u32::MAX).to_le_bytes();
        if checksum(length, [VERSION, header.kind.code()], &payload) != header.crc {
            return Err(FrameError::Checksum);
        }
        Ok(Some((header.kind, payload)))
    }

    /// Bytes held, for the bound on memory.
    pub(crate) fn capacity(&self) -> usize {
        self.stage.capacity() + self.payload.capacity()
    }

    fn staged(&self) -> &[u8] {
        self.stage.get(self.taken..).unwrap_or_default()
    }

    fn take_header(&mut self) -> Result<Option<Header>, FrameError> {
        let Some(bytes) = self.staged().first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [l0, l1, l2, l3, c0, c1, c2, c3, version, code] = *bytes;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = Kind::from_code(code).ok_or(FrameError::Kind(code))?;
        if !self.phase.admits(kind) {
            return Err(FrameError::Unexpected(kind));
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let over = FrameError::TooLong(length);
        let length = usize::try_from(length).map_err(|_| over)?;
        if length > kind.bytes_max() {
            return Err(over);
        }
        self.taken = self.taken.saturating_add(HEADER_BYTES);
        Ok(Some(Header { length, crc: u32::from_le_bytes([c0, c1, c2, c3]), kind }))
    }

    /// Makes room in `payload`, in proportion to what has arrived of it.
    fn grow(&mut self, length: usize) {
        let held = self.payload.len();
        if self.payload.capacity() > held {
            return;
        }
        let wanted = held.saturating_mul(GROWTH).max(STAGE_BYTES).min(length);
        self.payload.reserve_exact(wanted.saturating_sub(held));
    }

    /// An allocator may give more than asked for, and then more may have been read into `payload`
    /// than belongs to it: that is the start of the next frame.
    fn return_surplus(&mut self, length: usize) {
        if self.payload.len() > length {
            let surplus = self.payload.split_off(length);
            self.compact();
            self.stage.extend_from_slice(&surplus);
        }
    }

    fn compact(&mut self) {
        if self.taken > 0 {
            self.stage.drain(..self.taken.min(self.stage.len()));
            self.taken = 0;
        }
    }
}
