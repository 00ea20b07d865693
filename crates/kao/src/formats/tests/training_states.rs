//! What training programs save: where their tensors are, and what their settings say.

use super::torch::{Py, dict, saved, state_dict, tensor};
use super::*;

fn weights(value: f32) -> Py {
    state_dict([("w".to_owned(), vec![2], value), ("b".to_owned(), vec![1], value)])
}

fn names(file: &WeightsFile) -> Vec<&str> {
    file.tensors.names().collect()
}

#[test]
fn every_dictionary_of_tensors_is_found() {
    let optimizer = || {
        let moments = dict([("exp_avg", tensor(&[2], vec![0.0; 2]))]);
        let by_number = Py::Dict(vec![(Py::Int(0), moments.clone())]);
        dict([("state", by_number), ("by_name", dict([("w", moments)]))])
    };
    let file = read_bytes(&saved(&dict([
        ("step", 700.into()),
        ("model", weights(1.0)),
        ("ema", dict([("decay", 0.9999.into()), ("shadow", weights(2.0))])),
        ("optimizer", optimizer()),
        ("model_optimizer", optimizer()),
        ("best_loss", tensor(&[], vec![0.5])),
        ("config", dict([("betas", tensor(&[2], vec![0.5, 0.25]))])),
    ])))
    .unwrap();
    assert_eq!(names(&file), ["model.w", "model.b", "ema.shadow.w", "ema.shadow.b"]);
    assert_eq!(file.tensors.get("ema.shadow.w").unwrap().data(), [2.0, 2.0]);
    assert_eq!(file.notes, ["its entries `model`, `ema.shadow` hold tensors"]);
    assert_eq!(file.metadata["step"], 700);
    assert_eq!(file.metadata["config"], json!({ "betas": [0.5, 0.25] }));

    // The best loss as a tensor makes no second set of weights.
    let callbacks = dict([("checkpoint", dict([("best", tensor(&[], vec![0.5]))]))]);
    let root = dict([("state_dict", weights(1.0)), ("callbacks", callbacks)]);
    let file = read_bytes(&saved(&root)).unwrap();
    assert_eq!((file.format, names(&file)), (Format::Lightning, vec!["w", "b"]));
    assert_eq!(file.notes, [""; 0]);
}

#[test]
fn modules_are_read_as_their_state_dictionaries() {
    let module = |parameters: Py, buffers: Py, modules: Py| {
        let class = Py::Call(Box::new(Py::Global("mine", "Net")), vec![]);
        let members = [("_parameters", parameters), ("_buffers", buffers), ("_modules", modules)];
        Py::Object(Box::new(class), Box::new(dict(members)))
    };
    let none = || dict([]);
    let inner = module(dict([("w", tensor(&[1], vec![1.0])), ("b", Py::None)]), none(), none());
    let buffers = dict([("table", tensor(&[2], vec![2.0, 3.0]))]);
    let outer = module(none(), buffers, dict([("0", inner.clone()), ("1", inner)]));
    let file = read_bytes(&saved(&outer)).unwrap();
    assert_eq!((file.format, names(&file)), (Format::Module, vec!["table", "0.w", "1.w"]));
    let file = read_bytes(&saved(&dict([("net", outer), ("epoch", 3.into())]))).unwrap();
    assert_eq!(names(&file), ["table", "0.w", "1.w"]);
    assert_eq!((file.format, &file.metadata["epoch"]), (Format::TrainingState, &json!(3)));
}

#[test]
fn files_without_tensors_say_what_they_hold() {
    let root = dict([("epoch", 3.into()), ("losses", vec![1, 2].into())]);
    let error = read_bytes(&saved(&root)).unwrap_err();
    assert!(error.to_string().ends_with("with tensors; its entries are `epoch`, `losses`"));
    assert!(error.hint().unwrap().contains("torch.save(model.state_dict()"));
    let error = read_bytes(&saved(&vec![1, 2].into())).unwrap_err().to_string();
    assert!(error.ends_with("it holds no dictionary with tensors"), "{error}");
}

#[test]
fn settings_are_plain_numbers_whatever_they_were() {
    let global = |module, name| Box::new(Py::Global(module, name));
    let dtype = |name: &str, order: &str| {
        let dtype = Py::Call(global("numpy", "dtype"), vec![name.into()]);
        let state = Py::Tuple(vec![3.into(), order.into(), Py::None]);
        Py::Object(Box::new(dtype), Box::new(state))
    };
    let scalar = |name: &str, order: &str, bytes: &[u8]| {
        let args = vec![dtype(name, order), Py::Bytes(bytes.to_vec())];
        Py::Call(global("numpy.core.multiarray", "scalar"), args)
    };
    let array = |shape: Vec<Py>, name: &str, bytes: &[u8]| {
        let made = Py::Call(global("numpy._core.multiarray", "_reconstruct"), vec![]);
        let bytes = Py::Bytes(bytes.to_vec());
        let state =
            Py::Tuple(vec![1.into(), Py::Tuple(shape), dtype(name, "<"), Py::Bool(false), bytes]);
        Py::Object(Box::new(made), Box::new(state))
    };
    let settings = dict([
        ("ch", scalar("i8", "<", &32i64.to_le_bytes())),
        ("beta", scalar("f4", "<", &1e-4f32.to_le_bytes())),
        ("big_endian", scalar("i8", ">", &32i64.to_be_bytes())),
        ("mult", array(vec![2.into()], "i2", &[1, 0, 2, 0])),
        ("zero_d", array(vec![], "f8", &0.5f64.to_le_bytes())),
        ("matrix", array(vec![1.into(), 1.into()], "i1", &[1])),
        ("tensor", tensor(&[], vec![1e-4])),
        ("tensors", tensor(&[3], vec![1.0, 2.0, 0.1])),
        ("large", Py::Tensor(vec![1 << 40], vec![0], vec![1.0])),
        ("wide", tensor(&[1, 1], vec![1.0])),
    ]);
    let root = dict([("state_dict", weights(1.0)), ("hyper_parameters", settings)]);
    let file = read_bytes(&saved(&root)).unwrap();
    assert_eq!(
        file.metadata["hyper_parameters"],
        json!({
            "ch": 32, "beta": 1e-4, "big_endian": "<numpy data>", "mult": [1, 2], "zero_d": 0.5,
            "matrix": "<numpy data>", "tensor": 1e-4, "tensors": [1.0, 2.0, 0.1],
            "large": "<tensor>", "wide": "<tensor>",
        })
    );
}
