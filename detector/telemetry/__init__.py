"""What is measured of a run and where it is written: console, ``metrics.jsonl`` and TensorBoard."""

from detector.telemetry.console import RunConsole
from detector.telemetry.recorder import RunRecorder
from detector.telemetry.rows import EvalRow, TrainRow
from detector.telemetry.split_stats import StepTotals

__all__ = ["EvalRow", "RunConsole", "RunRecorder", "StepTotals", "TrainRow"]
