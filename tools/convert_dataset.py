"""Write a dataset in another format: COCO, Pascal VOC, YOLO or CSV; see ``--help``."""

from detector.cli.convert_dataset import main

if __name__ == "__main__":
    raise SystemExit(main())
