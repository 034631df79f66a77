"""Score a checkpoint, or a file of detections, with the COCO metrics; see ``--help``."""

from detector.cli.evaluate import main

if __name__ == "__main__":  # loader processes import this file again
    raise SystemExit(main())
