"""scripts/benchmark_loader.py: the pipelines load the same images, and its figures are written."""

import json
import subprocess
import sys
from pathlib import Path

import benchmark_loader as benchmark
import pytest
from torch import Tensor

from detector.config import DataConfig, SplitConfig
from detector.data.dataset import open_coco_dataset
from detector.structures import Batch


def test_all_pipelines_load_the_same_images_in_the_same_order(tmp_path: Path) -> None:
    annotations, images = benchmark.make_demo(tmp_path)
    split = SplitConfig(annotations=str(annotations), images=str(images))
    data = DataConfig(train=split, val=split, batch_size=2, num_workers=0, augment=())
    dataset = open_coco_dataset(annotations, images)
    ours, theirs, pillow, indices = (next(pipeline(data, dataset)) for pipeline in benchmark.PIPELINES.values())
    assert isinstance(ours, Batch)
    assert isinstance(theirs, Tensor)
    assert isinstance(pillow, Batch)
    height, width = ours.sizes.amax(dim=0).tolist()
    assert theirs.shape == (2, 3, -(-height // 32) * 32, -(-width // 32) * 32)
    assert pillow.images.shape[1:3] == (height, width)
    assert [dataset.table.image_ids[row] for row in pillow.image_ids] == list(ours.image_ids)
    assert indices == list(pillow.image_ids)


def test_the_processor_time_of_every_thread_of_a_process_counts() -> None:
    program = "import threading, time\nbusy = threading.Thread(target=lambda: sum(range(10**7)))\nbusy.start()\n"
    program += "busy.join()\ndone = threading.Event()\n"
    program += "work = lambda: (sum(range(2 * 10**7)), done.set(), time.sleep(60))\n"
    program += "kept = threading.Thread(target=work)\nkept.start()\ndone.wait()\nprint(flush=True)\n"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        leader = Path(f"/proc/{process.pid}/schedstat")
        counted = benchmark.cpu_seconds([process.pid])
        assert counted > int(leader.read_text().split()[0]) / 1e9 + 0.1
        process.kill()


@pytest.mark.slow
def test_the_script_writes_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "loader.json"
    command = [sys.executable, benchmark.__file__, "--repeats", "1", "--json", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    figures = {figure["figure"]: figure["value"] for figure in json.loads(out.read_text())["figures"]}
    speedups = {"loader.speedup.torchvision", "loader.speedup.pillow", "loader.over_floor"}
    assert set(figures) == {"loader.images_per_cpu_second", *speedups}
    assert all(value > 0 for value in figures.values())
