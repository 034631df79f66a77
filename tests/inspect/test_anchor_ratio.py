"""The foreground : background ratio of anchors against a count by hand."""

import json
from functools import partial
from pathlib import Path

from detector.anchors import AnchorGenerator
from detector.assign import assign_anchors
from detector.data.annotations import read_annotations
from detector.data.padding import Padding
from detector.inspect.anchor_ratio import count_anchors


def count(tmp_path: Path, annotations: list[dict[str, object]], *, short_side: int = 64):  # type: ignore[no-untyped-def]
    path = tmp_path / "a.json"
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 64, "width": 64}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 1, **entry} for i, entry in enumerate(annotations)],
        "categories": [{"id": 1, "name": "thing"}],
    }
    path.write_text(json.dumps(content))
    return count_anchors(
        read_annotations(path),
        # One 32 px anchor in each of the 4 x 4 cells of 16 px, centred on (8, 8), (24, 8), ...
        AnchorGenerator(sizes=(32,), scales=(1.0,), aspect_ratios=(1.0,), strides=(16,), offset=0.5),
        partial(assign_anchors, allow_low_quality_matches=False),
        short_side=short_side,
        max_side=1000,
        padding=Padding(32),
    )


def test_counts_equal_a_count_by_hand(tmp_path: Path) -> None:
    # The box is the anchor centred on (24, 24). Its 4 neighbours along an axis have IoU 1/3, the others less.
    counts = count(tmp_path, [{"bbox": [8, 8, 32, 32], "area": 1024, "iscrowd": 0}])
    assert (counts.num_images, counts.num_foreground, counts.num_background) == (1, 1, 15)
    assert (counts.num_ignored, counts.num_unmatched_gt) == (0, 0)
    assert "= 1 : 15 = 1 : 15 (0 ignored, 0 objects without an anchor)" in str(counts)


def test_boxes_are_resized_and_images_padded_as_in_training(tmp_path: Path) -> None:
    annotations: list[dict[str, object]] = [{"bbox": [4, 4, 16, 16], "area": 256, "iscrowd": 0}]
    # Twice as large, the box is the anchor centred on (24, 24), one of 8 x 8.
    counts = count(tmp_path, annotations, short_side=128)
    assert (counts.num_foreground, counts.num_background, counts.num_unmatched_gt) == (1, 63, 0)
    # At 80 px the box has 20 px (IoU at most 400 / 1024), and 80 px are padded to 96: 6 x 6 cells.
    counts = count(tmp_path, annotations, short_side=80)
    assert (counts.num_foreground, counts.num_background, counts.num_unmatched_gt) == (0, 36, 1)
    assert "no foreground" in str(counts)


def test_anchors_inside_a_crowd_are_ignored(tmp_path: Path) -> None:
    # Half of an anchor's area or more lies in the left half of the image for the two left columns of cells.
    counts = count(tmp_path, [{"bbox": [0, 0, 32, 64], "area": 2048, "iscrowd": 1}])
    assert counts.num_foreground == 0
    assert counts.num_ignored + counts.num_background == 16
    assert counts.num_ignored == 8
