"""Publishing what the arm's controller reports, without keeping it waiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from robosteer_ros.hardware.arm.journal import Report

#: Reports that wait to be published, at most; a publisher that is farther behind leaves out the oldest.
LONGEST_QUEUE = 200


class Teller:
    """Publishes reports in a thread of its own, oldest first: whoever tells them does not wait.

    Stamps of states grow: a state told at the instant of the last one is stamped a nanosecond after it.
    """

    def __init__(self, publish: Callable[[Report, int], None]) -> None:
        self._publish, self._reports = publish, deque(maxlen=LONGEST_QUEUE)
        self._news, self._last_ns = threading.Condition(), -1
        self._thread: threading.Thread | None = None

    def tell(self, report: Report) -> None:
        with self._news:
            self._reports.append(report)
            self._news.notify()

    def start(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with self._news:
            self._stopping = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._reports or self._stopping)
                if not self._reports:
                    return
                report = self._reports.popleft()
            stamp_ns = report.stamp_ns
            if report.state is not None:
                stamp_ns = self._last_ns = max(stamp_ns, self._last_ns + 1)
            self._publish(report, stamp_ns)
