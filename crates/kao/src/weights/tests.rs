//! The readers on real, odd and hostile files. `testdata/make_fixtures.py` made the files.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;
use zip::write::SimpleFileOptions;

use super::*;

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/weights/testdata").join(name)
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(testdata(name)).unwrap()
}

fn read_bytes(bytes: &[u8]) -> crate::Result<WeightsFile> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let peeked = peek(file.path());
    let result = read(file.path());
    if let (Ok(contents), Ok(file)) = (&peeked, &result) {
        assert_eq!(contents.metadata, file.metadata);
        assert_eq!(contents.notes, file.notes);
        let shapes =
            contents.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice(), t.dtype));
        assert!(shapes.eq(file.tensors.iter().map(|(n, t)| (n, t.shape(), t.stored_as()))));
    }
    assert!(peeked.is_ok() || result.is_err());
    result
}

/// Copies an archive with the content of one entry changed.
fn rezip(archive: &[u8], entry: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut old = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
    let mut new = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..old.len() {
        let mut file = old.by_index(index).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        if file.name().ends_with(entry) {
            content = change(content);
        }
        let method = zip::CompressionMethod::Deflated;
        let options = SimpleFileOptions::default().compression_method(method);
        new.start_file(file.name(), options).unwrap();
        new.write_all(&content).unwrap();
    }
    new.finish().unwrap().into_inner()
}

#[test]
fn a_lightning_checkpoint_is_read_whole() {
    for name in ["lightning.ckpt", "lightning_protocol4.ckpt", "lightning_deflated.ckpt"] {
        let file = read_bytes(&bytes_of(name)).unwrap();
        assert_eq!(file.format, Format::Lightning);
        let tensor = |name: &str| {
            let tensor = file.tensors.get(name).unwrap_or_else(|| panic!("no {name}"));
            (tensor.shape().to_vec(), tensor.data().to_vec())
        };
        let counted = |n: u8| (0..n).map(f32::from).collect::<Vec<_>>();
        assert_eq!(tensor("contiguous"), (vec![4, 6], counted(24)));
        let transposed = (0..6).flat_map(|i| (0..4).map(move |j| (i + 6 * j) as f32)).collect();
        assert_eq!(tensor("transposed"), (vec![6, 4], transposed));
        let cut = vec![4., 6., 8., 10., 16., 18., 20., 22.];
        assert_eq!(tensor("cut"), (vec![2, 2, 2], cut));
        assert_eq!(tensor("expanded"), (vec![2, 3], vec![1., 1., 1., 2., 2., 2.]));
        assert_eq!(tensor("scalar"), (vec![], vec![7.0]));
        assert_eq!(tensor("empty"), (vec![0, 5], vec![]));
        assert_eq!(tensor("parameter"), (vec![2], vec![3.0, 3.0]));
        assert_eq!(tensor("subclass"), (vec![2], vec![4.0, 4.0]));
        for (name, dtype) in [
            ("float64", Dtype::F64),
            ("float16", Dtype::F16),
            ("bfloat16", Dtype::Bf16),
            ("int64", Dtype::I64),
            ("int32", Dtype::I32),
            ("int16", Dtype::I16),
            ("int8", Dtype::I8),
            ("uint8", Dtype::U8),
            ("uint16", Dtype::U16),
        ] {
            assert_eq!(tensor(name), (vec![3], vec![1.0, 2.0, 100.0]), "{name}");
            assert_eq!(file.tensors.get(name).unwrap().stored_as(), dtype);
        }
        assert_eq!(tensor("bool"), (vec![2], vec![1.0, 0.0]));
        assert_eq!(file.tensors.len(), 18);
        assert_eq!(
            file.notes,
            [
                "`unet._extra_state` is no tensor and was left out",
                "the prefix `unet.` was taken off every name"
            ]
        );

        assert_eq!(file.metadata["epoch"], 3);
        assert_eq!(file.metadata["global_step"], 1234);
        assert_eq!(file.metadata["pytorch-lightning_version"], "2.6.6");
        let mut settings = file.metadata["hyper_parameters"].clone();
        let mut flags = settings["flags"].take();
        flags.as_array_mut().unwrap().sort_by_key(|flag| flag.to_string());
        assert_eq!(flags, json!(["b"]));
        let callback = settings["callback"].take();
        assert!(callback["itself"]["itself"]["itself"]["itself"].is_object());
        assert_eq!(
            settings,
            json!({
                "image_size": [3, 64, 64], "ch": 64, "ch_mult": [1, 2, 4, 4], "attn": [2],
                "dropout": 0.1, "lr": 1e-4, "numpy_lr": 0.25, "numpy_ch": 32,
                "dtype": "torch.float32", "size": [3, 4], "schedule": "<__main__.Schedule>",
                "path": "a/b", "namespace": {"deep": {"x": null}}, "big": "<integer of 11 bytes>",
                "minus": -1, "huge": "inf", "empty": {}, "flags": null, "unicode": "顔",
                "callback": null,
            })
        );
    }
}

