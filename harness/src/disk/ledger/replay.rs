//! Does again, in memory, what a ledger says was done.
//!
//! In: a [`Ledger`]. Out: the disk as it was between any two of its calls, with what was durable and what was not.
//! Never: a step that the ledger and the model disagree about; that is damage.

use super::{Act, Damage, Entry, Ledger};
use crate::disk::model::{Answer, Change, Inode, Kind, Model};
use crate::disk::store::MemoryStore;

/// A disk at a place in its ledger.
#[derive(Debug)]
pub struct Replay<'l> {
    ledger: &'l Ledger,
    model: Model<MemoryStore>,
    /// How many entries were done.
    place: usize,
}

impl<'l> Replay<'l> {
    /// Before the first call.
    pub fn new(ledger: &'l Ledger) -> Replay<'l> {
        Replay { ledger, model: Model::new(MemoryStore::default(), 0), place: 0 }
    }

    pub fn model(&self) -> &Model<MemoryStore> {
        &self.model
    }

    pub fn place(&self) -> usize {
        self.place
    }

    /// Does the next call; false when there is none.
    pub fn step(&mut self) -> Result<bool, Damage> {
        let Some(entry) = self.ledger.entries.get(self.place) else { return Ok(false) };
        self.take(entry)?;
        self.place += 1;
        Ok(true)
    }

    /// Goes on to a place, which must not be behind.
    pub fn go_to(&mut self, place: usize) -> Result<(), Damage> {
        assert!(self.place <= place, "a replay at {} does not go back to {place}", self.place);
        while self.place < place && self.step()? {}
        Ok(())
    }

    fn take(&mut self, entry: &Entry) -> Result<(), Damage> {
        let (number, model) = (entry.number, &mut self.model);
        let done = match &entry.act {
            Act::Create { folder, name, inode, new } => {
                match model.create(number, (*folder, name), new.clone(), 0o644, 0) {
                    Ok(made) if made != *inode => return Err(self.told(format!("inode {inode}, not {made}"))),
                    made => made.map(|_| ()),
                }
            }
            Act::Link { inode, folder, name } => model.link(number, *inode, (*folder, name), 0),
            Act::Unlink { folder, name } => model.unlink(number, (*folder, name), 0),
            Act::RemoveFolder { folder, name } => model.remove_folder(number, (*folder, name), 0),
            Act::Rename { folder, name, to_folder, to_name } => {
                model.rename(number, (*folder, name), (*to_folder, to_name), 0)
            }
            Act::Write { inode, offset, length, at } => {
                let bytes = self.ledger.bytes(*at, *length)?;
                self.change(number, *inode, Change::Write { offset: *offset, bytes })
            }
            Act::Length { inode, length } => self.change(number, *inode, Change::Length(*length)),
            Act::Allocate { inode, offset, length, longer } => {
                let (offset, length, longer) = (*offset, *length, *longer);
                self.change(number, *inode, Change::Allocate { offset, length, longer })
            }
            Act::Sync { inode, through, failed: true } => {
                model.forsake(*inode, *through);
                Ok(())
            }
            Act::Sync { inode, through, failed: false } => self.sync(*inode, *through),
            Act::PowerLoss { draw } => model.lose_power(*draw).map(|_| ()),
            Act::Cut | Act::End => Ok(()),
        };
        done.map_err(|errno| self.told(format!("it could be done, and now it cannot: {errno}")))
    }

    /// A file without a name may be open, which no ledger tells: nothing of it is seen again.
    fn change(&mut self, number: u64, inode: Inode, change: Change) -> Answer<()> {
        if self.model.thing(inode).is_err() {
            return Ok(());
        }
        self.model.change(number, inode, change, 0)
    }

    fn sync(&mut self, inode: Inode, through: u64) -> Answer<()> {
        match self.model.thing(inode).map(|thing| &thing.kind) {
            Ok(Kind::File(_)) => {
                let flushed = self.model.flush(inode, through)?;
                self.model.settle(inode, &flushed);
            }
            Ok(Kind::Folder(_)) => self.model.settle_folder(inode, through),
            _ => {}
        }
        Ok(())
    }

    fn told(&self, what: String) -> Damage {
        self.ledger.damage(self.place, what)
    }
}
