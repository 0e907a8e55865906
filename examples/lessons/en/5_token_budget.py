import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="Lesson 5: Choose a token budget")

with app.setup:
    import sys
    from pathlib import Path

    import marimo as mo
    import torch
    import torch.nn.functional as F

    from encoderlab import load_dual, load_vision
    from encoderlab.compression.catalogue import MAKE
    from encoderlab.compression.compressor import Compressor
    from encoderlab.compression.cost import cost, shape_of
    from encoderlab.compression.token_set import TokenSet
    from encoderlab.data.synthetic import generate

    sys.path.insert(0, str(Path(__file__).parent.parent))  # the folder of the grader

    from grader import Grader

    grader = Grader(__file__)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # Lesson 5: Choose a token budget

    Lesson 4 ended with a suspicion: a picture does not need all of its tokens. A language model
    pays for each of them. In this lesson you reckon what they cost, make fewer of them, measure
    what is lost, and choose a budget that you can defend.

    Five exercises; it takes about half an hour and no network. Put your answer in the place of
    `...`. While one is missing or wrong, the lesson goes on with ours.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 1. What a token costs

    A language model keeps two vectors of every token that it has read, a *key* and a *value*, in
    every layer and for each of its key-value heads: the *KV cache*. It grows with the number of
    tokens. So does the work of reading the prompt (*prefill*), with one part, attention, that
    grows with the square.

    ### Exercise 1: the bytes of the cache

    Write `cache_bytes(tokens, layers, kv_heads, head_dim)`: the bytes of the keys and values of
    so many tokens. Each vector has `head_dim` numbers, each of 16 bits.
    """)
    return


@app.cell
def exercise_1():
    def cache_bytes(tokens, layers, kv_heads, head_dim):
        return ...

    # Your answer takes the place of the dots.
    return (cache_bytes,)


@app.cell(hide_code=True)
def _(cache_bytes):
    check_1 = grader.check(1, cache_bytes)
    check_1
    return (check_1,)


@app.cell
def _(check_1):
    llm = shape_of("llama")
    text_tokens = 64
    print(
        f"a language model of {llm.layers} layers, {text_tokens} tokens of text beside the picture"
    )
    print("visual tokens   KV cache   prefill   visual share of the prompt")
    costs = {}
    for _n in (576, 144, 36):
        costs[_n] = cost(llm, _n, text_tokens, 1024)
        _cache = check_1.value(_n, llm.layers, llm.kv_heads, llm.head_dim) / 2**20
        _share = _n / (_n + text_tokens)
        print(f"{_n:13} {_cache:6.0f} MiB {costs[_n].prefill / 1e12:5.2f} TFLOP {_share:10.0%}")
    return (costs,)


@app.cell(hide_code=True)
def _(costs):
    mo.md(rf"""
    A sixteenth of the visual tokens makes the prefill {costs[576].prefill / costs[36].prefill:.1f}
    times smaller: the text stays, and so does the encoder's own work, which is not counted here.

    ## 2. Four tokens become one

    The simplest way to fewer tokens: cut the grid into square windows, and take the mean of each.
    Beware of the order. Four tokens that follow one another in the row are *not* a window of
    2 x 2; they lie side by side.

    ### Exercise 2: average pooling

    Write `average_pool(tokens, side, small)` for tokens $(B, \text{{side}}^2, D)$ in reading
    order. It returns $(B, \text{{small}}^2, D)$, in reading order too: the mean of each square
    window. `small` divides `side`. (`reshape` with two more axes does it, or `einops.reduce`.)
    """)
    return


@app.cell
def exercise_2():
    def average_pool(tokens, side, small):
        return ...

    # Your answer takes the place of the dots.
    return (average_pool,)


@app.cell(hide_code=True)
def _(average_pool):
    check_2 = grader.check(2, average_pool)
    check_2
    return (check_2,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Now the tokens: those of the layer before the last, which a vision-language model usually
    takes. One half of the pictures is there to choose with. The other half, the *fresh* ones,
    stays untouched until the end.
    """)
    return


@app.cell
def _():
    # The trained compressors of section 5 are made for this encoder and its grid of 12 x 12.
    MODEL = "tiny-clip"
    return (MODEL,)


