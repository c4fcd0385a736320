"""Each fusion against numbers worked out by hand, and what all of them owe."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmapp.models.encoders import Encoding
from mmapp.models.fusion import (
    FUSIONS,
    Attention,
    Bilinear,
    Concat,
    Early,
    Fusion,
    Gated,
    ImageOnly,
    Late,
    Sum,
    TextOnly,
    Weighted,
)
from mmapp.models.fusion_parts import CrossAttention, ImageWords

TEXT = Encoding(
    pooled=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    tokens=torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 3.0], [0.0, 0.0]]]),
    mask=torch.tensor([[True, True], [True, False]]),
)
IMAGE = Encoding(
    pooled=torch.tensor([[5.0, 6.0], [7.0, 8.0]]),
    tokens=torch.tensor([[[9.0, 9.0]], [[9.0, 9.0]]]),
    mask=torch.tensor([[True], [True]]),
)


def set_weights(linear: nn.Linear, weight: list[list[float]], bias: list[float]) -> None:
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weight))
        linear.bias.copy_(torch.tensor(bias))


def set_scaled_identity(linear: nn.Linear, factor: float) -> None:
    set_weights(linear, [[factor, 0.0], [0.0, factor]], [0.0, 0.0])


def test_text_only_gives_the_text_and_image_only_the_image_to_every_word() -> None:
    text_only = TextOnly(2)(TEXT, IMAGE)
    image_only = ImageOnly(2)(TEXT, IMAGE)

    assert text_only.pooled.tolist() == [[1, 2], [3, 4]]
    assert text_only.tokens.tolist() == TEXT.tokens.tolist()
    assert image_only.pooled.tolist() == [[5, 6], [7, 8]]
    assert image_only.tokens.tolist() == [[[5, 6], [5, 6]], [[7, 8], [7, 8]]]
    assert image_only.mask.tolist() == TEXT.mask.tolist()


def test_concat_is_one_linear_layer_on_text_beside_image() -> None:
    fusion = Concat(2)
    # first output: text₀ + 10 image₀ + 0.5; second: text₁ + 100 image₁ - 0.5
    set_weights(fusion.mix, [[1, 0, 10, 0], [0, 1, 0, 100]], [0.5, -0.5])

    fused = fusion(TEXT, IMAGE)

    assert fused.pooled.tolist() == [[51.5, 601.5], [73.5, 803.5]]
    assert fused.tokens.tolist() == [
        [[51.5, 599.5], [50.5, 600.5]],
        [[72.5, 802.5], [70.5, 799.5]],
    ]
    assert fused.mask.tolist() == TEXT.mask.tolist()


def test_sum_adds_element_by_element() -> None:
    fused = Sum(2)(TEXT, IMAGE)

    assert fused.pooled.tolist() == [[6, 8], [10, 12]]
    assert fused.tokens.tolist() == [[[6, 6], [5, 7]], [[9, 11], [7, 8]]]
    assert fused.mask.tolist() == TEXT.mask.tolist()


def test_weighted_starts_with_equal_weights_and_mixes_by_their_softmax() -> None:
    fusion = Weighted(2)
    assert fusion.weights() == {"text": 0.5, "image": 0.5}
    assert fusion(TEXT, IMAGE).pooled.tolist() == [[3, 4], [5, 6]]
    with torch.no_grad():
        fusion.balance.copy_(torch.tensor([math.log(3), 0.0]))

    fused = fusion(TEXT, IMAGE)

    assert fusion.weights() == pytest.approx({"text": 0.75, "image": 0.25})
    # 3/4 text + 1/4 image
    torch.testing.assert_close(fused.pooled, torch.tensor([[2.0, 3.0], [4.0, 5.0]]))
    expected = [[[2.0, 1.5], [1.25, 2.25]], [[3.25, 4.25], [1.75, 2.0]]]
    torch.testing.assert_close(fused.tokens, torch.tensor(expected))


def test_gated_lets_the_image_in_as_far_as_the_gate_says() -> None:
    fusion = Gated(2)
    set_weights(fusion.value, [[0, 1], [10, 0]], [0, 1])  # (image₁, 10 image₀ + 1)
    # tanh(ln 3 / 2) = 1/2 and tanh(ln 2 / 2) = 1/3; each gate looks at one number of each half.
    half, third = math.log(3) / 2, math.log(2) / 2
    set_weights(fusion.gate, [[half, 0, 0, 0], [0, 0, third, 0]], [0, -4 * third])
    one = Encoding(TEXT.pooled[:1], TEXT.tokens[:1], TEXT.mask[:1])
    other = Encoding(IMAGE.pooled[:1], IMAGE.tokens[:1], IMAGE.mask[:1])

    fused = fusion(one, other)

    # pooled (1, 2) opens tanh(1 half) = 1/2 and tanh(5 third - 4 third) = 1/3 for (6, 51)
    torch.testing.assert_close(fused.pooled, torch.tensor([[1 + 3.0, 2 + 17.0]]))
    # word (1, 0) opens the same; word (0, 1) keeps the first gate shut
    torch.testing.assert_close(fused.tokens, torch.tensor([[[4.0, 17.0], [0.0, 18.0]]]))


@torch.no_grad()
def test_gated_starts_as_the_text_alone_to_the_bit() -> None:
    fusion = make("gated")

    text, image = random_encoding([4, 2]), random_encoding([3, 3])
    fused = fusion(text, image)

    assert torch.equal(fused.pooled, text.pooled)
    assert torch.equal(fused.tokens, text.tokens)


def test_a_gate_that_is_shut_still_learns() -> None:
    fusion = make("gated")

    fusion(random_encoding([4]), random_encoding([3])).pooled.sum().backward()

    assert fusion.gate.weight.grad.abs().min() > 0


def test_late_by_hand() -> None:
    fusion = Late(2)
    set_weights(fusion.of_text, [[2, 0], [0, 4]], [0, 0])
    set_weights(fusion.of_image, [[0, 2], [2, 0]], [2, 0])

    fused = fusion(TEXT, IMAGE)

    # (2 t₀ + 2 i₁ + 2) / 2 and (4 t₁ + 2 i₀) / 2
    assert fused.pooled.tolist() == [[8, 9], [12, 15]]
    assert fused.tokens.tolist() == [[[8, 5], [7, 7]], [[11, 13], [9, 7]]]


@torch.no_grad()
def test_late_is_the_mean_of_the_logits_of_two_heads() -> None:
    """Two linear heads of their own, written by hand as the fusion's maps before one shared head."""
    of_text, of_image, shared = nn.Linear(8, 3), nn.Linear(8, 3), nn.Linear(8, 3)
    text, image = random_encoding([4, 2]), random_encoding([3, 3])
    fusion = Late(8)
    nn.init.eye_(shared.weight)  # three labels: the first three of eight numbers
    nn.init.zeros_(shared.bias)
    for part, head in ((fusion.of_text, of_text), (fusion.of_image, of_image)):
        part.weight[:3], part.bias[:3] = head.weight, head.bias

    mean = (of_text(text.pooled) + of_image(image.pooled)) / 2
    torch.testing.assert_close(shared(fusion(text, image).pooled), mean)

    shared.reset_parameters()  # and whatever the shared head is
    said = (shared(fusion.of_text(text.pooled)), shared(fusion.of_image(image.pooled)))
    torch.testing.assert_close(shared(fusion(text, image).pooled), sum(said) / 2)


