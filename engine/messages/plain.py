"""Comparing, hashing and printing, once for all messages and their parts.

``dataclass`` writes and compiles these methods for every class anew, half of what making one costs;
the vocabulary is read before a console's first picture. So its classes are made with ``eq=False,
repr=False`` on this base, and behave as they would with both.
"""

from __future__ import annotations


class Plain:
    """Equal by type and fields, hashed by them where they can be, printed with them."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__qualname__}({fields})"
