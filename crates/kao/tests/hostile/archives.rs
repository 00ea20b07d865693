//! Tar archives of pictures, and the file in which pictures are kept on disk.

use crate::fuzz::{Kind, Outcome, run};
use crate::support::mutate::{self, Random};
use image::{Rgb, RgbImage};
use kao::control::Unattended;
use kao::dataset::{Cache, CacheConfig, Folder, PrepareConfig, Tags, prepare};
use std::fs;
use std::path::{Path, PathBuf};

const SHAPE: [usize; 3] = [3, 8, 8];

/// Archives of a few small pictures with tags.
fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let raw = folder.join("raw");
    fs::create_dir(&raw).unwrap();
    for k in 0..7_u32 {
        let picture =
            RgbImage::from_fn(8, 8, |x, y| Rgb([x * k, y * 31, x * y + k].map(|v| v as u8)));
        picture.save(raw.join(format!("{k}.png"))).unwrap();
        fs::write(raw.join(format!("{k}.txt")), format!("tag {k}, all")).unwrap();
    }
    let config = PrepareConfig::new(&raw, folder.join("packed"));
    let config = PrepareConfig { size: 8, min_side: 1, pictures_per_archive: Some(3), ..config };
    let shards = prepare(&config, &Unattended).unwrap().shards;
    shards.iter().map(|name| fs::read(folder.join("packed").join(name)).unwrap()).collect()
}

/// Damage, and as often as not with the sums of headers mended, so that it is not seen at once.
fn damaged(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut file = mutate::bytes(corpus, random);
    if random.below(2) == 0 {
        for header in file.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
            header[148..156].fill(b' ');
            let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    file
}

#[test]
fn damaged_archives_take_bounded_time_and_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    run(&mut Kind {
        name: "archives",
        corpus: corpus(folder.path()),
        default_mutations: 3000,
        mutate: &damaged,
        read: &mut |_, content| {
            fs::write(&path, content).unwrap();
            let load = || {
                let folder = Folder::load(&path, SHAPE, &Unattended)?;
                let names = folder.pictures().iter().map(|picture| picture.name.as_str());
                Tags::read(&path, names, None)
            };
            load().into()
        },
    });
    // Nothing was written to where a name may have led.
    let mut names: Vec<PathBuf> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into())
        .collect();
    names.sort();
    assert_eq!(names, ["a.tar", "packed", "raw"].map(PathBuf::from));
}

#[test]
fn damaged_files_of_pictures_on_disk_are_never_believed() {
    let folder = tempfile::tempdir().unwrap();
    corpus(folder.path());
    let cache = CacheConfig { cache: Cache::Disk, dir: Some(folder.path().join("cache")) };
    let load = || Folder::load_with(&folder.path().join("raw"), SHAPE, &cache, &Unattended);
    let expected = Folder::load(&folder.path().join("raw"), SHAPE, &Unattended).unwrap();
    let path = load().unwrap().on_disk().unwrap().to_path_buf();
    run(&mut Kind {
        name: "pictures on disk",
        corpus: vec![fs::read(&path).unwrap()],
        default_mutations: 2000,
        mutate: &mutate::bytes,
        read: &mut |_, content| {
            fs::write(&path, content).unwrap();
            let found = match load() {
                Ok(found) => found,
                Err(error) => return Outcome::from(Err::<(), _>(error)),
            };
            assert_eq!(found.fingerprint(), expected.fingerprint());
            for index in 0..expected.len() {
                match found.picture_bytes(index) {
                    Ok(bytes) => assert_eq!(bytes, expected.picture_bytes(index).unwrap()),
                    Err(error) => return Outcome::from(Err::<(), _>(error)),
                }
            }
            Outcome::Read
        },
    });
}
