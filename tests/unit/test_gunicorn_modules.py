"""What gunicorn finds in the modules of hooks, which may be its whole configuration."""

import pytest

from tests.fresh import run

# Of what stands in a configuration gunicorn takes each name that is a setting.
LOOK = """
import importlib, sys
from gunicorn.config import KNOWN_SETTINGS
found = vars(importlib.import_module(sys.argv[1])).keys()
print(*sorted(found & {setting.name for setting in KNOWN_SETTINGS}))
"""
HOOKS = """
child_exit nworkers_changed on_exit on_starting post_fork post_worker_init pre_fork
when_ready worker_exit
"""


@pytest.mark.parametrize("module", ["pgdbpool.gunicorn", "pgdbpool.gunicorn.metrics"])
def test_a_module_of_hooks_sets_nothing_else(module: str) -> None:
    """So that ``gunicorn -c python:pgdbpool.gunicorn`` works."""
    ended = run(LOOK, module)
    assert ended.stdout.split() == HOOKS.split()