@app.cell
def _(MODEL):
    vision = load_vision(MODEL, dtype="float32")
    dual = load_dual(MODEL, dtype="float32")
    layer = vision.n_layers - 1
    side = vision.grid[0]
    kinds = ("scene", "chart", "document", "table")
    items = [generate(30_000 + i, split="test", kind=kinds[i % 4], size=96) for i in range(96)]
    half = len(items) // 2
    everything = TokenSet.of(vision, [item.image for item in items], layer)
    sets = {"choice": everything.part(slice(half)), "fresh": everything.part(slice(half, None))}
    mean_token = sets["choice"].mean_token
    captions = torch.from_numpy(dual.embed_texts([item.captions[0] for item in items]))
    texts = {"choice": captions[:half], "fresh": captions[half:]}
    print(f"layer {layer} of {vision.n_layers}: {tuple(everything.tokens.shape)}")
    return layer, mean_token, sets, side, texts, vision


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 3. What is lost: an error with two ends

    Give every place the mean of its window back, and look how far it is from the token that stood
    there. A squared error alone says nothing: are 3.7 much? Divide it by the error of the laziest
    guess, the mean token everywhere, over the same pictures:

    $$
    e = \frac{\sum_i \lVert \hat{x}_i - x_i \rVert^2}{\sum_i \lVert \bar{x} - x_i \rVert^2}
    $$

    0 is lossless, 1 is as bad as the mean token everywhere, and one can do worse.

    ### Exercise 3: the relative error

    Write `relative_error(tokens, rebuilt)` for two tensors $(B, N, D)$. $\bar{x}$ is the mean
    of `tokens` over pictures and places, a vector of $D$ numbers. It returns one number.
    """)
    return


@app.cell
def exercise_3():
    def relative_error(tokens, rebuilt):
        return ...

    # Your answer takes the place of the dots.
    return (relative_error,)


@app.cell(hide_code=True)
def _(relative_error):
    check_3 = grader.check(3, relative_error)
    check_3
    return (check_3,)


@app.cell
def _(check_2, check_3, sets, side):
    def back(pooled, small):
        times = side // small
        grid = pooled.unflatten(1, (small, small))
        return grid.repeat_interleave(times, 1).repeat_interleave(times, 2).flatten(1, 2)

    _tokens = sets["choice"].tokens
    for _small in (small for small in range(side, 0, -1) if side % small == 0):
        _rebuilt = back(check_2.value(_tokens, side, _small), _small)
        print(f"{_small**2:4} tokens: error {float(check_3.value(_tokens, _rebuilt)):.3f}")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 4. What the mean hides: ask a task

    An error counts every number alike. What matters is what can still be done with the tokens. So
    put the rebuilt ones back into the encoder at their layer, let the last block run, and compare
    the embedding that comes out with the one of all tokens: their cosine is the *score*.

    Here too both ends are needed. The class token has gathered much before this layer, so even
    with the mean token in every place the score is not 0. That is the *floor*; all tokens are the
    *ceiling*, and only what lies between can be lost:

    $$
    \text{kept} = \frac{\text{score} - \text{floor}}{\text{full} - \text{floor}}
    $$
    """)
    return


@app.cell
def _(layer, mean_token, sets, texts, vision):
    def embedded(rebuilt, of):
        return F.normalize(vision.finish(torch.cat([of.special, rebuilt], 1), layer), dim=-1)

    truth = {name: embedded(of.tokens, of) for name, of in sets.items()}

    def score(rebuilt, name):
        # One for each picture.
        return (embedded(rebuilt, sets[name]) * truth[name]).sum(dim=1)

    floors = {name: score(mean_token.expand_as(of.tokens), name) for name, of in sets.items()}
    fulls = {name: score(of.tokens, name) for name, of in sets.items()}

    def found(rebuilt, name):
        best = (embedded(rebuilt, sets[name]) @ texts[name].T).argmax(dim=1)
        return float((best == torch.arange(len(best))).float().mean())

    chance = 1 / len(texts["choice"])
    lazy = found(mean_token.expand_as(sets["choice"].tokens), "choice")
    print(f"all tokens: {fulls['choice'].mean():.3f}, the floor: {floors['choice'].mean():.3f}")
    print(f"own caption first: {found(sets['choice'].tokens, 'choice'):.0%} with all tokens,")
    print(f"  {lazy:.0%} with the mean token everywhere, {chance:.0%} by chance")
    return chance, floors, found, fulls, lazy, score


@app.cell(hide_code=True)
def _(chance, lazy):
    mo.md(rf"""
    With *no* picture left in the patches, the right caption is still found in {lazy:.0%} of the
    cases, where chance gives {chance:.0%}. "Retrieval works after compression" would have been
    true of nothing at all.

    ## 5. Six ways, side by side

    Means of windows; any tokens (*random*); those that CLS looks at most; like tokens merged
    step by step (*ToMe*); the means of clusters (*k-means*); and a small network that was trained
    for it. All make exactly as many tokens. A method that keeps some tokens gives every other
    place the nearest one that it has kept.
    """)
    return


