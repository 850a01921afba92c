"""Is every word of the console translated, and does a screen in Chinese keep its columns?"""

from __future__ import annotations

import ast
import contextvars
import gettext
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from console import i18n
from console.cli import avatop
from console.i18n import catalogue
from console.spoken import spoken
from console.state import Model
from engine.sentence import sentence
from tests.console.conftest import COLOURS, Opener, updating
from tests.console.fake_client import Stage

SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.mark.parametrize("language", catalogue.languages())
def test_no_message_is_missing(language: str) -> None:
    """Write them with: python -m console.i18n.catalogue --fill FILE.json"""
    assert catalogue.missing(language) == []


@pytest.mark.parametrize("language", catalogue.languages())
def test_the_compiled_catalogue_is_that_of_the_text(language: str) -> None:
    with catalogue.path(language, "mo").open("rb") as stream:
        compiled = gettext.GNUTranslations(stream)
    for message in catalogue.messages(catalogue.read(language)):
        if isinstance(message.id, tuple):
            for count in (1, 2):
                assert compiled.ngettext(*message.id, count) in message.string
        else:
            assert compiled.gettext(message.id) == message.string


@pytest.mark.parametrize("language", catalogue.languages())
def test_translations_name_the_same_places(language: str) -> None:
    def places(text: str) -> set[str]:
        return set(re.findall(r"\{(\w+[^{}]*)\}", text))

    wrong = []
    for message in catalogue.messages(catalogue.read(language)):
        forms = (message.id,) if isinstance(message.id, str) else message.id
        said = (message.string,) if isinstance(message.string, str) else message.string
        known = set().union(*(places(form) for form in forms))
        wrong += [text for text in said if places(text) != known and not places(text) <= {"count"}]
    assert wrong == []


#: Parts of the engine whose errors no page shows: ranks' insides, and the languages that files are
#: written in (alert conditions, signatures, logs), whose words are English themselves.
UNSAID = (
    "engine/alerts/", "engine/messages/", "engine/metrics/", "engine/model/", "onrank/",
    "engine/guard/identity.py", "engine/remote/wire.py", "engine/telemetry/csvlog.py",
    "engine/triage/catalogue.py",
)  # fmt: skip
#: Errors of programmers, and what the engine answers and decides with.
INTERNAL = {"ValueError", "TypeError", "RuntimeError", "AssertionError", "AttributeError"}
ANSWERS = {"Reply", "Decision", "Ended", "Finding", "_refused"}


