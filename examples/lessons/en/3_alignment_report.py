import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="Lesson 3: Read an alignment report without fooling yourself",
)

with app.setup:
    import itertools
    import math
    import os
    import sys
    from pathlib import Path

    import marimo as mo
    import numpy as np

    import encoderlab
    from encoderlab.alignment.data import extract_features
    from encoderlab.data.decode import open_image
    from encoderlab.metrics.cka import Gram
    from encoderlab.metrics.coral import coral
    from encoderlab.metrics.correlation import correlate
    from encoderlab.metrics.neighbours import mutual_knn
    from encoderlab.metrics.strata import Strata, within_strata

    sys.path.insert(0, str(Path(__file__).parent.parent))  # the folder of the grader

    import show
    from grader import Grader

    grader = Grader(__file__)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # Lesson 3: Read an alignment report without fooling yourself

    A vision-language model joins two networks that were made apart: an encoder that has seen
    pictures, and a language model that has read text. Which encoder suits which language model?
    An *alignment report* answers with numbers, before anybody has trained anything.

    Most of such numbers can fool you. In this lesson you build the traps yourself: noise that
    scores higher than a real model, a metric that does not notice when all captions are mixed up,
    a projector that is perfect and has learnt nothing, a correlation of -0.99 that means nothing.
    Then you read a real report, and the grader sees whether it fools you.

    Seven exercises; it takes about forty minutes and no network. As before, put your answer in
    the place of `...`. While one is missing or wrong, the lesson goes on with ours. This time
    you work in NumPy.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 1. Two spaces, the same things

    Here are pictures with their captions. `x` holds what the encoder `tiny-clip` makes of the
    pictures, `y` what the language model `tiny-llama` makes of the captions. Row $i$ of both is
    the same sample; the columns have nothing to do with one another.
    """)
    return


@app.cell
def _():
    CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    STORE = CACHE / "encoderlab" / "lessons" / "features"
    HOW = {"n_samples": 20, "device": "cpu", "dtype": "float32"}  # 20 samples of each type
    return HOW, STORE


@app.cell
def _(HOW, STORE):
    aligned = extract_features(["tiny-clip"], ["tiny-llama"], store=STORE, **HOW)
    _order = np.random.default_rng(0).permutation(aligned.n)  # so that the types are mixed
    x = aligned.vision["tiny-clip"].pooled[_order].astype(float)
    y = aligned.text["tiny-llama"].pooled[_order].astype(float)
    types = np.array(aligned.labels)[_order]
    print(f"{len(x)} samples, {', '.join(aligned.types)}; x {x.shape}, y {y.shape}")
    show.pictures(
        [open_image(aligned.images[i]) for i in _order[:5]],
        [f"{aligned.labels[i]}: {aligned.texts[i][:48]} ..." for i in _order[:5]],
    )
    return types, x, y


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 2. CKA by hand

    A cosine of a row of `x` with a row of `y` means nothing: they do not even have the same
    length. But both spaces can be asked the same question: *which samples are alike?* Write the
    answers of each space into a table $n \times n$, the products of every two rows, and compare
    the two tables. That is **CKA**, centred kernel alignment. The tables need not be made; it is
    the same as

    $$
    \mathrm{CKA}(X, Y) =
    \frac{\lVert X_c^\top Y_c \rVert_F^2}
    {\lVert X_c^\top X_c \rVert_F \; \lVert Y_c^\top Y_c \rVert_F}
    $$

    $X_c$ is $X$ *centred*: from each column its mean over the samples is subtracted.
    $\lVert \cdot \rVert_F$ is the root of the sum of all squares, `np.linalg.norm`. CKA is 1 for
    two spaces that differ by a rotation and a scale, and never below 0.

    ### Exercise 1: CKA

    Write `linear_cka(x, y)` for `x` of shape $(n, d)$ and `y` of shape $(n, k)$. It returns one
    number.
    """)
    return


@app.cell
def exercise_1():
    def linear_cka(x, y):
        return ...

    # Your answer takes the place of the dots.
    return (linear_cka,)


@app.cell(hide_code=True)
def _(linear_cka):
    check_1 = grader.check(1, linear_cka)
    check_1
    return (check_1,)


@app.cell
def _(check_1, x, y):
    published_cka = check_1.value  # yours if it is right, ours until then
    print(f"x with y                 {published_cka(x, y):.3f}")
    print(f"the same, by EncoderLab  {encoderlab.CKA.compute_cka(x, y):.3f}")
    print(f"x with itself            {published_cka(x, x):.3f}")
    return (published_cka,)


