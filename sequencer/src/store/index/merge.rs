//! Merging runs: several sorted runs become one, a slice at a time.
//!
//! Promises: memory of one chunk for each input; entries with one key keep the order of their runs, oldest first.
//! Leaves to others: to put the result in the inputs' place, and to remove them.

use super::run::{ChunkWriter, FIRST, Key, LAST};
use super::{Doubt, Tree};

/// A merge in progress.
#[derive(Debug)]
pub(super) struct Merge {
    inputs: Vec<Input>,
    output: u64,
    writer: Option<ChunkWriter>,
}

/// One run that is read to its end.
#[derive(Debug)]
struct Input {
    run: u64,
    entries: Vec<(Key, u64)>,
    at: usize,
    /// Lower bound of the chunk to read next.
    next: Key,
}

impl Input {
    /// The next entry; `None` at the end of the run.
    fn peek(&mut self, tree: &Tree) -> Result<Option<(Key, u64)>, Doubt> {
        while self.at == self.entries.len() {
            if self.next == LAST {
                return Ok(None);
            }
            let (entries, upper) = tree.chunk(self.run, &self.next)?;
            if upper <= self.next {
                return Err(Doubt(format!("bounds of run {} do not ascend", self.run)));
            }
            (self.entries, self.at, self.next) = (entries, 0, upper);
        }
        Ok(self.entries.get(self.at).copied())
    }
}

impl Merge {
    /// A merge of `inputs`, oldest first, into the run `output`.
    pub(super) fn new(inputs: Vec<u64>, output: u64) -> Self {
        let inputs = inputs.into_iter().map(|run| Input {
            run,
            entries: Vec::new(),
            at: 0,
            next: FIRST,
        });
        Self {
            inputs: inputs.collect(),
            output,
            writer: Some(ChunkWriter::new(output)),
        }
    }

    /// The runs that are merged.
    pub(super) fn inputs(&self) -> Vec<u64> {
        self.inputs.iter().map(|input| input.run).collect()
    }

    /// The run that comes out.
    pub(super) fn output(&self) -> u64 {
        self.output
    }

    /// Writes up to `chunks` chunks; true when the run is whole.
    pub(super) fn step(&mut self, tree: &Tree, chunks: usize) -> Result<bool, Doubt> {
        let mut written = 0;
        while written < chunks {
            let mut least: Option<(Key, u64, usize)> = None;
            for (index, input) in self.inputs.iter_mut().enumerate() {
                let head = input.peek(tree)?;
                // Strictly less, so that of equal keys the oldest run's comes first.
                if let Some((key, value)) = head
                    && least.is_none_or(|(other, _, _)| key < other)
                {
                    least = Some((key, value, index));
                }
            }
            let Some((key, value, index)) = least else {
                if let Some(writer) = self.writer.take() {
                    tree.put_chunk(writer.finish())?;
                }
                return Ok(true);
            };
            self.inputs[index].at += 1;
            let chunk = self.writer.as_mut().and_then(|writer| writer.push(&key, value));
            if let Some(chunk) = chunk {
                tree.put_chunk(chunk)?;
                written += 1;
            }
        }
        Ok(false)
    }
}
