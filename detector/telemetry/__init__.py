"""What is measured of a run and where it is written: console, ``metrics.jsonl`` and TensorBoard."""

from detector.telemetry.console import RunConsole
from detector.telemetry.diagnosis import Diagnosis
from detector.telemetry.diagnosis_checks import Finding
from detector.telemetry.recorder import METRICS_FILE, RunRecorder
from detector.telemetry.rows import EvalRow, TrainRow, WarningRow
from detector.telemetry.step_totals import StepTotals

__all__ = [
    "METRICS_FILE",
    "Diagnosis",
    "EvalRow",
    "Finding",
    "RunConsole",
    "RunRecorder",
    "StepTotals",
    "TrainRow",
    "WarningRow",
]
