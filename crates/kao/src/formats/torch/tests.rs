//! Pickles of random opcodes: no program panics, and none takes long or much memory.

use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_programs_are_survived(bytes in prop::collection::vec(
        prop_oneof![
            prop::sample::select(b"(.012BCFGIJKLMNPQRSTUVXabcdeghijlopqrstu)]}\n\0\x01\x02".as_slice()),
            0x80..=0x98u8,
        ],
        0..200,
    )) {
        if let Ok(pickle) = pickle::parse(&bytes) {
            settings::Settings::new(&pickle, &mut |_| None).json(pickle.root());
            let _ = state_dicts::find(&pickle);
            let _ = tensor::tensor(&pickle, pickle.root());
        }
    }
}
