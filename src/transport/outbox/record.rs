//! The bytes of the spool file, version 1: pure, no I/O.
//!
//! ```text
//! file   := "PVSPOOL" 0x01 record*
//! record := marker(4) length(u32) checksum(u64) body(length bytes)
//! body   := kind(u8) ordinal(u64) rest
//! event  := kind 1: seq(u64) class(u8: 0 health, 1 other) id(text) subject(text)
//!                   traceparent(text, empty for none) payload(u32 length, bytes)
//! marks  := kind 2: last(u64, seq of the last event before it) cursor(u64)
//!                   dropped_health_to(u64) dropped_other_to(u64) turn(u64)
//!                   hole?(hole) notice?(text id, hole)
//! hole   := at(u64) dropped(u64) dropped_health(u64) since(i64 microseconds since 1970)
//! text   := length(u16) UTF-8        x? := 0 | 1 x
//! ```
//!
//! Numbers are little-endian; the checksum is FNV-1a (64 bit) of the body. The ordinal is the
//! number of events written to this file before the record, so that any record after a damaged
//! part tells how many events the part held. The last marks hold. A record that is not whole or
//! whose checksum is wrong is skipped by looking for the next marker that begins a good one; when
//! none follows, the file was torn while its last record was written.

use bytes::Bytes;
use jiff::Timestamp;

use crate::protocol::id::EventId;
use crate::transport::outbox::entry::{Class, Draft, Event, Hole, Marks, Notice, Recovered};

/// First bytes of every spool file of any version; the version follows in one byte.
const MAGIC: &[u8] = b"PVSPOOL";

/// The version that this file reads and writes.
pub(crate) const VERSION: u8 = 1;

/// First bytes of every record.
const MARKER: [u8; 4] = [0xf5, b'p', b'v', 0xd1];

const KIND_EVENT: u8 = 1;
const KIND_MARKS: u8 = 2;

/// What stands at the beginning of a file.
pub(crate) fn header() -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.push(VERSION);
    header
}

/// Appends the record of an event.
pub(crate) fn put_event(buffer: &mut Vec<u8>, ordinal: u64, event: &Event) {
    put_record(buffer, KIND_EVENT, ordinal, |body| {
        body.extend(event.seq.to_le_bytes());
        body.push(match event.draft.class {
            Class::Health => 0,
            Class::Other => 1,
        });
        put_text(body, &event.draft.id.to_string());
        put_text(body, &event.draft.subject);
        put_text(body, event.draft.traceparent.as_deref().unwrap_or_default());
        let length = u32::try_from(event.draft.payload.len()).unwrap_or(u32::MAX);
        body.extend(length.to_le_bytes());
        body.extend_from_slice(&event.draft.payload);
    });
}

/// Appends the record of the marks.
pub(crate) fn put_marks(buffer: &mut Vec<u8>, ordinal: u64, last_seq: u64, marks: &Marks) {
    put_record(buffer, KIND_MARKS, ordinal, |body| {
        body.extend(last_seq.to_le_bytes());
        for number in [marks.cursor, marks.dropped_health_to, marks.dropped_other_to, marks.turn] {
            body.extend(number.to_le_bytes());
        }
        body.push(u8::from(marks.hole.is_some()));
        if let Some(hole) = &marks.hole {
            put_hole(body, hole);
        }
        body.push(u8::from(marks.notice.is_some()));
        if let Some(notice) = &marks.notice {
            put_text(body, &notice.id.to_string());
            put_hole(body, &notice.hole);
        }
    });
}

fn put_record(buffer: &mut Vec<u8>, kind: u8, ordinal: u64, rest: impl FnOnce(&mut Vec<u8>)) {
    let mut body = vec![kind];
    body.extend(ordinal.to_le_bytes());
    rest(&mut body);
    buffer.extend(MARKER);
    buffer.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    buffer.extend(checksum(&body).to_le_bytes());
    buffer.append(&mut body);
}

fn put_hole(body: &mut Vec<u8>, hole: &Hole) {
    for number in [hole.at, hole.dropped, hole.dropped_health] {
        body.extend(number.to_le_bytes());
    }
    body.extend(hole.since.as_microsecond().to_le_bytes());
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    // Ids and subjects are far shorter; what is too long is not written rather than cut.
    let text = if u16::try_from(text.len()).is_ok() { text } else { "" };
    body.extend(u16::try_from(text.len()).unwrap_or(0).to_le_bytes());
    body.extend(text.as_bytes());
}

/// FNV-1a, 64 bit: finds every changed byte, and needs neither a table nor a dependency.
fn checksum(body: &[u8]) -> u64 {
    body.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What a file held.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) recovered: Recovered,
    /// Bytes that were skipped because they are no good records.
    pub(crate) damaged_bytes: u64,
    /// Bytes at the end that are no whole record.
    pub(crate) torn_bytes: u64,
}

/// The file is of another version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct OtherVersion(pub(crate) u8);

