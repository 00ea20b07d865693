//! Files with some bytes changed: no input panics, and none takes long or much memory.

use super::*;

/// A file with some bytes replaced.
fn mutated(whole: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = whole.len();
    // The end of an archive is where its sizes and counts are.
    let place = prop_oneof![0..len, len.saturating_sub(80)..len];
    prop::collection::vec((place, any::<u8>()), 1..8).prop_map(move |changes| {
        let mut bytes = whole.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    // No input panics. What is read from it does not matter.

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_bytes(&bytes);
        let _ = read_bytes(&[b"PK\x03\x04", bytes.as_slice()].concat());
        let _ = read_bytes(&[&(bytes.len() as u64).to_le_bytes(), bytes.as_slice()].concat());
    }

    #[test]
    fn mutated_archives_are_survived(bytes in mutated(bytes_of("state_dict.pt"))) {
        let _ = read_bytes(&bytes);
    }

    #[test]
    fn mutated_pickles_are_survived(bytes in {
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes_of("lightning.ckpt"))).unwrap();
        let mut pickle = Vec::new();
        archive.by_name("lightning/data.pkl").unwrap().read_to_end(&mut pickle).unwrap();
        mutated(pickle)
    }) {
        let archive = rezip(&bytes_of("lightning.ckpt"), "data.pkl", |_| bytes.clone());
        let _ = read_bytes(&archive);
    }

    #[test]
    fn mutated_safetensors_are_survived(bytes in mutated(SAFETENSORS.clone())) {
        let _ = read_bytes(&bytes);
    }
}
