"""The one error of this room: what happened, where, why, and what to do about it."""

from __future__ import annotations

from engine.sentence import joined, sentence


class CheckpointError(Exception):
    """A checkpoint, or a part of one, cannot be used.

    Attributes:
        what: the problem in one clause.
        where: file or directory it lies in.
        why: the evidence or the cause; empty when ``what`` says it all.
        remedy: what the operator can do.
        tensor: the tensor it concerns, if one.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        why: str = "",
        remedy: str = "",
        tensor: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.why = why
        self.remedy = remedy
        self.tensor = tensor
        super().__init__(self.__str__())

    def __str__(self) -> str:
        head = self.what
        if self.where:
            head = sentence("{where}: {what}", where=self.where, what=head)
        if self.tensor:
            head = sentence("{what} (tensor {tensor})", what=head, tensor=self.tensor)
        if self.why:
            head = sentence("{what}: {why}", what=head, why=self.why)
        return joined((head, self.remedy)) if self.remedy else head