def test_bilinear_multiplies_the_projected_halves_and_projects_back() -> None:
    fusion = Bilinear(2)
    set_weights(fusion.from_text, [[1, 0], [0, 1]], [1, 0])  # (text₀ + 1, text₁)
    set_weights(fusion.from_image, [[0, 1], [1, 0]], [0, 1])  # (image₁, image₀ + 1)
    set_weights(fusion.back, [[1, 1], [1, -1]], [0, 10])

    fused = fusion(TEXT, IMAGE)

    # row 0: (2, 2) * (6, 6) = (12, 12); row 1: (4, 4) * (8, 8) = (32, 32)
    assert fused.pooled.tolist() == [[24, 10], [64, 10]]
    # tokens (2, 0), (1, 1) times (6, 6), and (3, 3), (1, 0) times (8, 8)
    assert fused.tokens.tolist() == [[[12, 22], [12, 10]], [[48, 10], [8, 18]]]


def test_cross_attention_takes_its_softmax_over_the_other_side() -> None:
    attend = CrossAttention(2, heads=1)
    set_scaled_identity(attend.query, math.sqrt(2))  # undoes the division by √D
    set_scaled_identity(attend.key, 1)
    set_weights(attend.value, [[4, 0], [0, 8]], [0, 0])
    set_weights(attend.out, [[1, 0], [0, 1]], [0, 100])
    asking = torch.tensor([[[math.log(3), 0.0], [0.0, math.log(7)]]])
    # The third is padding; seen at all, it would take over.
    other = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [99.0, 99.0]]])
    seen = torch.tensor([[True, True, False]])

    gathered = attend(asking, other, seen)

    # scores ln 3, 0 and 0, ln 7: shares 3/4, 1/4 and 1/8, 7/8 of the values (4, 0) and (0, 8)
    expected = torch.tensor([[[3.0, 102.0], [0.5, 107.0]]])
    torch.testing.assert_close(gathered, expected)


