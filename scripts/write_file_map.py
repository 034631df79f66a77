"""Write the map of the files into README.md: each module's path and the first line of its docstring.

python scripts/write_file_map.py            # writes
python scripts/write_file_map.py --check    # only says (exit code 1) whether README.md is out of date
"""

import argparse
import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- file map: scripts/write_file_map.py -->", "<!-- end of file map -->"
SCRIPTS = {
    "scripts/setup.sh": "Makes `.venv` and installs the package into it.",
    "scripts/demo.sh": "From a bare checkout to an AP table and pictures.",
    "scripts/test.sh": "Format, lint, import layers, types, tests.",
    "scripts/get_coco.sh": "Downloads COCO 2017.",
    "scripts/gpu_check.sh": "GPU tests and benchmarks in one run.",
}


def file_map() -> str:
    """Return the map as Markdown: a list per folder."""
    folders: dict[str, list[str]] = {}
    for folder in ("detector", "tools", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            summary = first_line(path)
            if summary and not (path.name == "__init__.py" and path.parent.name != "demo_set"):
                name = path.relative_to(ROOT)
                folders.setdefault(str(name.parent), []).append(f"- [`{name.name}`]({name}): {summary}")
    for name, summary in SCRIPTS.items():
        folders["scripts"].append(f"- [`{Path(name).name}`]({name}): {summary}")
    parts = []
    for folder, lines in folders.items():
        package = ROOT / folder / "__init__.py"
        about = f": {first_line(package)}" if package.exists() and first_line(package) else ""
        parts.append(f"**`{folder}/`**{about}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def first_line(path: Path) -> str:
    """Return the first paragraph of a module's docstring on one line, without RST's double backticks."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split()).replace("``", "`")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    wanted = f"{before}{BEGIN}\n\n{file_map()}\n\n{END}{after}"
    if args.check:
        if wanted != text:
            print("README.md: the map of the files is out of date; run python scripts/write_file_map.py")
        return int(wanted != text)
    readme.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
