//! Matrix products on slices: a checked front to the `gemm` crate.

use gemm::Parallelism;

/// A matrix to read, with any strides.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A dense row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A row-major matrix whose rows lie `row_stride` values apart.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, row_stride), "a matrix must lie within its slice");
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transpose, without a copy.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A row-major matrix to write.
pub(super) struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A dense matrix.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A matrix whose rows lie `row_stride` values apart; what lies between them is left alone.
    pub fn strided(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, row_stride), "a matrix must lie within its slice");
        assert!(columns <= row_stride || rows <= 1, "rows that are written must not overlap");
        Self { data, rows, columns, row_stride }
    }

    /// self = left · right
    pub fn set(self, left: Matrix, right: Matrix) {
        self.multiply(false, left, right);
    }

    /// self += left · right
    pub fn add(self, left: Matrix, right: Matrix) {
        self.multiply(true, left, right);
    }

    fn multiply(self, accumulate: bool, left: Matrix, right: Matrix) {
        assert!(
            left.rows == self.rows && right.columns == self.columns && left.columns == right.rows,
            "the shapes of a matrix product must agree"
        );
        // SAFETY: `fits` has shown that every index row · row_stride + column · column_stride lies within the slice of
        // its matrix, also after a transposition, which swaps both; the shapes agree; `self` is borrowed mutably, so
        // that it overlaps neither `left` nor `right`, and its own rows do not overlap.
        unsafe {
            gemm::gemm(
                self.rows,
                self.columns,
                left.columns,
                self.data.as_mut_ptr(),
                1,
                self.row_stride as isize,
                accumulate,
                left.data.as_ptr(),
                left.column_stride as isize,
                left.row_stride as isize,
                right.data.as_ptr(),
                right.column_stride as isize,
                right.row_stride as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                // Threads share the batch, not a product.
                Parallelism::None,
            );
        }
    }
}

fn fits(length: usize, rows: usize, columns: usize, row_stride: usize) -> bool {
    rows == 0
        || columns == 0
        || (rows - 1)
            .checked_mul(row_stride)
            .and_then(|start| start.checked_add(columns))
            .is_some_and(|needed| needed <= length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_agree_with_the_definition_for_every_stride() {
        let (rows, inner, columns) = (5, 7, 3);
        let value = |index: usize| ((index * 37 + 11) % 19) as f32 - 9.0;
        let left: Vec<f32> = (0..inner * 16).map(value).collect();
        let right: Vec<f32> = (0..columns * 16).map(value).collect();
        let mut result = vec![1.0; rows * 8];
        // left is stored transposed, [inner, rows]; right too, [columns, inner]; both with rows 16 apart.
        MatrixMut::strided(&mut result, rows, columns, 8)
            .add(Matrix::strided(&left, inner, rows, 16).t(), Matrix::strided(&right, columns, inner, 16).t());
        for row in 0..rows {
            for column in 0..8 {
                let product: f32 = (0..inner).map(|k| left[k * 16 + row] * right[column.min(2) * 16 + k]).sum();
                let expected = if column < columns { 1.0 + product } else { 1.0 };
                assert_eq!(result[row * 8 + column], expected, "({row}, {column})");
            }
        }
    }

    #[test]
    #[should_panic(expected = "within its slice")]
    fn a_matrix_larger_than_its_slice_is_refused() {
        Matrix::strided(&[0.0; 10], 3, 4, 4);
    }

    #[test]
    #[should_panic(expected = "must agree")]
    fn shapes_that_do_not_agree_are_refused() {
        MatrixMut::new(&mut [0.0; 4], 2, 2).set(Matrix::new(&[0.0; 6], 2, 3), Matrix::new(&[0.0; 4], 2, 2));
    }
}
