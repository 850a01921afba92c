"""Prompts in the manner of the sample's: only the mouth's mood is heeded (smile or none)."""

from __future__ import annotations

import random

_WHO = ("A person", "A young woman", "A man", "An old man with a beard", "A woman with dark hair",
        "A teacher", "A young man with glasses", "An old woman", "A singer in a hat")  # fmt: skip
_HOW = ("is talking to the camera with natural expressions", "speaks into the camera",
        "looks into the camera and speaks", "explains something calmly", "tells a story",
        "in a blue jacket looks into the camera and speaks")  # fmt: skip
_GLAD = ("with a calm smile", "smiling", "with a warm smile", "happily, with a broad smile")
_PLAIN = ("", "with a serious look", "calmly", "with a neutral expression")
_WHERE = ("upper body in view", "plain background", "upper body, plain studio background",
          "colourful background", "a window behind", "in a studio")  # fmt: skip
_STYLE = ("even soft lighting", "soft even light, illustrated portrait style", "realistic style",
          "flat drawn style", "soft lighting, drawn portrait")  # fmt: skip


def prompts(count: int, seed: int = 3) -> list[tuple[str, float]]:
    """``count`` prompts with the smile they ask for, 0 or 1; the product's own two come first."""
    chooser = random.Random(seed)
    made = [
        ("A person is talking to the camera with natural expressions, upper body in view, "
         "even soft lighting, plain background, realistic style.", 0.0),
        ("A young woman with dark hair in a blue jacket looks into the camera and speaks with a "
         "calm smile, upper body, plain studio background, soft even light, illustrated portrait "
         "style", 1.0),
        ("A person speaks", 0.0),
        ("A smiling person speaks", 1.0),
    ]  # fmt: skip
    while len(made) < count:
        glad = chooser.random() < 0.5
        mood = chooser.choice(_GLAD if glad else _PLAIN)
        parts = [f"{chooser.choice(_WHO)} {chooser.choice(_HOW)} {mood}".strip()]
        if chooser.random() < 0.8:
            parts.append(chooser.choice(_WHERE))
        if chooser.random() < 0.7:
            parts.append(chooser.choice(_STYLE))
        made.append((", ".join(parts), float(glad)))
    return made[:count]
