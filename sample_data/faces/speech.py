"""A pack of synthetic speech for training: several voices and languages, made with espeak-ng.

python -m sample_data.faces.speech OUT.npz [sentences]
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
import wave
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
_EN = (
    "the a this that some every my your our their one many few small large old young green blue "
    "red quiet loud happy slow quick river mountain window garden people teacher morning music "
    "winter paper summer letter mother father boat house table number moon bread butter apple "
    "walks runs opens brings makes keeps shows moves plays holds finds loves over under near "
    "behind with without because before after while again always never maybe please welcome "
    "today tomorrow yesterday bubble mama papa moving memory problem people probably"
)
_TEXTS = {
    "en-us": _EN,
    "en-gb": _EN,
    "en-gb-scotland": _EN,
    "de": "der die das ein kleiner grosser Baum Haus Fenster Morgen Mutter Vater heute morgen "
    "immer wieder Musik Papier lernen spielen bringen machen oben unten blau rot gruen Problem "
    "Woche",
    "fr-fr": "le la un petit grand bateau maison jardin matin musique papier toujours encore avec "
    "sans rouge bleu vert ouvre porte montre aime trouve beaucoup pomme monde bonjour merci",
    "es": "el la un pequeno grande barco casa ventana manana musica papel siempre nunca con sin "
    "rojo azul verde abre mueve busca ama mucho manzana mundo buenos dias gracias problema",
    "it": "il la un piccolo grande barca casa finestra mattina musica carta sempre mai con senza "
    "rosso azzurro verde apre muove cerca ama molto mela mondo buongiorno grazie problema",
    "cmn": "你好 今天 我们 学习 音乐 早上 妈妈 爸爸 朋友 老师 学校 喜欢 可以 明天 天气 "
    "非常 漂亮 红色 蓝色 谢谢",
}
_VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "f1", "f2", "f3", "f4")


def say(text: str, voice: str, speed: int, pitch: int) -> NDArray[np.float32]:
    """``text`` spoken, mono 16 kHz in [−1, 1]."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    made = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    with wave.open(io.BytesIO(made)) as file:
        rate = file.getframerate()
        raw = np.frombuffer(file.readframes(1 << 30), np.int16).astype(np.float32) / 32768
    places = np.arange(int(len(raw) * RATE / rate)) * (rate / RATE)
    return np.interp(places, np.arange(len(raw)), raw).astype(np.float32)


def to_mulaw(samples: NDArray[np.float32]) -> NDArray[np.uint8]:
    squeezed = np.sign(samples) * np.log1p(255 * np.abs(samples)) / np.log(256)
    return np.clip(np.round((squeezed + 1) * 127.5), 0, 255).astype(np.uint8)


def from_mulaw(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    squeezed = codes.astype(np.float32) / 127.5 - 1
    return (np.sign(squeezed) * np.expm1(np.abs(squeezed) * np.log(256)) / 255).astype(np.float32)


def pack(path: str, count: int = 420, seed: int = 7) -> None:
    """Write ``count`` sentences as 8-bit mu-law with their lengths."""
    chooser = random.Random(seed)
    jobs = []
    for _ in range(count):
        language = chooser.choice(list(_TEXTS))
        words = _TEXTS[language].split()
        text = " ".join(chooser.choice(words) for _ in range(chooser.randint(4, 9)))
        if chooser.random() < 0.5:
            text = text.replace(" ", ", ", 1)
        voice = f"{language}+{chooser.choice(_VARIANTS)}"
        jobs.append((text, voice, chooser.randint(125, 185), chooser.randint(15, 85)))
    with ThreadPoolExecutor(2) as pool:
        spoken = list(pool.map(lambda job: say(*job), jobs))
    codes = [to_mulaw(one / max(1e-3, float(np.abs(one).max())) * 0.9) for one in spoken]
    np.savez(path, lengths=np.array([len(c) for c in codes]), codes=np.concatenate(codes))


if __name__ == "__main__":
    pack(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 420)
