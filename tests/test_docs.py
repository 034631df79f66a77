"""The pages in `docs/`: links, names, commands, overrides and quoted lines are real (test_docs_numbers.py: numbers)."""

import argparse
import ast
import importlib
import io
import json
import math
import re
import shlex
import textwrap
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detector.cli import loss_lab
from detector.config import ClsLossConfig, Config
from detector.config_io import flatten_config, load_config
from detector.lab.cdf import FIGURE_FILES
from detector.telemetry import EvalRow, TrainRow
from detector.telemetry.tensorboard import EventFiles

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
SHORT_PAGES = {"distributed", "reproducibility"}
FOCAL, TROUBLE = ROOT / "docs/focal_loss.md", ROOT / "docs/troubleshooting.md"

LINK = re.compile(r"\[([^\]\[]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def links(page: Path) -> list[tuple[str, str]]:
    return LINK.findall(FENCE.sub("", read(page)))


def fences(page: Path, language: str) -> list[str]:
    return [textwrap.dedent(body) for found, body in FENCE.findall(read(page)) if found == language]


def code_spans(page: Path) -> list[str]:
    return CODE.findall(FENCE.sub("", read(page)))


# Links and names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(page: Path) -> None:
    found = links(page)
    assert len(found) > 4
    for _, target in found:
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in heading_anchors(read(path)), f"{page.name}: {target}"


def heading_anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_everything_named_with_a_python_file_is_defined_in_it() -> None:
    named = [(text.strip("`"), target) for text, target in links(FOCAL) + links(TROUBLE) if target.endswith(".py")]
    named = [(text, target) for text, target in named if NAME.fullmatch(text)]
    assert len(named) > 30
    for name, target in named:
        assert name in definitions(ROOT / "docs" / target), f"{name} is not in {target}"


@cache
def definitions(path: Path) -> frozenset[str]:
    """Names that a file defines: functions, classes, constants, methods and fields as `Class.name`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for name in _names_of(node):
            found.add(name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for part in node.body for name in _names_of(part)}
    return frozenset(found)


def _names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_every_test_that_a_page_names_is_linked_to_its_file() -> None:
    for page in PAGES:
        linked = {text.strip("`") for text, target in links(page) if target.endswith(".py")}
        assert {span for span in code_spans(page) if span.startswith("test_")} <= linked


def test_every_figure_is_small_and_shown_with_what_is_on_it() -> None:
    figures = re.findall(r"!\[(.*)\]\((.+?)\)", read(FOCAL))
    assert figures
    for text, target in figures:
        assert len(text) > 20
        assert (ROOT / "docs" / target).stat().st_size < 150_000
    drawn = {path.name for path in (ROOT / "docs/images").glob("loss_*.png")}
    assert {Path(target).name for _, target in figures} == drawn


# Commands, keys and overrides


def commands(page: Path) -> list[list[str]]:
    lines = "\n".join(fences(page, "bash")).replace("\\\n", " ").splitlines()
    spans = [
        span for span in code_spans(page) if span.startswith(("python tools/", "detector ")) and "NAME" not in span
    ]
    return [shlex.split(line, comments=True) for line in lines + spans if line.strip()]


def test_every_command_is_one_that_the_program_takes() -> None:
    found = [words for page in PAGES for words in commands(page)]
    assert len(found) > 5
    for words in found:
        if words[0] in {"tensorboard", "pip"}:
            continue
        if words[0] in {"torchrun", "sbatch"}:  # the launcher's own options are not ours
            script = next(idx for idx, word in enumerate(words) if word.endswith((".py", ".sbatch")))
            assert (ROOT / words[script]).is_file(), words
            check_command("train", words[script + 1 :])
            continue
        if words[0] == "python":
            assert (ROOT / words[1]).is_file(), words
            name, arguments = Path(words[1]).stem, words[2:]
        else:
            assert words[0] == "detector", words
            name, arguments = words[1].replace("-", "_"), words[2:]
        check_command(name, arguments)


def check_command(name: str, arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    if name == "loss_lab":
        loss_lab.SUBCOMMANDS[arguments[0]].add_arguments(parser)
        arguments = arguments[1:]
    else:
        importlib.import_module(f"detector.cli.{name}").add_arguments(parser)
    args = parser.parse_intermixed_args(arguments)
    if overrides := getattr(args, "overrides", None):
        load_config(getattr(args, "config", None) or "retina_demo", overrides)


def test_what_stands_below_a_laboratory_command_is_what_it_prints() -> None:
    shown = re.findall(
        r"^```bash\npython tools/loss_lab\.py (.*)\n```\n\n```text\n([^`]*)^```$", read(FOCAL), re.MULTILINE
    )
    assert shown
    for arguments, output in shown:
        printed = io.StringIO()
        with redirect_stdout(printed):
            assert loss_lab.main(shlex.split(arguments)) == 0
        assert printed.getvalue() == output


SECTIONS = "|".join(Config.model_fields)
OVERRIDE = re.compile(rf"({SECTIONS})(\.\w+)*(=|: )\S.*")
KEY = re.compile(rf"({SECTIONS})(\.\w+)+")


def override_lines(page: Path) -> list[list[str]]:
    """Overrides that stand together: a span of code `a.b=1 c=2` or `a.b: 1`, or a piece of YAML."""
    spans = [span for span in code_spans(page) if OVERRIDE.fullmatch(span)]
    lines = [[span.replace(": ", "=", 1)] if re.match(r"[\w.]+: ", span) else shlex.split(span) for span in spans]
    return lines + [list(_flatten(yaml.safe_load(text))) for text in fences(page, "yaml")]


def _flatten(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={json.dumps(value)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_override_loads(page: Path) -> None:
    found = override_lines(page)
    assert len(found) > (3 if page.stem in SHORT_PAGES else 8)
    for overrides in found:
        for name in ("retina_coco", "retina_demo"):
            changed = flatten_config(load_config(name, overrides))
            assert {override.partition("=")[0] for override in overrides} <= changed.keys(), overrides


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_key_of_the_configuration_that_is_named_exists(page: Path) -> None:
    keys = flatten_config(load_config("retina_coco")).keys() | flatten_config(load_config("retina_demo")).keys()
    named = [span for span in code_spans(page) if KEY.fullmatch(span)]
    assert named
    for key in named:
        assert any(known == key or known.startswith(f"{key}.") for known in keys), key


def test_the_table_of_class_losses_has_all_of_them_with_the_keys_that_they_read() -> None:
    found = set()
    for name, read_keys in re.findall(r"^\| .*`loss\.cls\.name=(\w+)[^`]*` \| (.*) \|$", read(FOCAL), re.MULTILINE):
        config = ClsLossConfig(name=name)
        assert set(re.findall(r"[a-z_]+", re.sub(r"\(.*?\)", "", read_keys))) == set(config.acting_keys), name
        found.add(name)
    assert found == set(get_args(ClsLossConfig.model_fields["name"].annotation))


# What the program writes


def test_every_quoted_line_of_the_console_is_one_that_the_program_can_print() -> None:
    quoted = [line for text in fences(TROUBLE, "text") for line in text.splitlines()]
    assert len(quoted) > 10
    patterns = [pattern for path in sorted((ROOT / "detector").rglob("*.py")) for pattern in printable_lines(path)]
    for line in quoted:
        assert any(pattern.fullmatch(line) for pattern in patterns), line


def printable_lines(path: Path) -> Iterator[re.Pattern[str]]:
    """A pattern for every line of every text in a source file: what is filled in may be anything, and up to three words
    may come before it (such as `warning:`)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp) and node not in docstrings:
            for line in _pattern(node).split("\n"):
                if len(line.replace(".*", "")) > 12:
                    yield re.compile(rf"(\S+ ){{0,3}}{line}")


