"""Is a plain class a dataclass in all that can be seen of it, though it is written late?"""

from __future__ import annotations

import dataclasses
import pickle
import threading
from dataclasses import field, replace

import pytest

from engine.plain import Plain, late_dataclass


@late_dataclass(frozen=True, init=False)
class Base(Plain):
    """Others are made of it."""

    t: float = 1.0


@late_dataclass(frozen=True)
class Leaf(Base):
    """One that holds something."""

    name: str = ""
    words: tuple[str, ...] = field(default_factory=tuple)


@late_dataclass
class Open(Plain):
    """One that can be written to."""

    count: int = 0


def fresh() -> type[Base]:
    """A class that nobody has used yet."""

    @late_dataclass(frozen=True, kw_only=True)
    class Fresh(Base):
        name: str
        words: list[str] = field(default_factory=list)

    return Fresh


def written(kind: type[Plain]) -> bool:
    return isinstance(vars(kind)["__dataclass_fields__"], dict)


def test_it_is_written_when_it_is_first_called() -> None:
    kind = fresh()
    assert not written(kind)
    made = kind(name="a")  # type: ignore[call-arg]
    assert written(kind)
    assert repr(made).endswith("Fresh(t=1.0, name='a', words=[])")
    with pytest.raises(TypeError, match="unexpected keyword"):
        kind(name="a", age=3)  # type: ignore[call-arg]


def test_dataclasses_finds_its_fields_before_anybody_called_it() -> None:
    kind = fresh()
    assert dataclasses.is_dataclass(kind)
    assert [f.name for f in dataclasses.fields(kind)] == ["t", "name", "words"]


def test_a_class_made_of_one_that_is_not_decorated_is_like_it() -> None:
    class Named(Leaf):
        pass

    assert Named(2.0, "b").t == 2.0


def test_many_threads_may_be_the_first() -> None:
    for _ in range(20):
        kind = fresh()
        assert first_in_threads(kind) == [kind(name="a")] * 4  # type: ignore[call-arg]


def first_in_threads(kind: type[Base]) -> list[Base]:
    """What four threads make of a class at the same time."""
    start = threading.Barrier(4)
    made: list[Base] = []

    def make() -> None:
        start.wait(10)
        made.append(kind(name="a"))  # type: ignore[call-arg]

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return made


def test_frozen_hashed_and_replaced_as_any_other() -> None:
    one = Leaf(2.0, "a", ("x",))
    assert one == replace(one)
    assert hash(one) == hash(replace(one))
    assert one != replace(one, name="b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "b"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(one)) == one


def test_what_can_be_written_to_has_no_hash() -> None:
    one = Open()
    one.count = 2
    assert one == Open(2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_a_base_holds_nothing_itself() -> None:
    with pytest.raises(TypeError, match="Base is a base"):
        Base()


@pytest.mark.parametrize("used", [False, True])
def test_one_that_holds_something_is_no_base(used: bool) -> None:
    kind = fresh()
    if used:
        kind(name="a")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="init=False"):
        late_dataclass(frozen=True)(type("Late", (kind,), {}))
