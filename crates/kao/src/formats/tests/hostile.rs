//! Files that ask for more than they are worth: refused with the numbers, in little time and
//! memory.

use super::*;

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
        (copies, "bytes of memory"),
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

#[test]
fn what_many_refer_to_is_no_more_work_than_a_file_may_ask_for() {
    // A dictionary of 100,000 entries, and one that refers to it 100,000 times, once under each of
    // as many names and once under one.
    let shared = |n: usize| -> Vec<u8> {
        let mut bytes = b"}q\x00(".to_vec();
        bytes.extend((0..n as u32).flat_map(|i| [&b"J"[..], &i.to_le_bytes(), b"N"].concat()));
        bytes.push(b'u');
        bytes
    };
    let names =
        |i: u32| [&b"X\x04\0\0\0"[..], format!("{:04x}", i % (1 << 16)).as_bytes()].concat();
    let mut by_names = [shared(100_000), b"}(".to_vec()].concat();
    by_names.extend((0..60_000).flat_map(|i| [names(i), b"h\x00".to_vec()].concat()));
    by_names.extend(b"u.");
    let mut wrapped = [shared(100_000), b"}(".to_vec()].concat();
    // Each in a dictionary of its own.
    wrapped.extend((0..60_000).flat_map(|i| [names(i), b"}(X\x01\0\0\0ah\x00u".to_vec()].concat()));
    wrapped.extend(b"u.");
    // Modules in modules, twice each: 2^60 in all.
    let members = |parts: &[&[u8]]| {
        let key =
            |name: &str| [&b"X"[..], &(name.len() as u32).to_le_bytes(), name.as_bytes()].concat();
        [
            b"cm\nNet\n)R}(".to_vec(),
            key("_parameters"),
            b"}".to_vec(),
            key("_modules"),
            b"}(".to_vec(),
            parts.concat(),
            b"uub".to_vec(),
        ]
        .concat()
    };
    let mut tower = [members(&[]), b"q\x00".to_vec()].concat();
    for _ in 0..60 {
        let twice = members(&[b"X\x01\0\0\0ah\x00", b"X\x01\0\0\0bh\x00"]);
        tower.extend([twice, b"q\x00".to_vec()].concat());
    }
    tower.push(b'.');
    for (program, expected) in [
        (by_names, "holds no dictionary with tensors"),
        (wrapped, "refers to the same values too often"),
        (tower, "refers to the same values too often"),
    ] {
        let error = read_bytes(&torch::archive(&program, &[])).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn settings_are_turned_into_json_once_and_from_one_budget() {
    let text =
        |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let weights = [text("state_dict"), torch_pickle(&torch::tensor(&[1], vec![1.0]))].concat();
    // A text of 1 MB, as the value of one key 500,000 times; and of a hundred keys.
    let long = [text(&"x".repeat(1 << 20)), b"q\x00".to_vec()].concat();
    let root = |entries: Vec<u8>| {
        [b"}(".to_vec(), weights.clone(), text("a"), long.clone(), entries, b"u.".to_vec()].concat()
    };
    let same = root([text("a"), b"h\x00".to_vec()].concat().repeat(500_000));
    let file = read_bytes(&torch::archive(&same, &[vec![1.0]])).unwrap();
    assert_eq!(file.metadata["a"], "<text of 1048576 bytes>");
    // A text that is too long leaves room for what follows.
    let file =
        read_bytes(&torch::archive(&root([text("b"), b"K\x07".to_vec()].concat()), &[vec![1.0]]));
    assert_eq!(file.unwrap().metadata["b"], 7);
    let many: Vec<u8> =
        (0..100).flat_map(|i| [text(&format!("k{i}")), b"h\x00".to_vec()].concat()).collect();
    let file = read_bytes(&torch::archive(&root(many), &[vec![1.0]])).unwrap();
    assert!(serde_json::to_string(&file.metadata).unwrap().len() < 4 << 20);
    // Paths of a tuple of a million parts, a million times.
    let mut paths = b"cpathlib\nPosixPath\n(".to_vec();
    paths.extend(text("x").repeat(1000));
    paths.extend(b"tRq\x01");
    let list = [&b"]("[..], &paths, &b"h\x01".repeat(1_000_000), b"e"].concat();
    let settings = root([text("hparams"), list].concat());
    read_bytes(&torch::archive(&settings, &[vec![1.0]])).unwrap();
}

/// A state dictionary of the tensor `w`, as part of a pickle.
fn torch_pickle(tensor: &torch::Py) -> Vec<u8> {
    let whole = torch::pickled(&torch::dict([("w", tensor.clone())]));
    whole[2..whole.len() - 1].to_vec()
}

#[test]
fn names_and_shapes_are_bounded_before_they_are_copied() {
    let long = "n".repeat(4_000_000);
    let weights = |names: &[&str]| {
        let tensors = names.iter().map(|name| (name.to_string(), vec![1], 1.0));
        torch::saved(&torch::state_dict(tensors))
    };
    let deep = torch::Py::Tensor(vec![1; 65], vec![0; 65], vec![1.0]);
    let entry = r#"{"dtype":"F32","shape":SHAPE,"data_offsets":[0,4]}"#;
    let header = |name: &str, shape: &str| {
        with_header(&format!(r#"{{"{name}":{}}}"#, entry.replace("SHAPE", shape)), 4)
    };
    let ones = format!("[{}1]", "1,".repeat(2_000_000));
    let many: String = (0..100_010)
        .map(|i| format!(r#","{i}":{{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}"#))
        .collect();
    let many = format!(r#"{{"w":{}{many}}}"#, entry.replace("SHAPE", "[1]"));
    let huge_header = [&(40u64 << 20).to_le_bytes()[..], &b"{".repeat(40 << 20)].concat();
    for (bytes, expected) in [
        (weights(&[&long]), "has a name of 4000000 bytes; at most 1024"),
        (torch::saved(&torch::dict([("w", deep)])), "65 dimensions; at most 64"),
        (header(&long, "[1]"), "has a name of 4000000 bytes; at most 1024"),
        (header("w", &ones), "more than 64 dimensions"),
        (header("w", &format!("\"{long}\"")), "tensor `w`"),
        (with_header(&many, 4), "more than 100000 tensors"),
        (huge_header, "41943040 bytes; at most 33554432"),
    ] {
        let error = read_bytes(&bytes).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(message.chars().count() < 500, "{message}");
    }
}

#[test]
fn an_archive_without_an_end_is_not_searched_for_ever() {
    // Signatures of ends without end, each of an archive of 65,535 entries.
    let end = [&b"PK\x05\x06"[..], &[0; 4], &[0xff; 8], &[0; 6]].concat();
    let bytes = [b"PK\x03\x04".to_vec(), end.repeat(1 << 21)].concat();
    let error = read_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("without its end"), "{error}");
}
