"""Mutated configurations. Rule: what is accepted is used as it is written, every key of it."""

import random
from pathlib import Path
from typing import Any

import yaml

from detector.config_io import dump_config, load_config
from detector.config_yaml import parse_plain
from fuzzing.mutations import TEXT
from fuzzing.outcome import SilentError

ROOT = Path(__file__).resolve().parents[2]


def make_case(folder: Path, rng: random.Random) -> tuple[str, Path]:
    """Write a shipped recipe or what ``train`` saves of it, mutated; return the mutation's name and the file."""
    recipe = rng.choice(sorted((ROOT / "configs").glob("*.yaml")))
    data = recipe.read_bytes() if rng.random() < 0.5 else dump_config(load_config(recipe)).encode()
    mutation = rng.choice(TEXT)
    file = folder / "config.yaml"
    file.write_bytes(mutation(data, rng))
    return mutation.__name__, file


def read_case(file: Path) -> None:
    """Read it; compare what is used with what is written."""
    config = load_config(file)
    used = config.model_dump(mode="json")
    # Another reader: PyYAML without any conversion of scalars.
    written = yaml.compose(file.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    _compare(written, used, "")
    file.write_text(dump_config(config), encoding="utf-8")
    if load_config(file) != config:
        raise SilentError("what is saved of it reads back differently")


def _compare(node: yaml.Node | None, used: Any, key: str) -> None:
    match node:
        case yaml.MappingNode():
            for name, value in node.value:
                if not isinstance(used, dict) or name.value not in used:
                    raise SilentError(f"{key}.{name.value} is written, but not used")
                _compare(value, used[name.value], f"{key}.{name.value}")
        case yaml.SequenceNode():
            if not isinstance(used, list) or len(used) != len(node.value):
                raise SilentError(f"{key}: {len(node.value)} entries are written, used is {used!r}")
            for idx, (part, value) in enumerate(zip(node.value, used, strict=True)):
                _compare(part, value, f"{key}[{idx}]")
        case yaml.ScalarNode():
            expected = parse_plain(node.value) if node.style is None else node.value
            if expected != used and not (expected is None and used in (None, "none")):
                raise SilentError(f"{key}: {node.value!r} is written, used is {used!r}")
