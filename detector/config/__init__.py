"""The configuration schema: a tree of frozen, strict models, and the only place of defaults.

Nothing here imports torch, so ``--help`` and configuration errors answer at once. Read a file with
:func:`detector.config_io.load_config`.
"""

from detector.config.base import Section
from detector.config.data import DataConfig, FormatName, HoldoutConfig, SplitConfig
from detector.config.model import (
    FINEST_LEVEL,
    AnchorConfig,
    AssignConfig,
    BackboneConfig,
    FpnConfig,
    HeadConfig,
    ModelConfig,
)
from detector.config.root import CheckpointConfig, Config, EvalConfig
from detector.config.training import (
    BoxLossConfig,
    ClsLossConfig,
    EmaConfig,
    LossConfig,
    OptimizerConfig,
    ScheduleConfig,
)

__all__ = [
    "FINEST_LEVEL",
    "AnchorConfig",
    "AssignConfig",
    "BackboneConfig",
    "BoxLossConfig",
    "CheckpointConfig",
    "ClsLossConfig",
    "Config",
    "DataConfig",
    "EmaConfig",
    "EvalConfig",
    "FormatName",
    "FpnConfig",
    "HeadConfig",
    "HoldoutConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "Section",
    "SplitConfig",
]
