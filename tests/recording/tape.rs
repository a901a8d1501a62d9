//! A recording as it lies on the disk, and what must hold of every one.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use camring::recording::{
    Chunk, ChunkFlags, FileName, FrameFlags, FrameTime, Header, IndexReader, InitId, Rendition,
    Tree,
};

use crate::support::framecode::{self, Code, Witness};

/// One minute file.
#[derive(Debug)]
pub struct File {
    pub name: FileName,
    pub header: Header,
    pub chunks: Vec<Chunk>,
    data: Vec<u8>,
    init: Vec<u8>,
}

/// One picture, decoded.
#[derive(Clone, Copy, Debug)]
pub struct Picture {
    pub code: Code,
    pub capture_ns: i64,
}

/// Everything of one rendition, in order of media sequence.
#[derive(Debug)]
pub struct Tape {
    pub files: Vec<File>,
    /// A disk that refused has not taken the end of some files either.
    pub refused: bool,
}

impl Tape {
    #[track_caller]
    pub fn read(data_dir: &Path, stream: &str) -> Self {
        let rendition = Tree::new(data_dir).rendition(stream, Rendition::SOURCE);
        let mut files = Vec::new();
        for hour in rendition.hours().expect("a folder") {
            for name in hour.files().expect("a folder") {
                // The writer may be about to make it.
                let Ok(mut index) = IndexReader::open(&rendition.index(&name)) else {
                    continue;
                };
                let chunks = index.next_chunks().expect("a readable index");
                let header = *index.header();
                files.push(File {
                    data: fs::read(rendition.data(&name)).expect("media beside its index"),
                    init: fs::read(rendition.init(header.init)).expect("an init segment"),
                    header,
                    name,
                    chunks,
                });
            }
        }
        files.sort_by_key(|file| file.name.media_sequence);
        Self {
            files,
            refused: false,
        }
    }

    /// Pictures committed so far, from the indexes alone: 0 before there is a folder.
    pub fn count(data_dir: &Path, stream: &str) -> usize {
        let rendition = Tree::new(data_dir).rendition(stream, Rendition::SOURCE);
        let mut count = 0;
        for hour in rendition.hours().unwrap_or_default() {
            for name in hour.files().expect("a folder") {
                // The writer may be about to make it.
                if let Ok(mut index) = IndexReader::open(&rendition.index(&name)) {
                    let chunks = index.next_chunks().expect("a readable index");
                    count += chunks.iter().map(|chunk| chunk.frames.len()).sum::<usize>();
                }
            }
        }
        count
    }

