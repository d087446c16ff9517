"""What PyTorch's functions do to differences and gradients, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

__all__ = [
    "ACTIVATIONS",
    "ATOMIC",
    "CONSTANT",
    "PRODUCTS",
    "ROUGH",
    "SELECTING",
    "Effect",
    "effect_of",
    "overlaps",
    "plain_name",
]

Effect = Literal["non-linear", "linear", "cut"]

_PASSING = """
    T H mT mH real imag alias as_strided as_subclass atleast_1d atleast_2d atleast_3d bfloat16 broadcast_tensors
    broadcast_to cat channel_shuffle chunk clone column_stack concat concatenate contiguous copy cpu cuda diag
    diag_embed diagonal double dsplit dstack expand expand_as flatten flip fliplr flipud float gather getitem half
    hsplit hstack identity index_add index_copy index_fill index_put index_select iter masked_fill masked_scatter
    masked_select moveaxis movedim narrow native_channel_shuffle nested_tensor pad pad_sequence permute pin_memory
    pixel_shuffle pixel_unshuffle positive ravel repeat repeat_interleave requires_grad requires_grad_ reshape
    reshape_as roll rot90 row_stack scatter scatter_add select select_scatter setitem slice_scatter split
    split_with_sizes squeeze stack swapaxes swapdims t take take_along_dim tensor_split tile to to_dense transpose
    tril triu type type_as unbind unflatten unfold unsqueeze unsafe_chunk unsafe_split view view_as view_as_complex
    view_as_real vsplit vstack where zero_pad nan_to_num
"""
PASSING = frozenset(_PASSING.split())
"""They move numbers about and change none, given that masks and indices do not depend on the inputs."""

_FIRST_ONLY = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d avg_pool1d avg_pool2d avg_pool3d batch_norm conv1d
    conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d cumsum diff fold grid_sample
    interpolate linear mean nanmean nansum neg negative rfft fft ifft irfft sum sum_to_size trace upsample
    upsample_bilinear upsample_nearest
"""
FIRST_ONLY = frozenset(_FIRST_ONLY.split())
"""They are linear in their first operand where the others do not depend on the inputs."""

_PRODUCTS = """
    mul multiply div divide true_divide matmul mm bmm mv dot inner outer ger kron einsum tensordot addmm addmv
    addbmm baddbmm addr addcmul addcdiv bilinear chain_matmul multi_dot vdot linalg_matmul linalg_multi_dot
"""
PRODUCTS = frozenset(_PRODUCTS.split())
"""They are linear where just one operand depends on the inputs."""

_CONSTANT = """
    zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty
    new_full new_tensor new size numel dim zero_ fill_ normal_ uniform_ zero fill grad grad_fn is_floating_point
"""
CONSTANT = frozenset(_CONSTANT.split())
"""Their results have the shape of an operand and none of its numbers."""

_SELECTING = """
    eq ne gt ge lt le greater greater_equal less less_equal not_equal isnan isinf isfinite isclose isin any all
    argmax argmin argsort logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not and or
    invert xor nonzero searchsorted bucketize signbit count_nonzero equal allclose
"""
SELECTING = frozenset(_SELECTING.split())
"""Their results say which, not how much: no gradient passes, and none has to where they only choose among numbers."""

_ROUGH = """
    sign sgn round floor ceil trunc fix heaviside floor_divide floordiv bernoulli multinomial histc
"""
ROUGH = frozenset(_ROUGH.split())
"""Steps: the gradient is zero or missing almost everywhere, while the result still depends on the input."""

_RULED = """ReLU ReLU6 ELU SELU CELU GELU SiLU Mish LeakyReLU PReLU RReLU Sigmoid LogSigmoid Tanh Softplus Softsign
    Softshrink Hardshrink Tanhshrink Hardtanh Hardsigmoid Hardswish Threshold GLU Softmax LogSoftmax Softmin Softmax2d
    MaxPool1d MaxPool2d MaxPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d"""
