"""Do the shipped rules say what the requirements say, and can a user change them safely?"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from engine.alerts.expr import ExprError, parse
from engine.alerts.notify import notify_of
from engine.alerts.promql import export, promql
from engine.alerts.rules import RuleError, load_rules, read_toml


def _file(folder: Path, text: str) -> Path:
    path = folder / "alerts.toml"
    path.write_text(text)
    return path


def test_the_article_s_two_rules_and_the_temperature_are_among_the_defaults() -> None:
    rules = {rule.id: rule for rule in load_rules(None)}
    memory, latency = rules["memory-high"], rules["latency-doubled"]
    assert (memory.when, memory.for_seconds, memory.severity) == (
        "memory_percent > 90",
        120.0,
        "warning",
    )
    assert latency.when == "mean(latency, 5m) > 2 * mean(latency, 1h)"
    assert (latency.for_seconds, latency.severity) == (300.0, "critical")
    assert rules["temperature-high"].when == "temperature_c > 85"
    assert {"throttled-by-heat", "fps-low", "disk-low", "queue-old", "zombies", "xid", "ecc"} <= {
        *rules
    }


def test_a_user_s_rule_says_only_what_differs(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        '[[rule]]\nid = "memory-high"\nfor = "5m"\n'
        '[[rule]]\nid = "zombies"\nenabled = false\n'
        '[[rule]]\nid = "disk-low"\nwhen = "disk_free < 1TiB"\n'
        '[[rule]]\nid = "mine"\nwhen = "power_percent > 99"\nlabels = { team = "video" }\n',
    )
    rules = {rule.id: rule for rule in load_rules(path)}
    assert rules["memory-high"].for_seconds == 300.0
    assert rules["memory-high"].when == "memory_percent > 90"
    assert not rules["zombies"].enabled
    assert rules["disk-low"].clear is None  # the way back of another limit is not this one's
    assert rules["mine"].labels == {"team": "video"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[rule]\n", "not TOML"),
        ("[[rule]]\nwhen = 'throttle'\n", "needs an id"),
        ("[[rule]]\nid = 'a'\n", "a condition is needed"),
        ("[[rule]]\nid = 'a'\nwhen = 'throtle'\n", "did you mean throttle"),
        ("[[rule]]\nid = 'a'\nwhen = 'throttle'\nfo = '2m'\n", "did you mean for?"),
        ("[[rule]]\nid = 'a'\nwhen = 'throttle'\nfor = '2 minutes'\n", "no duration"),
        ("[[rule]]\nid = 'a'\nwhen = 'throttle'\nseverity = 'bad'\n", "none of info"),
        ("[[rule]]\nid = 'a'\nwhen = 'throttle'\nmessage = '{x.y}'\n", "{x.y} is none of"),
        ("[[rule]]\nid = 'a'\nwhen = 'throttle'\nclear = 'fps > 1'\n", "clear is about each job"),
        ("[[rule]]\nid = 'a'\nwhen = 'throttle'\n" * 2, "two rules are called a"),
        ("[rules]\n", "unknown table [rules]"),
    ],
)
def test_every_mistake_is_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RuleError) as error:
        load_rules(_file(tmp_path, text))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("url = 'https://x/y'", "an address is a secret"),
        ("", "one of url_env and url_file"),
        ("url_env = 'A'\nseverity = 'loud'", "none of info"),
    ],
)
def test_addresses_stand_in_no_rules_file(tmp_path: Path, text: str, says: str) -> None:
    path = _file(tmp_path, f"[[notify.target]]\nname = 'ops'\n{text}\n")
    with pytest.raises(RuleError) as error:
        notify_of(read_toml(path))
    assert says in str(error.value)
    assert "https://x/y" not in str(error.value)


def test_rules_go_to_prometheus_in_its_own_words(tmp_path: Path) -> None:
    assert promql(parse("mean(latency, 5m) > 2 * mean(latency, 1h)")) == (
        "(rate(inference_duration_seconds_sum[5m]) / rate(inference_duration_seconds_count[5m]))"
        " > (2 * (rate(inference_duration_seconds_sum[1h])"
        " / rate(inference_duration_seconds_count[1h])))"
    )
    assert promql(parse("not (throttle > 1 or temperature_c <= 85)")) == (
        "(gpu_throttle_reasons <= 1) and (gpu_temperature_celsius > 85)"
    )
    assert "and on(host)" in promql(parse("zombies > 1 and throttle"))
    with pytest.raises(ExprError):
        promql(parse("max(latency, 5m) > 3"))
    done = export(load_rules(None))
    assert done.left_out == ()
    assert 'expr: "gpu_memory_used_percent > 90"\n        for: 2m\n' in done.text
    promtool = shutil.which("promtool")
    if promtool is not None:
        path = tmp_path / "rules.yml"
        path.write_text(done.text)
        subprocess.run([promtool, "check", "rules", str(path)], check=True, timeout=30)
