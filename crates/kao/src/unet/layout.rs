//! Memory order against file order.

/// How a parameter's memory order relates to the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A vector: the same in both.
    Vector,
    /// `[in, out]` here, `[out, in]` in files.
    Linear,
    /// `[in, out]` here, `[out, in, 1, 1]` in files.
    Conv1x1,
    /// `[3, 3, in, out]` here, `[out, in, 3, 3]` in files.
    Conv3x3,
}

impl Layout {
    /// The shape in files of a parameter that has the shape `here` in memory.
    pub fn file_shape(self, here: &[usize]) -> Vec<usize> {
        match self {
            Layout::Vector => here.to_vec(),
            Layout::Linear => vec![here[1], here[0]],
            Layout::Conv1x1 => vec![here[1], here[0], 1, 1],
            Layout::Conv3x3 => vec![here[3], here[2], here[0], here[1]],
        }
    }

    /// Values in the file's order, from those in memory order.
    pub fn to_file(self, here: &[usize], values: &[f32]) -> Vec<f32> {
        match self {
            Layout::Vector => values.to_vec(),
            Layout::Linear | Layout::Conv1x1 => transposed(values, here[0], here[1]),
            // [9 · in, out] → [out, 9, in] → [out, in, 9]
            Layout::Conv3x3 => {
                let (c_in, c_out) = (here[2], here[3]);
                transposed(values, 9 * c_in, c_out)
                    .chunks_exact(9 * c_in)
                    .flat_map(|filter| transposed(filter, 9, c_in))
                    .collect()
            }
        }
    }

    /// Values in memory order, from those in the file's order.
    pub fn from_file(self, here: &[usize], values: &[f32]) -> Vec<f32> {
        match self {
            Layout::Vector => values.to_vec(),
            Layout::Linear | Layout::Conv1x1 => transposed(values, here[1], here[0]),
            Layout::Conv3x3 => {
                let (c_in, c_out) = (here[2], here[3]);
                let filters: Vec<f32> = values
                    .chunks_exact(9 * c_in)
                    .flat_map(|filter| transposed(filter, c_in, 9))
                    .collect();
                transposed(&filters, c_out, 9 * c_in)
            }
        }
    }
}

/// The sides of the blocks in which a matrix is transposed: of a large one, every value of a column
/// lies in another cache line.
const BLOCK: usize = 32;

/// `[rows, columns]` to `[columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (first_row, first_column) in (0..rows)
        .step_by(BLOCK)
        .flat_map(|row| (0..columns).step_by(BLOCK).map(move |column| (row, column)))
    {
        for column in first_column..columns.min(first_column + BLOCK) {
            let last = rows.min(first_row + BLOCK);
            let to = &mut out[column * rows + first_row..column * rows + last];
            for (value, row) in to.iter_mut().zip(first_row..) {
                *value = values[row * columns + column];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_of_any_sides_are_transposed() {
        for (rows, columns) in [(1, 1), (3, 70), (32, 32), (33, 64), (65, 31), (0, 5)] {
            let values: Vec<f32> = (0..rows * columns).map(|value| value as f32).collect();
            let expected: Vec<f32> = (0..columns)
                .flat_map(|column| (0..rows).map(move |row| (row * columns + column) as f32))
                .collect();
            assert_eq!(transposed(&values, rows, columns), expected);
        }
    }

    #[test]
    fn a_convolution_lies_as_pytorch_writes_it() {
        // Memory [ky, kx, in, out], file [out, in, ky, kx]; each value tells its coordinates.
        let here = [3, 3, 2, 4];
        let code =
            |ky: usize, kx: usize, i: usize, o: usize| (ky * 1000 + kx * 100 + i * 10 + o) as f32;
        let mut values = Vec::new();
        for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
            for (i, o) in (0..2).flat_map(|i| (0..4).map(move |o| (i, o))) {
                values.push(code(ky, kx, i, o));
            }
        }
        let file = Layout::Conv3x3.to_file(&here, &values);
        assert_eq!(Layout::Conv3x3.file_shape(&here), [4, 2, 3, 3]);
        let at = |o: usize, i: usize, ky: usize, kx: usize| file[((o * 2 + i) * 3 + ky) * 3 + kx];
        assert_eq!(at(3, 1, 2, 0), code(2, 0, 1, 3));
        assert_eq!(at(0, 1, 1, 2), code(1, 2, 1, 0));
        assert_eq!(Layout::Conv3x3.from_file(&here, &file), values);
    }

    #[test]
    fn a_matrix_is_transposed_and_back() {
        let values: Vec<f32> = (0..6).map(|v| v as f32).collect();
        let file = Layout::Linear.to_file(&[2, 3], &values);
        assert_eq!(file, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(Layout::Linear.from_file(&[2, 3], &file), values);
    }
}
