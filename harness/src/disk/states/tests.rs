use proptest::prelude::*;

use super::*;
use crate::disk::model::New;

const BOUND: usize = 4096;

fn write(offset: u64, byte: u8, length: usize) -> Change {
    Change::Write { offset, bytes: vec![byte; length] }
}

fn disk() -> Model<MemoryStore> {
    Model::new(MemoryStore::default(), 0)
}

fn synced(model: &mut Model<MemoryStore>, file: Inode) {
    let flushed = model.flush(file, u64::MAX).unwrap();
    model.settle(file, &flushed);
}

/// In short: `name=` and, of each block, the byte it begins with.
fn told(state: &DiskState) -> String {
    let item = |(path, item): (&String, &Item)| match item {
        Item::Folder => format!("{path}/"),
        Item::Link(target) => format!("{path}->{target}"),
        Item::File(file) => {
            let bytes = file.to_bytes();
            format!("{path}={}", bytes.chunks(4096).map(|block| block[0].to_string()).collect::<String>())
        }
    };
    state.tree.iter().map(item).collect::<Vec<_>>().join(" ")
}

fn all(model: &Model<MemoryStore>) -> BTreeSet<String> {
    let states = States::of(model, BOUND, 1);
    assert!(states.is_exhaustive());
    states.map(|state| told(&state)).collect()
}

fn set(states: &[&str]) -> BTreeSet<String> {
    states.iter().map(|state| (*state).to_owned()).collect()
}

#[test]
fn what_is_synced_has_one_state() {
    let mut model = disk();
    let file = model.create(1, (ROOT, "a"), New::File, 0, 0).unwrap();
    model.change(2, file, write(0, 1, 8192), 0).unwrap();
    synced(&mut model, file);
    model.settle_folder(ROOT, 2);
    assert_eq!(all(&model), set(&["a=11"]));
}

#[test]
fn blocks_of_one_write_survive_each_by_itself_and_so_does_the_length() {
    let mut model = disk();
    let file = model.create(1, (ROOT, "a"), New::File, 0, 0).unwrap();
    model.change(2, file, write(0, 1, 8192), 0).unwrap();
    synced(&mut model, file);
    model.settle_folder(ROOT, 2);
    model.change(3, file, write(0, 2, 8192), 0).unwrap();
    assert_eq!(all(&model), set(&["a=11", "a=12", "a=21", "a=22"]));
    model.change(4, file, write(8192, 3, 4096), 0).unwrap();
    let longer = ["a=110", "a=120", "a=210", "a=220", "a=113", "a=123", "a=213", "a=223"];
    assert_eq!(all(&model), set(&[&["a=11", "a=12", "a=21", "a=22"][..], &longer].concat()));
    // Between its sectors, the last block only.
    let torn: BTreeSet<Vec<u8>> = States::of(&model, BOUND, 1)
        .filter_map(|state| match &state.tree["a"] {
            Item::File(file) if file.length() == 12_288 => Some(file.to_bytes()[8192..].to_vec()),
            _ => None,
        })
        .collect();
    assert_eq!(torn.len(), 4, "none of it, all of it, its first half, all but a sector");
}

#[test]
fn entries_of_a_folder_are_lost_from_the_end_or_one_by_one_and_a_rename_as_one() {
    let mut model = disk();
    let old = model.create(1, (ROOT, "a"), New::File, 0, 0).unwrap();
    model.change(2, old, write(0, 1, 10), 0).unwrap();
    synced(&mut model, old);
    model.settle_folder(ROOT, 2);
    let new = model.create(3, (ROOT, "t"), New::File, 0, 0).unwrap();
    model.change(4, new, write(0, 2, 10), 0).unwrap();
    synced(&mut model, new);
    model.rename(5, (ROOT, "t"), (ROOT, "a"), 0).unwrap();
    assert_eq!(all(&model), set(&["a=1", "a=1 t=2", "a=2"]));
    model.settle_folder(ROOT, 5);
    assert_eq!(all(&model), set(&["a=2"]));
}

#[test]
fn a_file_that_is_renamed_before_it_is_synced_may_be_empty_under_its_name() {
    let mut model = disk();
    let new = model.create(1, (ROOT, "t"), New::File, 0, 0).unwrap();
    model.change(2, new, write(0, 2, 10), 0).unwrap();
    model.rename(3, (ROOT, "t"), (ROOT, "a"), 0).unwrap();
    model.settle_folder(ROOT, 3);
    assert_eq!(all(&model), set(&["a=", "a=0", "a=2"]));
}

#[test]
fn what_a_failed_sync_forsook_may_survive_or_not_but_never_over_what_was_synced_later() {
    let mut model = disk();
    let file = model.create(1, (ROOT, "a"), New::File, 0, 0).unwrap();
    model.settle_folder(ROOT, 1);
    model.change(2, file, write(0, 1, 8192), 0).unwrap();
    model.forsake(file, 2);
    model.change(3, file, write(0, 2, 4096), 0).unwrap();
    synced(&mut model, file);
    assert_eq!(all(&model), set(&["a=2", "a=20", "a=21"]));
}