def words_of(node: ast.expr) -> str:
    """The text of a literal, what is filled in left out."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return " ".join(str(v.value) for v in node.values if isinstance(v, ast.Constant))
    if isinstance(node, ast.IfExp):
        return f"{words_of(node.body)} {words_of(node.orelse)}"
    return ""


def told_in(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that make an error or an answer which a person reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            if ast.unparse(node.exc.func) not in INTERNAL:
                yield node.exc
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ANSWERS:
            yield node


def test_what_the_engine_tells_is_made_of_sentences() -> None:
    """Else it is in no catalogue, and nobody can read it in another language."""
    wrong = []
    for file in sorted(catalogue.ENGINE.rglob("*.py")):
        name = file.relative_to(catalogue.ENGINE.parent).as_posix()
        if any(part in name for part in UNSAID):
            continue
        for call in told_in(ast.parse(file.read_text(encoding="utf-8"))):
            for given in (*call.args, *(keyword.value for keyword in call.keywords)):
                said = words_of(given)
                if re.search(r"[a-z]{2,} .*[a-z]{2,} .*[a-z]", said) and "(?P" not in said:
                    wrong.append(f"{name}:{call.lineno}: {said[:50]}")
    assert wrong == []


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ("rank 1 (process 33) was killed by SIGTERM; 2 clips are kept",
         "rank 1（进程 33）被 SIGTERM 杀死；保留 2 个片段"),
        ("rank 0 on GPU-0001 needs 70 GiB (kv 22 GiB), 20 GiB can be used; ranks 1, 2 the same",
         "GPU 1 上的 rank 0 需要 70 GiB（kv 22 GiB），可用 20 GiB；rank 1, 2 相同"),
        ("--fps 3: is not a parameter. Did you mean infer_frames?",
         "--fps 3：没有这个参数。是否想写 infer_frames？"),
        ("ckpt/a.safetensors: truncated file: it is empty. Download it again.",
         "ckpt/a.safetensors：文件被截断：为空。请重新下载。"),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 4 GiB. GPU 0 has 1 GiB free.",
         None),
        ("interrupted: rank 1 (process 4021) was killed by SIGKILL (an operator, or the kernel "
         "when memory ran out); 1 clip is kept",
         "已中断：rank 1（进程 4021）被 SIGKILL 杀死（操作员所为，或内存耗尽时由内核执行）；"
         "保留 1 个片段"),
        ("memory ran out: the plan said 32.574 GiB (margin 0.581 GiB: kv 11.328 GiB, vae n/a); the "
         "allocator has 20.586 GiB in use, 20.746 GiB reserved, at most 20.586 GiB in use since "
         "its peak was last reset; the cap is 24.000 GiB; the device has n/a free of 139.801 GiB",
         "内存耗尽：计划为 32.574 GiB（余量 0.581 GiB：kv 11.328 GiB, vae n/a）；分配器占用 "
         "20.586 GiB，保留 20.746 GiB，自上次重置峰值以来最多占用 20.586 GiB；上限为 24.000 GiB；"
         "设备共 139.801 GiB，空闲 n/a"),
        ("Memory ran out while sharded weights were gathered to full (118.05 GiB free, "
         "163.92 MiB reserved but unallocated).",
         "把分片权重聚合为完整权重时显存耗尽（118.05 GiB 空闲, 163.92 MiB 已保留但未分配）。"),
    ],
)  # fmt: skip
def test_a_sentence_of_which_only_the_words_were_kept_is_said_anew(
    plain: str, said: str | None
) -> None:
    """As a job's row or an earlier recording has it; another program's words stay its own."""
    model = Model()
    for event in Stage(gpus=3).history(2):
        model.apply(event)
    assert spoken(plain, model) == plain.replace("GPU-0001", "GPU 1")
    try:
        i18n.use("zh_CN")
        assert spoken(plain, model) == (plain if said is None else said)
    finally:
        i18n.use("en")


def test_the_command_line_speaks_it_too_and_its_json_does_not() -> None:
    asked = ["--lang", "zh_CN", "plan", "--shape", "14b", "--mode", "single", "--devices", "1",
             "--gpu-memory", "22GiB"]  # fmt: skip
    environ = {"LANG": "C.UTF-8", "AVATOP_LANG": ""}

    def run(*more: str) -> str:
        inside = contextvars.copy_context()
        return inside.run(CliRunner().invoke, avatop, [*asked, *more], env=environ).stdout

    said = run()
    assert "放不下：single" in said
    assert "可用 22.00 GiB" in said
    assert json.loads(run("--json"))["reasons"][0].endswith("22.00 GiB can be used")


def test_messages_are_whole_constants() -> None:
    """A call with a variable, or with an f-string, would never be found in the catalogue."""
    wrong = []
    for file in sorted(catalogue.SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                count = catalogue.KEYWORDS.get(node.func.id, 0)
                if any(isinstance(a, ast.JoinedStr) for a in node.args[:count]):
                    wrong.append(f"{file.name}:{node.lineno}")
    assert wrong == []


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_the_overview_in_chinese(opened: Opener, size: tuple[int, int]) -> None:
    async with opened(Stage(gpus=4), size=size, lang="zh_CN", seconds=45) as console:
        lines = console.lines()
    text = "\n".join(lines) + "\n"
    path = SNAPSHOTS / f"overview-zh-{size[0]}x{size[1]}.txt"
    if updating():
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    assert "运行中" in text
    assert all(cell_len(line) <= size[0] for line in lines)


async def test_dialogs_and_help_speak_chinese(opened: Opener) -> None:
    async with opened(Stage(gpus=1), lang="zh_CN", seconds=2, size=(80, 24)) as console:
        await console.press("c")
        assert "取消任务 17？" in console.text()
        await console.press("escape", "question_mark")
        assert "所有按键" in console.text()


async def test_a_terminal_without_unicode_stays_english_and_says_so(opened: Opener) -> None:
    environ = {**COLOURS, "AVATOP_ASCII": "1"}
    async with opened(Stage(gpus=1), lang="zh_CN", environ=environ, seconds=2) as console:
        assert "running" in console.text()
        assert "no UTF-8: the console speaks English" in console.text()
        assert console.text().isascii()


def test_a_language_holds_where_it_was_chosen() -> None:
    inside = contextvars.copy_context()
    inside.run(i18n.use, "zh_CN")
    assert inside.run(i18n.t, "Jobs") == "任务"
    assert i18n.t("Jobs") == "Jobs"
    assert i18n.n("{count} job waits.", "{count} jobs wait.", 1200) == "1,200 jobs wait."


def test_an_engines_sentence_is_said_anew_with_devices_by_their_names() -> None:
    model = Model()
    for event in Stage(gpus=3).history(2):
        model.apply(event)
    held = sentence("it holds {size} on {devices}", size="1.50 GiB", devices=["GPU-0002", "GPU-x"])
    lost = sentence("its parent {pid} has ended; {now}", pid=7,
                    now=sentence("its parent is now {process}", process="1 (init)"))  # fmt: skip
    assert str(held) == "it holds 1.50 GiB on GPU-0002, GPU-x"  # for exports
    assert spoken(held, model) == "it holds 1.50 GiB on GPU 2, GPU-x"
    try:
        i18n.use("zh_CN")
        assert spoken(held, model) == "它在 GPU 2, GPU-x 上占用 1.50 GiB"
        assert spoken(lost, model) == "它的父进程 7 已结束；它现在的父进程是 1 (init)"
        assert spoken("The request itself is not valid.", model) == "请求本身无效。"
        assert spoken("words of somebody else's {rule}", model) == "words of somebody else's {rule}"
    finally:
        i18n.use("en")
