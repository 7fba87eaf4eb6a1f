"""Several adapters on one policy, one of them active at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from robosteer_core.adapters.sparse_lora import switch
from robosteer_core.adapters.store import AdapterRecord, apply_adapter
from robosteer_core.errors import UserError
from robosteer_core.vla.policy import Policy


class SideBySide:
    """Adapters loaded once under names of their own, such as press and stack; `use` changes which one acts.

    Switching reads nothing and copies nothing; besides the layers it changes the statistics of states and actions, their names
    and the cameras to those that the adapter was trained with. While adapters are side by side each adapted layer does its low-rank update anew;
    merge a single one (`apply_adapter(..., merged=True)`) where that time matters.
    """

    def __init__(self, policy: Policy, folders: Mapping[str, Path | str]) -> None:
        """Loads them all; none is active. Raises UserError where one does not fit the policy, and then has loaded none of
        those that come after it."""
        self._policy, self._base = policy, policy.config
        self._records: dict[str, AdapterRecord] = {}
        try:
            for name, folder in folders.items():
                if not name.isidentifier():
                    raise UserError(f"an adapter's name is letters, digits and underscores; found {name!r}")
                self._records[name] = apply_adapter(policy, folder, name=name)
        finally:
            self.use(None)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._records)

    @property
    def active(self) -> str | None:
        return self._active

    def record(self, name: str) -> AdapterRecord:
        """What is known of an adapter. Raises UserError for a name that was not loaded."""
        if name not in self._records:
            raise UserError(f"expected an adapter out of {', '.join(self._records) or 'none'}; found {name!r}")
        return self._records[name]

    def use(self, name: str | None) -> None:
        """Let an adapter act, or with None the base. Raises UserError for a name that was not loaded."""
        record = None if name is None else self.record(name)
        switch(self._policy.model, name)
        self._policy.config = self._base if record is None else record.described(self._base)
        self._active = name
