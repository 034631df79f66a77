"""A built wheel works without the repository's folder."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))
pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip_wheel, "--wheel-dir", folder, ROOT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a virtual environment with the wheel, and with the dependencies of the running one."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site_packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    # Such a line adds a folder, but does not follow the links in it, so that the editable checkout stays unseen.
    (site_packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    assert run(python, "-c", "import detector; print(detector.__file__)", cwd=folder).startswith(str(site_packages))
    return folder / "bin"


def test_the_wheel_holds_the_package_the_configs_and_the_licence_and_no_more(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert SHIPPED
    assert "detector/py.typed" in names
    assert sorted(name for name in names if name.startswith("detector/_configs/")) == [
        f"detector/_configs/{name}" for name in SHIPPED
    ]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"detector", "retina_detector"}


def test_the_console_command_answers_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    answer = run(installed / "detector", "--help", cwd=tmp_path)
    for command in ("train", "evaluate", "predict", "make-demo"):
        assert command in answer


@pytest.mark.parametrize("config", SHIPPED)
@pytest.mark.parametrize("suffix", ["", ".yaml"])
def test_a_shipped_config_is_found_by_name(installed: Path, tmp_path: Path, config: str, suffix: str) -> None:
    name = config.removesuffix(".yaml") + suffix
    answer = run(installed / "detector", "train", "--config", name, "--print-config", cwd=tmp_path)
    assert "output_dir" in answer
    assert not list(tmp_path.iterdir())
