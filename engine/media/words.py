"""Words that should not describe one person or scene at once, in English and Chinese."""

from __future__ import annotations

from typing import Final

#: One line per quality: words for it, words against it.
_PAIRS = (
    (
        "happy cheerful joyful laughing smiling 开心 高兴 快乐 微笑 大笑",
        "sad crying sobbing depressed angry furious 悲伤 难过 哭泣 愤怒 生气",
    ),
    (
        "calm relaxed 平静 放松",
        "furious panicking 暴怒 惊慌",
    ),
    (
        "young child teenage 年轻 小孩 少年",
        "old elderly aged 年老 老人 老年",
    ),
    (
        "indoors indoor 室内",
        "outdoors outdoor 室外 户外",
    ),
    (
        "daylight daytime sunny 白天 阳光",
        "night nighttime midnight 夜晚 深夜",
    ),
    (
        "standing 站立 站着",
        "sitting seated lying 坐着 躺着",
    ),
    (
        "silent motionless 沉默 静止",
        "talking speaking gesturing 说话 讲话",
    ),
    (
        "monochrome greyscale 黑白",
        "colorful colourful 彩色",
    ),
)

OPPOSITES: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = tuple(
    (tuple(one.split()), tuple(other.split())) for one, other in _PAIRS
)