@torch.no_grad()
def test_cross_attention_equals_torchs_own_with_the_same_weights() -> None:
    attend, torchs = CrossAttention(8, heads=4), nn.MultiheadAttention(8, 4, batch_first=True)
    layers = (attend.query, attend.key, attend.value)
    for layer in (*layers, attend.out):
        layer.bias.normal_()
    torchs.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
    torchs.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
    torchs.out_proj.load_state_dict(attend.out.state_dict())
    asking, other = random_encoding([5, 5]), random_encoding([3, 1])

    expected, _ = torchs(asking.tokens, other.tokens, other.tokens, key_padding_mask=~other.mask)

    torch.testing.assert_close(attend(asking.tokens, other.tokens, other.mask), expected)


def test_cross_attention_gives_each_head_its_own_numbers_and_softmax() -> None:
    attend = CrossAttention(2, heads=2)
    for layer in (attend.query, attend.key, attend.value, attend.out):
        set_scaled_identity(layer, 1)
    asking = torch.tensor([[[math.log(3), math.log(7)]]])
    other = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])

    gathered = attend(asking, other, torch.ones(1, 2, dtype=torch.bool))

    # head 0 scores ln 3, 0 and reads 1, 0; head 1 scores 0, ln 7 and reads 0, 1
    torch.testing.assert_close(gathered, torch.tensor([[[3 / 4, 7 / 8]]]))


def test_attention_by_hand() -> None:
    """One word w, one position p; their wholes W and P stand before them."""
    fusion = Attention(2)
    for gathering in (fusion.words_gather, fusion.image_gathers):
        set_scaled_identity(gathering.attend.query, math.sqrt(2))
        set_scaled_identity(gathering.attend.key, math.log(3))
        set_scaled_identity(gathering.attend.value, 1)
        set_scaled_identity(gathering.attend.out, 1)
        gathering.norm.eps = 0.0  # a norm over two different numbers then gives exactly 1 and -1
        # asked + 2 gathered + 3 asked·gathered, and asked + 5 gathered + 7 asked·gathered; with
        # the biases GELU works where it changes nothing.
        set_weights(gathering.compare, [[1, 0, 2, 0, 3, 0], [0, 1, 0, 5, 0, 7]], [10, 20])
    set_weights(fusion.mix, [[1, 0, 10, 0], [0, 1, 0, 10]], [0, 0.25])
    one = torch.ones(1, 1, dtype=torch.bool)
    text = Encoding(torch.tensor([[1.0, 0.0]]), torch.tensor([[[2.0, 0.0]]]), one)
    image = Encoding(torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0]]]), one)

    fused = fusion(text, image)

    # Words ask: W scores ln 3, 0 and gathers (3/4, 1/4); w scores 2 ln 3, 0 and gathers
    # (9/10, 1/10): both (1, -1) after the norm. Over the wrong axis W would gather (1/4, 1/2).
    #   W: (1 + 2 + 3 + 10, 0 - 5 + 0 + 20) = (16, 15)    w: (2 + 2 + 6 + 10, 15) = (20, 15)
    #   the whole plus the mean of the parts: (36, 30)
    # The image asks: P gathers W/4 + 3w/4 = (7/4, 0), p gathers (3/2, 0): both (1, -1).
    #   P: (16, 15)    p: (0 + 2 + 0 + 10, 1 - 5 - 7 + 20) = (12, 9)    together: (28, 24)
    torch.testing.assert_close(fused.pooled, torch.tensor([[36.0 + 280, 30 + 240.25]]))
    torch.testing.assert_close(fused.tokens, torch.tensor([[[20.0 + 280, 15 + 240.25]]]))