@app.cell(hide_code=True)
def _(published_cka, x, y):
    mo.md(rf"""
    {published_cka(x, y):.2f}, on a scale from 0 to 1. Is that much? The scale invites you to say
    yes. Wait for the next section.

    ## 3. What does noise reach?

    Take two matrices of random numbers, drawn independently. Nothing in one has to do with
    anything in the other.

    ### Exercise 2: the CKA of noise

    Write `noise_cka(n, d, seed)`: draw two matrices of shape $(n, d)$ with
    `rng.normal(size=...)`, both from one generator `rng = np.random.default_rng(seed)`, and return
    their `published_cka`.
    """)
    return


@app.cell
def exercise_2():
    def noise_cka(n, d, seed):
        return ...

    # Your answer takes the place of the dots.
    return (noise_cka,)


@app.cell(hide_code=True)
def _(noise_cka):
    check_2 = grader.check(2, noise_cka)
    check_2
    return (check_2,)


@app.cell
def _(check_2, x):
    D = x.shape[1]
    COUNTS = {10: 30, 30: 30, 100: 10, 300: 3, 1000: 3}  # samples: how many seeds

    def mean_over_seeds(score):
        return [float(np.mean([score(n, s) for s in range(k)])) for n, k in COUNTS.items()]

    def debiased_noise(n, seed):
        rng = np.random.default_rng(seed)
        return float(encoderlab.cka(rng.normal(size=(n, D)), rng.normal(size=(n, D))))

    floors = mean_over_seeds(lambda n, seed: check_2.value(n, D, seed))
    debiased = mean_over_seeds(debiased_noise)
    print(f"noise of {D} dimensions, mean over some seeds")
    print("samples   as published   d/(n+d)   debiased")
    for _n, _floor, _clean in zip(COUNTS, floors, debiased, strict=True):
        print(f"{_n:7}   {_floor:12.3f}   {D / (_n + D):7.3f}   {_clean:+8.3f}")
    show.lines([*COUNTS], {"as published": floors, "debiased": debiased}, "samples", "CKA of noise")
    return


@app.cell
def _(published_cka, x, y):
    _rng = np.random.default_rng(0)
    noise_x, noise_y = _rng.normal(size=x.shape), _rng.normal(size=y.shape)
    print("as published:")
    print(f"  tiny-clip with tiny-llama       {published_cka(x, y):.3f}")
    print(f"  noise with noise, same shapes   {published_cka(noise_x, noise_y):.3f}")
    print("debiased, with its 95 % interval:")
    print(f"  tiny-clip with tiny-llama       {encoderlab.cka(x, y).as_number()}")
    print(f"  noise with noise, same shapes   {encoderlab.cka(noise_x, noise_y).as_number()}")
    return noise_x, noise_y


@app.cell(hide_code=True)
def _(noise_x, noise_y, published_cka, x, y):
    mo.md(rf"""
    Noise scores {published_cka(noise_x, noise_y):.2f}, a real encoder
    {published_cka(x, y):.2f}. With fewer samples than dimensions every sample has a direction
    nearly of its own. In both tables the diagonal, each sample with itself, is then far larger
    than the rest, and two diagonals always agree. For noise with equal spread in all directions the
    floor is about $d/(n+d)$; most published values do not say theirs.

    The *debiased* CKA leaves the diagonal out. Noise has 0 on average, at any size, and a value
    below 0 is simply chance. From here on we read that one.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 4. Chance: shuffle the pairs

    There is a way to find the floor of *any* score, without theory. Mix up the captions: every
    row of `y` stays what it is, only nobody knows any longer to whom it belongs. What the score
    reaches then is chance. Do it many times, and count how often chance does as well as the pairs
    as they are. The share is called **p**:

    $$
    p = \frac{1 + \text{shuffles that reach the observed score}}{1 + \text{shuffles}}
    $$

    Why the 1? The pairing as it is, is one of the possible pairings, and it reaches its own
    score. Therefore p is never 0: with 199 shuffles the smallest p is 1/200.

    ### Exercise 3: p from shuffles

    Write `shuffle_p(score, x, y, rounds, seed)`. `score(x, y)` is any function that returns a
    number, the larger the better. Shuffle the rows of `y` `rounds` times with
    `rng.permutation(y)`, from one generator `rng = np.random.default_rng(seed)`, and return p.
    """)
    return