/// Reads a whole file.
///
/// # Errors
///
/// [`OtherVersion`] when a later or earlier provost wrote it.
pub(crate) fn scan(file: &[u8]) -> Result<Scan, OtherVersion> {
    let mut scanner = Scanner::default();
    let mut rest = match file.strip_prefix(MAGIC).and_then(|rest| rest.split_first()) {
        Some((&VERSION, rest)) => rest,
        Some((&version, _)) => return Err(OtherVersion(version)),
        None => file,
    };
    let mut damaged = 0_u64;
    while !rest.is_empty() {
        if let Some((record, after)) = read_record(rest) {
            scanner.scan.damaged_bytes = scanner.scan.damaged_bytes.saturating_add(damaged);
            damaged = 0;
            scanner.take(record);
            rest = after;
        } else {
            let skipped = next_marker(rest);
            damaged = damaged.saturating_add(u64::try_from(skipped).unwrap_or(u64::MAX));
            rest = rest.get(skipped..).unwrap_or_default();
        }
    }
    scanner.scan.torn_bytes = damaged;
    Ok(scanner.finish())
}

/// Distance to the next marker, at least one byte.
fn next_marker(bytes: &[u8]) -> usize {
    let after = bytes.get(1..).unwrap_or_default();
    after
        .windows(MARKER.len())
        .position(|window| window == MARKER)
        .map_or(bytes.len(), |position| position.saturating_add(1))
}

/// Events that were written and cannot be read.
#[derive(Debug)]
struct Missing {
    count: u64,
    /// Number of the event before the first of them.
    before: u64,
    /// Highest number that the last of them can have.
    last: u64,
}

#[derive(Debug, Default)]
struct Scanner {
    scan: Scan,
    ordinal: u64,
    last_seq: u64,
    missing: Vec<Missing>,
}

impl Scanner {
    fn take(&mut self, record: Record) {
        let (ordinal, last) = match &record {
            Record::Event(ordinal, event) => (*ordinal, event.seq.saturating_sub(1)),
            Record::Marks(ordinal, last, _) => (*ordinal, *last),
        };
        let count = ordinal.saturating_sub(self.ordinal);
        if 0 < count {
            self.missing.push(Missing { count, before: self.last_seq, last });
            self.ordinal = ordinal;
            self.last_seq = self.last_seq.max(last);
        }
        match record {
            Record::Event(_, event) => {
                self.ordinal = self.ordinal.saturating_add(1);
                self.last_seq = self.last_seq.max(event.seq);
                self.scan.recovered.events.push(event);
            }
            Record::Marks(_, _, marks) => self.scan.recovered.marks = marks,
        }
    }

    /// Counts as lost what is missing and was not settled before.
    fn finish(mut self) -> Scan {
        let cursor = self.scan.recovered.marks.cursor;
        let mut lost: Option<(u64, u64)> = None;
        for missing in self.missing {
            let count = missing.count.min(missing.last.saturating_sub(cursor));
            if 0 < count {
                let at = missing.before.max(cursor).saturating_add(1);
                let (first, total) = lost.unwrap_or((at, 0));
                lost = Some((first, total.saturating_add(count)));
            }
        }
        self.scan.recovered.lost = lost;
        self.scan.recovered.events.sort_by_key(|event| event.seq);
        self.scan.recovered.events.dedup_by_key(|event| event.seq);
        self.scan
    }
}

enum Record {
    Event(u64, Event),
    Marks(u64, u64, Marks),
}

fn read_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let mut reader = Reader(bytes.strip_prefix(&MARKER)?);
    let length = usize::try_from(reader.u32()?).ok()?;
    let expected = reader.u64()?;
    let body = reader.bytes(length)?;
    if checksum(body) != expected {
        return None;
    }
    let mut body = Reader(body);
    let record = match body.u8()? {
        KIND_EVENT => Record::Event(body.u64()?, body.event()?),
        KIND_MARKS => Record::Marks(body.u64()?, body.u64()?, body.marks()?),
        _ => return None,
    };
    body.0.is_empty().then_some((record, reader.0))
}

