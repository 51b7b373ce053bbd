//! The spill file: blocks of events that do not fit into memory.
//!
//! It is disposable: the files are removed from their folder as soon as they are open, so that nothing
//! is left however the process ends, and after a crash the log is read again from the checkpoint.

use std::{
    fs::File,
    io::{BufWriter, ErrorKind, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pontoon_core::{Code, Error, LogEvent, Result};

/// A segment is closed when it passes this size. Its space is given back when its last block has been
/// applied, so a smaller one frees disk sooner and a larger one needs fewer files.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Where a block lies.
#[derive(Debug, Clone)]
pub(super) struct Spilled {
    segment: Arc<File>,
    offset: u64,
    bytes: u32,
}

impl Spilled {
    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.bytes)
    }

    /// Reads the block back.
    pub(super) fn read(&self) -> Result<Vec<LogEvent>> {
        let mut buffer = vec![0; self.bytes as usize];
        self.segment.read_exact_at(&mut buffer, self.offset).map_err(|error| failed("read", &error))?;
        postcard::from_bytes(&buffer).map_err(|error| failed("read", &error))
    }
}

/// What is written at a time, but for larger values.
const BUFFER_BYTES: usize = 64 << 10;

/// Writes on from a place in a segment, and knows what the system refused.
struct At<'a> {
    segment: &'a File,
    offset: u64,
    error: Option<std::io::Error>,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.segment.write_at(bytes, self.offset);
        match written {
            Ok(count) => {
                self.offset += count as u64;
                Ok(count)
            }
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes blocks.
pub(super) struct Spill {
    folder: PathBuf,
    current: Option<(Arc<File>, u64)>,
}

impl Spill {
    /// A spill in a folder, which is made when it is first needed.
    pub(super) fn new(folder: &Path) -> Self {
        Spill { folder: folder.to_owned(), current: None }
    }

    /// Writes a block; `None` where the disk has no room for it now.
    pub(super) fn write(&mut self, events: &[Arc<LogEvent>]) -> Result<Option<Spilled>> {
        let events: Vec<&LogEvent> = events.iter().map(Arc::as_ref).collect();
        let (segment, offset) = self.room()?;
        // A value as large as all memory is written from where it is.
        let mut at = At { segment: &segment, offset, error: None };
        let written = postcard::to_io(&events, BufWriter::with_capacity(BUFFER_BYTES, &mut at))
            .map_err(|error| error.to_string())
            .and_then(|mut buffer| buffer.flush().map_err(|error| error.to_string()));
        let (end, refused) = (at.offset, at.error);
        match (written, refused) {
            (Ok(()), _) => {}
            (Err(_), Some(error)) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                tracing::debug!(%error, "the spill's disk is full");
                // Its space is to come back with its last block.
                self.close_segment();
                return Ok(None);
            }
            (Err(_), Some(error)) => return Err(failed("write", &error)),
            (Err(error), None) => return Err(failed("write", &error)),
        }
        let bytes = u32::try_from(end - offset).map_err(|error| failed("write", &error))?;
        self.current = Some((segment.clone(), offset + u64::from(bytes)));
        Ok(Some(Spilled { segment, offset, bytes }))
    }

    /// The next block goes into another segment: this one's space is given back when no block is left in it.
    pub(super) fn close_segment(&mut self) {
        self.current = None;
    }

    fn room(&mut self) -> Result<(Arc<File>, u64)> {
        match &self.current {
            Some((segment, offset)) if *offset < SEGMENT_BYTES => Ok((segment.clone(), *offset)),
            _ => {
                std::fs::create_dir_all(&self.folder).map_err(|error| self.unusable(&error))?;
                let file = tempfile::tempfile_in(&self.folder).map_err(|error| self.unusable(&error))?;
                Ok((Arc::new(file), 0))
            }
        }
    }

    fn unusable(&self, error: &std::io::Error) -> Error {
        Error::new(Code::SpillFailed, format!("the spill folder {}: {error}", self.folder.display()))
            .hint("name a folder that the bridge's user can write to in [limits] spill_dir")
    }
}

/// There is no room on the disk, and what is to be written cannot wait.
pub(super) fn disk_full() -> Error {
    Error::new(Code::SpillFailed, "the disk of the spill folder is full")
        .hint("make room there, or name a folder on another disk in [limits] spill_dir")
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Code::SpillFailed, format!("cannot {what} the spill file: {error}"))
}
