"""What the rooms below the cores use of an event, for type checkers."""

from __future__ import annotations

from typing import Any, Protocol


class CoreEvent(Protocol):
    """An event of either core: see `_core_py.py` for the code."""

    _fe_children: Any  # dicts of subscribers: see `_notify.py`
    _fe_callbacks: Any
    _fe_wakers: Any
    _fe_parents: tuple[Any, ...]
    _fe_name: str | None
    _fe_self_setting: bool
    _fe_clear_wakes: bool
    _fe_has_options: bool

    def _fe_try_set(self, reason: object, pending: list[Any], only_if_expired: bool = False) -> None: ...
    def _fe_reset(self) -> None: ...
    def _fe_restart(self, seconds: float | None) -> bool | None: ...
    def _fe_register(self, kind: str, key: Any, subscriber: Any) -> int: ...
    def _fe_set_since(self, sets: int) -> bool: ...
    def _fe_read(self) -> Any: ...
    def _fe_period(self) -> Any: ...
    def _fe_deadline(self) -> int: ...