@app.cell
def _(MODEL, check_3, floors, found, fulls, score, sets, side):
    WAYS = ("average", "random", "cls_attention", "tome", "kmeans")
    trained = {}
    if MODEL == "tiny-clip":
        trained = {k: Compressor.from_pretrained(f"tiny-clip-12to{k}") for k in (6, 4, 3)}

    def rebuilt_by(way, small, name):
        method = trained[small] if way == "trained" else MAKE[way]()[0]
        budget = (small, small) if method.keeps_grid else small**2
        of = sets[name]
        kept = method.compress(of.tokens, (side, side), budget, of.side)
        return method.decode(kept, (side, side))

    sides = (6, 4, 3, 2)
    results = {}  # (way, tokens) -> score of every picture
    print("way             tokens   error    kept   own caption first")
    for _way in (*WAYS, *(["trained"] if trained else [])):
        for _small in sides if _way != "trained" else trained:
            _rebuilt = rebuilt_by(_way, _small, "choice")
            results[_way, _small**2] = _score = score(_rebuilt, "choice")
            _floor = floors["choice"].mean()
            _kept = (_score.mean() - _floor) / (fulls["choice"].mean() - _floor)
            _error = float(check_3.value(sets["choice"].tokens, _rebuilt))
            _first = found(_rebuilt, "choice")
            print(f"{_way:15} {_small**2:6} {_error:7.3f} {_kept:7.1%} {_first:19.0%}")
    return rebuilt_by, results


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Compare `average` and `random` at 36 tokens: which has the smaller error, and which keeps
    more? Small errors and useful tokens are not the same thing.

    ## 6. Choose

    ### Exercise 4: the smallest budget

    Write `smallest_budget(scores, floor, full, most)`. `scores` has the mean score for each
    number of tokens, in any order: `{36: 0.99, 16: 0.97}`. It returns the smallest number of
    tokens that loses no more than the share `most` of what lies between `floor` and `full`, or
    `None` if there is none.
    """)
    return


@app.cell
def exercise_4():
    def smallest_budget(scores, floor, full, most):
        return ...

    # Your answer takes the place of the dots.
    return (smallest_budget,)


@app.cell(hide_code=True)
def _(smallest_budget):
    check_4 = grader.check(4, smallest_budget)
    check_4
    return (check_4,)


@app.cell
def _(check_4, floors, fulls, rebuilt_by, results, score):
    MOST = 0.10
    _ends = {name: (float(floors[name].mean()), float(fulls[name].mean())) for name in floors}
    chosen = {}
    print(f"may lose {MOST:.0%}   tokens   lost when chosen   lost on fresh pictures")
    for _way in dict.fromkeys(way for way, _ in results):
        _scores = {n: float(one.mean()) for (way, n), one in results.items() if way == _way}
        chosen[_way] = _n = check_4.value(_scores, *_ends["choice"], MOST)
        if _n is None:
            print(f"{_way:14} {'none':>8}")
            continue
        _fresh = float(score(rebuilt_by(_way, round(_n**0.5), "fresh"), "fresh").mean())
        _lost = [
            (full - one) / (full - floor)
            for one, (floor, full) in zip((_scores[_n], _fresh), _ends.values(), strict=True)
        ]
        print(f"{_way:14} {_n:8} {_lost[0]:16.1%} {_lost[1]:22.1%}")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    The last column is the one to believe. A budget is chosen because it looked good on these
    pictures, and part of that may be their luck. The number to report comes from pictures that
    had no part in the choice.

    ## 7. Is the difference real?

    Two methods on the same pictures: some pictures are hard for both. So look at the *difference*
    for each picture, $d_i = a_i - b_i$. Its mean lies, with 95 % confidence, about within

    $$
    \bar{d} \pm 1.96 \, \frac{s}{\sqrt{n}}, \qquad
    s = \sqrt{\frac{1}{n - 1} \sum_i (d_i - \bar{d})^2}
    $$

    If 0 lies inside, these pictures cannot tell the two apart.

    ### Exercise 5: a paired comparison

    Write `paired_interval(a, b)` for the scores $(n,)$ of two methods on the same pictures. It
    returns the lower and the upper end of that interval for $a - b$.
    """)
    return


@app.cell
def exercise_5():
    def paired_interval(a, b):
        return ...

    # Your answer takes the place of the dots.
    return (paired_interval,)


@app.cell(hide_code=True)
def _(paired_interval):
    check_5 = grader.check(5, paired_interval)
    check_5
    return (check_5,)


@app.cell
def _(check_5, rebuilt_by, score):
    def compared(one, other, small):
        a, b = (score(rebuilt_by(way, small, "fresh"), "fresh") for way in (one, other))
        low, high = (float(end) for end in check_5.value(a, b))
        verdict = one if low > 0 else other if high < 0 else "cannot be told"
        difference = float((a - b).mean())
        print(f"{one} - {other}, {small**2} tokens: ", end="")
        print(f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]: {verdict}")

    print("on fresh pictures; who keeps more?")
    for _one, _other in (("random", "average"), ("tome", "average"), ("kmeans", "tome")):
        for _small in (6, 4):
            compared(_one, _other, _small)
    return


@app.cell(hide_code=True)
def _(check_1, check_2, check_3, check_4, check_5):
    grader.summary(check_1, check_2, check_3, check_4, check_5)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What you take with you

    - The cache grows with the tokens; prefill does too, and the text stays.
    - Neighbours on the grid are not neighbours in the row.
    - An error needs the mean token beside it, a score its floor and its ceiling.
    - A small error and useful tokens are two virtues. Ask the task that you have.
    - Choose on some pictures, report on others, compare on the same ones, picture by picture.

    What the encoder can still use, a language model need not be able to read: that takes a test
    of its own. Try more: `encoderlab compress evaluate` measures thirteen ways at every budget,
    with intervals, on your pictures; `encoderlab compress --images FOLDER --grid 6` trains one.
    """)
    return


if __name__ == "__main__":
    app.run()
