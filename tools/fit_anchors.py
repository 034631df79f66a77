"""Show how well the anchors of a configuration fit the boxes, and suggest better ones; see ``--help``."""

from detector.cli.fit_anchors import main

if __name__ == "__main__":
    raise SystemExit(main())
