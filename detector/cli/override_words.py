"""Overrides of a configuration for a person to copy into a command line."""

import json
from pathlib import Path

from detector.config_yaml import write_flow


def override(key: str, value: str | Path) -> str:
    """Return ``key=value`` for a text, plain where YAML reads it as it is and else in quotes, such as ``"2012"``.

    Args:
        key: dotted, such as ``data.train.path``.
        value: a text or a path.
    """
    text = str(value)
    # Double quotes: the shell's own are single ones, of which two kinds in one another are unreadable.
    return f"{key}={text if write_flow(text) == text else json.dumps(text, ensure_ascii=False)}"
