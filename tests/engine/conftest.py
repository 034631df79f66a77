"""What tests of training share."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.engine.ranks import Ranks


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Runs of several processes; see :mod:`tests.engine.ranks`."""
    with closing(Ranks()) as ranks:
        yield ranks
