"""Rules for all tests."""

import faulthandler
import os

import pytest
from hypothesis import settings

# Importing albumentations would otherwise look for a newer version over the network.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

# A busy machine is no failure; what hangs is ended by the time limit of a test.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked ``gpu`` where there is no CUDA device."""
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch  # only now: choosing tests of the config stays quick

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """End a run that hangs after its last test, waiting for a process that a test has left, with the stacks."""
    faulthandler.dump_traceback_later(120, exit=True)
