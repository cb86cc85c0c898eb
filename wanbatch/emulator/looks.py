"""Which picture filters answer a prompt: a pure table from words to libavfilter chains.

The real service repaints a clip; the emulator does the nearest cheap thing a filter can do, so that a demo's
result can be told from its source at a glance.
"""

import hashlib
import operator
import re

Chain = tuple[tuple[str, str], ...]
"""Filters in order, each a libavfilter name and its arguments."""

_FLAT: Chain = (("bilateral", "sigmaS=3:sigmaR=0.12"),)

_LOOKS: tuple[tuple[str, Chain], ...] = (
    (
        r"clay\w*|cartoon\w*|plasticine|puppet|comic|toy|黏土|卡通",
        (*_FLAT, ("lutyuv", "y=trunc(val/36)*36+18"), ("hue", "s=1.7")),
    ),
    (r"pixel\w*|8-?bit|retro game|像素", (("pixelize", "w=16:h=16"), ("hue", "s=1.4"))),
    (
        r"sketch\w*|pencil|drawing|line art|charcoal|素描",
        (("gblur", "sigma=1.2"), ("edgedetect", "low=0.05:high=0.12"), ("negate", "")),
    ),
    (
        r"neon|cyber\w*|synthwave|futuristic|赛博朋克",
        (
            ("lutyuv", "y=clip((val-110)*1.7+75,16,235):u=(val-128)*2.2+148:v=(val-128)*2.2+148"),
            ("vignette", "PI/5"),
        ),
    ),
    (
        r"anime|manga|ghibli|动漫|动画",
        (*_FLAT, ("lutyuv", "y=trunc(val/20)*20+16"), ("hue", "s=1.5"), ("unsharp", "5:5:1.6")),
    ),
    (
        r"water-?colou?r\w*|paint\w*|oil|brush\w*|水彩|油画",
        # At half size, for a median is slow.
        (("scale", "iw/2:ih/2"), ("median", "radius=3"), ("scale", "iw*2:ih*2"), ("hue", "s=1.35")),
    ),
    (
        r"black.and.white|noir|monochrome|gr[ae]y\w*|silent film|黑白",
        (("hue", "s=0"), ("lutyuv", "y=clip((val-128)*1.35+118,16,235)"), ("vignette", "PI/4.5")),
    ),
    (
        r"sepia|vintage|old film|antique|nostalgi\w*|复古|怀旧",
        (
            ("hue", "s=0"),
            ("lutyuv", "u=108:v=146"),
            ("vignette", "PI/4"),
        ),
    ),
    (
        r"invert\w*|negative|x-?ray|反色",
        (("negate", ""),),
    ),
    (
        r"night\w*|moon\w*|midnight|dark|夜",
        (("lutyuv", "y=val*0.5+10:u=val+16:v=val-6"), ("hue", "s=0.7"), ("vignette", "PI/4.5")),
    ),
    (
        r"snow\w*|winter\w*|frost\w*|ice|icy|cold|冬|雪",
        (
            ("hue", "s=0.4"),
            ("lutyuv", "y=clip(val*0.85+48,16,235):u=val+12:v=val-6"),
        ),
    ),
    (
        r"sun\w*|golden|warm\w*|autumn|dusk|dawn|日落|秋",
        (("lutyuv", "y=clip(val*1.04,16,235):u=val-16:v=val+16"), ("hue", "s=1.35"), ("vignette", "PI/6")),
    ),
    (
        r"blur\w*|dream\w*|soft|fog\w*|mist\w*|underwater|梦",
        (("gblur", "sigma=5"), ("lutyuv", "y=clip(val*0.92+26,16,235)")),
    ),
)
# Not \b, which sees no edge between two Chinese words.
_COMPILED = tuple(
    (re.compile(rf"(?<![a-z])(?:{words})(?![a-z])", re.IGNORECASE), chain) for words, chain in _LOOKS
)


def look(prompt: str, seed: int) -> Chain:
    """Give the filters for the look a prompt names first; without one, turn the colours by prompt and seed.

    Every chain takes and gives 8-bit 4:2:0 frames of any even size and is deterministic.
    """
    named = [(found.start(), chain) for words, chain in _COMPILED if (found := words.search(prompt))]
    if named:
        return min(named, key=operator.itemgetter(0))[1]
    turn = 40 + int.from_bytes(hashlib.sha256(f"{seed}:{prompt}".encode()).digest()[:4]) % 281
    return (("hue", f"h={turn}:s=1.3"),)
