"""Triton kernels of the focal loss: value and gradient in one pass over the logits, and the scaling of a gradient.

The maths is that of :mod:`detector.losses.focal_eager`, in float32. Each program takes a run of consecutive logits of
one image and level, finds their anchors by division, and writes two sums and three counts of its own.

Letters: N images, K classes.
"""

import triton
import triton.language as tl


@triton.jit
def _locate(start, num_rows, num_classes: tl.constexpr, size: tl.constexpr):
    """Return of the logits from number ``start`` (int64) on: number, anchor, class, and whether they exist."""
    first_row = start // num_classes
    # What is added to the first logit's place is small: no thread divides in 64 bits.
    steps = tl.arange(0, size)
    within = (start - first_row * num_classes).to(tl.int32) + steps
    # By the number of the logit, not of the anchor: the compiler sees that neighbours agree, and loads them at once.
    inside = start + steps < num_rows.to(tl.int64) * num_classes
    return start + steps, first_row + within // num_classes, within % num_classes, inside


@triton.jit
def _steps(run_start, num_rows, num_classes: tl.constexpr, size: tl.constexpr, num_steps: tl.constexpr):
    """Return how many steps a run takes; less than usual at the end of an image."""
    left = num_rows.to(tl.int64) * num_classes - run_start
    return tl.minimum(num_steps, (left + size - 1) // size).to(tl.int32)


@triton.jit
def _offsets(numbers, rows, classes, row_stride, class_stride, is_dense: tl.constexpr):
    """Return where logits lie, counted from the first one of their image."""
    return numbers if is_dense else rows * row_stride + classes.to(tl.int64) * class_stride


@triton.jit
def term_and_slope(z, gamma, gamma_is_two: tl.constexpr):
    """Return p^gamma s and its derivative by z, with p = sigmoid(z) and s = softplus(z)."""
    e = tl.exp(-tl.abs(z))
    u = 1.0 + e
    # log(1 + e) without the error of rounding 1 + e (Higham, Accuracy and Stability of Numerical Algorithms, 1.14.1).
    softplus = tl.maximum(z, 0.0) + tl.where(u == 1.0, e, tl.log(u) * (e / tl.where(u == 1.0, 1.0, u - 1.0)))
    larger = 1.0 / u
    smaller = e * larger
    p = tl.where(z >= 0, larger, smaller)
    q = tl.where(z >= 0, smaller, larger)
    modulation = p * p if gamma_is_two else tl.exp(gamma * (z - softplus))
    # q s is 0 times infinity for z = infinity.
    fall = tl.where(q == 0, 0.0, q * softplus)
    return modulation * softplus, modulation * (p + gamma * fall)


@triton.jit(do_not_specialize=["num_rows"])  # a number known to be 1 has no type to convert
def compute_kernel(
    logits_ptr,
    labels_ptr,
    gradient_ptr,
    weights_ptr,
    foreground_ptr,
    background_ptr,
    sums_ptr,
    num_rows,
    logits_image_stride,
    logits_row_stride,
    logits_class_stride,
    gradient_image_stride,
    gradient_row_stride,
    gradient_class_stride,
    labels_image_stride,
    labels_row_stride,
    foreground_stride,
    background_stride,
    sums_image_stride,
    own_weight,
    other_weight,
    gamma,
    num_classes: tl.constexpr,
    is_dense: tl.constexpr,
    weight_per_class: tl.constexpr,
    gamma_is_two: tl.constexpr,
    has_gradient: tl.constexpr,
    size: tl.constexpr,
    num_steps: tl.constexpr,
    num_sums: tl.constexpr,
    rows_size: tl.constexpr,
):
    """Compute a run of logits of one image of one level.

    Args:
        logits_ptr: [N, num_rows, num_classes] logits; strides count elements.
        labels_ptr: [N, num_rows] int64 labels.
        gradient_ptr: [N, num_rows, num_classes] of the logits' type; not touched without ``has_gradient``.
        weights_ptr: [2 num_classes] own and other weights, read with ``weight_per_class`` only.
        foreground_ptr: [N] factor of the gradient of anchors that have an object.
        background_ptr: [N] factor of the gradient of background anchors.
        sums_ptr: [N, programs, num_sums] float32: foreground and background loss, foreground, background and ignored
            anchors.
        num_rows: anchors of an image.
        logits_image_stride: of the logits, as the next two.
        logits_row_stride: from one anchor to the next.
        logits_class_stride: from one class to the next.
        gradient_image_stride: of the gradient, as the next two.
        gradient_row_stride: from one anchor to the next.
        gradient_class_stride: from one class to the next.
        labels_image_stride: of the labels, as the next one.
        labels_row_stride: from one anchor to the next.
        foreground_stride: from one image's factor to the next one's.
        background_stride: likewise.
        sums_image_stride: of the sums.
        own_weight: weight of an anchor's own class.
        other_weight: weight of the other classes.
        gamma: focusing exponent.
        num_classes: K.
        is_dense: whether an image's logits lie one after another, and its gradient too.
        weight_per_class: whether each class has weights of its own.
        gamma_is_two: p^gamma is a product then.
        has_gradient: whether one is wanted.
        size: logits of a step.
        num_steps: steps of a program.
        num_sums: numbers that a program writes.
        rows_size: a power of two, at least the anchors that may begin in a run.
    """
    run_start = tl.program_id(0).to(tl.int64) * (size * num_steps)
    image = tl.program_id(1).to(tl.int64)
    logits_ptr += image * logits_image_stride
    gradient_ptr += image * gradient_image_stride
    labels_ptr += image * labels_image_stride
    foreground = tl.load(foreground_ptr + image * foreground_stride)
    background = tl.load(background_ptr + image * background_stride)
    foreground_sum = tl.zeros((size,), tl.float32)
    background_sum = tl.zeros((size,), tl.float32)
    for step in range(_steps(run_start, num_rows, num_classes, size, num_steps)):
        numbers, rows, classes, inside = _locate(run_start + step * size, num_rows, num_classes, size)
        labels = tl.load(labels_ptr + rows * labels_row_stride, mask=inside, other=-2)
        offsets = _offsets(numbers, rows, classes, logits_row_stride, logits_class_stride, is_dense)
        x = tl.load(logits_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
        is_own = classes == labels
        sign = tl.where(is_own, -1.0, 1.0)
        if weight_per_class:
            weight = tl.load(weights_ptr + classes + tl.where(is_own, 0, num_classes), mask=inside, other=0.0)
        else:
            weight = tl.where(is_own, own_weight, other_weight)
        loss, slope = term_and_slope(sign * x, gamma, gamma_is_two)
        foreground_sum += tl.where(labels >= 0, weight * loss, 0.0)
        background_sum += tl.where(labels == -1, weight * loss, 0.0)
        if has_gradient:
            factor = tl.where(labels >= 0, foreground, background)
            gradient = tl.where(labels >= -1, sign * weight * slope * factor, 0.0)
            offsets = _offsets(numbers, rows, classes, gradient_row_stride, gradient_class_stride, is_dense)
            tl.store(gradient_ptr + offsets, gradient.to(gradient_ptr.dtype.element_ty), mask=inside)

    # Each anchor is counted by the program that has its first logit.
    first = (run_start + num_classes - 1) // num_classes
    end = tl.minimum((run_start + size * num_steps + num_classes - 1) // num_classes, num_rows)
    counted = first + tl.arange(0, rows_size)
    exists = counted < end
    labels = tl.load(labels_ptr + counted * labels_row_stride, mask=exists, other=0)
    sums_ptr += image * sums_image_stride + tl.program_id(0).to(tl.int64) * num_sums
    tl.store(sums_ptr, tl.sum(foreground_sum))
    tl.store(sums_ptr + 1, tl.sum(background_sum))
    tl.store(sums_ptr + 2, tl.sum((exists & (labels >= 0)).to(tl.float32)))
    tl.store(sums_ptr + 3, tl.sum((labels == -1).to(tl.float32)))
    tl.store(sums_ptr + 4, tl.sum((labels < -1).to(tl.float32)))


@triton.jit(do_not_specialize=["num_rows"])
def scale_kernel(
    gradient_ptr,
    labels_ptr,
    foreground_ptr,
    background_ptr,
    num_rows,
    image_stride,
    row_stride,
    class_stride,
    labels_image_stride,
    labels_row_stride,
    foreground_stride,
    background_stride,
    num_classes: tl.constexpr,
    is_dense: tl.constexpr,
    size: tl.constexpr,
    num_steps: tl.constexpr,
):
    """Multiply a run of the gradient, unless both factors are 1: then nothing is read, and the host need not know."""
    run_start = tl.program_id(0).to(tl.int64) * (size * num_steps)
    image = tl.program_id(1).to(tl.int64)
    gradient_ptr += image * image_stride
    labels_ptr += image * labels_image_stride
    foreground = tl.load(foreground_ptr + image * foreground_stride)
    background = tl.load(background_ptr + image * background_stride)
    if (foreground != 1.0) | (background != 1.0):
        for step in range(_steps(run_start, num_rows, num_classes, size, num_steps)):
            numbers, rows, classes, inside = _locate(run_start + step * size, num_rows, num_classes, size)
            offsets = _offsets(numbers, rows, classes, row_stride, class_stride, is_dense)
            labels = tl.load(labels_ptr + rows * labels_row_stride, mask=inside, other=-2)
            factor = tl.where(labels >= 0, foreground, tl.where(labels == -1, background, 0.0))
            gradient = tl.load(gradient_ptr + offsets, mask=inside, other=0.0).to(tl.float32) * factor
            tl.store(gradient_ptr + offsets, gradient.to(gradient_ptr.dtype.element_ty), mask=inside)
