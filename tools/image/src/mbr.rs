//! Partition tables: the MBR's four entries, and GPT's for reading.
//!
//! Everything of a table is checked against the image's length before it is used; whatever overlaps, leaves the image or
//! makes no sense is an error, not repaired.

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// More than this is no table of a card.
const MOST: usize = 128;

/// A part of an image, sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// The first sector.
    pub start: u64,
    /// How many.
    pub sectors: u64,
    /// What it says that it holds: FAT or another.
    pub fat: bool,
}

/// Types of the MBR that are FAT: 12, 16, 32, with and without LBA.
const FAT_TYPES: [u8; 6] = [0x01, 0x04, 0x06, 0x0b, 0x0c, 0x0e];
/// GPT's types for FAT: EFI system partition, Microsoft's basic data; as they lie on the disk.
const FAT_GUIDS: [[u8; 16]; 2] = [
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b],
    [
        0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99,
        0xc7,
    ],
];

/// Reads the table in the first bytes of an image; `head` should hold the first 34 sectors, `length` is the image's.
///
/// # Errors
/// What is wrong with the table, in words.
pub fn read(head: &[u8], length: u64) -> Result<Vec<Partition>, String> {
    let sector = head.get(..512).ok_or("it is shorter than a sector")?;
    if sector[510..] != [0x55, 0xaa] {
        return Err("it does not begin with a partition table".into());
    }
    let mut found = Vec::new();
    for (i, entry) in sector[446..510].chunks_exact(16).enumerate() {
        let kind = entry[4];
        if kind == 0 {
            continue;
        }
        if kind == 0xee {
            return gpt(head, length);
        }
        let partition = Partition {
            start: u64::from(u32_at(entry, 8)),
            sectors: u64::from(u32_at(entry, 12)),
            fat: FAT_TYPES.contains(&kind),
        };
        found.push((i + 1, partition));
    }
    check(&found, length)
}

fn gpt(head: &[u8], length: u64) -> Result<Vec<Partition>, String> {
    let header = head.get(512..1024).ok_or("its GPT is cut off")?;
    if &header[..8] != b"EFI PART" {
        return Err("its table says GPT, but there is none".into());
    }
    let first = u64_at(header, 72);
    let (count, size) = (u32_at(header, 80) as usize, u32_at(header, 84) as usize);
    if first != 2 || count > MOST || !(128..=512).contains(&size) {
        return Err(format!("its GPT has {count} entries of {size} bytes from sector {first}"));
    }
    let entries = head.get(1024..).unwrap_or(&[]);
    let mut found = Vec::new();
    for (i, entry) in entries.chunks_exact(size).take(count).enumerate() {
        if entry[..16] == [0; 16] {
            continue;
        }
        let (start, last) = (u64_at(entry, 32), u64_at(entry, 40));
        let sectors = last.checked_sub(start).and_then(|n| n.checked_add(1)).unwrap_or(0);
        let fat = FAT_GUIDS.iter().any(|guid| entry[..16] == *guid);
        found.push((i + 1, Partition { start, sectors, fat }));
    }
    check(&found, length)
}

fn check(found: &[(usize, Partition)], length: u64) -> Result<Vec<Partition>, String> {
    let total = length / SECTOR;
    for (i, (number, p)) in found.iter().enumerate() {
        let end = p.start.checked_add(p.sectors).filter(|end| *end <= total);
        let Some(end) = end.filter(|_| p.start > 0 && p.sectors > 0) else {
            return Err(format!(
                "partition {number} is {} sectors from {}, but the image has {total}: it is incomplete or damaged",
                p.sectors, p.start
            ));
        };
        let overlapping = |(_, q): &&(usize, Partition)| {
            p.start < q.start.saturating_add(q.sectors) && q.start < end
        };
        if let Some((other, _)) = found[..i].iter().find(overlapping) {
            return Err(format!("partitions {other} and {number} overlap"));
        }
    }
    if found.is_empty() {
        return Err("its partition table is empty".into());
    }
    Ok(found.iter().map(|(_, p)| *p).collect())
}

