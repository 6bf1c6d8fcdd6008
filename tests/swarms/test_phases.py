"""Names are evidence for phases; the innermost strong evidence wins."""

from __future__ import annotations

import pytest

from sofa_otel.core.names import Phase
from sofa_otel.processors.attribute.phases import (
    NOTHING,
    PHASES,
    combine,
    frame_evidence,
    is_communication,
    line_evidence,
)

Frames = list[tuple[str, str]]


def phase_of(frames: Frames) -> Phase:
    found = NOTHING
    for module, function in frames:
        found = combine(found, frame_evidence(module, function))
    return PHASES[found.phase]


@pytest.mark.parametrize(
    ("frames", "phase"),
    [
        ([("train", "main"), ("train", "get_batch")], "data_loading"),
        ([("train", "main"), ("torch.utils.data.dataloader", "_MultiProcessingDataLoaderIter._next_data")], "data_loading"),
        ([("train", "main"), ("data", "AugmentedDigits.__getitem__"), ("data", "augment"), ("numpy", "rot90")], "data_loading"),
        ([("train", "main"), ("torch.utils.data", "x"), ("torchvision.transforms.v2", "Resize.forward")], "data_loading"),
        ([("train", "main"), ("model", "GPT.forward"), ("torch.nn.modules.linear", "Linear.forward")], "model_forward"),
        ([("train", "main"), ("model", "GPT.forward"), ("torch.nn.functional", "cross_entropy")], "model_forward"),
        ([("train", "main"), ("torch._tensor", "Tensor.backward"), ("torch.autograd", "backward")], "model_backward"),
        ([("net", "fit"), ("net", "Mlp.compute_gradients")], "model_backward"),
        ([("sklearn.neural_network._multilayer_perceptron", "BaseMultilayerPerceptron._backprop"),
          ("sklearn.neural_network._multilayer_perceptron", "BaseMultilayerPerceptron._forward_pass")], "model_forward"),
        ([("train", "train_step"), ("torch.optim.adamw", "AdamW.step"), ("torch.optim.adam", "adam")], "optimizer_update"),
        ([("train", "main"), ("opt", "Sgd.step")], "optimizer_update"),
        ([("train", "main"), ("sklearn.linear_model._stochastic_gradient", "SGDClassifier.partial_fit")], "optimizer_update"),
        ([("train", "main"), ("train", "save_checkpoint"), ("torch.serialization", "save")], "checkpoint_save"),
        ([("train", "main"), ("torch.utils.checkpoint", "checkpoint"), ("model", "Block.forward")], "model_forward"),
        ([("train", "main"), ("train", "evaluate"), ("model", "GPT.forward")], "validation"),
        ([("train", "main"), ("train", "evaluate"), ("torch.utils.data.dataloader", "_next_data")], "data_loading"),
        ([("train", "main"), ("train", "train_one_epoch"), ("train", "step")], "unknown"),
        ([("train", "main"), ("torch.autograd.grad_mode", "no_grad.__enter__")], "unknown"),
    ],
)  # fmt: skip
def test_phase_of_a_path(frames: Frames, phase: str) -> None:
    assert phase_of(frames) == phase


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("loss.backward()", "model_backward"),
        ("optimizer.step()", "optimizer_update"),
        ("opt.step()", "optimizer_update"),
        ("x, y = get_batch(rng)", "data_loading"),
        ("out = model.forward(x)", "model_forward"),
        ("np.savez(path, **weights)", "checkpoint_save"),
        ("h = x @ w1", "unknown"),
    ],
)
def test_phase_of_an_inline_line(text: str, phase: str) -> None:
    assert PHASES[line_evidence(text).phase] == phase


def test_a_whole_distributed_model_is_not_communication() -> None:
    assert is_communication("torch.distributed.distributed_c10d", "all_reduce")
    assert is_communication("libtorch_cpu.so", "gloo::transport::tcp::Pair::read")
    assert not is_communication("torch.nn.parallel.distributed", "DistributedDataParallel.forward")
    assert not is_communication("model", "broadcast_shapes")
