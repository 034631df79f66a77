"""The tests of memory use what the benchmarks measure with: files in the folder of the scripts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
