"""How fast a configuration trains on this machine, what it waits for, what memory it takes and how much would fit."""

from detector.engine.benchmark.measuring import BenchmarkResult, benchmark
from detector.engine.benchmark.report import format_result, to_json

__all__ = ["BenchmarkResult", "benchmark", "format_result", "to_json"]
