"""See what the focal loss does: curves, numbers, figures, an ablation; see ``--help``."""

from detector.cli.loss_lab import main

if __name__ == "__main__":  # loader processes import this file again
    raise SystemExit(main())
