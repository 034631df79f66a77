"""Schema of the whole configuration."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from detector.config.base import Cadence, Fraction, NonEmptyStr, NonNegativeInt, PositiveInt, Section
from detector.config.data import DataConfig
from detector.config.duration import parse_duration
from detector.config.model import AssignConfig, ModelConfig
from detector.config.training import EmaConfig, LossConfig, OptimizerConfig, ScheduleConfig

MAX_COMPILED_SHAPES: Final = 8
"""torch._dynamo.config.recompile_limit: so many graphs torch makes of one function."""


class EvalConfig(Section):
    """When to evaluate, and how outputs become detections."""

    every: Cadence = "epoch"
    """Steps between evaluations, or `epoch`. The last step is always evaluated."""
    short_side: PositiveInt | None = None
    """Shorter image side in evaluation; null = the largest of `data.short_side`."""
    batch_size: PositiveInt | None = None
    """Images that one process forwards at once; null = as in training. Changes no AP."""
    score_thresh: Fraction = 0.05
    """Detections below this score are dropped."""
    topk_per_level: PositiveInt = 1000
    """(anchor, class) pairs kept per level before NMS."""
    nms_thresh: Fraction = 0.5
    """Of two boxes of a class that overlap more than this IoU, the lower score goes."""
    max_detections: PositiveInt = 100
    """Detections kept per image."""
    scorer: Literal["auto", "hotcoco", "pycocotools"] = "auto"
    """What computes the COCO numbers. auto = hotcoco where it is installed (a hundredth of the time), else pycocotools;
    the numbers are the same to the last bit."""
    background: bool = False
    """Score in a process of its own while training goes on. Files and numbers stay the same; console lines of later
    steps may come before those of the evaluation."""
    num_pictures: NonNegativeInt = 8
    """Pictures of predictions beside ground truth in TensorBoard at each evaluation."""
    loss_profile_every: NonNegativeInt = 1
    """Every n-th evaluation also draws how the class loss is spread over anchors (the paper's Figure 4); 0 = never."""


class CheckpointConfig(Section):
    """When to save, and what to keep."""

    every: Cadence = "epoch"
    """Steps between checkpoints, or `epoch`. The last step is always saved."""
    keep: PositiveInt = 3
    """`step-*.pt` files that are kept; `last` and `best` always are."""


class Config(Section):
    """One complete recipe."""

    output_dir: Annotated[str, Field(min_length=1)]
    """Folder of the run: checkpoints, metrics, TensorBoard files, the resolved configuration."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of weights, order and augmentation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto = cuda where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the network; losses and boxes are always fp32. auto = bf16 where the hardware has it natively, else
    fp32. The resolved value is saved with the run."""
    convolution: Literal["auto", "direct", "winograd"] = "auto"
    """How 3x3 convolutions are computed on a CPU in fp32: winograd takes a quarter of the multiplications where
    that is faster, with rounding errors of 2e-6 instead of 6e-7. auto = winograd where it has been measured to be
    faster: with AVX2 but no AVX-512. No other device or precision is touched."""
    compile: Literal["off", "model", "step"] = "off"
    """Train through compiled graphs, one for every shape of `data.buckets`: of the network, or of the network and the
    losses. Faster on a GPU after minutes of compilation; resume and checkpoints do not change. On a CPU it turns
    `convolution: winograd` off, which gains more there. step compiles the plain form of the focal loss, with the memory
    of its temporaries: `loss.backend` must be auto."""
    cuda_graphs: bool = False
    """With `compile`: replay each graph's kernels in one launch; for few images per GPU. Needs `images_per_forward` to
    be a step's whole share."""
    log_every: PositiveInt = 20
    """Steps between log rows. The last step is always logged."""
    deterministic: bool = False
    """Use only algorithms that give the same bits on every run."""
    time_limit: PositiveInt | NonEmptyStr | None = None
    """Time after which the run saves and stops with exit code 75, as after a signal: seconds, or such as `11h30m`,
    counted from the start of the process's work. Leave a step and the writing of a checkpoint to spare. null = none."""
    data: DataConfig
    """Files, sizes, batches, augmentation."""
    model: ModelConfig = ModelConfig()
    """Network."""
    assign: AssignConfig = AssignConfig()
    """Matching of anchors and ground truth."""
    loss: LossConfig = LossConfig()
    """Losses and normaliser."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimiser."""
    schedule: ScheduleConfig
    """Length and learning rate."""
    ema: EmaConfig = EmaConfig()
    """Moving average of the weights."""
    eval: EvalConfig = EvalConfig()
    """Evaluation."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Saving."""

    @field_validator("time_limit", mode="after")
    @classmethod
    def _check_time_limit(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, str):
            parse_duration(value)
        return value

    @model_validator(mode="after")
    def _check_across_sections(self) -> Self:
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError("precision: fp16 needs a GPU; use bf16 or fp32 with device: cpu")
        cls, activation = self.loss.cls, self.model.head.activation
        if cls.activation != activation:
            raise ValueError(
                f"model.head.activation: {activation} does not fit loss.cls.name = {cls.name}; "
                f"set model.head.activation={cls.activation}, or choose a loss whose name "
                f"{'begins' if activation == 'softmax' else 'does not begin'} with softmax"
            )
        self._check_compile()
        if self.eval.short_side is not None and self.eval.short_side > self.data.max_side:
            raise ValueError(
                f"eval.short_side: {self.eval.short_side} is larger than data.max_side = {self.data.max_side}, "
                "so that size could never be reached"
            )
        return self

    def _check_compile(self) -> None:
        if self.cuda_graphs and self.compile == "off":
            raise ValueError("cuda_graphs: replays compiled graphs; set compile=model or compile=step too")
        if self.cuda_graphs and self.device == "cpu":
            raise ValueError("cuda_graphs: needs a GPU, found device: cpu")
        if self.compile == "off":
            return
        if self.compile == "step" and self.loss.backend != "auto":
            raise ValueError(
                f"loss.backend: compile: step compiles the loss and does not use {self.loss.backend}; "
                "set loss.backend=auto, or compile=model"
            )
        if self.data.buckets is None:
            raise ValueError(
                f"compile: {self.compile} makes one graph for every padded shape and needs data.buckets to bound them, "
                "found null; for images of at most 800 x 1333 and both orientations '[[800, 1344], [1344, 800]]'"
            )
        if len(self.data.buckets) > MAX_COMPILED_SHAPES:
            raise ValueError(
                f"data.buckets: with compile: {self.compile} at most {MAX_COMPILED_SHAPES} shapes, found "
                f"{len(self.data.buckets)}; beyond that torch stops compiling and runs the rest uncompiled"
            )

    @property
    def eval_short_side(self) -> int:
        """Shorter image side in evaluation."""
        return self.eval.short_side or max(self.data.short_side)

    @property
    def time_limit_seconds(self) -> float | None:
        """`time_limit` in seconds."""
        return parse_duration(self.time_limit) if isinstance(self.time_limit, str) else self.time_limit
