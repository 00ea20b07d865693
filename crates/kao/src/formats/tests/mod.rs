//! The readers on real, odd and hostile files. `testdata/make_fixtures.py` made the files.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;
use zip::write::SimpleFileOptions;

use super::*;

mod hostile;
mod mutations;
mod training_states;

/// Makes files as `torch.save` does.
#[path = "../../../tests/support/torch.rs"]
mod torch;

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/formats/testdata").join(name)
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
            let tensor = file.tensors.get(&format!("unet.{name}"));
            let tensor = tensor.unwrap_or_else(|| panic!("no {name}"));
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
            let stored = file.tensors.get(&format!("unet.{name}")).unwrap();
            assert_eq!(stored.stored_as(), dtype);
        }
        assert_eq!(tensor("bool"), (vec![2], vec![1.0, 0.0]));
        assert_eq!(file.tensors.len(), 18);
        assert_eq!(file.notes, ["`unet._extra_state` is no tensor and was left out"]);

        assert_eq!(file.metadata["epoch"], 3);
        assert_eq!(file.metadata["global_step"], 1234);
        assert_eq!(file.metadata["pytorch-lightning_version"], "2.6.6");
        let mut settings = file.metadata["hyper_parameters"].clone();
        let mut flags = settings["flags"].take();
        flags.as_array_mut().unwrap().sort_by_key(|flag| flag.to_string());
        assert_eq!(flags, json!(["b"]));
        let callback = settings["callback"].take();
        assert!(callback["itself"]["itself"]["itself"]["itself"].is_object());
        assert_eq!(callback["best"], json!([0.5]));
        assert_eq!(
            settings,
            json!({
                "image_size": [3, 64, 64], "ch": 64, "ch_mult": [1, 2, 4, 4], "attn": [2],
                "dropout": 0.1, "lr": 1e-4, "numpy_lr": 0.25, "numpy_ch": 32,
                "dtype": "torch.float32", "size": [3, 4], "schedule": "<__main__.Schedule: cosine>",
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
    let table = file.tensors.get("unet.time_embedding.time_embedding.0.weight").unwrap();
    assert_eq!(table.shape(), [1000, 32]);
    // Row 0 is sin 0 sixteen times, then cos 0 sixteen times.
    assert_eq!(table.data()[..32], [[0.0; 16], [1.0; 16]].concat());
    assert_eq!(file.tensors.get("unet.head.weight").unwrap().shape(), [32, 3, 3, 3]);
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
    assert_eq!(bare.notes, [""; 0]);

    let nested = read_bytes(&bytes_of("nested.pt")).unwrap();
    assert_eq!(nested.format, Format::TrainingState);
    assert_eq!(nested.tensors.get("w").unwrap().data(), [1.0; 3]);
    assert_eq!(nested.metadata["epoch"], 7);
    assert_eq!(nested.notes, ["the tensors are those of its entry `model`"]);

    let two = read_bytes(&bytes_of("two.pt")).unwrap();
    assert_eq!(two.tensors.names().collect::<Vec<_>>(), ["model.w", "ema.w"]);
    assert_eq!(two.notes, ["its entries `model`, `ema` hold tensors"]);

    let module = read_bytes(&bytes_of("module.pt")).unwrap();
    assert_eq!(module.format, Format::Module);
    let shapes: Vec<_> = module.tensors.iter().map(|(name, t)| (name, t.shape())).collect();
    assert_eq!(shapes, [("weight", &[2, 2][..]), ("bias", &[2][..])]);
}

#[test]
fn what_cannot_be_read_is_said() {
    for (name, expected) in [
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
