//! The fully connected layer and the activation alone: the small things of the time embedding.

use super::bridge::{Operands, Operation, shape, tensor, values};
use crate::unet::layers::PreparedMatrix;
use burn::backend::flex::FlexTensor;
use kao_kernels::{self as kernels, Activation, Epilogue, Pixels, Source, Unwritten, Weights};

/// Operands: x `[rows, C_in]`, weight `[C_in, C_out]`, bias `[C_out]`.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    pub(super) prepared: Option<PreparedMatrix>,
}

impl Operation<3> for Linear {
    type Kept = ();

    fn forward(&self, operands: &Operands<3>, _keeps: bool) -> (FlexTensor, Option<()>) {
        let [Some(x), Some(weight), Some(bias)] = operands else {
            panic!("a linear layer has x, weight and bias")
        };
        let [c_in, c_out] = shape(weight);
        let [rows, _] = shape(x);
        let mut y = Unwritten::new(rows * c_out);
        kernels::conv1x1(
            Pixels::rows(rows),
            &Source::new(values(x), c_in),
            match &self.prepared {
                Some(prepared) => Weights::Prepared(&**prepared),
                None => Weights::Plain(values(weight)),
            },
            c_out,
            &Epilogue::bias(values(bias)),
            &mut y,
        );
        (tensor(y.into_vec(), [rows, c_out]), Some(()))
    }

    fn backward(
        &self,
        operands: Operands<3>,
        (): (),
        dy: FlexTensor,
        wanted: [bool; 3],
    ) -> Operands<3> {
        let [Some(x), Some(weight), _] = operands else {
            panic!("a linear layer has x, weight and bias")
        };
        let [c_in, c_out] = shape(&weight);
        let [rows, _] = shape(&x);
        let dy = values(&dy);
        let dx = wanted[0].then(|| {
            let mut dx = Unwritten::new(rows * c_in);
            kernels::linear_data_grad(rows, dy, c_out, values(&weight), c_in, &mut dx);
            tensor(dx.into_vec(), [rows, c_in])
        });
        let mut dweight = Unwritten::new(c_in * c_out);
        kernels::linear_weight_grad(rows, values(&x), c_in, dy, c_out, &mut dweight);
        let mut dbias = Unwritten::new(c_out);
        kernels::sum_pixels(Pixels::new(1, rows, 1), dy, c_out, &mut dbias);
        let dweight = tensor(dweight.into_vec(), [c_in, c_out]);
        [dx, Some(dweight), Some(tensor(dbias.into_vec(), [c_out]))]
    }
}

/// Operand: x `[rows, C]`.
#[derive(Clone, Debug)]
pub(super) struct Pointwise(pub(super) Activation);

impl Operation<1> for Pointwise {
    type Kept = ();

    fn forward(&self, operands: &Operands<1>, _keeps: bool) -> (FlexTensor, Option<()>) {
        let [Some(x)] = operands else { panic!("an activation has x") };
        let mut y = Unwritten::new(values(x).len());
        kernels::activation(self.0, values(x), &mut y);
        (tensor(y.into_vec(), shape::<2>(x)), Some(()))
    }

    fn backward(
        &self,
        operands: Operands<1>,
        (): (),
        dy: FlexTensor,
        _wanted: [bool; 1],
    ) -> Operands<1> {
        let [Some(x)] = operands else { panic!("an activation has x") };
        let mut dx = Unwritten::new(values(&x).len());
        kernels::activation_backward(self.0, values(&x), values(&dy), &mut dx);
        [Some(tensor(dx.into_vec(), shape::<2>(&x)))]
    }
}
