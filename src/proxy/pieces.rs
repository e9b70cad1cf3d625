//! The bytes of a body that are kept, to be read again or later. How they came says nothing about how
//! they are kept: a body that comes byte by byte takes little more memory than one that comes at once.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces below this are copied together: each might be the last one that keeps a buffer of many
/// times its size in memory, and each has a cost of its own.
const SMALL: usize = 8 * 1024;
/// The most that is copied together into one block.
const BLOCK: usize = 64 * 1024;
/// What part of a buffer that was read into is left empty, about: pieces keep all of it in memory.
const SLACK: u64 = 4;
/// What a block costs beside its bytes.
const OVERHEAD: u64 = 128;

/// What is kept of a body, in order.
#[derive(Default)]
pub(super) struct Pieces {
    closed: VecDeque<Block>,
    /// The last block, to which small pieces are added.
    open: BytesMut,
    length: u64,
    /// What the closed blocks take.
    taken: u64,
}

struct Block {
    data: Bytes,
    /// How much memory it takes, bytes.
    cost: u64,
}

/// How far a reader is.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    block: usize,
    offset: usize,
}

impl Pieces {
    /// How many bytes of the body are kept.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How much memory they take, bytes.
    pub fn cost(&self) -> u64 {
        match self.open.capacity() {
            0 => self.taken,
            size => self.taken + size as u64 + OVERHEAD,
        }
    }

    /// Adds `data` at the end.
    pub fn push(&mut self, data: &Bytes) {
        self.length += data.len() as u64;
        if data.len() >= SMALL {
            self.close();
            let size = data.len() as u64;
            self.add(data.clone(), size + size / SLACK + OVERHEAD);
            return;
        }
        if self.open.len() + data.len() > BLOCK {
            self.close();
        }
        self.open.extend_from_slice(data);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let cost = self.cost() - self.taken;
            let data = std::mem::take(&mut self.open).freeze();
            self.add(data, cost);
        }
    }

    fn add(&mut self, data: Bytes, cost: u64) {
        self.taken += cost;
        self.closed.push_back(Block { data, cost });
    }

    /// Takes out what comes first, as much as is in one block. For a body that nobody reads by a
    /// place.
    pub fn take(&mut self) -> Option<Bytes> {
        let data = match self.closed.pop_front() {
            Some(block) => {
                self.taken = self.taken.saturating_sub(block.cost);
                block.data
            }
            None if self.open.is_empty() => return None,
            None => std::mem::take(&mut self.open).freeze(),
        };
        self.length = self.length.saturating_sub(data.len() as u64);
        Some(data)
    }

    /// The place behind all that is there.
    pub fn end(&self) -> Place {
        Place { block: self.closed.len(), offset: self.open.len() }
    }

    /// What is there from `place` on, as much as is in one block; moves `place` behind it.
    pub fn read(&self, place: &mut Place) -> Option<Bytes> {
        while let Some(block) = self.closed.get(place.block) {
            let rest = block.data.len().saturating_sub(place.offset);
            let data = (rest > 0).then(|| block.data.slice(place.offset..));
            *place = Place { block: place.block + 1, offset: 0 };
            if data.is_some() {
                return data;
            }
        }
        let data = self.open.get(place.offset..).filter(|data| !data.is_empty())?;
        place.offset = self.open.len();
        Some(Bytes::copy_from_slice(data))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn read_all(pieces: &Pieces, place: &mut Place) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(data) = pieces.read(place) {
            assert!(!data.is_empty());
            all.extend_from_slice(&data);
        }
        all
    }

    #[test]
    fn a_body_of_single_bytes_takes_little_more_than_its_size() {
        let mut pieces = Pieces::default();
        for _ in 0..1 << 20 {
            // Each is a part of a buffer of its own, which it would keep in memory.
            pieces.push(&Bytes::from(vec![b'x'; 64]).slice(7..8));
        }
        assert_eq!(pieces.length(), 1 << 20);
        assert_eq!(pieces.closed.len() + 1, (1 << 20) / BLOCK);
        assert!(pieces.cost() < (1 << 20) + (1 << 14), "{}", pieces.cost());
    }

    proptest! {
        #[test]
        fn every_reader_reads_what_was_pushed_however_it_was_cut(
            sizes in vec(prop_oneof![0usize..40, 0..SMALL + 9, SMALL..BLOCK * 2], 1..60),
            late in 0usize..60,
            away in vec(any::<bool>(), 60),
        ) {
            let (mut pieces, mut whole) = (Pieces::default(), Vec::new());
            let (mut reader, mut read) = (Place::default(), Vec::new());
            let mut from_late = (Place::default(), 0);
            for (number, (size, reads)) in sizes.iter().zip(away).enumerate() {
                let data: Vec<u8> = (0..*size).map(|byte| (byte * 31 + number) as u8).collect();
                whole.extend_from_slice(&data);
                pieces.push(&data.into());
                if reads {
                    read.extend(read_all(&pieces, &mut reader));
                }
                if number == late {
                    from_late = (pieces.end(), whole.len());
                }
                // Blocks grow by doubling; a small one is closed only by a large piece.
                let most = 2 * whole.len() + (2 * number + 2) * (OVERHEAD as usize + 8);
                prop_assert!(pieces.cost() <= most as u64, "{} of {most}", pieces.cost());
                prop_assert!(pieces.cost() >= pieces.length());
            }
            read.extend(read_all(&pieces, &mut reader));
            prop_assert!(read == whole);
            prop_assert!(read_all(&pieces, &mut Place::default()) == whole);
            prop_assert!(read_all(&pieces, &mut from_late.0) == whole[from_late.1..]);
        }
    }
}