def attention_in_words(fusion: Attention, text: Encoding, image: Encoding) -> torch.Tensor:
    """Co-attention's `pooled` of one pair, token by token and head by head, padding cut away."""

    def gathered(part: nn.Module, asking: list[torch.Tensor], other: list[torch.Tensor]) -> list:
        attend, told = part.attend, []
        size = fusion.width // attend.heads
        for token in asking:
            heads = []
            for head in range(attend.heads):
                own = slice(head * size, (head + 1) * size)
                scores = [
                    (attend.query(token)[own] @ attend.key(o)[own]) / math.sqrt(size) for o in other
                ]
                shares = torch.tensor(scores).exp() / torch.tensor(scores).exp().sum()
                values = torch.stack([attend.value(o)[own] for o in other])
                heads.append(shares @ values)
            found = part.norm(attend.out(torch.cat(heads)))
            told.append(F.gelu(part.compare(torch.cat([token, found, token * found]))))
        return told

    words = [text.pooled[0], *text.tokens[0][text.mask[0]]]
    places = [image.pooled[0], *image.tokens[0][image.mask[0]]]
    told = gathered(fusion.words_gather, words, places)
    seen = gathered(fusion.image_gathers, places, words)
    sums = [side[0] + sum(side[1:]) / len(side[1:]) for side in (told, seen)]
    return fusion.mix(torch.cat(sums))


@torch.no_grad()
def test_attention_equals_a_token_by_token_reading_of_its_formula() -> None:
    fusion = Attention(8)
    text, image = random_encoding(words=[5]), random_encoding(words=[3])

    expected = attention_in_words(fusion, text, image)

    torch.testing.assert_close(fusion(text, image).pooled[0], expected)


def unchanging(words: ImageWords) -> ImageWords:
    """Projection, norm and places taken out, so that the cells can be read off."""
    words.project = lambda values: values
    nn.init.zeros_(words.places)
    return words


@torch.no_grad()
def test_an_image_becomes_the_means_of_a_grid_of_cells_each_with_its_place() -> None:
    words = unchanging(ImageWords(1, 1, side=2))
    words.places.copy_(torch.tensor([[0.0], [1000.0], [2000.0], [3000.0]]))
    positions = torch.arange(16.0).view(1, 16, 1)  # a picture of 4 x 4, row by row
    everywhere = torch.ones(1, 16, dtype=torch.bool)

    made = words(Encoding(torch.zeros(1, 1), positions, everywhere))

    # The upper left cell holds 0, 1, 4 and 5.
    assert made.tokens.flatten().tolist() == [2.5, 1004.5, 2010.5, 3012.5]
    assert made.mask.tolist() == [[True] * 4]


@torch.no_grad()
@pytest.mark.parametrize("positions", [16, 12])
def test_of_what_stands_for_an_absent_image_one_word_is_left(positions: int) -> None:
    """The model puts the learnt vector everywhere and calls the first position real."""
    words = unchanging(ImageWords(3, 3, side=2))
    vector = torch.randn(3)
    first = torch.arange(positions).unsqueeze(0) == 0

    made = words(Encoding(vector.unsqueeze(0), vector.expand(1, positions, 3), first))

    assert made.mask.tolist() == [[True, False, False, False]]
    torch.testing.assert_close(made.tokens[0, 0], vector)


@torch.no_grad()
@pytest.mark.parametrize(("positions", "count"), [(1, 1), (9, 9), (10, 9), (64, 9), (1000, 9)])
def test_early_makes_no_more_words_of_an_image_than_it_says(positions: int, count: int) -> None:
    made = Early(8, 6).as_words(random_encoding([positions]))

    assert made.tokens.shape == (1, count, 6)
    assert made.mask.all()
    assert Early.image_words == 9


