"""Does a sentence stay what it is on its way to a console, and can it be said anew there?"""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path

from engine.messages import AlertChanged, ProcessClass, ProcessesSurveyed, ProcessReading, from_dict
from engine.sentence import Sentence, joined, sentence
from engine.steering import change_of
from tests.engine.plans import plan

HELD = sentence("it holds {size} on {devices}", size="1.50 GiB", devices=["GPU-a", "GPU-b"])
LOST = sentence("its parent {pid} has ended; {now}", pid=7,
                now=sentence("its parent is now {process}", process="1 (init)"))  # fmt: skip


def surveyed(*evidence: str) -> ProcessesSurveyed:
    process = ProcessReading(pid=9, started=1.0)
    kind = ProcessClass(process=process, kind="stray", evidence=evidence)
    return ProcessesSurveyed(processes=(kind,))


def test_it_is_its_english_text() -> None:
    assert HELD == "it holds 1.50 GiB on GPU-a, GPU-b"
    assert LOST == "its parent 7 has ended; its parent is now 1 (init)"
    for same in (copy.deepcopy(LOST), pickle.loads(pickle.dumps(LOST))):
        assert (same, same.template) == (LOST, LOST.template)


def test_it_stays_one_in_an_error_and_beside_others() -> None:
    assert str(ValueError(HELD)) is HELD
    both = joined((HELD, "plain"))
    assert both == "it holds 1.50 GiB on GPU-a, GPU-b; plain"
    assert isinstance(both, Sentence)
    assert both.values["s0"] is HELD
    assert joined([HELD]) is HELD
    path = sentence("{path} is gone", path=Path("/a"))
    assert json.loads(json.dumps(path.values)) == {"path": "/a"}


def test_json_has_the_text_and_beside_it_what_it_was_made_of() -> None:
    line = surveyed("plain", HELD, LOST).to_json()
    body = json.loads(line)
    assert body["processes"][0]["evidence"] == ["plain", str(HELD), str(LOST)]
    back = from_dict(body)
    assert isinstance(back, ProcessesSurveyed)
    plain, held, lost = back.processes[0].evidence
    assert not isinstance(plain, Sentence)
    assert isinstance(held, Sentence)
    assert isinstance(lost, Sentence)
    assert held.values["devices"] == ["GPU-a", "GPU-b"]
    assert lost.values["now"].template == "its parent is now {process}"
    assert back.to_json() == line


def test_what_does_not_fit_stays_a_plain_text() -> None:
    said = sentence("GPU {gpu} at {value}", gpu=2, value="91 °C")
    told = AlertChanged(id="a", rule="r", severity="info", state="firing", message=said)
    body = json.loads(told.to_json())
    assert isinstance(from_dict(body).message, Sentence)  # type: ignore[attr-defined]
    for wrong in (
        {**body, "message": "another text"},
        {**body, "said": {"message": "no list"}},
        {**body, "said": {"nowhere.1": ["x", {}]}},
        {**body, "said": {"message": ["GPU {gone}", {}]}},
        {**body, "said": 3},
    ):
        found = from_dict(wrong)
        assert not isinstance(found.message, Sentence)  # type: ignore[attr-defined]


def test_a_switch_says_what_is_another() -> None:
    tpp = dataclasses.replace(plan(), mode="tpp")
    even = dataclasses.replace(tpp, variant="balanced")
    assert change_of(tpp, even, {"variant": "balanced"}) == "mode tpp balanced in place of tpp"
    assert change_of(plan(), tpp, {"mode": "tpp"}) == "mode tpp in place of fsdp"
    assert change_of(tpp, tpp, {"kv_home": "host"}) == "mode tpp with kv_home host"
    assert change_of(tpp, tpp, {"mode": "tpp"}) == "mode tpp by another plan"
