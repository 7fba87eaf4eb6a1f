"""A page that follows a capture: it draws itself anew in the browser while views are taken."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from calibration import pictures
from calibration.capture import Progress
from robosteer_core.files import write_text
from robosteer_core.page import render


class LivePage:
    """`show` after each look, `end` when no more comes. It is drawn in a thread of its own: the arm waits for nobody's pictures."""

    def __init__(self, path: Path, title: str) -> None:
        self.path, self._title = path, title
        self._told: list[Progress] = []
        self._drawer = ThreadPoolExecutor(1, "live page")

    def show(self, progress: Progress) -> None:
        self._told.append(progress)
        self._drawer.submit(self._draw, tuple(self._told))

    def end(self) -> None:
        """Comes back when the last page is there, which stays as it is. Raises OSError where it cannot be written."""
        with self._drawer:
            if self._told:
                self._drawer.submit(self._draw, tuple(self._told), going_on=False).result()

    def _draw(self, told: tuple[Progress, ...], going_on: bool = True) -> None:
        if len(told) < len(self._told):
            return  # there is more to say already
        now = told[-1]
        errors = {one.views: one.expected for one in told if one.expected is not None and np.isfinite(one.expected.sigma_mm)}
        page = render(
            Path(__file__).with_name("live.html"),
            title=self._title, now=now, going_on=going_on, view=pictures.live_view(now), covered=100 * (now.coverage > 0).mean(),
            curve=pictures.expected_errors(errors) if errors else None, told=[(one.views, one.words) for one in reversed(told)],
        )  # fmt: skip
        write_text(self.path, page)
