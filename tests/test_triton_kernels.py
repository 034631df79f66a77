"""Every Triton kernel compiles for a GPU, which needs none; the interpreter of the other tests accepts more."""

import os
from typing import Any

import pytest

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")

LOSS = {"labels_ptr": "*i64", "own_weight": "fp32", "other_weight": "fp32", "gamma": "fp32"}
LOSS_CONSTANTS = {"size": 1024, "num_steps": 8, "num_classes": 80, "is_dense": True}
COMPUTE_CONSTANTS = LOSS_CONSTANTS | {
    "weight_per_class": False, "gamma_is_two": True, "has_gradient": True, "num_sums": 5, "rows_size": 128,
}  # fmt: skip
GENERAL_CONSTANTS = COMPUTE_CONSTANTS | {
    "num_classes": 1, "is_dense": False, "weight_per_class": True, "gamma_is_two": False, "rows_size": 16384,
}  # fmt: skip
BY_CLASS_CONSTANTS = {
    "num_classes": 80, "weight_per_class": False, "gamma_is_two": True, "classes_size": 128, "rows_size": 16,
    "num_steps": 32,
}  # fmt: skip
MATCHING = {
    **dict.fromkeys(("anchors", "gt_boxes", "best", "best_of_gt"), "*fp32"),
    **dict.fromkeys(("gt_mask", "gt_ignore"), "*u8"),
    **dict.fromkeys(("fg_iou_thresh", "bg_iou_thresh", "ignore_ioa_thresh"), "fp32"),
    "matches": "*i64",
}
RULES = {"block": 512, "low_quality": True, "has_ignore": True}


def compile_for_gpu(
    kernel: Any, types: dict[str, str], constants: dict[str, Any], *, ones: bool, fuses: bool = True
) -> str:
    """Return the PTX of a kernel; with ``ones`` all integers are 1, which Triton compiles in where it may."""
    signature, known = {}, dict[tuple[int], Any]()
    for parameter in kernel.params:
        name = parameter.name
        default = "*fp32" if name.endswith("_ptr") else "i32"
        signature[name] = types.get(name, default)
        if name in constants or (ones and signature[name] == "i32" and not parameter.do_not_specialize):
            signature[name], known[(parameter.num,)] = "constexpr", constants.get(name, 1)
    source = triton.compiler.ASTSource(kernel, signature, known)
    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    return str(triton.compile(source, target=target, options={"enable_fp_fusion": fuses}).asm["ptx"])


@pytest.mark.parametrize(
    ("dtype", "constants"),
    [("fp32", COMPUTE_CONSTANTS), ("bf16", GENERAL_CONSTANTS), ("fp16", COMPUTE_CONSTANTS | {"has_gradient": False})],
)
@pytest.mark.parametrize("ones", [False, True], ids=["any", "ones"])
def test_the_focal_loss_compiles(dtype: str, constants: dict[str, Any], ones: bool) -> None:
    from detector.losses.focal_triton_kernels import compute_kernel

    types = LOSS | {"logits_ptr": f"*{dtype}", "gradient_ptr": f"*{dtype}"}
    assert ".entry compute_kernel" in compile_for_gpu(compute_kernel, types, constants, ones=ones)


@pytest.mark.parametrize(
    ("dtype", "constants"),
    [
        ("bf16", BY_CLASS_CONSTANTS),
        ("fp32", BY_CLASS_CONSTANTS | {"weight_per_class": True, "gamma_is_two": False}),
        ("bf16", BY_CLASS_CONSTANTS | {"num_classes": 1, "classes_size": 1, "rows_size": 2048}),
        ("fp16", BY_CLASS_CONSTANTS | {"num_classes": 1203, "classes_size": 2048, "rows_size": 1}),
        ("fp16", BY_CLASS_CONSTANTS | {"num_classes": 5000, "classes_size": 8192, "rows_size": 1}),
    ],
)
@pytest.mark.parametrize("ones", [False, True], ids=["any", "ones"])
def test_the_focal_loss_by_class_compiles(dtype: str, constants: dict[str, Any], ones: bool) -> None:
    from detector.losses.focal_class_kernel import by_class_kernel

    code = compile_for_gpu(by_class_kernel, LOSS | {"logits_ptr": f"*{dtype}"}, constants, ones=ones)
    assert ".entry by_class_kernel" in code


@pytest.mark.parametrize("ones", [False, True], ids=["any", "ones"])
def test_the_scaling_of_a_gradient_compiles(ones: bool) -> None:
    from detector.losses.focal_triton_kernels import scale_kernel

    types = LOSS | {"gradient_ptr": "*bf16"}
    assert ".entry scale_kernel" in compile_for_gpu(scale_kernel, types, LOSS_CONSTANTS, ones=ones)


@pytest.mark.parametrize("ones", [False, True], ids=["any", "ones"])
def test_the_assignment_compiles_without_fused_multiplications(ones: bool) -> None:
    from detector.assign.kernels import best_of_gt_kernel, match_kernel

    for kernel, constants in (
        (best_of_gt_kernel, {"block": 512}),
        (match_kernel, RULES),
        (match_kernel, RULES | {"low_quality": False, "has_ignore": False}),
    ):
        code = compile_for_gpu(kernel, MATCHING, constants, ones=ones, fuses=False)
        assert f".entry {kernel.__name__}" in code
        assert "div.rn.f32" in code
        assert "fma" not in code
