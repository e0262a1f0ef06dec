//! Any writes, any boots, any damage.

use proptest::prelude::*;

use super::*;

/// A write as a node could make it, drawn from numbers, for a log of this state.
fn drawn(model: &Model, covered: Index, (cut, count, length, hard_state): (u64, u64, usize, u64)) -> Write {
    let last = model.last().index.0;
    let truncate_after = (cut < 4).then(|| Index(last.saturating_sub(cut).max(covered.0)));
    let after = truncate_after.map_or(last, |after| after.0);
    let before = (after - model.begin.index.0) as usize;
    let before = model.entries[..before].last().map_or(model.begin.term.0.max(1), |entry| entry.term.0);
    let term = before + hard_state % 2;
    let entries = (after + 1..after + 1 + count).map(|index| entry(index, term, &vec![index as u8; length]));
    let entries = entries.collect::<Vec<_>>();
    let hard_state =
        (hard_state < 4 || (entries.is_empty() && truncate_after.is_none())).then(|| HardState {
            term: Term(term),
            vote: (hard_state % 3 > 0).then_some(NodeId(hard_state % 3)),
            commit: Index(after),
        });
    Write { truncate_after, entries, hard_state, ..Write::default() }
}

/// A later begin, after a snapshot that covers it: one of this log in most cases, else one from elsewhere.
fn begun(storage: &Storage, model: &Model, (at, length): (u64, usize)) -> Write {
    if at >= 12 || model.entries.is_empty() {
        let position = position(model.last().index.0 + at, model.last().term.0 + 1);
        take(storage, position, length);
        return begin_after(position, true);
    }
    let entry = &model.entries[at as usize % model.entries.len()];
    take(storage, model.last(), length);
    begin_after(entry.position(), false)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_writes_with_any_boots_between_give_what_a_vector_gives(
        segment_bytes in 0u64..900,
        steps in prop::collection::vec((0u64..12, 0u64..4, 0usize..120, 0u64..8, 0u8..6, 0u64..40), 1..60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes };
        let mut model = Model::default();
        // What a snapshot covers is committed, and never cut.
        let mut covered = Index(0);
        let (mut storage, _) = Storage::open(folder.path(), NODE, options).unwrap();
        for (cut, count, length, hard_state, boot, begin) in steps {
            let write = if begin < 15 {
                let write = begun(&storage, &model, (begin, length));
                covered = model.last().index.max(write.begin.unwrap().position.index);
                write
            } else {
                drawn(&model, covered, (cut, count, length, hard_state))
            };
            storage.write(&write).unwrap();
            model.apply(&write);
            if boot == 0 {
                drop(storage);
                let recovered;
                (storage, recovered) = Storage::open(folder.path(), NODE, options).unwrap();
                prop_assert_eq!(&recovered.torn, &None);
                prop_assert_eq!(&Model::from(recovered), &model);
            }
        }
        drop(storage);
        prop_assert_eq!(verify(folder.path()).unwrap().damages, vec![]);
        prop_assert_eq!(Model::from(read(folder.path()).unwrap().1), model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_gives_an_error_or_the_state_before_or_after_the_last_write(
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..200, any::<u8>()), 1..4),
    ) {
        let log = Log::mixed();
        let segments = log.segments();
        let mut untouched = true;
        for (file, at, length, fill) in damages {
            let path = file.get(&segments);
            let mut bytes = fs::read(path).unwrap();
            if bytes.is_empty() {
                continue;
            }
            let from = at.index(bytes.len());
            let to = (from + length).min(bytes.len());
            untouched &= *path == log.last().path && from >= log.last().start;
            if length < 20 {
                bytes.truncate(from);
            } else {
                bytes[from..to].fill(fill);
            }
            fs::write(path, bytes).unwrap();
        }
        match read(log.dir()) {
            Ok((_, recovered)) => {
                let state = Model::from(recovered);
                prop_assert!(state == log.last().before || state == log.state, "{:?}", state);
            }
            Err(error) => prop_assert!(!untouched, "{}", error),
        }
    }
}
