"""The signature data: is it whole, and does every entry find what it claims to?"""

from __future__ import annotations

import pytest

from engine.triage import CatalogueError, Finding, catalogue, classify
from engine.triage.catalogue import ACTIONS, build
from engine.triage.literals import required_runs
from tests.triage.lines import HARMLESS, TOLD

CLASSES = frozenset(TOLD) | {"bad_quality"}
HEAD = """
[[remedy]]
id = "r"
text = "Do it."
source = "common practice"
[[incident]]
name = "c"
cause = "It broke."
remedies = ["r"]
source = "common practice"
"""
SIGNATURE = '[[signature]]\nid = "s"\nclass = "c"\nany = ["it broke"]\n'


def test_every_class_of_incidents_has_signatures_and_each_its_source_and_remedies() -> None:
    known = catalogue()
    assert set(known.incidents) == CLASSES
    assert {s.incident for s in known.signatures} == CLASSES
    assert all(i.remedies and i.source and i.cause for i in known.incidents.values())
    assert all(r.action is None or r.action["kind"] in ACTIONS for r in known.remedies.values())
    kinds = {r.action["kind"] for r in known.remedies.values() if r.action is not None}
    assert kinds == set(ACTIONS)


@pytest.mark.parametrize("signature", catalogue().signatures, ids=lambda s: s.id)
def test_a_signature_finds_its_examples_and_not_its_counter_examples(signature) -> None:  # type: ignore[no-untyped-def]
    assert signature.examples
    for example in signature.examples:
        found = classify(example.split("\n"))
        assert signature.incident in {f.class_ for f in found} or any(
            signature.id in f.signatures for f in found
        ), example
    for example in signature.counter_examples:
        assert classify([example]) == []


@pytest.mark.parametrize("entry", catalogue().benign, ids=lambda b: b.id)
def test_a_harmless_entry_is_quiet_about_its_examples(entry) -> None:  # type: ignore[no-untyped-def]
    for example in entry.examples:
        assert classify([example]) == []


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in TOLD.items() for text in texts]
)
def test_each_class_is_recognised_in_its_wordings(name: str, text: str) -> None:
    found: list[Finding] = classify(text.split("\n"))
    assert found
    assert found[0].class_ == name


@pytest.mark.parametrize("line", HARMLESS)
def test_a_healthy_program_s_line_gives_no_finding(line: str) -> None:
    assert classify([line]) == []


def test_a_healthy_program_s_log_gives_no_finding() -> None:
    assert classify(HARMLESS) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[signature]]\nid = 'x'", "not known"),
        (HEAD + SIGNATURE.replace('"it broke"', '"a.*|b"'), "no plain run"),
        (HEAD + SIGNATURE.replace("it broke", "it (broke"), "it (broke"),
        (HEAD + SIGNATURE + 'role = "culprit"\n', "culprit"),
        (HEAD + SIGNATURE + "strength = 1.5\n", "strength"),
        (HEAD + SIGNATURE + 'remedies = ["nothing"]\n', "nothing"),
        (HEAD + SIGNATURE + "colour = 1\n", "unknown key colour"),
        (HEAD + SIGNATURE + SIGNATURE, "twice"),
        (HEAD + SIGNATURE.replace('"it broke"', ""), "empty"),
        (HEAD.replace('text = "Do it."', ""), "without 'text'"),
        (HEAD.replace('remedies = ["r"]', 'remedies = ["q"]'), "'q'"),
        (HEAD.replace('["r"]', '["r"]\nexplains = ["z"]'), "'z'"),
        (HEAD.replace('text = "Do it."', 'text = "x"\naction = { kind = "pray" }'), "pray"),
        ("[[signature]", "data.toml"),
    ],
)
def test_damaged_data_is_refused_with_its_file_and_entry(text: str, complaint: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        build({"data.toml": text})
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "runs"),
    [
        (r"CUDA error: out of memory\b", ("cuda error: out of memory",)),
        (r"(HIP|CUDA) out", ("hip", "cuda")),
        (r"abc?d", ()),
        (r"warning.{0,9}[a-z]+failed", ("warning",)),
        (r"colou?r", ("colo",)),
        (r"(red|green)? paint", (" paint",)),
        (r"\[Errno 28\]", ("[errno 28]",)),
        (r"red|gr\w+", ()),
    ],
)
def test_the_plain_text_of_a_pattern_is_in_every_match(pattern: str, runs: tuple[str, ...]) -> None:
    found = required_runs(pattern)
    assert found == runs or (pattern.startswith("(HIP") and found == (" out",))