    /// Chunks with pictures.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        let all = self.files.iter().flat_map(|file| &file.chunks);
        all.filter(|chunk| chunk.len > 0)
    }

    /// Pictures committed.
    pub fn pictures(&self) -> usize {
        self.chunks().map(|chunk| chunk.frames.len()).sum()
    }

    /// Segments that are finished.
    pub fn segments(&self) -> usize {
        let all = self.files.iter().flat_map(|file| &file.chunks);
        all.filter(|c| c.flags.contains(ChunkFlags::SEGMENT_END))
            .count()
    }

    /// The numbers of the breaks, in order.
    pub fn breaks(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self
            .files
            .iter()
            .map(|file| file.name.discontinuity_sequence)
            .collect();
        numbers.dedup();
        numbers
    }

    pub fn inits(&self) -> BTreeSet<u64> {
        self.files.iter().map(|file| file.header.init.0).collect()
    }

    /// What holds of every recording, however it came about: index = files, numbers without holes,
    /// times that rise, all of it playable. Says how many pictures were decoded.
    #[track_caller]
    pub fn check(&self, witness: &mut dyn FnMut() -> Witness) -> usize {
        self.check_pictures(witness).len()
    }

    /// The same; returns the pictures, in order.
    #[track_caller]
    pub fn check_pictures(&self, witness: &mut dyn FnMut() -> Witness) -> Vec<Picture> {
        let mut next_segment = None;
        let mut last: Option<(&File, &Chunk)> = None;
        let mut decoded = Vec::new();
        let mut codes: Option<Witness> = None;
        // Of the stream: a file that ends early need not show it.
        let reorders = self.files.iter().any(File::reorders);
        for (at, file) in self.files.iter().enumerate() {
            let newest = at + 1 == self.files.len();
            file.check(newest || self.refused);
            let number = file.name.discontinuity_sequence;
            let goes_on = last.is_some_and(|(before, _)| {
                let former = before.name.discontinuity_sequence;
                assert!(number == former || number == former + 1, "{}", file.name);
                number == former
            });
            for chunk in file.chunks.iter().filter(|chunk| chunk.len > 0) {
                if chunk.part == 0 {
                    let expected = next_segment.replace(chunk.media_sequence + 1);
                    assert!(
                        expected.is_none_or(|number| number == chunk.media_sequence),
                        "segment {} where {expected:?} belongs",
                        chunk.media_sequence
                    );
                }
                if let Some((_, before)) =
                    last.filter(|(before, _)| before.name.discontinuity_sequence == number)
                {
                    let end = before.decode_time + i64::from(before.duration);
                    let off = (chunk.decode_time - end).abs();
                    assert!(
                        off < 90_000,
                        "a hole of {off} ticks without a break, {}",
                        file.name
                    );
                    assert!(chunk.decode_time > before.decode_time);
                }
                last = Some((file, chunk));
            }
            let pictures = file.decode();
            let frames = file.frames();
            assert_eq!(pictures.len(), frames.len(), "{}", file.name);
            let captures = frames.iter().map(|frame| frame.capture_ns);
            decoded.extend(
                (pictures.iter().zip(captures))
                    .map(|(&code, capture_ns)| Picture { code, capture_ns }),
            );
            if !goes_on {
                codes = None;
            }
            let codes = codes.get_or_insert_with(&mut *witness);
            // A run may end with a picture that is shown after others that were not sent any more.
            let ends = self
                .files
                .get(at + 1)
                .is_none_or(|next| next.name.discontinuity_sequence != number);
            let sure = match ends && reorders {
                true => pictures.len().saturating_sub(3),
                false => pictures.len(),
            };
            for (place, code) in pictures.iter().take(sure).enumerate() {
                let step = codes.step(*code);
                assert_eq!(step, 1, "picture {place} of {}: {code:?}", file.name);
            }
        }
        decoded
    }
}

impl File {
    /// In presentation order.
    pub fn frames(&self) -> Vec<FrameTime> {
        let mut frames: Vec<FrameTime> =
            self.chunks.iter().flat_map(|c| c.frames.clone()).collect();
        frames.sort_by_key(|frame| frame.time);
        frames
    }

    /// Whether some pictures are decoded after ones that are shown later.
    fn reorders(&self) -> bool {
        let frames = self.chunks.iter().flat_map(|chunk| &chunk.frames);
        !frames.is_sorted_by_key(|frame| frame.time)
    }

    #[track_caller]
    fn check(&self, open: bool) {
        let name = &self.name;
        assert_eq!(self.header.media_sequence, name.media_sequence);
        assert_eq!(
            self.header.discontinuity_sequence,
            name.discontinuity_sequence
        );
        assert_eq!(
            (self.header.init, name.init),
            (InitId::of(&self.init), self.header.init)
        );
        let first = self.chunks.first().expect("no empty file is kept");
        assert!(
            first
                .flags
                .contains(ChunkFlags::SEGMENT_START | ChunkFlags::INDEPENDENT)
        );
        let mut offset = 0;
        for (chunk, next) in self
            .chunks
            .iter()
            .zip(self.chunks.iter().skip(1).map(Some).chain([None]))
        {
            assert_eq!(chunk.offset, offset, "{name}");
            offset += u64::from(chunk.len);
            let ends = chunk.flags.contains(ChunkFlags::SEGMENT_END);
            match next {
                Some(next) if ends => {
                    assert_eq!(
                        (next.media_sequence, next.part),
                        (chunk.media_sequence + 1, 0)
                    );
                    let start = ChunkFlags::SEGMENT_START | ChunkFlags::INDEPENDENT;
                    assert!(next.flags.contains(start), "{name}: {next:?}");
                }
                Some(next) => {
                    assert_eq!(
                        (next.media_sequence, next.part),
                        (chunk.media_sequence, chunk.part + 1)
                    );
                }
                None => assert!(ends || open, "{name} is not ended"),
            }
            if chunk.len > 0 {
                self.check_bytes(chunk);
            }
        }
        assert!(
            self.data.len() as u64 >= offset,
            "{name}: the index is ahead of the media"
        );
        assert!(open || self.data.len() as u64 == offset, "{name}: a tail");
    }

