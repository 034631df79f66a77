"""What a stranger's file must never reach: code that runs, files elsewhere, memory without end."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from detector.config_io import load_config
from detector.data.formats.reading import DatasetSource, read_dataset
from detector.errors import UserError

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("detector", "tools", "scripts") for path in (ROOT / folder).rglob("*.py"))

FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "tempfile.mktemp"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"),
}
FORBIDDEN_MODULES = {
    *("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
    *("xml.etree", "xml.dom", "xml.sax", "lxml"),
}
ALLOWED_IMPORTS = {("pickle", "UnpicklingError"), ("xml.sax.saxutils", "escape")}  # to catch it; to write text
NEEDS_WEIGHTS_ONLY = ("load", "get_state_dict", "load_state_dict_from_url")


def dotted(node: ast.expr) -> str:
    """The name of what is called, ``torch.load``; of a call on something else than names, the last part."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        prefix = dotted(node.value)
        return f"{prefix}.{node.attr}" if prefix else f".{node.attr}"
    return ""


def open_doors(source: str) -> Iterator[str]:
    """What in a module's text is forbidden."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(node)
        if isinstance(node, ast.Call):
            yield from _call(dotted(node.func), {word.arg: word.value for word in node.keywords})


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    for alias in node.names:
        if (module, alias.name) in ALLOWED_IMPORTS:
            continue
        name = f"{module}.{alias.name}".lstrip(".")
        if any(name == bad or name.startswith(f"{bad}.") for bad in FORBIDDEN_MODULES):
            yield f"import {name}"
        if name in FORBIDDEN_CALLS:
            yield f"import {name}"


def _call(name: str, words: dict[str | None, ast.expr]) -> Iterator[str]:
    if name in FORBIDDEN_CALLS:
        yield name
    is_true = {word for word, value in words.items() if isinstance(value, ast.Constant) and value.value is True}
    if (name == "torch.load" or name.rpartition(".")[2] in NEEDS_WEIGHTS_ONLY[1:]) and "weights_only" not in is_true:
        yield f"{name} without weights_only=True"
    if "allow_pickle" in is_true or "shell" in is_true:
        yield f"{name} with {sorted(is_true)}"


def test_no_module_runs_what_a_file_says() -> None:
    assert len(SOURCES) > 150
    found = {str(path.relative_to(ROOT)): [*open_doors(path.read_text(encoding="utf-8"))] for path in SOURCES}
    assert {name: doors for name, doors in found.items() if doors} == {}


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)",
        "import pickle",
        "from pickle import loads",
        "import xml.etree.ElementTree as ET",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "from yaml import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "weights.get_state_dict(progress=False)",
        "members[version].get_state_dict()",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "os.system('ls')",
        "tempfile.mktemp()",
    ],
)
def test_the_search_sees(line: str) -> None:
    assert [*open_doors(line)]


@pytest.mark.parametrize(
    "line",
    ["model.eval()", "torch.load(path, weights_only=True)", "from pickle import UnpicklingError", "json.load(f)"],
)
def test_the_search_leaves_alone(line: str) -> None:
    assert not [*open_doors(line)]


def test_tensorboard_is_never_shown_to_the_network() -> None:
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "scripts").glob("*.sh"), *SOURCES]
    lines = [line for path in texts for line in path.read_text(encoding="utf-8").splitlines()]
    commands = [line for line in lines if re.search(r"tensorboard --logdir", line)]
    assert len(commands) >= 3
    assert [line for line in commands if "--host 127.0.0.1" not in line] == []


OUTSIDE = ("/etc/passwd", "../secret.jpg", "a/../../secret.jpg", "..\\secret.jpg", "C:\\secret.jpg", "a\0.jpg")


def write_coco(folder: Path, name: str) -> DatasetSource:
    text = name.replace("\\", "\\\\").replace("\0", "\\u0000")
    (folder / "a.json").write_text(
        f'{{"images": [{{"id": 1, "file_name": "{text}", "width": 9, "height": 9}}], "annotations": [], '
        '"categories": [{"id": 1, "name": "cat"}]}'
    )
    return DatasetSource(folder / "a.json", folder / "images", "coco")


def write_csv(folder: Path, name: str) -> DatasetSource:
    (folder / "a.csv").write_text(f"path,x1,y1,x2,y2,class\n{name},1,1,5,5,cat\n")
    return DatasetSource(folder / "a.csv", folder / "images", "csv")


def write_voc(folder: Path, name: str) -> DatasetSource:
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages").mkdir()
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax>"
    (folder / "Annotations/a.xml").write_text(
        f"<annotation><filename>{name}</filename><size><width>9</width><height>9</height></size>"
        f"<object><name>cat</name><bndbox>{box}</bndbox></object></annotation>"
    )
    return DatasetSource(folder, None, "voc")


def write_yolo(folder: Path, name: str) -> DatasetSource:
    (folder / "data.yaml").write_text("train: list.txt\nnames: [cat]\n")
    (folder / "list.txt").write_text(f"{name}\n")
    return DatasetSource(folder, None, "yolo", "train")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("write", [write_coco, write_csv, write_voc, write_yolo])
def test_a_file_name_never_leaves_the_image_folder(
    write: Callable[[Path, str], DatasetSource], name: str, tmp_path: Path
) -> None:
    home = tmp_path / "set"
    (home / "images").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    source = write(home, name)
    try:
        content = read_dataset(source)
    except UserError as error:
        assert str(home) in str(error)  # noqa: PT017 (either way is fine)
        return
    for found in content.file_names:  # a format may take it for a name inside, of a file that is not there
        place = Path(f"{content.images_dir / found}")
        assert ".." not in place.parts
        assert place.is_relative_to(home)


def test_a_document_type_is_refused(tmp_path: Path) -> None:
    source = write_voc(tmp_path, "a.jpg")
    file = tmp_path / "Annotations/a.xml"
    file.write_text('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + file.read_text().replace("cat", "&b;"))
    with pytest.raises(UserError, match=r"a\.xml:1: .*document type"):
        read_dataset(source)


@pytest.mark.parametrize("text", ["a: !!python/object/apply:os.system [ls]", "!!python/name:os.system"])
def test_a_tag_in_a_configuration_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml:1: .*tags such as .* are not allowed"):
        load_config(tmp_path / "a.yaml", [])
