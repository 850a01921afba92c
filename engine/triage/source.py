"""Lines of source code: what a program would say is not what it said.

Logs, issues and notes quote code, and code names every fault it guards against. An ``assert`` is no
code here, since a bare ``AssertionError`` is explained by the line above it alone.
"""

from __future__ import annotations

import re
from typing import Final

#: All lines of code that name a fault contain one of these or begin or end so; most others do not.
_CONTAINED: Final = ('"', "'", "`", ";", "print(", "*/", "| grep", "<<")
_FIRST: Final = ("#", "/", "case ", "except", "if ")
#: A call that is given a text, up to the text.
_OPENING: Final = re.compile(r"[\w!]\(\s*(?:(?:sys\.)?std(?:err|out),\s*)?[rfbuRF]{0,2}[\"'`]")
_CALLEE: Final = re.compile(r"[\w.:!]+\Z")
#: Functions and methods that say, look for or test the text they are given.
# fmt: off
_SAYING: Final = frozenset({
    "print", "printf", "fprintf", "snprintf", "sprintf", "println", "println!", "eprintln",
    "eprintln!", "echo", "puts", "Errorf", "Sprintf", "Fatalf", "log", "error", "warn",
    "warning", "info", "debug", "critical", "fatal", "exception", "write", "expect", "fail",
    "Contains", "contains", "includes", "startsWith", "startswith", "endsWith", "endswith",
    "indexOf", "index", "find", "match", "replace", "search", "test", "append", "push",
    "compile", "MustCompile", "RegExp", "sub", "findall", "str", "T", "_T", "raises", "assertIn",
    "assertNotIn", "assertEqual", "assertTrue", "assertRaises", "assertRaisesRegex",
    "assert_eq!", "assert_ne!", "assert!",
})
# fmt: on
#: Objects whose methods say something, and macros that do.
_SPEAKERS: Final = re.compile(
    r"(?:^|[.:])_?\w*(?:[lL]og|[lL]ogger|logging|console|warnings|stderr|stdout|tracing)[.:]"
    r"|^[A-Z_]*(?:LOG|WARN|ERR|INFO|DEBUG|TRACE|FATAL)[A-Z_]*\Z"
)
#: Code that begins so.
_START: Final = re.compile(
    # a text alone, as an item of a list, or the rest of a call; a notebook's output has "\\n" there
    r"(?!\"[^\"]*\\n\",\Z)[rfbuRF]{0,2}(?:\"[^\"]*\"|'[^']*')[\])}]*[,)]+[,;:]?\Z"
    r"|[rfRF]{1,2}(?:\"[^\"]*\"|'[^']*')\Z"
    r"|[\"'][\w.-]+[\"']: (?!\w*(?:Error|Exception))\w[\w.]*\([\"']"
    r"|[\"'][\w.-]+[\"']: \w[\w.]*\([\"'].*\),\Z"
    r"|\(\s*[\"'].*[\"'], ?\w+ ?\),?\Z|[\"']\w*[\"'], \w+=[\"']|\{ ?\w+\([\w, ]*[\"']"
    # a text given a name
    r"|(?:(?:const|let|var|static|final|auto|local|private|public|std::string|string|char)\b"
    r"[\w <>*&:]* )?[A-Za-z_][\w.\[\]]*\*? (?::=|\+?=) ?(?:[rfbuRF]{0,2}[\"'`]|\$\(|re\.compile)"
    # statements, cases, enumerations, comments of languages with semicolons
    r"|case \w+:|return [\"'`]|except\b.*:\Z|catch \(|(?:el)?if \[|\}? ?else if \(|if \("
    r"|if \w.* \{\Z|[A-Za-z_}].*\w\(.*[\"')\]] ?;\Z|[A-Z][A-Z0-9_]+(?: *= *-?\w+)?,\Z"
    r"|# ?(?:import \w|from [\w.]+ import)|//|/\*|(?:name)?pattern[\"']?: |throw "
)
#: Code, wherever it stands in a line.
_WITHIN: Final = re.compile(
    r"\bprint\(|\braise \w[\w.]*\(\s*[rR]?[fF][\"']"
    r"|\bLOG\w*\(\w+\)\s*<<|\b(?:cout|cerr|str|ss|oss|message|msg)\w* <<|<< ?\"|\" ?<<"
    r"|[\"'] (?:not )?in (?:str\(|repr\(|\w+(?:\.\w+(?:\(\))?)*(?:\)|:\Z| or\b| and\b|\Z))"
    r"|\w[)\]]{0,2} (?:===?|!==?) ?[\"'`]|\b(?:str|repr)\((?:e|err|error|exc|ex|exception)\)"
    r"|\*/\Z|\| grep\b|\bself\.assert\w+\(|\b(?:re|regex|pattern|match): ?/"
    r"|\w\( [\"'][^\"']*[\"'],\Z"
)


def is_source(text: str) -> bool:
    """Whether a line without its prefixes is source code that names a fault.

    >>> is_source('logger.warning(f"CUDA out of memory, trying {size}")')
    True
    >>> is_source('RuntimeError("CUDA error: out of memory")')
    False
    """
    if not (
        text.startswith(_FIRST) or text.endswith(",") or any(sign in text for sign in _CONTAINED)
    ):
        return False
    return (
        _START.match(text) is not None
        or _WITHIN.search(text) is not None
        or any(_says(text[: found.start() + 1]) for found in _OPENING.finditer(text))
    )


def _says(head: str) -> bool:
    """Whether the call at the end of ``head`` only says or tests something."""
    found = _CALLEE.search(head[-80:])
    if found is None:
        return False
    callee = found.group()
    return (
        callee.replace("::", ".").rpartition(".")[2] in _SAYING
        or _SPEAKERS.search(callee) is not None
        or callee == "c10::str"
    )