    /// One `moof` and one `mdat`, whose `tfdt` is the index's.
    #[track_caller]
    fn check_bytes(&self, chunk: &Chunk) {
        let start = usize::try_from(chunk.offset).expect("small");
        let bytes = &self.data[start..start + chunk.len as usize];
        let size = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(&bytes[4..8], b"moof");
        let moof = size(0);
        assert_eq!(&bytes[moof + 4..moof + 8], b"mdat");
        assert_eq!(moof + size(moof), bytes.len());
        let tfdt = (0..moof - 16)
            .find(|at| &bytes[*at..at + 4] == b"tfdt")
            .expect("a tfdt");
        let time = u64::from_be_bytes(bytes[tfdt + 8..tfdt + 16].try_into().unwrap());
        assert_eq!(i64::try_from(time), Ok(chunk.decode_time));
        assert!(
            chunk
                .frames
                .iter()
                .all(|frame| frame.time >= chunk.decode_time)
        );
        let key = chunk
            .frames
            .first()
            .is_some_and(|f| f.flags == FrameFlags::KEY);
        assert_eq!(key, chunk.flags.contains(ChunkFlags::INDEPENDENT));
    }

    /// Every part but the last of a segment lasts 85 to 100 % of the part target; one of a single picture, that
    /// the next one came late after, as long as that.
    #[track_caller]
    pub fn check_parts(&self) {
        let target = i64::from(self.header.part_target_us) * 9 / 100;
        for pair in self.chunks.windows(2) {
            let lasts = i64::from(pair[0].duration);
            let single = pair[0].frames.len() == 1;
            assert!(
                single || lasts <= target,
                "{:?} lasts more than {target}",
                pair[0]
            );
            let is_last = pair[0].media_sequence != pair[1].media_sequence || pair[1].len == 0;
            assert!(
                is_last || lasts * 100 >= target * 85,
                "{:?} of {target}",
                pair[0]
            );
        }
    }

    /// The codes of all pictures, by `ffmpeg`, which must have nothing to complain about.
    #[track_caller]
    pub fn decode(&self) -> Vec<Code> {
        let committed: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
        let mut file = tempfile::Builder::new()
            .suffix(".mp4")
            .tempfile()
            .expect("a file");
        file.write_all(&self.init).expect("room");
        file.write_all(&self.data[..usize::try_from(committed).expect("small")])
            .expect("room");
        let size = self.size(file.path());
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-xerror", "-i"])
            .arg(file.path())
            .args([
                "-vsync",
                "passthrough",
                "-enc_time_base",
                "1:90000",
                "-f",
                "rawvideo",
                "-pix_fmt",
                "gray",
                "-",
            ])
            .stdin(Stdio::null())
            .output()
            .expect("ffmpeg is needed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && errors.is_empty(),
            "{}: {errors} {:?}",
            self.name,
            self.chunks.iter().take(3).collect::<Vec<_>>()
        );
        let (width, height) = size;
        let pictures = output.stdout.chunks_exact(width * height);
        assert!(pictures.remainder().is_empty());
        pictures
            .map(|luma| match framecode::read(luma, width, width, height) {
                Ok(code) => code,
                Err(error) => panic!("{}: {error}", self.name),
            })
            .collect()
    }

    fn size(&self, path: &Path) -> (usize, usize) {
        let output = Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-show_entries",
                "stream=width,height",
                "-of",
                "csv=p=0",
            ])
            .arg(path)
            .output()
            .expect("ffprobe is needed");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut sides = text
            .trim()
            .split(',')
            .map(|side| side.parse().expect("a number"));
        let mut next = || sides.next().expect("two sides");
        (next(), next())
    }
}