def random_encoding(words: list[int], width: int = 8) -> Encoding:
    """Encodings of len(words) rows; row i has words[i] real tokens."""
    lengths = torch.tensor(words)
    mask = torch.arange(max(words)) < lengths[:, None]
    return Encoding(
        torch.randn(len(words), width), torch.randn(len(words), max(words), width), mask
    )


def padded(encoding: Encoding, by: int, fill: float) -> Encoding:
    """The same encoding with `by` more tokens that are padding, filled with a number."""
    tokens = F.pad(encoding.tokens, (0, 0, 0, by), value=fill)
    return Encoding(encoding.pooled, tokens, F.pad(encoding.mask, (0, by), value=False))


def make(name: str, opened: bool = False) -> Fusion:
    torch.manual_seed(5)
    fusion = FUSIONS[name](8).eval()
    if isinstance(fusion, Gated) and opened:
        nn.init.normal_(fusion.gate.weight)
    return fusion


@torch.no_grad()
@pytest.mark.parametrize("name", FUSIONS)
def test_padding_on_either_side_changes_nothing(name: str) -> None:
    fusion, text, image = make(name, opened=True), random_encoding([4, 2]), random_encoding([3, 3])

    short = fusion(text, image)
    long = fusion(padded(text, 3, 50.0), padded(image, 2, -50.0))

    torch.testing.assert_close(long.pooled, short.pooled)
    torch.testing.assert_close(long.tokens[:, :4][text.mask], short.tokens[text.mask])
    assert long.mask.tolist() == padded(text, 3, 0.0).mask.tolist()


@torch.no_grad()
@pytest.mark.parametrize("name", FUSIONS)
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    fusion = make(name, opened=True)
    text, image = random_encoding([4, 4, 4]), random_encoding([3, 3, 3])

    together = fusion(text, image)

    for i in range(3):
        row = slice(i, i + 1)
        alone = fusion(
            Encoding(*(field[row] for field in text)), Encoding(*(field[row] for field in image))
        )
        torch.testing.assert_close(alone.pooled, together.pooled[row])
        torch.testing.assert_close(alone.tokens, together.tokens[row])


@torch.no_grad()
@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_reads_what_it_says_it_reads(name: str) -> None:
    fusion, text, image = make(name, opened=True), random_encoding([3]), random_encoding([3])
    before = fusion(text, image).pooled

    moved = {
        "text": fusion(random_encoding([3]), image).pooled,
        "image": fusion(text, random_encoding([3])).pooled,
    }

    changed = {modality for modality, after in moved.items() if not torch.equal(before, after)}
    # Where the image went among the words, it is in the text already: see test_fusion_early.py.
    assert changed == set(fusion.reads) - ({"image"} if fusion.image_words else set())


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in FUSIONS if not FUSIONS[name].image_words])
def test_only_a_fusion_that_says_so_looks_at_tokens(name: str) -> None:
    """The feature cache keeps no tokens for the others, so they must not need them."""
    fusion, text, image = make(name, opened=True), random_encoding([3]), random_encoding([3])
    before = fusion(text, image).pooled

    other_tokens = fusion(
        text._replace(tokens=torch.randn(1, 3, 8)), image._replace(tokens=torch.randn(1, 3, 8))
    ).pooled

    assert torch.equal(before, other_tokens) is not fusion.needs_tokens


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "agrees"),
    [
        ("concat", False),
        ("sum", False),
        ("weighted", False),
        ("late", False),
        ("gated", True),
        ("bilinear", True),
        ("attention", True),
    ],
)
def test_which_fusions_can_say_that_two_halves_agree(name: str, agrees: bool) -> None:
    """The second difference over both halves: zero for whatever is a sum of what each half says."""
    fusion = make(name, opened=True)
    texts, images = random_encoding([1, 1]), random_encoding([1, 1])

    def fused(i: int, j: int) -> torch.Tensor:
        some_text = Encoding(*(field[i : i + 1] for field in texts))
        some_image = Encoding(*(field[j : j + 1] for field in images))
        return fusion(some_text, some_image).pooled

    difference = float((fused(0, 0) - fused(0, 1) - fused(1, 0) + fused(1, 1)).abs().max())

    assert difference > 1e-2 if agrees else difference < 1e-5