#[test]
fn the_original_checkpoint_is_read() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/tiny.ckpt");
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return;
    }
    let file = read(path).unwrap();
    assert_eq!(file.format, Format::Lightning);
    let table = file.tensors.get("time_embedding.time_embedding.0.weight").unwrap();
    assert_eq!(table.shape(), [1000, 32]);
    // Row 0 is sin 0 sixteen times, then cos 0 sixteen times.
    assert_eq!(table.data()[..32], [[0.0; 16], [1.0; 16]].concat());
    assert_eq!(file.tensors.get("head.weight").unwrap().shape(), [32, 3, 3, 3]);
    assert!(file.tensors.names().all(|name| !name.starts_with("unet.")));
    assert_eq!(
        file.metadata["hyper_parameters"],
        json!({
            "image_size": [3, 16, 16], "num_steps": 1000, "ch": 32, "ch_mult": [1, 2],
            "attn": [1], "num_res_blocks": 1, "dropout": 0.1, "lr": 1e-4,
        })
    );
}

#[test]
fn state_dictionaries_are_found_by_themselves_or_nested() {
    let bare = read_bytes(&bytes_of("state_dict.pt")).unwrap();
    assert_eq!(bare.format, Format::StateDict);
    assert_eq!(bare.tensors.names().collect::<Vec<_>>(), ["a.weight", "a.bias"]);
    assert_eq!(bare.tensors.get("a.weight").unwrap().data(), [1.0; 4]);
    assert_eq!(bare.notes, ["every name starts with `a.`"]);

    let nested = read_bytes(&bytes_of("nested.pt")).unwrap();
    assert_eq!(nested.tensors.get("w").unwrap().data(), [1.0; 3]);
    assert_eq!(nested.metadata["epoch"], 7);
    assert_eq!(nested.notes, ["the tensors are those of its entry `model`"]);
}

#[test]
fn what_cannot_be_read_is_said() {
    for (name, expected) in [
        ("two.pt", "no `state_dict`, and tensors in 2 entries: `model`, `ema`"),
        ("module.pt", "an object `torch.nn.modules.linear.Linear`, not a state dictionary"),
        ("legacy.pt", "legacy PyTorch file"),
        ("complex.pt", "tensor `w`: values of type `ComplexFloatStorage` are not supported"),
        ("evil.pt", ".system`, not a state dictionary"),
        (
            "short_storage.pt",
            "tensor `a.weight` of shape [2, 2]: its storage `0` holds 8 bytes, expected 16",
        ),
        ("no_storage.pt", "tensor `a.bias`: its storage `data/1` is not in the archive"),
        ("big_endian.pt", "big-endian"),
        (
            "reaching.pt",
            "shape [2, 99] with strides [2, 1] from 0 reaches value 101 of a storage of 4",
        ),
        ("overflowing.pt", "is too large"),
        (
            "expanded_bomb.pt",
            "tensor `w` of shape [1000000000, 99] brings the tensors to 99000000000 values",
        ),
    ] {
        let error = read_bytes(&bytes_of(name)).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!error.contains('\n'), "{name}: {error}");
    }
}

#[test]
fn nothing_in_a_pickle_is_called() {
    read_bytes(&bytes_of("lightning.ckpt")).unwrap();
    read_bytes(&bytes_of("evil.pt")).unwrap_err();
    assert!(!PathBuf::from("pwned-by-a-checkpoint").exists());
}

#[test]
fn shared_lists_do_not_grow_into_a_large_tree() {
    let file = read_bytes(&bytes_of("billion_laughs.ckpt")).unwrap();
    assert!(file.metadata["hyper_parameters"].to_string().len() < 64 << 20);
}

