"""Who goes to which side: stratified, seeded, twins together, the user's own sides untouched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mmapp.data.pairs import PairTable
from mmapp.data.splits import deal, few_shots, stratify, twins
from mmapp.settings import DataSettings

GoodRows = Callable[..., PairTable]
Rows = list[dict[str, Any]]
SIDES = ("train", "validation", "test")


def distinct(labels: list[str | None], split: str = "") -> Rows:
    """Rows that share neither image nor text."""
    return [
        {"image": f"i{n}", "text": f"t{n}", "label": label, "split": split}
        for n, label in enumerate(labels)
    ]


def sides(table: PairTable, **settings: Any) -> list[str]:
    return deal(table, DataSettings(**settings)).frame["split"].tolist()


def counts(table: PairTable, **settings: Any) -> dict[str, dict[str, int]]:
    """Label -> side -> rows."""
    dealt = sides(table, **settings)
    pairs = Counter(zip(table.frame["label"], dealt, strict=True))
    labels = dict.fromkeys(table.frame["label"])
    return {label: {side: pairs[label, side] for side in SIDES} for label in labels}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("sizes", "shares", "expected"),
    [
        (
            {"a": 50, "b": 50},
            (0.1, 0.1),
            {"a": (40, 5, 5), "b": (40, 5, 5)},
        ),
        (
            {"a": 60, "b": 30, "c": 10},
            (0.1, 0.2),
            {"a": (42, 6, 12), "b": (21, 3, 6), "c": (7, 1, 2)},
        ),
        (
            {"a": 20},
            (0.25, 0.25),
            {"a": (10, 5, 5)},
        ),
    ],
)
def test_every_class_is_dealt_in_the_same_shares(
    sizes: dict[str, int], shares: tuple[float, float], expected: dict[str, tuple[int, ...]],
    seed: int, good_rows: GoodRows,
) -> None:  # fmt: skip
    labels: list[str | None] = [label for label, size in sizes.items() for _ in range(size)]
    validation, test = shares
    table = good_rows(distinct(labels))
    dealt = counts(table, validation_fraction=validation, test_fraction=test, seed=seed)
    assert {label: tuple(by_side.values()) for label, by_side in dealt.items()} == expected


def test_the_deal_follows_from_the_seed(good_rows: GoodRows) -> None:
    table = good_rows(distinct(["a", "b"] * 50))
    assert sides(table, seed=3) == sides(table, seed=3)
    deals = {tuple(sides(table, seed=seed)) for seed in range(10)}
    assert len(deals) == 10


def test_rows_that_share_an_image_stay_on_one_side(good_rows: GoodRows) -> None:
    rows = distinct(["a", "b"] * 100)
    for n, row in enumerate(rows):
        row["image"] = f"i{n // 2}"
    for seed in range(5):
        dealt = sides(good_rows(rows), seed=seed)
        assert dealt[0::2] == dealt[1::2]
        assert Counter(dealt) == {"train": 160, "validation": 20, "test": 20}


def test_rows_that_share_a_text_of_their_own_stay_on_one_side(good_rows: GoodRows) -> None:
    rows = distinct(["a", "b"] * 100)
    for n, row in enumerate(rows):
        row["text"] = f"t{n // 2}"
    dealt = sides(good_rows(rows))
    assert dealt[0::2] == dealt[1::2]
    assert set(dealt) == set(SIDES)


def test_kinship_goes_over_images_and_texts_in_turn(good_rows: GoodRows) -> None:
    rows = distinct(["a"] * 100)
    rows[10]["image"] = rows[50]["image"]  # 10 and 50: one image
    rows[90]["text"] = rows[50]["text"]  # 50 and 90: one text
    groups = twins(good_rows(rows).frame)
    assert groups[10] == groups[50] == groups[90]
    assert len(set(groups)) == 98


def test_texts_that_many_pairs_share_tie_nobody_together(good_rows: GoodRows) -> None:
    rows = distinct(["a"] * 100)
    for n, row in enumerate(rows):
        row["text"] = f"question {n % 40}"
    assert len(set(twins(good_rows(rows).frame))) == 100


def test_rows_without_an_image_are_not_twins_of_each_other(good_rows: GoodRows) -> None:
    rows: Rows = [{"text": f"t{n}"} for n in range(6)] + [{"image": f"i{n}"} for n in range(6)]
    assert len(set(twins(good_rows(rows).frame))) == 12


def test_where_one_group_would_take_a_side_over_only_equal_pairs_stay_together(
    good_rows: GoodRows,
) -> None:
    rows = distinct(["a"] * 100)
    for row in rows[:30]:
        row["image"] = "the same logo"
    rows[7]["text"] = rows[3]["text"]
    groups = twins(good_rows(rows).frame)
    assert groups[3] == groups[7]
    assert len(set(groups)) == 99


def test_equal_pairs_stay_on_one_side_though_their_labels_differ(good_rows: GoodRows) -> None:
    rows = distinct(["a", "b"] * 20)
    for n, row in enumerate(rows):
        row["image"] = f"i{n // 2}"
        row["text"] = f"t{n // 2}"
    for seed in range(5):
        dealt = sides(good_rows(rows), seed=seed)
        assert dealt[0::2] == dealt[1::2]


def test_the_users_own_sides_are_never_changed(good_rows: GoodRows) -> None:
    rows = distinct(["a", "b"] * 10)
    own = ["test", "train", "validation", "train"] * 5
    for row, side in zip(rows, own, strict=True):
        row["split"] = side
    table = good_rows(rows, own_split=True)
    assert sides(table) == own
    assert deal(table, DataSettings()).findings == ()


@pytest.mark.parametrize(("missing", "brought"), [("validation", "test"), ("test", "validation")])
def test_a_missing_side_is_dealt_out_of_train(missing: str, brought: str, good_rows: GoodRows) -> None:
    rows = distinct(["a", "b"] * 50, "train")
    for row in rows[:20]:
        row["split"] = brought
    dealt = deal(good_rows(rows, own_split=True), DataSettings())
    after = dealt.frame["split"].tolist()
    assert after[:20] == [brought] * 20
    assert Counter(after[20:]) == {"train": 72, missing: 8}
    assert Counter(dealt.part(missing).labels()) == {"a": 4, "b": 4}
    assert [(f.kind, f.severity, f.message) for f in dealt.findings] == [
        ("split made", "note", f"No {missing} rows were marked; 10% of train was taken.")
    ]


def test_rows_the_user_left_open_join_train(good_rows: GoodRows) -> None:
    rows = distinct(["a"] * 6)
    for row, side in zip(rows, ["train", "", "test", "validation", "", "train"], strict=True):
        row["split"] = side
    assert sides(good_rows(rows, own_split=True)) == [
        "train", "train", "test", "validation", "train", "train",
    ]  # fmt: skip


@pytest.mark.parametrize("own", ["test", "validation"])
def test_data_that_is_all_for_scoring_stays_so(own: str, good_rows: GoodRows) -> None:
    assert sides(good_rows(distinct(["a"] * 5, own), own_split=True)) == [own] * 5


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_handful_of_rows_is_dealt_without_complaint_and_train_comes_first(
    n: int, good_rows: GoodRows
) -> None:
    assert "train" in sides(good_rows(distinct(["a"] * n)))


def test_rows_without_a_label_are_dealt_like_a_class_of_their_own(good_rows: GoodRows) -> None:
    dealt = counts(good_rows(distinct([None, "a"] * 50)))
    assert dealt["a"] == {"train": 40, "validation": 5, "test": 5}
    assert sum(dealt[None].values()) == 50  # type: ignore[index]


def test_the_deal_keeps_the_index_of_the_rows_it_was_given(good_rows: GoodRows) -> None:
    frame = good_rows(distinct(["a"] * 30)).frame.iloc[10:]
    dealt = stratify(frame, {"test": 0.5}, seed=0)
    assert dealt.index.tolist() == list(range(10, 30))
    assert Counter(dealt) == {"train": 10, "test": 10}
    assert not np.array_equal(dealt.to_numpy(), np.repeat(["train", "test"], 10))


def test_a_few_shots_of_each_label_stay_and_no_other_row_goes(good_rows: GoodRows) -> None:
    rows = distinct([*"aaaabbbc", "a|b", "a|b", "a|b"], "train") + distinct(["a"] * 4, "test")
    few = few_shots(good_rows(rows), shots=2, seed=0).frame
    kept = Counter(zip(few["split"], few["label"], strict=True))
    assert kept == {
        ("train", "a"): 2,
        ("train", "b"): 2,
        ("train", "c"): 1,
        ("train", "a|b"): 2,
        ("test", "a"): 4,
    }
    assert few["row"].is_monotonic_increasing
    assert few.index.tolist() == list(range(11))


def test_which_shots_stay_follows_from_the_seed_and_not_from_the_order(good_rows: GoodRows) -> None:
    table = good_rows(distinct(["a", "b"] * 50, "train"))
    turned = replace(table, frame=table.frame[::-1].reset_index(drop=True))

    def texts(table: PairTable, seed: int) -> frozenset[str]:
        return frozenset(few_shots(table, 3, seed).frame["text"])

    assert texts(table, 1) == texts(turned, 1)
    assert len({texts(table, seed) for seed in range(10)}) == 10
