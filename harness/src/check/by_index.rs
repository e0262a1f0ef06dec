//! A map from log indices, which are dense in any log that is sound.
//!
//! In: an index and a value. Out: the value. Never: memory for the indices that a broken file only claims.

use std::collections::HashMap;

/// Indices up to a bound stand in a vector, those beyond in a hash map.
#[derive(Debug)]
pub struct ByIndex<T> {
    dense: Vec<Option<T>>,
    sparse: HashMap<u64, T>,
    dense_max: u64,
}

impl<T> ByIndex<T> {
    /// `entries` is how many entries there are to come: a sound log has no index far above that.
    pub fn new(entries: usize) -> ByIndex<T> {
        ByIndex { dense: Vec::new(), sparse: HashMap::new(), dense_max: entries as u64 }
    }

    pub fn get(&self, index: u64) -> Option<&T> {
        match index <= self.dense_max {
            true => self.dense.get(index as usize)?.as_ref(),
            false => self.sparse.get(&index),
        }
    }

    pub fn get_mut(&mut self, index: u64) -> Option<&mut T> {
        match index <= self.dense_max {
            true => self.dense.get_mut(index as usize)?.as_mut(),
            false => self.sparse.get_mut(&index),
        }
    }

    pub fn insert(&mut self, index: u64, value: T) {
        if index > self.dense_max {
            self.sparse.insert(index, value);
            return;
        }
        if self.dense.len() as u64 <= index {
            self.dense.resize_with(index as usize + 1, || None);
        }
        self.dense[index as usize] = Some(value);
    }

    /// In no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let dense = (0..).zip(&self.dense).filter_map(|(index, value)| Some((index, value.as_ref()?)));
        dense.chain(self.sparse.iter().map(|(&index, value)| (index, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_beyond_reason_takes_no_more_memory_than_another() {
        let mut map = ByIndex::new(10);
        map.insert(3, "a");
        map.insert(u64::MAX, "b");
        assert_eq!((map.get(3), map.get(4), map.get(u64::MAX)), (Some(&"a"), None, Some(&"b")));
        assert_eq!(map.iter().count(), 2);
    }
}
