//! The model against another that keeps everything twice: as it is seen, and as it is durable.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::disk::store::MemoryStore;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Step {
    Create(usize),
    Write { name: usize, offset: u64, length: usize },
    Length { name: usize, length: u64 },
    Sync { name: usize },
    FailedSync { name: usize },
    Rename(usize, usize),
    Unlink(usize),
    Link(usize, usize),
    SyncFolder,
    LosePower(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    let write = (name(), 0_u64..12_000, 0_usize..6_000).prop_map(|(name, offset, length)| Step::Write {
        name,
        offset,
        length,
    });
    prop_oneof![
        3 => name().prop_map(Step::Create),
        6 => write,
        1 => (name(), 0_u64..9_000).prop_map(|(name, length)| Step::Length { name, length }),
        4 => name().prop_map(|name| Step::Sync { name }),
        1 => name().prop_map(|name| Step::FailedSync { name }),
        2 => (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => name().prop_map(Step::Unlink),
        1 => (name(), name()).prop_map(|(from, to)| Step::Link(from, to)),
        2 => Just(Step::SyncFolder),
        1 => any::<u64>().prop_map(Step::LosePower),
    ]
}

/// Everything twice, byte for byte.
#[derive(Default)]
struct Naive {
    seen: BTreeMap<&'static str, usize>,
    durable: BTreeMap<&'static str, usize>,
    files: Vec<NaiveFile>,
}

#[derive(Default, Clone)]
struct NaiveFile {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Each byte of `seen` that no sync will write any more.
    pending: Vec<NaiveChange>,
}

#[derive(Clone)]
struct NaiveChange {
    forsaken: bool,
    write: Option<(usize, Vec<u8>)>,
    length: usize,
}

impl NaiveChange {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match &self.write {
            Some((offset, written)) if !written.is_empty() => {
                bytes.resize(bytes.len().max(offset + written.len()), 0);
                bytes[*offset..offset + written.len()].copy_from_slice(written);
            }
            Some(_) => {}
            None => bytes.resize(self.length, 0),
        }
    }
}