ACTIVATIONS = {
    {"SiLU": "silu", "LeakyReLU": "leaky_relu", "LogSigmoid": "logsigmoid", "LogSoftmax": "log_softmax"}.get(
        name, name.lower().replace("maxpool", "max_pool").replace("adaptivemax", "adaptive_max")
    ): getattr(nn, name)
    for name in _RULED.split()
}
"""The module that does what a function does, by the function's name."""

ATOMIC = (
    *ACTIVATIONS.values(),
    *(nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.RNNBase, nn.RNNCellBase, nn.Identity, nn.Flatten),
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm, nn.CrossMapLRN2d, nn.modules.batchnorm._NormBase),
    *(nn.modules.conv._ConvNd, nn.modules.dropout._DropoutNd, nn.modules.pooling._LPPoolNd, nn.Upsample, nn.Fold),
    *(nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd, nn.CosineSimilarity, nn.PairwiseDistance),
)
"""Modules that are one operation: what runs inside one of them is that module, not a function of its own."""

_OPERATORS = "add sub mul div truediv floordiv pow matmul mod and or xor"
_SAME = {
    "truediv": "div",
    "subtract": "sub",
    "rsub": "neg",
    "rdiv": "reciprocal",
    "rtruediv": "reciprocal",
    "log_sigmoid": "logsigmoid",
    "absolute": "abs",
    "clip": "clamp",
    "swish": "silu",
    "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
    "special_expit": "sigmoid",
    "multi_head_attention_forward": "attention",
    "scaled_dot_product_attention": "attention",
}


def plain_name(name: str) -> tuple[str, bool]:
    """Return a function's name without in-place marks and operator spelling, and whether it works in place.

    Example:
        >>> plain_name("relu_"), plain_name("__iadd__"), plain_name("__rmul__")
        (('relu', True), ('add', True), ('mul', False))
    """
    operator = name.startswith("__") and name.endswith("__")
    in_place = not operator and name.endswith("_") and not name.startswith("_")
    plain = name.strip("_")
    if operator and plain not in _SAME and plain[0] in "ir" and plain[1:] in _OPERATORS.split():
        in_place = plain[0] == "i"
        plain = plain[1:]
    plain = plain.removesuffix("_with_indices")
    return _SAME.get(plain, plain), in_place or plain == "setitem"


def effect_of(
    name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], depends: list[bool], chooses: list[bool]
) -> Effect | None:
    """Say how a function bends its operands; None where it only moves numbers about.

    Args:
        name: as `plain_name` gives it.
        args, kwargs: of the call.
        depends: of every tensor among these, in order, whether it depends on the inputs.
        chooses: whether it is a mask or an index that does.
    """
    n = sum(depends)
    if "dropout" in name:
        training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else False))
        return "non-linear" if training else None
    if name in PASSING or (name == "interpolate" and str(kwargs.get("mode", "nearest")).startswith("nearest")):
        return (
            "non-linear"
            if any(chooses) and not all(chosen for chosen, d in zip(chooses, depends, strict=True) if d)
            else None
        )
    if name in {"add", "sub"}:
        return "linear"
    if name in FIRST_ONLY:
        by_batch = name == "batch_norm" and (kwargs.get("training") or args[5:6] == (True,))
        return "linear" if n == 1 and depends[0] and not by_batch else "non-linear"
    if name in PRODUCTS:
        divisor = name in {"div", "divide", "true_divide"} and not depends[0]
        return "linear" if n == 1 and not divisor else "non-linear"
    return None if name in ROUGH or name in {"detach", "data"} else "non-linear"


def overlaps(name: str, args: tuple[Any, ...] | None, kwargs: Mapping[str, Any] | None) -> bool:
    """Whether the windows of a max pooling share inputs or have holes."""
    if not name.startswith("max_pool") or args is None:
        return False
    order = ("input", "kernel_size", "stride", "padding", "dilation")
    given = dict(zip(order, args, strict=False)) | dict(kwargs or {})
    size, stride = given.get("kernel_size"), given.get("stride") or given.get("kernel_size")
    size, stride, dilation = (
        value if isinstance(value, (tuple, list)) else (value,) * 3
        for value in (size, stride, given.get("dilation", 1))
    )
    return max(dilation) > 1 or any(step < width for width, step in zip(size, stride, strict=False))