@app.cell
def exercise_3():
    def shuffle_p(score, x, y, rounds, seed):
        return ...

    # Your answer takes the place of the dots.
    return (shuffle_p,)


@app.cell(hide_code=True)
def _(shuffle_p):
    check_3 = grader.check(3, shuffle_p)
    check_3
    return (check_3,)


@app.cell
def _(check_3, noise_x, noise_y, published_cka, x, y):
    def shuffled_scores(x, y):
        rng = np.random.default_rng(7)
        return [published_cka(x, rng.permutation(y)) for _ in range(199)]

    _pairs = {"tiny-clip with tiny-llama": (x, y), "noise with noise": (noise_x, noise_y)}
    for _name, _pair in _pairs.items():
        _p = check_3.value(published_cka, *_pair, 199, 7)
        print(f"{_name:26} CKA as published {published_cka(*_pair):.3f}, p = {_p:.3f}")
    show.among(
        {name: shuffled_scores(*pair) for name, pair in _pairs.items()},
        {name: published_cka(*pair) for name, pair in _pairs.items()},
        "CKA as published",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Look how the two pictures differ. Even the biased number tells the truth once it stands among
    its own shuffles: the noise with its high value is within the crowd, the real pairs are far
    outside.

    For the debiased CKA the shuffles can be spared. Over all pairings its mean is 0 and its
    variance $2/(n(n-3))$, whatever the data, so that

    $$
    z = \text{CKA}_{\text{debiased}} \cdot \sqrt{n(n-3)/2}
    $$

    says how many standard deviations of chance it lies above chance. Above 3, chance is a poor
    explanation.
    """)
    return


@app.cell
def _(noise_x, noise_y, x, y):
    _n = len(x)
    _rng = np.random.default_rng(3)
    _scores = [float(encoderlab.cka(x, _rng.permutation(y))) for _ in range(99)]
    print(f"debiased CKA of 99 shuffles: mean {np.mean(_scores):+.4f}, sd {np.std(_scores):.4f}")
    print(f"by the formula:              mean +0.0000, sd {math.sqrt(2 / (_n * (_n - 3))):.4f}")
    print(f"z of tiny-clip with tiny-llama {encoderlab.cka(x, y).z:.1f}")
    print(f"z of noise with noise          {encoderlab.cka(noise_x, noise_y).z:.1f}")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 5. Metrics that do not look at the pairs

    **CORAL** compares two clouds of points by their covariances: how wide is each in which
    directions? It is published as a distance $L$, and as a similarity $1/(1+L)$. A cloud does not
    know which of its points belongs to which caption. Does that matter? Put it to the test, with
    any metric.

    ### Exercise 4: does it look at the pairs?

    Write `ignores_pairing(metric, x, y)`. It returns True if `metric(x, y)` stays the same when
    the rows of `y` are shuffled, and False otherwise. Mind the last digits: a sum in another order
    is rounded in another way.
    """)
    return


@app.cell
def exercise_4():
    def ignores_pairing(metric, x, y):
        return ...

    # Your answer takes the place of the dots.
    return (ignores_pairing,)


@app.cell(hide_code=True)
def _(ignores_pairing):
    check_4 = grader.check(4, ignores_pairing)
    check_4
    return (check_4,)