def _pattern(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return re.sub(r"[^\w\s]", lambda found: re.escape(found[0]), text)
        case ast.JoinedStr(values=parts):
            return "".join(map(_pattern, parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _pattern(left) + _pattern(right)
    return ".*"


def test_every_number_of_a_row_that_is_named_is_in_the_rows() -> None:
    rows = {field.name for row in (TrainRow, EvalRow) for field in fields(row)}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "detector/telemetry").glob("*.py")]
    rows |= {node.value for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    reading = read(FOCAL).partition("## 12. ")[2].partition("## 13. ")[0]
    text = LINK.sub("", FENCE.sub("", reading + read(TROUBLE)))
    named = {span for span in CODE.findall(text) if re.fullmatch("[a-z]+(_[a-z]+)+", span)}
    assert len(named) > 15
    assert named - rows <= {"images_per_forward"}


def test_every_tag_of_tensorboard_that_is_named_is_written(tmp_path: Path) -> None:
    empty = {field.name: math.nan for field in fields(TrainRow)} | {"step": 1}
    empty |= {name: (1.0,) for name in empty if name.startswith(("level_", "class_"))}
    shared = {field.name for field in fields(EvalRow)} & empty.keys()
    figures = {name: np.zeros((2, 2, 3), np.uint8) for name in FIGURE_FILES}
    more = {"metrics": {"AP": 0.5}, "per_class": {"cat": 0.5}, "pictures": list(figures.values()), "figures": figures}
    files = EventFiles(tmp_path, class_names=["cat"])
    files.write_train(TrainRow(**empty).to_json())
    files.write_eval(EvalRow(**{name: empty[name] for name in shared}, **more, scores=np.ones(3)))
    files.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    written = {tag for kind in ("scalars", "images", "histograms") for tag in events.Tags()[kind]}
    named = {span.removesuffix("<class name>") for page in PAGES for span in code_spans(page) if TAG.match(span)}
    assert len(named) > 5
    for tag in named:
        assert any(known == tag or (tag.endswith("/") and known.startswith(tag)) for known in written), tag


TAG = re.compile(r"(train|eval)\w*/")
