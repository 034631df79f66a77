"""The dataset doctor: what is wrong with a dataset, named by file and id, before anything is learnt from it."""

from detector.inspect.doctor.checking import check_splits
from detector.inspect.doctor.finding import Example, Finding
from detector.inspect.doctor.split import Split
from detector.inspect.doctor.start_up import format_start_up, start_up_findings

__all__ = ["Example", "Finding", "Split", "check_splits", "format_start_up", "start_up_findings"]
