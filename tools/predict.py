"""Detect objects in an image, a folder of images or a video; see ``--help``."""

from detector.cli.predict import main

if __name__ == "__main__":
    raise SystemExit(main())