#[test]
fn entries_that_unpack_to_more_than_the_file_may_have_are_refused() {
    let bomb = rezip(&bytes_of("state_dict.pt"), "data/0", |_| vec![0; 80 << 20]);
    assert!(bomb.len() < 1 << 20);
    let error = read_bytes(&bomb).unwrap_err().to_string();
    assert!(error.contains("data/0` unpacks to 83886080 bytes"), "{error}");
    let bomb = rezip(&bytes_of("state_dict.pt"), "data.pkl", |_| vec![b'('; 40 << 20]);
    let error = read_bytes(&bomb).unwrap_err().to_string();
    assert!(error.contains("data.pkl` unpacks to 41943040 bytes"), "{error}");
}

#[test]
fn a_pickle_cannot_grow_faster_than_its_bytes() {
    // Marks, values on the stack, values, and copies of one list, each without end.
    let mut copies = b"c__builtin__\nlist\nq\x00](".to_vec();
    copies.extend(b"N".repeat(1 << 20));
    copies.extend(b"e\x85q\x01");
    copies.extend(b"h\x00h\x01R".repeat(1 << 10));
    for (program, expected) in [
        (b"(".repeat(5 << 20), "marks"),
        (b"N".repeat(5 << 20), "on the stack"),
        (b"]0".repeat(5 << 20), "values"),
        (copies, "copied"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), "ends at byte 9"),
        (b"\x8b\xff\xff\xff\x7f".to_vec(), "ends at byte 5"),
    ] {
        let archive = rezip(&bytes_of("state_dict.pt"), "data.pkl", |_| program.clone());
        let error = read_bytes(&archive).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    let change = |pickle: Vec<u8>| {
        let at = pickle.windows(6).position(|window| window == b"a.bias").unwrap();
        // BINUNICODE and a length of four bytes stand before the name.
        [&pickle[..at - 5], b"X\x08\0\0\0a.weight", &pickle[at + 6..]].concat()
    };
    let error = read_bytes(&rezip(&bytes_of("state_dict.pt"), "data.pkl", change)).unwrap_err();
    assert!(error.to_string().contains("tensor `a.weight` is there twice"), "{error}");
}

#[test]
fn damage_is_found_by_the_checksum() {
    let mut bytes = bytes_of("state_dict.pt");
    // The four ones of `a.weight`.
    let ones = [0, 0, 128, 63].repeat(4);
    let at = bytes.windows(16).position(|window| window == ones).unwrap();
    bytes[at] = 1;
    let error = read_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("data/0` cannot be unpacked"), "{error}");
}

static SAFETENSORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.safetensors");
    let tensors: NamedTensors = [
        ("b".to_owned(), HostTensor::new([2, 2], vec![1.0, -2.5, 3.0e-8, 65504.0]).unwrap()),
        ("a".to_owned(), HostTensor::new([], vec![0.1]).unwrap()),
        ("none".to_owned(), HostTensor::new([0, 3], vec![]).unwrap()),
    ]
    .into_iter()
    .collect();
    let metadata = BTreeMap::from([("config".to_owned(), "{\"ch\":64}".to_owned())]);
    write_safetensors(&path, tensors.views(), &metadata, StoreAs::F32).unwrap();
    std::fs::read(path).unwrap()
});

/// A safetensors file with this header and so many bytes of values.
fn with_header(header: &str, n_bytes: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), &vec![0; n_bytes]].concat()
}

#[test]
fn safetensors_survive_the_round_trip() {
    let file = read_bytes(&SAFETENSORS).unwrap();
    assert_eq!(file.format, Format::Safetensors);
    assert_eq!(file.tensors.names().collect::<Vec<_>>(), ["b", "a", "none"]);
    assert_eq!(file.tensors.get("b").unwrap().data(), [1.0, -2.5, 3.0e-8, 65504.0]);
    assert_eq!(file.tensors.get("none").unwrap().shape(), [0, 3]);
    assert_eq!(file.metadata["config"], "{\"ch\":64}");
    // The crate of the format's authors reads the same.
    let theirs = ::safetensors::SafeTensors::deserialize(&SAFETENSORS).unwrap();
    assert_eq!(theirs.len(), 3);
    assert_eq!(theirs.tensor("a").unwrap().data(), 0.1f32.to_le_bytes());
}

#[test]
fn half_precision_rounds_and_refuses_what_it_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    let write = |values: &[f32]| {
        let view = TensorView { shape: &[values.len()], data: values };
        write_safetensors(&path, [("w", view)], &BTreeMap::new(), StoreAs::F16)
    };
    write(&[1.0, 0.1, f32::INFINITY]).unwrap();
    let file = read(&path).unwrap();
    let tensor = file.tensors.get("w").unwrap();
    assert_eq!(tensor.stored_as(), Dtype::F16);
    assert_eq!(tensor.data(), [1.0, 0.099975586, f32::INFINITY]);
    let error = write(&[1.0, 1e6]).unwrap_err().to_string();
    assert!(error.contains("tensor `w`: 1000000 is beyond"), "{error}");
    assert!(read(&path).is_ok(), "the old file stays");
}

