"""Triton kernel that splits the focal loss by class, for log steps and evaluation: one pass that only reads the logits.

Letters: N images, K classes.
"""

import triton
import triton.language as tl

from detector.losses.focal_triton_kernels import term_and_slope


@triton.jit(do_not_specialize=["num_rows"])  # not compiled anew for other sizes of images
def by_class_kernel(
    logits_ptr,
    labels_ptr,
    weights_ptr,
    sums_ptr,
    num_rows,
    logits_image_stride,
    logits_row_stride,
    logits_class_stride,
    labels_image_stride,
    labels_row_stride,
    sums_image_stride,
    own_weight,
    other_weight,
    gamma,
    num_classes: tl.constexpr,
    weight_per_class: tl.constexpr,
    gamma_is_two: tl.constexpr,
    classes_size: tl.constexpr,
    rows_size: tl.constexpr,
    num_steps: tl.constexpr,
):
    """Add up the anchors of a run of one image of one level.

    Args:
        logits_ptr: [N, num_rows, num_classes] logits; strides count elements.
        labels_ptr: [N, num_rows] int64 labels.
        weights_ptr: [2 num_classes] own and other weights, read with ``weight_per_class`` only.
        sums_ptr: [N, programs, 3 num_classes + 2] float32: loss of foreground anchors by their class, loss of
            background anchors by the logit, foreground anchors by class; then the own class's probability over
            foreground anchors and the highest one over background anchors.
        num_rows: anchors of an image.
        logits_image_stride: of the logits, as the next two.
        logits_row_stride: from one anchor to the next.
        logits_class_stride: from one class to the next.
        labels_image_stride: of the labels, as the next one.
        labels_row_stride: from one anchor to the next.
        sums_image_stride: of the sums.
        own_weight: weight of an anchor's own class.
        other_weight: weight of the other classes.
        gamma: focusing exponent.
        num_classes: K.
        weight_per_class: whether each class has weights of its own.
        gamma_is_two: p^gamma is a product then.
        classes_size: a power of two, at least K.
        rows_size: anchors of a step.
        num_steps: steps of a program; fewer at the end of an image.
    """
    image = tl.program_id(1).to(tl.int64)
    logits_ptr += image * logits_image_stride
    labels_ptr += image * labels_image_stride
    classes = tl.arange(0, classes_size)
    is_class = classes < num_classes
    foreground = tl.zeros((classes_size,), tl.float32)
    background = tl.zeros((classes_size,), tl.float32)
    num_foreground = tl.zeros((classes_size,), tl.float32)
    p_foreground = tl.zeros((rows_size,), tl.float32)
    p_background = tl.zeros((rows_size,), tl.float32)
    first = tl.program_id(0).to(tl.int64) * (num_steps * rows_size)
    for step in range(tl.minimum(num_steps, (num_rows - first + rows_size - 1) // rows_size).to(tl.int32)):
        rows = first + step * rows_size + tl.arange(0, rows_size)
        exists = rows < num_rows
        labels = tl.load(labels_ptr + rows * labels_row_stride, mask=exists, other=-2)
        inside = exists[:, None] & is_class[None, :]
        offsets = rows[:, None] * logits_row_stride + classes[None, :].to(tl.int64) * logits_class_stride
        x = tl.load(logits_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
        is_own = classes[None, :] == labels[:, None]
        if weight_per_class:
            weight = tl.load(weights_ptr + classes[None, :] + tl.where(is_own, 0, num_classes), mask=inside, other=0.0)
        else:
            weight = tl.where(is_own, own_weight, other_weight)
        loss, _ = term_and_slope(tl.where(is_own, -x, x), gamma, gamma_is_two)
        loss = tl.where(inside, weight * loss, 0.0)
        p = tl.where(inside, 1.0 / (1.0 + tl.exp(-x)), 0.0)
        is_background = labels == -1
        foreground += tl.sum(tl.where(is_own, tl.sum(loss, axis=1)[:, None], 0.0), axis=0)
        background += tl.sum(tl.where(is_background[:, None], loss, 0.0), axis=0)
        num_foreground += tl.sum(is_own.to(tl.float32), axis=0)
        p_foreground += tl.sum(tl.where(is_own, p, 0.0), axis=1)
        p_background += tl.where(is_background, tl.max(p, axis=1), 0.0)
    sums_ptr += image * sums_image_stride + tl.program_id(0).to(tl.int64) * (3 * num_classes + 2)
    tl.store(sums_ptr + classes, foreground, mask=is_class)
    tl.store(sums_ptr + num_classes + classes, background, mask=is_class)
    tl.store(sums_ptr + 2 * num_classes + classes, num_foreground, mask=is_class)
    tl.store(sums_ptr + 3 * num_classes, tl.sum(p_foreground))
    tl.store(sums_ptr + 3 * num_classes + 1, tl.sum(p_background))
