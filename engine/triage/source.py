"""Lines of source code: what a program would say is not what it said.

Logs, issues and notes quote code, and code names every fault it guards against. An ``assert`` is no
code here, since a bare ``AssertionError`` is explained by the line above it alone.
"""

from __future__ import annotations

import re
from typing import Final

#: Calls that say, raise or test something, as far as the text they are given.
_CALLS: Final = (
    r"(?:printf|fprintf|snprintf|println!?|eprintln!?|echo|puts|sprintf|Errorf|Sprintf|Fatalf)"
    r"|\w*(?:log|logger|logging|console|warnings|stderr|stdout|tracing|parser)(?:\.|::)?\w*!?"
    r"|(?:strings\.)?Contains|re\.\w+|regexp\.\w+|RegExp|_?T"
    r"|\w*\.(?:includes|contains|startsWith|startswith|endsWith|endswith|indexOf|index|find|match"
    r"|replace|search|test|append|push|warn|error|info|debug|warning|exception|critical|fatal)"
    r"|self\.assert\w+|assert\w*!|(?:pytest|self)\.(?:raises|assertRaises\w*|fail)|expect|c10::str"
    r"|throw (?:new |std::)?\w[\w.:]*|throw"
)
_SOURCE: Final = re.compile(
    rf"(?:(?<![\w.])(?:\w+(?:\.|::)){{0,3}}(?:{_CALLS})\(\s*(?:(?:sys\.)?std(?:err|out),\s*)?"
    r"[rfbuRF]{0,2}[\"'`/]"
    r"|\bprint\(|\braise \w[\w.]*\(\s*[rR]?[fF][\"']"
    # streams and macros
    r"|\bLOG\w*\(\w+\)\s*<<|\b(?:cout|cerr|str|ss|oss|message|msg)\w* <<|<< ?\"|\" ?<<"
    # tests of a text: if "…" in str(e)
    r"|[\"'] (?:not )?in (?:str\(|repr\(|\w+(?:\.\w+(?:\(\))?)*(?:\)|:\Z| or\b| and\b|\Z))"
    r"|\w[)\]]{0,2} (?:===?|!==?) ?[\"'`]|\b(?:str|repr)\((?:e|err|error|exc|ex|exception)\)"
    # a text alone, as an item of a list, or the rest of a call
    r"|^[rfbuRF]{0,2}(?:\"[^\"]*\"|'[^']*'|`[^`]*`)[\])}]*[,)]+[,;:]?\Z"
    r"|^[rfRF]{1,2}(?:\"[^\"]*\"|'[^']*')\Z"
    r"|^[\"'][\w.-]+[\"']: (?!\w*(?:Error|Exception))\w[\w.]*\([\"']"
    r"|^[\"'][\w.-]+[\"']: \w[\w.]*\([\"'].*\),\Z"
    # a text given a name
    r"|^(?:(?:const|let|var|static|final|auto|local|private|public|std::string|string|char)\b"
    r"[\w <>*&:]* )?[A-Za-z_][\w.\[\]]*\*? (?::=|\+?=) ?(?:[rfbuRF]{0,2}[\"'`]|\$\(|re\.compile)"
    # statements of languages with semicolons, cases, enumerations, comments
    r"|^(?:case \w+:|return [\"'`]|except\b.*:\Z|catch \(|(?:el)?if \[|\}? ?else if \(|if \()"
    r"|^if \w.* \{\Z"
    r"|^[A-Za-z_}].*[\"')\]] ?;\Z|^\w+\(.*\);?\Z(?<=[;])|^[A-Z][A-Z0-9_]+(?: *= *-?\w+)?,\Z"
    r"|^# ?(?:import|from) \w|^//|^/\*|\*/\Z|\| grep\b|^(?:name)?pattern[\"']?: )"
)
_QUICK: Final = re.compile(r"[\"'`;]|^//|^#|print\(|,\Z|\bcase |^except|^if |\*/|\| grep|<<")


def is_source(text: str) -> bool:
    """Whether a line without its prefixes is source code that names a fault.

    >>> is_source('logger.warning(f"CUDA out of memory, trying {size}")')
    True
    >>> is_source('RuntimeError("CUDA error: out of memory")')
    False
    """
    return _QUICK.search(text) is not None and _SOURCE.search(text) is not None
