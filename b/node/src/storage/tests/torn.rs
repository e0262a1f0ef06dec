//! What a crash leaves of the newest record, and of a segment that is just begun.

use super::*;

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_state_before_it_remains() {
    let log = Log::mixed();
    let last = log.last();
    let whole = fs::read(&last.path).unwrap();
    for at in last.start..last.end {
        let torn = whole[last.start..at].iter().any(|byte| *byte != 0);
        let mut zeroed = whole.clone();
        zeroed[at..].fill(0);
        for (how, bytes) in [("truncated", &whole[..at]), ("zeroed", &zeroed[..])] {
            let copy = copy(log.dir());
            let path = copy.path().join(last.path.file_name().unwrap());
            fs::write(&path, bytes).unwrap();
            let context = format!("{how} at byte {at}");
            if let Some(torn) = read(copy.path()).unwrap().1.torn {
                assert_eq!((torn.path, torn.offset), (path, last.start as u64), "{context}");
            }
            // The last byte of a record may be a zero, which a zeroed tail does not change.
            let lost = zeroed[..last.end] != whole[..last.end] || how == "truncated";
            assert!(lost, "{context}: choose a record that ends in another byte");
            assert_recovers(copy.path(), &last.before, torn, &context);
        }
    }
}

#[test]
fn a_torn_tail_can_be_the_first_record_of_the_log_or_of_a_segment() {
    let whole = Log::mixed();
    let is_first = |position: &usize| {
        *position == 0 || whole.records[*position].path != whole.records[*position - 1].path
    };
    let firsts = whole.records.iter().enumerate().filter(|(position, _)| is_first(position));
    let firsts: Vec<usize> = firsts.map(|(position, _)| position).collect();
    assert!(firsts.len() >= 4);
    for first in firsts {
        let record = &whole.records[first];
        let copy = copy(whole.dir());
        forget_mark(copy.path());
        for (_, later) in segment::list(copy.path()).unwrap() {
            if later.file_name() > record.path.file_name() {
                fs::remove_file(later).unwrap();
            }
        }
        let path = copy.path().join(record.path.file_name().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[record.start + frame::HEADER_BYTES..].fill(0);
        fs::write(&path, bytes).unwrap();
        assert_recovers(copy.path(), &record.before, true, &format!("record {first}"));
    }
}

#[test]
fn a_block_missing_anywhere_in_the_last_record_is_a_torn_tail() {
    let big = append([entry(2, 1, &[0xab; 3000])]);
    let options = Options { segment_bytes: 8192 };
    let log = Log::write(options, &[append([entry(1, 1, b"first")]), big]);
    let last = log.last();
    let whole = fs::read(&last.path).unwrap();
    for block in [512, 1024] {
        for from in (0..last.end).step_by(block) {
            let lost = from.max(last.start)..(from + block).min(last.end);
            if lost.is_empty() {
                continue;
            }
            let copy = copy(log.dir());
            let mut bytes = whole.clone();
            bytes[lost.clone()].fill(0);
            fs::write(copy.path().join(last.path.file_name().unwrap()), bytes).unwrap();
            assert_recovers(copy.path(), &last.before, true, &format!("lost {lost:?}"));
        }
    }
}

#[test]
fn a_flipped_bit_in_a_last_record_of_which_no_mark_tells_cannot_be_told_from_a_torn_one() {
    let log = Log::mixed();
    let last = log.last();
    let whole = fs::read(&last.path).unwrap();
    for byte in last.start..last.end {
        let mut bytes = whole.clone();
        bytes[byte] ^= 0x10;
        fs::write(&last.path, bytes).unwrap();
        let (_, recovered) = read(log.dir()).unwrap();
        let torn = recovered.torn.clone().unwrap();
        assert_eq!((torn.path, torn.offset), (last.path.clone(), last.start as u64));
        assert_eq!(Model::from(recovered), last.before, "byte {byte}");
    }
}

#[test]
fn a_crash_at_any_point_of_rolling_over_loses_nothing() {
    // (segment placed, bytes of the seal on the disk); the seal comes only after the segment.
    let placed = (0..=frame::SEAL_BYTES).map(|sealed| (true, sealed));
    for (placed, sealed) in [(false, 0)].into_iter().chain(placed) {
        let folder = tempfile::tempdir().unwrap();
        let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
        let write = append([entry(1, 1, b"kept")]);
        storage.write(&write).unwrap();
        let mut model = Model::default();
        model.apply(&write);

        fs::write(folder.path().join("new.tmp"), b"half a header").unwrap();
        if placed {
            create_next(&storage);
        }
        let mut seal = Vec::new();
        frame::build(&mut seal, storage.active.salt, storage.sequence, |_| {});
        storage.active.file.write_all_at(&seal[..sealed], storage.active.offset).unwrap();
        drop(storage);

        // A seal begins with zeros, and by chance may end in one.
        let begun = seal[..sealed].iter().any(|byte| *byte != 0);
        let torn = begun && seal[sealed..].iter().any(|byte| *byte != 0);
        assert_recovers(folder.path(), &model, torn, &format!("placed {placed}, {sealed} bytes of the seal"));
        assert!(!folder.path().join("new.tmp").exists());
    }
}

#[test]
fn opening_writes_the_newest_record_again_for_a_disk_that_never_got_it() {
    let log = Log::mixed();
    let last = log.last();
    let recovery::Recovery { tail, newest, mut segments, .. } = recovery::recover(log.dir(), NODE).unwrap();
    // What the kernel's memory showed to recovery is not what the disk holds.
    let lost = (last.end - last.start) as u64;
    write_zeros(&open_segment(&last.path).unwrap(), last.start as u64, lost).unwrap();
    settle(tail, segments.pop().unwrap(), None, newest).unwrap();
    assert_recovers(log.dir(), &log.state, false, "written again");
}

#[test]
fn opening_writes_a_seal_again_as_long_as_nothing_stands_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = Storage::open(folder.path(), NODE, SMALL).unwrap();
    let write = append([entry(1, 1, b"kept")]);
    storage.write(&write).unwrap();
    let mut model = Model::default();
    model.apply(&write);
    let (path, seal) = (storage.active.path.clone(), storage.active.offset);
    let outline = storage.outline.clone();
    storage.roll_over(0, outline).unwrap();
    drop(storage);
    let recovery::Recovery { tail, newest, mut segments, .. } =
        recovery::recover(folder.path(), NODE).unwrap();
    let whole = fs::read(&path).unwrap();
    write_zeros(&open_segment(&path).unwrap(), seal, frame::SEAL_BYTES as u64).unwrap();
    settle(tail, segments.pop().unwrap(), None, newest).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_recovers(folder.path(), &model, false, "sealed again");
}