#[test]
fn writing_refuses_names_and_shapes_that_do_not_fit() {
    let view = |data| TensorView { shape: &[2], data };
    let write = |tensors: Vec<(&str, TensorView<'_>)>| {
        let folder = tempfile::tempdir().unwrap();
        write_safetensors(folder.path().join("x"), tensors, &BTreeMap::new(), StoreAs::F32)
    };
    assert!(write(vec![("a", view(&[1.0, 2.0])), ("a", view(&[1.0, 2.0]))]).is_err());
    assert!(write(vec![("a", view(&[1.0]))]).is_err());
    assert!(write(vec![("__metadata__", view(&[1.0, 2.0]))]).is_err());
}

#[test]
fn hostile_safetensors_are_refused_with_the_numbers() {
    let entry = |shape: &str, offsets: &str| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let one = |shape: &str, offsets: &str| format!(r#"{{"w":{}}}"#, entry(shape, offsets));
    for (bytes, expected) in [
        (
            with_header(&one("[2]", "[0,8]"), 7),
            "its header tells of 8 bytes of values, but there are 7",
        ),
        (with_header(&one("[2]", "[0,8]"), 9), "but there are 9"),
        (
            with_header(&one("[3]", "[0,8]"), 8),
            "tensor `w`: shape [3] of f32 lies at bytes 0..8, expected 0..12",
        ),
        (with_header(&one("[1]", "[4,8]"), 8), "lies at bytes 4..8, expected 0..4"),
        (with_header(&one("[1]", "[8,4]"), 8), "lies at bytes 8..4"),
        (with_header(&one("[4294967296,4294967296]", "[0,8]"), 8), "more than memory can hold"),
        (with_header(&one("[-1]", "[0,8]"), 8), "tensor `w`"),
        (
            with_header(&format!(r#"{{"w":{0},"w":{0}}}"#, entry("[1]", "[0,4]")), 4),
            "`w` is there twice",
        ),
        (
            with_header(&one("[1]", "[0,4]").replace("F32", "F8_E4M3"), 4),
            "F8_E4M3 are not supported",
        ),
        (with_header(&one("[1]", "[0,4]").replace("F32", "X"), 4), "tensor `w`"),
        (with_header(&format!("{{{}", "[".repeat(100_000)), 0), "its safetensors header"),
        (
            [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
            "18446744073709551615 bytes, but 2 bytes follow",
        ),
    ] {
        let error = read_bytes(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn truncated_files_are_refused_at_every_length() {
    for whole in [bytes_of("state_dict.pt"), SAFETENSORS.clone()] {
        assert!(read_bytes(&whole).is_ok());
        for len in 0..whole.len() {
            assert!(read_bytes(&whole[..len]).is_err(), "{len} bytes");
        }
    }
}

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
    fn random_programs_are_survived(bytes in prop::collection::vec(
        prop_oneof![
            prop::sample::select(b"(.012BCFGIJKLMNPQRSTUVXabcdeghijlopqrstu)]}\n\0\x01\x02".as_slice()),
            0x80..=0x98u8,
        ],
        0..200,
    )) {
        if let Ok(pickle) = pickle::Pickle::parse(&bytes) {
            pickle::to_json(&pickle, pickle.root());
            let _ = torch_tensor::tensor(&pickle, pickle.root());
        }
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

proptest! {
    // Each case waits for the disk.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 16, ..Default::default() })]

    #[test]
    fn any_tensors_survive_the_round_trip(
        shapes in prop::collection::vec(prop::collection::vec(0..5usize, 0..4), 0..5),
        seed in any::<u32>(),
    ) {
        let tensor = |shape: &Vec<usize>| {
            let n = shape.iter().product::<usize>() as u32;
            let values = (0..n).map(|i| f32::from_bits(seed.wrapping_mul(i | 1) & 0x7f7f_ffff));
            HostTensor::new(shape.clone(), values.collect()).unwrap()
        };
        let tensors: NamedTensors =
            shapes.iter().enumerate().map(|(i, shape)| (format!("t\"{i}顔"), tensor(shape))).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        write_safetensors(&path, tensors.views(), &BTreeMap::new(), StoreAs::F32).unwrap();
        prop_assert_eq!(read(&path).unwrap().tensors, tensors);
    }
}
