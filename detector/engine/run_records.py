"""What a run writes of itself: its folder, its rows and its diagnosis, opened where it begins or goes on."""

from collections.abc import Sequence
from pathlib import Path

from detector.config import Config
from detector.config_io import dump_config
from detector.engine.checkpoint_files import set_aside_later_checkpoints, tidy_checkpoints
from detector.engine.device import describe_device
from detector.engine.processes import Processes
from detector.engine.run_folder import CHECKPOINTS, open_run_folder
from detector.engine.schedule import Schedule
from detector.engine.state import TrainState
from detector.telemetry import METRICS_FILE, Diagnosis, RunRecorder
from detector.telemetry.diagnosis import build_diagnosis
from detector.telemetry.jsonl import read_rows


def open_recorder(
    config: Config,
    state: TrainState,
    schedule: Schedule,
    processes: Processes,
    class_names: Sequence[str],
    *,
    overwrite: bool,
) -> RunRecorder:
    """Write the run folder's first files, unless the run is finished already, and open those that grow."""
    output_dir = Path(config.output_dir)
    set_aside: list[Path] = []
    if processes.is_main and state.step < schedule.max_steps:
        hardware = describe_device(next(state.model.parameters()).device)
        open_run_folder(
            output_dir,
            overwrite=overwrite,
            config_yaml=dump_config(config),
            seed=config.seed,
            hardware=hardware,
            num_processes=processes.num_processes,
            start_step=state.step,
        )
        set_aside = set_aside_later_checkpoints(output_dir / CHECKPOINTS, state.step)
        tidy_checkpoints(output_dir / CHECKPOINTS, state.step, best_step=state.best_step)
    recorder = RunRecorder(
        output_dir,
        max_steps=schedule.max_steps,
        start_step=state.step,
        class_names=class_names,
        is_main=processes.is_main,
    )
    for path in set_aside:
        recorder.note(f"{path.name}: of the course that this run had after step {state.step}; set aside")
    return recorder


def open_diagnosis(
    config: Config, state: TrainState, schedule: Schedule, processes: Processes, class_names: Sequence[str]
) -> Diagnosis:
    """Return the diagnosis as the run left it; after the recorder, which removes the rows that are written again."""
    diagnosis = build_diagnosis(
        config,
        class_names,
        max_steps=schedule.max_steps,
        warmup_steps=schedule.warmup_steps,
        is_initialised=state.is_initialised,
    )
    if processes.is_main:
        diagnosis.replay(read_rows(Path(config.output_dir) / METRICS_FILE))
    return diagnosis