/// The first sector of a card with up to four partitions.
///
/// # Panics
/// With more than four, or beyond 2 TiB.
#[must_use]
pub fn write(partitions: &[Partition], signature: u32) -> [u8; 512] {
    assert!(partitions.len() <= 4, "an MBR has four entries");
    let mut sector = [0; 512];
    sector[440..444].copy_from_slice(&signature.to_le_bytes());
    for (entry, p) in sector[446..510].chunks_exact_mut(16).zip(partitions) {
        // Cylinders, heads and sectors: beyond what they can say.
        entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[4] = if p.fat { 0x0c } else { 0x83 };
        let small = |n: u64| u32::try_from(n).expect("within 2 TiB").to_le_bytes();
        entry[8..12].copy_from_slice(&small(p.start));
        entry[12..16].copy_from_slice(&small(p.sectors));
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: [Partition; 2] = [
        Partition { start: 8192, sectors: 1000, fat: true },
        Partition { start: 10000, sectors: 5000, fat: false },
    ];

    #[test]
    fn what_is_written_is_read() {
        let table = write(&TWO, 7);
        assert_eq!(read(&table, 15000 * 512).unwrap(), TWO);
        assert!(read(&table, 14999 * 512).unwrap_err().contains("partition 2"));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(read(&[], 0).is_err());
        assert!(read(&[0; 512], 1 << 30).unwrap_err().contains("partition table"));
        assert!(read(&write(&[], 0), 1 << 30).unwrap_err().contains("empty"));
        for (start, sectors) in
            [(0, 10), (10, 0), (u32::MAX.into(), u32::MAX.into()), (8192, 1 << 31)]
        {
            let table = write(&[Partition { start, sectors, fat: true }], 0);
            assert!(read(&table, 1 << 30).is_err(), "{start} {sectors}");
        }
        let twice = [TWO[0], Partition { start: 9000, sectors: 500, fat: false }];
        assert!(read(&write(&twice, 0), 1 << 30).unwrap_err().contains("overlap"));
    }

    fn gpt_head() -> Vec<u8> {
        let mut head = vec![0; 34 * 512];
        head[446 + 4] = 0xee;
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        head[512..520].copy_from_slice(b"EFI PART");
        head[512 + 72] = 2;
        head[512 + 80] = 128;
        head[512 + 84] = 128;
        head[1024..1040].copy_from_slice(&FAT_GUIDS[1]);
        head[1024 + 32..1024 + 40].copy_from_slice(&2048u64.to_le_bytes());
        head[1024 + 40..1024 + 48].copy_from_slice(&4095u64.to_le_bytes());
        head
    }

    #[test]
    fn gpt_is_read_and_its_nonsense_refused() {
        let head = gpt_head();
        let partition = Partition { start: 2048, sectors: 2048, fat: true };
        assert_eq!(read(&head, 1 << 24).unwrap(), [partition]);
        for (at, byte) in [
            (512, 0),
            (512 + 72, 3),
            (512 + 81, 255),
            (512 + 84, 0),
            (1024 + 40, 0),
            (1024 + 47, 255),
        ] {
            let mut head = head.clone();
            head[at] = byte;
            if at == 1024 + 40 {
                head[at + 1] = 0;
            }
            assert!(read(&head, 1 << 24).is_err(), "{at}");
        }
        assert!(read(&head[..600], 1 << 24).is_err());
    }

    #[test]
    fn random_tables_never_panic() {
        let mut state = 3u64;
        let mut head = gpt_head();
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % 1600;
            head[at] = (state >> 24) as u8;
            head[510..512].copy_from_slice(&[0x55, 0xaa]);
            let _ = read(&head, 1 << 24);
        }
    }
}
