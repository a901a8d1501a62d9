//! What is recorded.
#![deny(unsafe_code)]

use std::path::Path;

use super::StoreError;

/// A handle; clones share it.
#[derive(Clone, Debug)]
pub struct Index {}

impl Index {
    /// Opens the database and starts to follow the tree.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn open(_data_dir: &Path) -> Result<Self, StoreError> {
        Ok(Self {})
    }
}
