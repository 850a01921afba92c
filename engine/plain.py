"""Dataclasses that are written at their first use.

``dataclass`` writes and compiles the methods of every class, a third to half a millisecond each,
and the vocabulary of a console has some sixty, most of which its first picture does not need. A
``late_dataclass`` is a dataclass in all that can be seen of it, but is made one when it is first
called or ``dataclasses`` first asks about it. What compares, hashes and prints, ``Plain`` shares.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any, Final

__all__ = ["Plain", "late_dataclass"]

#: Two threads may need the same class for the first time.
_WRITING: Final = threading.RLock()


class Plain:
    """Equal by type and fields, hashed by them where they are frozen, printed with them."""

    if not TYPE_CHECKING:

        def __init__(self, *args, **kwargs):
            """Only of a class not yet written: then its own stands before this one."""
            kind = type(self)
            dataclasses.fields(kind)
            if kind.__init__ is Plain.__init__:
                raise TypeError(f"{kind.__qualname__} is a base and holds nothing itself")
            kind.__init__(self, *args, **kwargs)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        kind = type(self)
        if not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise TypeError(f"unhashable type: {kind.__qualname__!r}")
        return hash((kind, *self.__dict__.values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__qualname__}({fields})"


if TYPE_CHECKING:
    from dataclasses import dataclass as late_dataclass
else:

    def late_dataclass(cls=None, /, **options):
        """``dataclass`` for a ``Plain``: the same options but ``eq``, ``repr`` and ``slots``.

        One from which others are made has ``init=False``: until a class is written, calls of it
        must not find another's ``__init__`` before ``Plain``'s.

        Raises:
            TypeError: the class is made of one that has an ``__init__``.
        """
        if cls is None:
            return lambda found: late_dataclass(found, **options)
        for base in cls.__mro__[1:]:
            fields = vars(base).get("__dataclass_fields__")
            if fields is not None and (
                fields.initialises if isinstance(fields, _Unwritten) else "__init__" in vars(base)
            ):
                raise TypeError(f"{base.__qualname__}: others are made of it, so it has init=False")
        cls.__dataclass_fields__ = _Unwritten(cls, options)
        return cls


class _Unwritten:
    """Stands where ``dataclasses`` looks for a class's fields, until somebody looks."""

    def __init__(self, cls: type[Any], options: dict[str, Any]) -> None:
        self._cls, self._options = cls, options
        self.initialises: bool = options.get("init", True)

    def __get__(self, _: object, owner: type[Any]) -> Any:
        with _WRITING:
            if self._cls.__dict__["__dataclass_fields__"] is self:
                dataclasses.dataclass(**self._options, eq=False, repr=False)(self._cls)
        return owner.__dataclass_fields__