impl NaiveFile {
    fn change(&mut self, change: NaiveChange) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.iter().filter(|change| !change.forsaken) {
            change.apply(&mut self.durable);
        }
        self.pending.retain(|change| change.forsaken);
    }

    /// What the draw may leave: the durable bytes, with some of the last write over them.
    fn may_become(&self, found: &[u8]) -> Result<(), String> {
        let last = self.pending.iter().rev().filter(|change| !change.forsaken);
        let last = last.filter_map(|change| change.write.as_ref()).find(|(_, bytes)| !bytes.is_empty());
        let byte = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
        let mut whole = last.is_some();
        for at in 0..found.len().max(self.durable.len()) {
            let written = last.and_then(|(offset, bytes)| bytes.get(at.checked_sub(*offset)?)).copied();
            let (now, before) = (byte(found, at), byte(&self.durable, at));
            if now != before && Some(now) != written {
                return Err(format!("byte {at} is {now}, was {before}, and {written:?} was last written"));
            }
            whole &= written.is_none_or(|written| now == written);
        }
        let end = last.map_or(0, |(offset, bytes)| offset + bytes.len());
        if found.len() != self.durable.len() && !(self.durable.len()..=end).contains(&found.len()) {
            return Err(format!("{} bytes, of {} that were durable", found.len(), self.durable.len()));
        }
        let told = last.is_some_and(|(offset, bytes)| {
            let before: Vec<u8> = (*offset..end).map(|at| byte(&self.durable, at)).collect();
            &before != bytes && found.len() >= end
        });
        if whole && told { Err("all of the last write survived".into()) } else { Ok(()) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn the_model_keeps_what_is_synced_and_forgets_the_rest(steps in prop::collection::vec(step(), 1..40)) {
        let mut model = Model::new(MemoryStore::default(), 0);
        let mut naive = Naive::default();
        for (number, step) in steps.iter().enumerate() {
            take(&mut model, &mut naive, number as u64, step)?;
            let seen: BTreeMap<&str, Vec<u8>> =
                naive.seen.iter().map(|(name, file)| (*name, naive.files[*file].seen.clone())).collect();
            prop_assert_eq!(tree(&model), seen, "after {:?}", step);
        }
    }
}

fn take(
    model: &mut Model<MemoryStore>,
    naive: &mut Naive,
    number: u64,
    step: &Step,
) -> Result<(), TestCaseError> {
    let inode = |model: &Model<MemoryStore>, name: usize| model.lookup(ROOT, NAMES[name]);
    match *step {
        Step::Create(name) => {
            let made = model.create(number, (ROOT, NAMES[name]), New::File, 0o644, 0);
            prop_assert_eq!(made.is_ok(), !naive.seen.contains_key(NAMES[name]));
            if made.is_ok() {
                naive.files.push(NaiveFile::default());
                naive.seen.insert(NAMES[name], naive.files.len() - 1);
            }
        }
        Step::Write { name, offset, length } => {
            let Ok(inode) = inode(model, name) else { return Ok(()) };
            let bytes: Vec<u8> = (0..length).map(|at| (number as usize * 31 + at + 1) as u8).collect();
            model.change(number, inode, Change::Write { offset, bytes: bytes.clone() }, 0).unwrap();
            let change = NaiveChange { forsaken: false, write: Some((offset as usize, bytes)), length: 0 };
            naive.files[naive.seen[NAMES[name]]].change(change);
        }
        Step::Length { name, length } => {
            let Ok(inode) = inode(model, name) else { return Ok(()) };
            model.change(number, inode, Change::Length(length), 0).unwrap();
            let change = NaiveChange { forsaken: false, write: None, length: length as usize };
            naive.files[naive.seen[NAMES[name]]].change(change);
        }
        Step::Sync { name } => {
            let Ok(inode) = inode(model, name) else { return Ok(()) };
            let flushed = model.flush(inode, number).unwrap();
            model.settle(inode, &flushed);
            naive.files[naive.seen[NAMES[name]]].sync();
        }
        Step::FailedSync { name } => {
            let Ok(inode) = inode(model, name) else { return Ok(()) };
            model.forsake(inode, number);
            let file = naive.seen[NAMES[name]];
            naive.files[file].pending.iter_mut().for_each(|change| change.forsaken = true);
        }
        Step::Rename(from, to) => {
            let renamed = model.rename(number, (ROOT, NAMES[from]), (ROOT, NAMES[to]), 0);
            prop_assert_eq!(renamed.is_ok(), naive.seen.contains_key(NAMES[from]));
            let same = naive.seen.get(NAMES[from]) == naive.seen.get(NAMES[to]);
            if renamed.is_ok() && !same {
                let file = naive.seen.remove(NAMES[from]).unwrap();
                naive.seen.insert(NAMES[to], file);
            }
        }
        Step::Unlink(name) => {
            let removed = model.unlink(number, (ROOT, NAMES[name]), 0).is_ok();
            prop_assert_eq!(removed, naive.seen.remove(NAMES[name]).is_some());
        }
        Step::Link(from, to) => {
            let Ok(inode) = inode(model, from) else { return Ok(()) };
            let linked = model.link(number, inode, (ROOT, NAMES[to]), 0).is_ok();
            prop_assert_eq!(linked, !naive.seen.contains_key(NAMES[to]));
            if linked {
                naive.seen.insert(NAMES[to], naive.seen[NAMES[from]]);
            }
        }
        Step::SyncFolder => {
            model.settle_folder(ROOT, number);
            naive.durable = naive.seen.clone();
        }
        Step::LosePower(draw) => {
            let unsynced = model.unsynced();
            let mut again = model.clone();
            let lost = model.lose_power(draw).unwrap();
            prop_assert_eq!(&lost, &again.lose_power(draw).unwrap());
            prop_assert_eq!(tree(model), tree(&again));
            prop_assert!((lost.files, lost.names) == (unsynced.files, unsynced.names));
            prop_assert!(lost.bytes <= unsynced.bytes && (lost.bytes < unsynced.bytes) == (lost.torn > 0));
            prop_assert_eq!(model.unsynced(), Unsynced::default());
            naive.seen = naive.durable.clone();
            let found = tree(model);
            for (name, file) in &naive.seen {
                let found = found.get(name).cloned().unwrap_or_default();
                let file = &mut naive.files[*file];
                if !file.pending.is_empty() || file.seen != found {
                    file.may_become(&found).map_err(TestCaseError::fail)?;
                }
                *file = NaiveFile { seen: found.clone(), durable: found, pending: Vec::new() };
            }
        }
    }
    Ok(())
}

fn tree(model: &Model<MemoryStore>) -> BTreeMap<&str, Vec<u8>> {
    let names = model.entries(ROOT).unwrap().now().iter();
    names.map(|(name, inode)| (name.as_str(), model.read(*inode, 0, 1 << 20).unwrap())).collect()
}

#[test]
fn what_a_file_holds_is_durable_without_its_name_and_a_name_without_what_it_holds() {
    let mut model = Model::new(MemoryStore::default(), 0);
    let named = model.create(1, (ROOT, "named"), New::File, 0o644, 0).unwrap();
    model.settle_folder(ROOT, 1);
    model.change(2, named, Change::Write { offset: 0, bytes: vec![7; 100] }, 0).unwrap();
    let full = model.create(3, (ROOT, "full"), New::File, 0o644, 0).unwrap();
    model.change(4, full, Change::Write { offset: 0, bytes: vec![7; 100] }, 0).unwrap();
    let flushed = model.flush(full, 4).unwrap();
    model.settle(full, &flushed);
    // Of these draws, one lets nothing of the write survive.
    let left: Vec<_> = (0..32)
        .map(|draw| {
            let mut model = model.clone();
            model.lose_power(draw).unwrap();
            assert!(model.thing(full).is_err(), "nothing leads to it any more");
            tree(&model).into_iter().map(|(name, bytes)| (name.to_owned(), bytes.len())).collect::<Vec<_>>()
        })
        .collect();
    assert!(left.contains(&vec![("named".to_owned(), 0)]), "{left:?}");
    assert!(left.iter().all(|names| names.len() == 1), "{left:?}");
}

#[test]
fn a_removed_file_is_there_until_the_folder_is_synced_and_nobody_has_it_open() {
    let mut model = Model::new(MemoryStore::default(), 0);
    let file = model.create(1, (ROOT, "file"), New::File, 0o644, 0).unwrap();
    model.settle_folder(ROOT, 1);
    model.open(file).unwrap();
    model.unlink(2, (ROOT, "file"), 0).unwrap();
    let mut back = model.clone();
    assert_eq!(back.lose_power(0).unwrap().told, [".: removal of file"]);
    assert_eq!(back.lookup(ROOT, "file"), Ok(file));
    model.settle_folder(ROOT, 2);
    assert!(model.thing(file).is_ok(), "it is open");
    model.close(file);
    assert!(model.thing(file).is_err());
}

#[test]
fn a_rename_between_folders_may_leave_both_names_and_within_one_leaves_either() {
    let mut model = Model::new(MemoryStore::default(), 0);
    let folder = model.create(1, (ROOT, "folder"), New::Folder, 0o755, 0).unwrap();
    let file = model.create(2, (ROOT, "file"), New::File, 0o644, 0).unwrap();
    model.settle_folder(ROOT, 2);
    model.rename(3, (ROOT, "file"), (folder, "file"), 0).unwrap();
    let mut both = model.clone();
    both.settle_folder(folder, 3);
    both.lose_power(0).unwrap();
    assert_eq!((both.lookup(ROOT, "file"), both.lookup(folder, "file")), (Ok(file), Ok(file)));
    assert_eq!(both.thing(file).unwrap().names, 2);
    model.settle_folder(ROOT, 3);
    model.lose_power(0).unwrap();
    assert_eq!(
        (model.lookup(ROOT, "file"), model.lookup(folder, "file")),
        (Err(Errno::ENOENT), Err(Errno::ENOENT))
    );
}
