//! From Burn's tensors to slices and back, with gradients.
//!
//! An [`Operation`] works on tensors of the CPU backend; [`run`] calls it and, where gradients are
//! tracked, puts its hand-written backward pass into Burn's graph. What the operations are is not
//! known here.

use crate::unet::ops::on_the_pool;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::{
    BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, BackendTensor, BackendTypes, DispatchAutodiffContext,
    DispatchKindConversion, DispatchTensor, Flex, GradientCheckpointingStrategy, TensorMetadata,
};
use burn::tensor::{Tensor, TensorData};
use std::fmt::Debug;

/// A tensor of the CPU backend with its node in the graph.
type AutodiffTensor = <Autodiff<Flex> as BackendTypes>::FloatTensorPrimitive;

/// The operands of an operation; absent are those that this call goes without.
pub(super) type Operands<const N: usize> = [Option<FlexTensor>; N];

/// Something that is computed by the kernels: `N` operands, one result.
pub(super) trait Operation<const N: usize>: Clone + Debug + Send + Sync + 'static {
    /// What the backward pass wants beside the operands.
    type Kept: Clone + Debug + Send + 'static;

    /// The result, and, if `keeps`, what the backward pass wants.
    fn forward(&self, operands: &Operands<N>, keeps: bool) -> (FlexTensor, Option<Self::Kept>);

    /// The gradient of every operand that is there, given that of the result. Those whose `wanted`
    /// is false may be left out.
    fn backward(
        &self,
        operands: Operands<N>,
        kept: Self::Kept,
        dy: FlexTensor,
        wanted: [bool; N],
    ) -> Operands<N>;
}

/// Computes `operation`; the result has rank `D`.
pub(super) fn run<const N: usize, const D: usize>(
    operation: impl Operation<N>,
    operands: [Option<DispatchTensor>; N],
) -> Tensor<D> {
    let context =
        operands.iter().flatten().fold(DispatchAutodiffContext::Disabled, |context, operand| {
            match operand.autodiff {
                DispatchAutodiffContext::Disabled => context,
                enabled => enabled,
            }
        });
    let output = match context {
        DispatchAutodiffContext::Disabled => run_untracked(operation, operands),
        DispatchAutodiffContext::Enabled(GradientCheckpointingStrategy::Disabled) => {
            run_tracked::<N, NoCheckpointing>(operation, operands, false)
        }
        DispatchAutodiffContext::Enabled(GradientCheckpointingStrategy::Balanced) => {
            run_tracked::<N, BalancedCheckpointing>(operation, operands, true)
        }
    };
    Tensor::from_dispatch(output)
}

fn run_untracked<const N: usize>(
    operation: impl Operation<N>,
    operands: [Option<DispatchTensor>; N],
) -> DispatchTensor {
    let operands = operands.map(|operand| Some(contiguous(primitive::<Flex>(operand?))));
    let (output, _) = on_the_pool(|| operation.forward(&operands, false));
    DispatchTensor::from_backend(BackendTensor::<Flex>::Float(output))
}

fn run_tracked<const N: usize, C: CheckpointStrategy>(
    operation: impl Operation<N>,
    operands: [Option<DispatchTensor>; N],
    recomputes: bool,
) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<Autodiff<Flex, C>>,
{
    let operands: [Option<AutodiffTensor>; N] = operands.map(|operand| {
        let operand = operand?;
        Some(match operand.autodiff {
            DispatchAutodiffContext::Disabled => {
                Autodiff::<Flex, C>::from_inner(primitive::<Flex>(operand))
            }
            DispatchAutodiffContext::Enabled(_) => primitive::<Autodiff<Flex, C>>(operand),
        })
    });
    let nodes = operands.each_ref().map(|operand| match operand {
        Some(operand) => operand.node(),
        None => Autodiff::<Flex, C>::from_inner(tensor(Vec::new(), [0])).node(),
    });
    let operands = operands.map(|operand| Some(contiguous(operand?.into_primitive())));
    let step = Step(operation.clone());
    let output = match step.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (output, kept) = on_the_pool(|| operation.forward(&operands, !recomputes));
            prep.finish((operands, kept), output)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(on_the_pool(|| operation.forward(&operands, false)).0)
        }
    };
    DispatchTensor::from_backend(BackendTensor::<Autodiff<Flex, C>>::Float(output))
}

fn primitive<B: Backend>(tensor: DispatchTensor) -> B::FloatTensorPrimitive
where
    DispatchTensor: DispatchKindConversion<B>,
{
    match <DispatchTensor as DispatchKindConversion<B>>::try_into_backend(tensor) {
        Ok(BackendTensor::Float(tensor)) => tensor,
        Ok(_) => panic!("operands are floats"),
        Err(problem) => panic!("operands are on the CPU: {problem}"),
    }
}

/// The backward pass of an operation as a node of Burn's graph.
#[derive(Debug)]
struct Step<O>(O);

impl<O: Operation<N>, const N: usize> Backward<Flex, N> for Step<O> {
    type State = (Operands<N>, Option<O::Kept>);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy = contiguous(gradients.consume::<Flex>(&ops.node));
        let (operands, kept) = ops.state;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let shapes = operands.each_ref().map(|operand| operand.as_ref().map(|o| o.shape()));
        let found = on_the_pool(|| {
            let kept = kept.unwrap_or_else(|| {
                let (_, kept) = self.0.forward(&operands, true);
                kept.expect("the operation keeps what it is asked to keep")
            });
            self.0.backward(operands, kept, dy, wanted)
        });
        for ((parent, gradient), shape) in ops.parents.into_iter().zip(found).zip(shapes) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                debug_assert_eq!(Some(gradient.shape()), shape);
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// A tensor with these values.
pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The values of a tensor of [`Operands`].
pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("operands are contiguous and f32")
}

/// The shape of a tensor that has rank `D`.
pub(super) fn shape<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.shape().dims()
}

fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}
