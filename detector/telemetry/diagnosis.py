"""A run's diagnosis in words: what its rows say is wrong, one line each with cause and remedy, once per run.

:mod:`detector.telemetry.diagnosis_history` holds what is remembered of the rows,
:mod:`detector.telemetry.diagnosis_checks` the checks and their thresholds. The checks read finished rows only: they
cost no time of the device.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detector.config import FINEST_LEVEL, Config
from detector.telemetry.diagnosis_checks import CHECKS, Finding
from detector.telemetry.diagnosis_history import AnchorLevel, History, RunFacts
from detector.telemetry.loss_spike import loss_leaps
from detector.telemetry.rows import TrainRow


class Diagnosis:
    """Looks at the train rows of a run as they come.

    Args:
        facts: what it has to know beside the rows.
    """

    def __init__(self, facts: RunFacts) -> None:
        self._history = History(facts)
        self._told: set[str] = set()

    def observe(self, row: TrainRow) -> list[Finding]:
        """Take in the next row and return what it shows for the first time in this run."""
        self._history.add(row)
        findings = (check(self._history) for check in (*CHECKS, loss_leaps))
        return self.only_new([finding for finding in findings if finding is not None])

    def only_new(self, findings: Iterable[Finding]) -> list[Finding]:
        """Return the findings, also those of other checks, that were not told yet; they are taken as told then."""
        new = [finding for finding in findings if finding.name not in self._told]
        self._told.update(finding.name for finding in new)
        return new

    def has_told(self, name: str) -> bool:
        """Return whether a finding of this name was told in this run."""
        return name in self._told

    def replay(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in the rows that a resumed run finds in ``metrics.jsonl``, as JSON objects: it tells nothing twice."""
        for row in rows:
            if row.get("kind") == "warning":
                self._told.add(str(row.get("name")))
            elif row.get("kind") == "train":
                self._history.add(TrainRow.from_json(row))


def build_diagnosis(
    config: Config, class_names: Sequence[str], *, max_steps: int, warmup_steps: int, is_initialised: bool
) -> Diagnosis:
    """Return the diagnosis of a run that a configuration describes.

    Args:
        config: the configuration.
        class_names: by label.
        max_steps: optimiser steps of the whole run, epochs resolved.
        warmup_steps: as the schedule has them.
        is_initialised: whether the weights come from another run.
    """
    head, anchors = config.model.head, config.model.anchors
    levels = tuple(
        AnchorLevel(
            name=f"P{FINEST_LEVEL + idx}", min_side=size * min(anchors.scales), max_side=size * max(anchors.scales)
        )
        for idx, size in enumerate(anchors.sizes)
    )
    return Diagnosis(
        RunFacts(
            max_steps=max_steps,
            warmup_steps=warmup_steps,
            initial_p=head.prior / (1 if head.activation == "sigmoid" else len(class_names)),
            prior=head.prior,
            score_thresh=config.eval.score_thresh,
            allow_low_quality_matches=config.assign.allow_low_quality_matches,
            cls_loss=config.loss.cls.name,
            class_names=tuple(class_names),
            levels=levels,
            image_side=max(config.data.short_side),
            is_initialised=is_initialised,
        )
    )
