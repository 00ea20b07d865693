//! Reading safetensors: the sizes in the header are checked against those of the file, then values
//! are read in pieces.

use super::header::{ReadHeader, Shape};
use super::layout::{CHUNK_BYTES, LENGTH_BYTES};
use crate::error::Result;
use crate::formats::contents::{Contents, Format, Metadata, WeightsFile};
use crate::formats::limits::{MAX_HEADER_BYTES, shown};
use crate::formats::source::Source;
use crate::formats::tensor::{Dtype, HostTensor, TensorInfo, checked_product};
use safetensors::Dtype as StoredDtype;

/// An open file whose header was read and found sound.
pub struct SafetensorsFile {
    source: Source,
    /// Where the values start.
    data_start: u64,
    metadata: Metadata,
    /// In the order of the values.
    tensors: Vec<TensorInfo>,
}

impl SafetensorsFile {
    /// Reads the header, and checks every size in it against the size of the file.
    pub fn open(mut source: Source) -> Result<Self> {
        let mut length = [0; LENGTH_BYTES as usize];
        source.read_exact_at(0, &mut length)?;
        let n_header = u64::from_le_bytes(length);
        let n_after = source.len.saturating_sub(LENGTH_BYTES);
        if n_header > n_after {
            return Err(source
                .malformed(format!(
                    "its safetensors header should be {n_header} bytes, but {n_after} bytes follow"
                ))
                .with_hint("the file is truncated, or no safetensors file"));
        }
        if n_header > MAX_HEADER_BYTES {
            return Err(source.malformed(format!(
                "its safetensors header is {n_header} bytes; at most {MAX_HEADER_BYTES} are read"
            )));
        }
        let bytes = source.read_at(LENGTH_BYTES, n_header)?;
        let header: ReadHeader = serde_json::from_slice(&bytes)
            .map_err(|error| source.malformed(format!("its safetensors header: {error}")))?;
        drop(bytes);

        let mut entries = header.entries;
        entries.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut position = 0;
        let mut tensors = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            let wrong =
                |problem| Err(source.malformed(format!("tensor `{}`: {problem}", shown(&name))));
            let Some(dtype) = known_dtype(entry.dtype) else {
                return wrong(format!("values of type {:?} are not supported", entry.dtype));
            };
            let (start, end) = entry.data_offsets;
            let Shape(shape) = entry.shape;
            let n_bytes =
                checked_product(&shape).and_then(|n_values| n_values.checked_mul(dtype.size()));
            if start != position || end.checked_sub(start) != n_bytes {
                return wrong(format!(
                    "shape {shape:?} of {dtype} lies at bytes {start}..{end}, expected {position}..{}",
                    match n_bytes.and_then(|n_bytes| n_bytes.checked_add(position)) {
                        Some(end) => end.to_string(),
                        None => "more than memory can hold".to_owned(),
                    }
                ));
            }
            position = end;
            tensors.push(TensorInfo { name, shape, dtype });
        }
        let n_data = n_after - n_header;
        if position as u64 != n_data {
            return Err(source
                .malformed(format!(
                    "its header tells of {position} bytes of values, but there are {n_data}"
                ))
                .with_hint("the file seems truncated or damaged: fetch it again"));
        }
        let data_start = LENGTH_BYTES + n_header;
        Ok(SafetensorsFile { source, data_start, metadata: header.metadata, tensors })
    }

    pub fn contents(self) -> Contents {
        Contents {
            format: Format::Safetensors,
            file_bytes: self.source.len,
            tensors: self.tensors,
            metadata: self.metadata,
            notes: Vec::new(),
        }
    }

    pub fn read(mut self) -> Result<WeightsFile> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut offset = self.data_start;
        let mut tensors = Vec::with_capacity(self.tensors.len());
        for TensorInfo { name, shape, dtype } in self.tensors {
            let n_values: usize = shape.iter().product();
            let mut data = Vec::with_capacity(n_values);
            let mut n_left = n_values * dtype.size();
            while n_left > 0 {
                let bytes = &mut chunk[..n_left.min(CHUNK_BYTES)];
                self.source.read_exact_at(offset, bytes)?;
                dtype.decode_into(bytes, &mut data);
                offset += bytes.len() as u64;
                n_left -= bytes.len();
            }
            tensors.push((name, HostTensor::stored(shape, data, dtype)));
        }
        Ok(WeightsFile {
            format: Format::Safetensors,
            tensors: tensors.into_iter().collect(),
            metadata: self.metadata,
            notes: Vec::new(),
        })
    }
}

fn known_dtype(stored: StoredDtype) -> Option<Dtype> {
    Some(match stored {
        StoredDtype::F64 => Dtype::F64,
        StoredDtype::F32 => Dtype::F32,
        StoredDtype::F16 => Dtype::F16,
        StoredDtype::BF16 => Dtype::Bf16,
        StoredDtype::I64 => Dtype::I64,
        StoredDtype::I32 => Dtype::I32,
        StoredDtype::I16 => Dtype::I16,
        StoredDtype::I8 => Dtype::I8,
        StoredDtype::U64 => Dtype::U64,
        StoredDtype::U32 => Dtype::U32,
        StoredDtype::U16 => Dtype::U16,
        StoredDtype::U8 => Dtype::U8,
        StoredDtype::BOOL => Dtype::Bool,
        _ => return None,
    })
}
