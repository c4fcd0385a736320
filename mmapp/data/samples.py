"""Data sets that need no download: scikit-learn's real handwritten digits with texts in words.

Each sample is written once as a folder in the ImageFolder convention and then read through the
same door as anybody's data. Written for one lesson each; the lesson is in the docstring.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mmapp.errors import DataError

SIDE = 32  # pixels; the digits are 8 x 8 and are enlarged
TRUE_TEXTS = 2  # texts that are true of it, and as many that are not, for every digit
VERSION = 1  # part of the folder's name, so that a changed recipe is written anew

Row = tuple[int, str, str, str]  # position of the image, text, label, split

NUMBERS = "zero one two three four five six seven eight nine".split()


def write_sample(name: str, folder: Path) -> Path:
    """Write a sample below `folder`, unless it is there already.

    Returns:
        The sample's own folder: metadata.csv and images/.

    Raises:
        DataError: there is no sample of that name.
    """
    if name not in SAMPLES:
        raise DataError(f"There is no sample {name!r}. Choose one of {', '.join(SAMPLES)}.")
    target = folder / f"{name}-{VERSION}"
    if not target.exists():
        half_done = folder / f".{name}-{VERSION}"
        shutil.rmtree(half_done, ignore_errors=True)
        _write(SAMPLES[name], half_done)
        half_done.rename(target)
    return target


def digits_rows(digits: np.ndarray) -> Iterator[Row]:
    """`sample:digits`: does the text name or describe the digit? match / mismatch.

    Every image appears as often as match as it does as mismatch, and within a split the mismatched
    texts are the matched ones dealt again, so that neither the text alone nor the image alone tells
    anything: each is at chance by construction, on every split, exactly. So is the best sum of the
    two. Only a model that looks at them together can learn it.
    """
    rng = np.random.default_rng(20240601)
    phrases = phrases_for_digits()
    for split, positions in _split_positions(len(digits), rng):
        pairs = [
            (position, text)
            for position in positions
            for text in rng.choice(phrases[digits[position]], size=TRUE_TEXTS, replace=False)
        ]
        wrong = _deal_again([text for _, text in pairs], digits, [p for p, _ in pairs], rng)
        for (position, text), other in zip(pairs, wrong, strict=True):
            yield position, str(text), "match", split
            yield position, other, "mismatch", split


def phrases_for_digits() -> list[list[str]]:
    """For each digit, the texts that are true of it."""
    phrases: list[list[str]] = [[name] for name in NUMBERS]
    for a in range(1, 9):
        for b in range(1, 10 - a):
            phrases[a + b].append(f"{NUMBERS[a]} plus {NUMBERS[b]}")
    for digit in range(10):
        parity = "an even" if digit % 2 == 0 else "an odd"
        if digit > 0:
            phrases[digit].append(f"the number after {NUMBERS[digit - 1]}")
        if digit < 9:
            phrases[digit].append(f"one less than {NUMBERS[digit + 1]}")
        if digit < 4:
            phrases[digit].append(f"{parity} number below four")
        if digit > 5:
            phrases[digit].append(f"{parity} number above five")
    return phrases


def _deal_again(
    texts: list[str], digits: np.ndarray, positions: list[int], rng: np.random.Generator
) -> list[str]:
    """A permutation of `texts` in which no text is true of the digit it lands on, and no image
    gets the same text twice. Every TRUE_TEXTS rows belong to one image."""
    true_of = [set(phrases) for phrases in phrases_for_digits()]
    dealt = [str(text) for text in rng.permutation(texts)]

    def fits(text: str, row: int) -> bool:
        first = row - row % TRUE_TEXTS
        others = [dealt[i] for i in range(first, first + TRUE_TEXTS) if i != row]
        return text not in true_of[digits[positions[row]]] and text not in others

    wrong = [row for row, text in enumerate(dealt) if not fits(text, row)]
    while wrong:
        row = wrong.pop()
        while not fits(dealt[row], row):
            other = int(rng.integers(len(dealt)))
            if fits(dealt[other], row) and fits(dealt[row], other):
                dealt[row], dealt[other] = dealt[other], dealt[row]
    return dealt


def parcels_rows(digits: np.ndarray) -> Iterator[Row]:
    """`sample:parcels`: a parcel's handwritten zone and a line about what is in it; which shelf?

    The text tells what is inside (food, books or toys), the image which half of the town (zones 0
    to 4 go north, 5 to 9 south); the label names both. Text alone reaches a half, the image alone a
    third, the two together everything; a sum of the two is enough.
    """
    rng = np.random.default_rng(20240602)
    for split, positions in _split_positions(len(digits), rng):
        for position in positions:
            side = "north" if digits[position] < 5 else "south"
            kinds = rng.permutation(list(PARCEL_CONTENTS))[:2]
            for kind in kinds:
                yield position, _parcel_text(str(kind), rng), f"{kind} {side}", split


def spot_rows(digits: np.ndarray) -> Iterator[Row]:
    """`sample:spot`: a line that names three numbers in words, one of them the handwritten digit; which
    words name it? A tag for each word: B-SHOWN begins them, I-SHOWN goes on, all others are O.

    Each line stands beside three images, and every one of them calls other words SHOWN: the text alone
    cannot tell which, the image alone not where.
    """
    rng = np.random.default_rng(20240603)
    for split, positions in _split_positions(len(digits), rng):
        by_digit = {digit: [p for p in positions if digits[p] == digit] for digit in range(10)}
        for position in positions:
            own = int(digits[position])
            others = rng.choice([digit for digit in range(10) if digit != own], size=2, replace=False)
            named = [int(digit) for digit in rng.permutation([own, *others])]
            told = [str(rng.choice(SPOT_FRAMES)).format(NUMBERS[digit]).split() for digit in named]
            for shown, digit in enumerate(named):
                words, tags = _spot_line(told, shown)
                image = position if digit == own else int(rng.choice(by_digit[digit]))
                yield image, json.dumps(words), json.dumps(tags), split


def _spot_line(told: list[list[str]], shown: int) -> tuple[list[str], list[str]]:
    """ "the figure two , seven or a one": words and tags, those of number `shown` marked."""
    words, tags = [], []
    for number, (phrase, after) in enumerate(zip(told, (",", "or", ""), strict=True)):
        mark = ["B-SHOWN", *["I-SHOWN"] * (len(phrase) - 1)] if number == shown else ["O"] * len(phrase)
        words += [*phrase, after] if after else phrase
        tags += [*mark, "O"] if after else mark
    return words, tags


SPOT_FRAMES = ("{}", "a {}", "the figure {}", "number {}", "yet another {}")

PARCEL_CONTENTS = {
    "food": "olive oil,dark bread,goat cheese,dried figs,green tea,plum jam,sea salt,rice".split(","),
    "books": "a novel,two atlases,a cookery book,old letters,school books,a dictionary,poems,"
    "sheet music".split(","),
    "toys": "a kite,wooden blocks,a puzzle,a toy train,two puppets,a ball,marbles,a doll".split(","),
}
PARCEL_FRAMES = (
    "{} in a box",
    "contents: {} and {}",
    "please handle with care, {} inside",
    "{}, packed today",
    "for my sister: {} and {}",
    "{} as ordered",
)


def _parcel_text(kind: str, rng: np.random.Generator) -> str:
    frame = str(rng.choice(PARCEL_FRAMES))
    things = rng.choice(PARCEL_CONTENTS[kind], size=2, replace=False)
    return frame.format(*map(str, things))


def _split_positions(n: int, rng: np.random.Generator) -> list[tuple[str, list[int]]]:
    """Positions of the images of each split, 80/10/10, disjoint."""
    order = [int(i) for i in rng.permutation(n)]
    first, second = int(0.8 * n), int(0.9 * n)
    return [
        ("train", order[:first]),
        ("validation", order[first:second]),
        ("test", order[second:]),
    ]


SAMPLES: dict[str, Callable[[np.ndarray], Iterator[Row]]] = {
    "digits": digits_rows,
    "parcels": parcels_rows,
    "spot": spot_rows,
}


def _write(rows: Callable[[np.ndarray], Iterator[Row]], folder: Path) -> None:
    from sklearn.datasets import load_digits  # noqa: PLC0415  (a second to import, rarely needed)

    pictures, digits = load_digits(return_X_y=True)
    (folder / "images").mkdir(parents=True)
    for position, values in enumerate(pictures):
        grey = (values.reshape(8, 8) * (255 / 16)).astype(np.uint8)
        picture = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        picture.save(folder / "images" / f"{position:04}.png")
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["file_name", "text", "label", "split"])
        for position, text, label, split in rows(digits):
            table.writerow([f"images/{position:04}.png", text, label, split])