@app.cell
def _(check_4, noise_x, noise_y, published_cka, x, y):
    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    metrics = {
        "CORAL similarity": lambda a, b: coral(unit(a), unit(b)).similarity,
        "spectral similarity": lambda a, b: coral(unit(a), unit(b)).spectral_similarity,
        "CKA, as published": published_cka,
        "CKA, debiased": lambda a, b: float(encoderlab.cka(a, b)),
        "mutual 10-NN": lambda a, b: mutual_knn(a, b).value,
    }
    mixed = np.random.default_rng(11).permutation(y)
    print(f"{'':20} real pairs   shuffled   noise      ignores the pairing")
    for _name, _metric in metrics.items():
        _values = [_metric(*pair) for pair in ((x, y), (x, mixed), (noise_x, noise_y))]
        print(f"{_name:20} {_values[0]:10.6f} {_values[1]:10.6f} {_values[2]:10.6f}", end="   ")
        print(check_4.value(_metric, x, y))
    return (mixed,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    CORAL and the spectral similarity give the same to the real pairs and to the mixed ones. CORAL
    has a second fault, which its column of noise shows: rows of length 1 have covariances so
    small that $1/(1+L)$ is 1 whatever you compare. Such metrics may say that two clouds have
    the same shape. They can never say that pictures and captions belong together.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 6. A chart is not a table

    Our samples are of three types. How much of the CKA comes from telling the three apart, and
    how much from knowing one chart from another? Imagine an "encoder" with three numbers per
    picture: is it of the first type, the second, the third? Beyond the type it is blind.
    """)
    return


@app.cell
def _(types, x, y):
    type_only = np.stack([types == name for name in np.unique(types)], axis=1).astype(float)
    only = encoderlab.cka(type_only, y)
    clip = encoderlab.cka(x, y)
    print("debiased CKA with tiny-llama:")
    print(f"  tiny-clip              {clip.as_number()}")
    print(f"  knows only the type    {only.as_number()}")
    return clip, only


@app.cell(hide_code=True)
def _(clip, only):
    mo.md(rf"""
    Three columns that know nothing but the type reach {only.value:.2f}; the encoder reaches
    {clip.value:.2f}. And z cannot warn you, because it is no accident: the types are really there.
    It is only not what you meant to measure.

    The cure is to compare each sample with samples of its own type only, and to add up over the
    types: **CKA within types**. Watch it on made-up features, where we know the truth: each type
    has its place in both spaces, and around it everything is independent noise.
    """)
    return


@app.cell
def _(types, x, y):
    def cka_within(a, b, labels):
        return within_strata(*(Strata.of(Gram.of(one), labels) for one in (a, b)))

    _rng = np.random.default_rng(1)
    _type = np.unique(types, return_inverse=True)[1]
    _kinds, _n = _type.max() + 1, len(types)
    _a = 2 * _rng.normal(size=(_kinds, 64))[_type] + _rng.normal(size=(_n, 64))
    _b = 2 * _rng.normal(size=(_kinds, 96))[_type] + _rng.normal(size=(_n, 96))
    print(f"{'':26} over all samples        within types")
    for _name, _pair in {"places and noise": (_a, _b), "tiny-clip, tiny-llama": (x, y)}.items():
        _all, _within = encoderlab.cka(*_pair), cka_within(*_pair, types)
        print(f"{_name:26} {_all.as_number():22}  {_within.as_number()}")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Over all samples the made-up features look like a triumph. Within types nothing is left, as it
    should be. The real encoder keeps a part: it does see more of a picture than its type.

    ## 7. Scored on what it has seen

    CKA asks who is alike. A *projector* asks more directly: can a map carry the encoder's vectors
    into the language model's? Here is the simplest one, least squares. Its score is

    $$
    R^2 = 1 - \frac{\sum \lVert y_i - \hat y_i \rVert^2}{\sum \lVert y_i - \bar y \rVert^2}
    $$

    where $\hat y_i$ is what it predicts and $\bar y$ the mean of the rows that it was fitted on
    (column by column): 1 is perfect, 0 is no better than always saying the mean, and below 0 is
    worse than that.

    ### Exercise 5: seen and unseen

    Write `seen_and_unseen(x, y, fit)`. Fit on the first four fifths of the rows
    (`4 * len(x) // 5`; our rows are mixed already): `predict = fit(some_x, some_y)` gives a
    function, and `predict(some_x)` the predictions. Return two numbers: $R^2$ on the rows it was
    fitted on, and $R^2$ on the rest. $\bar y$ is the same in both.
    """)
    return


@app.cell
def exercise_5():
    def seen_and_unseen(x, y, fit):
        return ...

    # Your answer takes the place of the dots.
    return (seen_and_unseen,)


@app.cell(hide_code=True)
def _(seen_and_unseen):
    check_5 = grader.check(5, seen_and_unseen)
    check_5
    return (check_5,)


@app.cell
def _(check_5, mixed, noise_x, noise_y, x, y):
    def least_squares(x, y):
        mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
        weights = np.linalg.lstsq(x - mean_x, y - mean_y, rcond=None)[0]
        return lambda some: (some - mean_x) @ weights + mean_y

    print(f"{4 * len(x) // 5} rows to fit on, {x.shape[1]} dimensions")
    print(f"{'':16} R² seen   R² unseen")
    _pairs = {"real pairs": (x, y), "shuffled pairs": (x, mixed), "noise": (noise_x, noise_y)}
    projected = {name: check_5.value(*pair, least_squares) for name, pair in _pairs.items()}
    for _name, (_seen, _unseen) in projected.items():
        print(f"{_name:16} {_seen:7.3f}   {_unseen:9.3f}")
    return (projected,)


