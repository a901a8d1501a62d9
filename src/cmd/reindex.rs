//! `camring reindex`: the index of the recordings, made anew from the files.
#![deny(unsafe_code)]

use std::fs;
use std::io;
use std::time::Instant;

use crate::cli::{Global, ReindexArgs};
use crate::serve::{FolderLock, Index};
use crate::{cmd, config};

/// Forgets the index and reads the whole tree.
///
/// # Errors
/// The configuration is wrong, a server has the folder, the disk refuses.
pub fn run(_args: ReindexArgs, global: &Global) -> anyhow::Result<()> {
    let (_, site) = config::load(global.config.as_deref())?;
    let started = Instant::now();
    let _folder = FolderLock::take(&site.data_dir)?;
    let path = Index::path(&site.data_dir);
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let index = Index::open(&site.data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let text = runtime.block_on(async {
        index.read_once().await;
        let mut text = String::new();
        for place in index.places() {
            let found = index.summaries(&place, i64::MIN, i64::MAX).await?;
            let segments: u64 = found.iter().map(|minute| minute.segments).sum();
            let bytes: u64 = found.iter().map(|minute| minute.bytes).sum();
            text += &format!(
                "{}/{}: {} files, {segments} segments, {}\n",
                place.rendition.stream,
                place.rendition.name,
                found.len(),
                config::show_size(bytes),
            );
        }
        anyhow::Ok(text)
    })?;
    cmd::print(&format!(
        "{text}{} renditions in {:.1} s\n",
        index.places().len(),
        started.elapsed().as_secs_f64()
    ))?;
    Ok(())
}