/// Reads from the front of a slice; `None` when it is too short.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.array().map(u16::from_le_bytes)?;
        std::str::from_utf8(self.bytes(length.into())?).ok()
    }

    fn id(&mut self) -> Option<EventId> {
        self.text()?.parse().ok()
    }

    fn hole(&mut self) -> Option<Hole> {
        let (at, dropped, dropped_health) = (self.u64()?, self.u64()?, self.u64()?);
        let since = self.array().map(i64::from_le_bytes)?;
        Some(Hole { at, dropped, dropped_health, since: Timestamp::from_microsecond(since).ok()? })
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }

    fn event(&mut self) -> Option<Event> {
        let seq = self.u64()?;
        let class = match self.u8()? {
            0 => Class::Health,
            1 => Class::Other,
            _ => return None,
        };
        let id = self.id()?;
        let subject = self.text()?.to_owned();
        let traceparent = Some(self.text()?.to_owned()).filter(|text| !text.is_empty());
        let length = usize::try_from(self.u32()?).ok()?;
        let payload = Bytes::copy_from_slice(self.bytes(length)?);
        Some(Event { seq, draft: Draft { id, subject, class, payload, traceparent } })
    }

    fn marks(&mut self) -> Option<Marks> {
        Some(Marks {
            cursor: self.u64()?,
            dropped_health_to: self.u64()?,
            dropped_other_to: self.u64()?,
            turn: self.u64()?,
            hole: self.optional(Self::hole)?,
            notice: self
                .optional(|reader| Some(Notice { id: reader.id()?, hole: reader.hole()? }))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(seq: u64) -> Event {
        let class = if seq.is_multiple_of(3) { Class::Health } else { Class::Other };
        Event {
            seq,
            draft: Draft {
                id: EventId::new(uuid::Uuid::from_u128(u128::from(seq))),
                subject: format!("agent.events.w{seq}"),
                class,
                payload: format!("{{\"n\":{seq}}}").into_bytes().into(),
                traceparent: seq.is_multiple_of(2).then(|| "00-1-2-01".to_owned()),
            },
        }
    }

    fn marks(cursor: u64) -> Marks {
        let since = Timestamp::from_microsecond(1_700_000_000_000_001).unwrap();
        let hole = Hole { at: 7, dropped: 3, dropped_health: 1, since };
        let notice = Notice { id: EventId::new(uuid::Uuid::from_u128(9)), hole };
        Marks { cursor, turn: 4, hole: Some(hole), notice: Some(notice), ..Marks::default() }
    }

    /// A file of ten events and marks at the end, with the places where records begin.
    fn file(cursor: u64) -> (Vec<u8>, Vec<usize>) {
        let mut file = header();
        let mut starts = Vec::new();
        for (ordinal, seq) in (1..=10).enumerate() {
            starts.push(file.len());
            put_event(&mut file, ordinal.try_into().unwrap(), &event(seq));
        }
        starts.push(file.len());
        put_marks(&mut file, 10, 10, &marks(cursor));
        starts.push(file.len());
        (file, starts)
    }

    #[test]
    fn a_file_is_read_back_whole() {
        let scan = scan(&file(2).0).unwrap();
        assert_eq!(scan.recovered.events, (1..=10).map(event).collect::<Vec<_>>());
        assert_eq!(scan.recovered.marks, marks(2));
        assert_eq!((scan.recovered.lost, scan.damaged_bytes, scan.torn_bytes), (None, 0, 0));
    }

    #[test]
    fn a_torn_last_record_is_skipped_wherever_it_is_cut() {
        let (file, starts) = file(0);
        for cut in starts[9] + 1..starts[10] {
            let scan = scan(&file[..cut]).unwrap();
            assert_eq!(scan.recovered.events.len(), 9, "cut at {cut}");
            assert_eq!(scan.torn_bytes, u64::try_from(cut - starts[9]).unwrap());
            assert_eq!((scan.recovered.lost, scan.damaged_bytes), (None, 0));
        }
    }

    #[test]
    fn a_damaged_byte_costs_its_record_and_is_counted() {
        let (whole, starts) = file(2);
        for at in starts[3]..starts[4] {
            let mut file = whole.clone();
            file[at] ^= 0x20;
            let scan = scan(&file).unwrap();
            assert_eq!(scan.recovered.events.len(), 9, "damage at {at}");
            assert_eq!(scan.recovered.lost, Some((4, 1)));
            assert_eq!(scan.recovered.marks, marks(2));
        }
    }

    #[test]
    fn a_damaged_part_is_counted_by_what_follows_it() {
        let check = |cursor: u64, damage: std::ops::Range<usize>, lost: Option<(u64, u64)>| {
            let (mut file, starts) = file(cursor);
            file[starts[damage.start]..starts[damage.end]].fill(0);
            assert_eq!(scan(&file).unwrap().recovered.lost, lost, "{cursor} {damage:?}");
        };
        check(0, 3..6, Some((4, 3)));
        check(5, 3..6, Some((6, 1)));
        check(6, 3..6, None);
        check(0, 8..10, Some((9, 2)));
        check(0, 0..10, Some((1, 10)));
        check(9, 8..10, Some((10, 1)));
        check(10, 8..10, None);
    }

    #[test]
    fn a_file_of_another_version_is_refused() {
        assert_eq!(scan(b"PVSPOOL\x02abc").unwrap_err(), OtherVersion(2));
        assert!(scan(b"").unwrap().recovered.events.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn no_damage_makes_a_false_event(
            damage in prop::collection::vec((0_usize..2_000, any::<u8>()), 0..20),
            cut in 0_usize..2_000,
        ) {
            let (mut file, _) = file(0);
            for (at, byte) in damage {
                if let Some(place) = file.get_mut(at + 8) {
                    *place = byte;
                }
            }
            file.truncate(file.len().saturating_sub(cut));
            if let Ok(scan) = scan(&file) {
                for found in scan.recovered.events {
                    prop_assert_eq!(&found, &event(found.seq));
                }
            }
        }
    }
}