@app.cell(hide_code=True)
def _(projected):
    mo.md(rf"""
    With more dimensions than rows a linear map can send anything anywhere: on the pairs that it
    has seen it scores {projected["shuffled pairs"][0]:.2f} even where the captions are mixed up.
    On unseen pairs the real ones give {projected["real pairs"][1]:.2f}, the mixed ones
    {projected["shuffled pairs"][1]:.2f}. Only the right column says anything. (A ridge penalty
    would tame the map; EncoderLab's report uses one, and scores every sample while it is held out.)
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 8. "A is ahead of B"

    Two encoders have been scored on the same samples. Each score has an interval, and the two
    overlap. Does that mean that they cannot be told apart? No: some samples are hard for both
    and some are easy for both, and this makes each score unsure, but not their *difference*. So
    take the difference sample by sample, and look at *its* interval:
    """)
    return


@app.cell
def _():
    def interval(values):
        middle, half = values.mean(), 1.96 * values.std(ddof=1) / math.sqrt(len(values))
        return f"{middle:.3f} [{middle - half:.3f}, {middle + half:.3f}]"

    _rng = np.random.default_rng(0)
    _ease = 0.15 * _rng.normal(size=40)  # the same 40 samples for both
    score_a = 0.60 + _ease + 0.03 * _rng.normal(size=40)
    score_b = 0.57 + _ease + 0.03 * _rng.normal(size=40)
    print(f"A                                {interval(score_a)}")
    print(f"B                                {interval(score_b)}")
    print(f"A - B, on the same samples       {interval(score_a - score_b)}")
    _others = 0.57 + 0.15 * _rng.normal(size=40) + 0.03 * _rng.normal(size=40)
    print(f"A - B, B scored on other samples {interval(score_a - _others)}")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    The rule of the report: *ahead* means that the interval of the paired difference lies above 0.
    Otherwise the verdict is *cannot distinguish*, however far apart the two numbers look. That is
    not "they are equal": it says that these samples cannot tell, and the report adds about how
    many could. With several comparisons the intervals are made wider, so that all of them hold
    together: who compares twenty encoders finds a winner by luck otherwise.

    ## 9. Three encoders, r = -0.99

    Somebody has measured three encoders: their CKA, and the recall that a trained model reached
    in the end. Does CKA predict the recall?
    """)
    return


@app.cell
def _():
    cka_of_three = np.array([0.42, 0.51, 0.63])
    recall_of_three = np.array([0.38, 0.28, 0.19])
    print(f"r = {np.corrcoef(cka_of_three, recall_of_three)[0, 1]:.2f}")
    return cka_of_three, recall_of_three


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    "The higher the CKA, the worse the model", the paper would say. But what does chance do? As
    with the captions, give the recalls to the encoders in every possible order. There are so few
    orders that none need be drawn by lot.

    ### Exercise 6: an exact p

    Write `exact_p(a, b)`: the share of *all* orders of `b` (`itertools.permutations(b)`, the order
    as it is among them) whose correlation with `a` is as strong as the one given, or stronger, of
    either sign. `np.corrcoef(a, b)[0, 1]` is $r$. Allow a slack of `1e-9` for rounding.
    """)
    return


@app.cell
def exercise_6():
    def exact_p(a, b):
        return ...

    # Your answer takes the place of the dots.
    return (exact_p,)


@app.cell(hide_code=True)
def _(exact_p):
    check_6 = grader.check(6, exact_p)
    check_6
    return (check_6,)


@app.cell
def _(check_6, cka_of_three, recall_of_three):
    print(f"p of the three encoders: {check_6.value(cka_of_three, recall_of_three):.2f}")
    for _order in itertools.permutations(recall_of_three.tolist()):
        print(f"  recall {_order}: r = {np.corrcoef(cka_of_three, _order)[0, 1]:+.3f}")
    print("EncoderLab says:", correlate(cka_of_three, recall_of_three).verdict)
    return


@app.cell
def _():
    # 25 tables of three encoders each, nothing in them but chance: is there an |r| of 0.99?
    _rng = np.random.default_rng(0)
    _a, _b = _rng.normal(size=(2, 4000, 25, 3))
    _a, _b = (one - one.mean(axis=-1, keepdims=True) for one in (_a, _b))
    _r = (_a * _b).sum(axis=-1) / np.sqrt((_a**2).sum(axis=-1) * (_b**2).sum(axis=-1))
    found_by_luck = float((abs(_r) >= 0.99).any(axis=1).mean())
    print(f"at least one |r| of 0.99 among 25 such tables of chance: {found_by_luck:.0%} of cases")
    print("points   orders   smallest p there can be")
    for _n in (3, 4, 5, 6, 8):
        print(f"{_n:6}   {math.factorial(_n):6}   {1 / math.factorial(_n):.5f}")
    return (found_by_luck,)