#[test]
fn too_many_states_are_drawn_by_the_seed_the_telling_ones_first() {
    let mut model = disk();
    let file = model.create(1, (ROOT, "a"), New::File, 0, 0).unwrap();
    model.change(2, file, write(0, 1, 40 * 4096), 0).unwrap();
    model.settle_folder(ROOT, 2);
    let drawn = |seed| {
        let states = States::of(&model, 300, seed);
        assert!(!states.is_exhaustive());
        states.map(|state| told(&state)).collect::<Vec<_>>()
    };
    assert!((200..=300).contains(&drawn(1).len()), "{}", drawn(1).len());
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    assert_eq!(
        (drawn(1)[0].as_str(), drawn(1)[1].as_str()),
        ("a=", format!("a={}", "1".repeat(40)).as_str())
    );
}

#[test]
fn of_a_file_that_is_again_as_long_as_it_was_nothing_is_lost_when_it_is_so_long() {
    let mut model = disk();
    let file = model.create(1, (ROOT, "a"), New::File, 0, 0).unwrap();
    model.change(2, file, write(0, 1, 4096), 0).unwrap();
    synced(&mut model, file);
    model.settle_folder(ROOT, 2);
    model.change(3, file, Change::Length(8192), 0).unwrap();
    model.change(4, file, write(0, 2, 4096), 0).unwrap();
    model.change(5, file, Change::Length(4096), 0).unwrap();
    // Too few for all of them: first nothing of what was done, then all of it.
    let states = States::of(&model, 3, 1);
    assert!(!states.is_exhaustive());
    let first: Vec<_> = states.take(2).map(|state| told(&state)).collect();
    assert_eq!(first, ["a=1", "a=2"]);
}

#[test]
fn a_state_stands_in_a_plain_folder_as_it_was() {
    let mut model = disk();
    let folder = model.create(1, (ROOT, "f"), New::Folder, 0, 0).unwrap();
    let file = model.create(2, (folder, "a"), New::File, 0, 0).unwrap();
    model.create(3, (ROOT, "l"), New::Link("f/a".into()), 0, 0).unwrap();
    model.change(4, file, write(5000, 7, 100), 0).unwrap();
    let state = States::of(&model, BOUND, 1).find(|state| told(state) == "f/ f/a=00 l->f/a").unwrap();
    let plain = tempfile::tempdir().unwrap();
    state.materialise(plain.path()).unwrap();
    let Item::File(expected) = &state.tree["f/a"] else { panic!("a file") };
    assert_eq!(fs::read(plain.path().join("l")).unwrap(), expected.to_bytes());
}

#[derive(Debug, Clone)]
enum Step {
    Create(usize),
    Write(usize, u64),
    Length(usize, u64),
    Rename(usize, usize),
    Unlink(usize),
    Sync(usize),
    SyncFolder,
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..3_usize;
    prop_oneof![
        name().prop_map(Step::Create),
        (name(), 0_u64..3).prop_map(|(name, block)| Step::Write(name, block)),
        (name(), 0_u64..9000).prop_map(|(name, length)| Step::Length(name, length)),
        (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
        name().prop_map(Step::Unlink),
        name().prop_map(Step::Sync),
        Just(Step::SyncFolder),
    ]
}

proptest! {
    /// The model takes everything, and nothing: both are among the states, and whatever was lost before was possible.
    #[test]
    fn what_a_power_loss_leaves_is_one_of_the_states(steps in prop::collection::vec(step(), 1..14)) {
        let mut model = disk();
        for (number, step) in steps.iter().enumerate() {
            let number = number as u64 + 1;
            let name = |name: usize| ["a", "b", "c"][name];
            let inode = |model: &Model<MemoryStore>, at: usize| model.lookup(ROOT, name(at)).ok();
            match *step {
                Step::Create(at) => drop(model.create(number, (ROOT, name(at)), New::File, 0, 0)),
                Step::Rename(from, to) => drop(model.rename(number, (ROOT, name(from)), (ROOT, name(to)), 0)),
                Step::Unlink(at) => drop(model.unlink(number, (ROOT, name(at)), 0)),
                Step::SyncFolder => model.settle_folder(ROOT, number),
                Step::Write(at, block) => if let Some(file) = inode(&model, at) {
                    model.change(number, file, write(block * 4096 + 100, number as u8, 4096), 0).unwrap();
                },
                Step::Length(at, length) => if let Some(file) = inode(&model, at) {
                    model.change(number, file, Change::Length(length), 0).unwrap();
                },
                Step::Sync(at) => if let Some(file) = inode(&model, at) {
                    synced(&mut model, file);
                },
            }
        }
        let states = States::of(&model, 20_000, 1);
        prop_assume!(states.is_exhaustive());
        let states: BTreeSet<u128> = states.map(|state| state.digest()).collect();
        let now = |model: &Model<MemoryStore>| {
            let names = model.entries(ROOT).unwrap().now().iter();
            let tree = names.map(|(name, inode)| {
                let (mut file, bytes) = (Sparse::default(), model.read(*inode, 0, 1 << 20).unwrap());
                file.write(0, &bytes);
                file.set_length(bytes.len() as u64);
                (name.clone(), Item::File(file))
            });
            DiskState { tree: tree.collect(), told: Vec::new() }.digest()
        };
        prop_assert!(states.contains(&now(&model)), "all survives");
        for draw in 0..20 {
            let mut after = model.clone();
            if after.lose_power(draw).unwrap().torn == 0 {
                prop_assert!(states.contains(&now(&after)), "draw {}", draw);
            }
        }
    }
}
