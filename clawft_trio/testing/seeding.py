"""Makes trio's scheduler repeat its decisions in every run: for tests, never for programs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from trio._core import _run


@contextmanager
def seeded_scheduler(seed: int = 0) -> Iterator[None]:
    """Run tasks that could run at the same time in an order that depends only on *seed*.

    trio shuffles tasks intentionally, so that no program depends on their order. To find a failure that needs a
    particular order, try many seeds and keep the one that fails:

        with seeded_scheduler(7):
            trio.run(main)

    Inside a run it takes effect at once and for every task of the run. trio has this switch for hypothesis, without a
    public name (trio 0.31 to 0.35: `trio._core._run`).
    """
    # `_ALLOW_DETERMINISTIC_SCHEDULING` is Final to type checkers; hypothesis' plugin for trio sets it the same way.
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING
    state = _run._r.getstate()
    setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # noqa: B010 - see above
    _run._r.setstate(random.Random(seed).getstate())
    try:
        yield
    finally:
        setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", before)  # noqa: B010 - see above
        _run._r.setstate(state)