@app.cell(hide_code=True)
def _(found_by_luck):
    mo.md(rf"""
    Three points cannot say anything, however straight the line. And who looks at 25 such tables,
    say five metrics times five benchmarks, finds a correlation of 0.99 in {found_by_luck:.0%} of
    cases where there is nothing. Before you believe a correlation, count its points.

    ## 10. A real report

    Now everything at once. Three encoders with `tiny-llama` on our samples, with two kinds of
    *controls*: `untrained:` is the same network before its training, `shuffled:` is the trained
    one with mixed-up captions. It takes less than a minute; the same as a command would be
    `encoderlab compare --llms tiny-llama --controls`.
    """)
    return


@app.cell
def _(HOW, STORE):
    report = encoderlab.compare(
        encoders=["tiny-clip", "tiny-siglip", "tiny-dinov2"],
        llms=["tiny-llama"],
        controls=True,
        epochs=100,  # of the trained projectors; usually 300
        features_dir=STORE,
        **HOW,
    )
    print(report.to_text())
    return (report,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Every column is an old acquaintance: CKA debiased (section 3), as published with its floor
    (3), within types (6), and two maps judged on unseen samples (7). The last lines are paired
    verdicts (8). One more table, which the report keeps in its file: every encoder against its own
    untrained copy, *within types*:
    """)
    return


@app.cell
def _(report):
    for _one in report.verdicts:
        if _one.metric == "cka_within" and _one.comparison.b.startswith("untrained:"):
            print(_one.comparison.to_text())
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Exercise 7: three questions

    Answer from the report, not from the largest number.

    1. `leader_is_ahead_of`: one encoder has the highest debiased CKA. Which of the other two is it
       *ahead* of? A list of names, such as `["tiny-clip"]`; it may have one, two or none.
    2. `fooled_column`: in the rows `shuffled:` nothing belongs together any more. In which
       column are their numbers clearly above 0 all the same? The head of the column, in quotes.
    3. `not_ahead_of_untrained`: which encoders are, within types, *not* ahead of their untrained
       copies? A list of names.
    """)
    return


@app.cell
def exercise_7():
    leader_is_ahead_of = ...
    fooled_column = ...
    not_ahead_of_untrained = ...
    # Your answers take the place of the dots.
    return fooled_column, leader_is_ahead_of, not_ahead_of_untrained


@app.cell(hide_code=True)
def _(fooled_column, leader_is_ahead_of, not_ahead_of_untrained, report):
    check_7 = grader.check(
        7, leader_is_ahead_of, fooled_column, not_ahead_of_untrained, report=report
    )
    check_7
    return (check_7,)


@app.cell(hide_code=True)
def _(report):
    def trained_ahead(metric):
        return sum(
            one.metric == metric
            and one.comparison.b.startswith("untrained:")
            and one.comparison.verdict == "ahead"
            for one in report.verdicts
        )

    mo.md(rf"""
    The third answer is the hardest to swallow. Over all samples {trained_ahead("cka_linear")} of
    the 3 encoders are ahead of their untrained copies; within types
    {trained_ahead("cka_within")} of them. An untrained network is not blind: it passes on how
    dark a picture is and where its ink lies, and that may be enough to go along with some
    captions. Where an encoder is ahead over all samples but not within types, all that these
    samples show of its training is that it tells the types apart. One number would have hidden
    this.
    """)
    return


@app.cell(hide_code=True)
def _(check_1, check_2, check_3, check_4, check_5, check_6, check_7):
    grader.summary(check_1, check_2, check_3, check_4, check_5, check_6, check_7)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What you take with you

    Six questions for any number in any report:

    - What does noise of the same shape score? With few samples, CKA as published is near 1 for
      anything.
    - What is left when the captions are shuffled? A metric that stays the same has not looked.
    - What is left within one type of data?
    - Was it scored on what it had seen?
    - Is the *difference* surely above 0, on the same samples?
    - How many points does the correlation have, and how many tables were looked at?

    Try more: `n_samples` in `HOW`, and watch which verdicts change. With models and data of your
    own, `encoderlab all --encoders ... --llms ... --data-root YOUR_DATA` writes the whole report as
    one page.
    """)
    return


if __name__ == "__main__":
    app.run()
