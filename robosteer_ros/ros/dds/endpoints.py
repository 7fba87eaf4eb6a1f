"""Writers and readers of DDS that carry CDR bytes."""

from __future__ import annotations

import threading

from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader

_UNREAD = ViewState.Any | InstanceState.Any | SampleState.NotRead

#: The binding reads QoS of other endpoints through buffers that all threads share; held while it does.
reading_qos = threading.RLock()


class Writer(DataWriter):
    def write_message(self, payload: bytes) -> None:
        """Send CDR bytes, the encapsulation header first."""
        self.write(self.data_type(payload))


class Reader(DataReader):
    """`condition` is triggered while there is something to take."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.condition = ReadCondition(self, _UNREAD)

    def take_messages(self, most: int = 1) -> list[tuple[bytes | None, object]]:
        """(CDR bytes, sample info) of what has come, oldest first; bytes are None where a writer has left."""
        found = []
        for sample in self.take(most):
            info = sample.sample_info
            found.append((sample.payload if info.valid_data else None, info))
        return found


def close(*entities) -> None:
    """Delete entities of DDS now, not when Python forgets them. Safe to repeat."""
    for entity in entities:
        if isinstance(entity, Reader):
            entity.condition.__del__()
        entity.__del__()
