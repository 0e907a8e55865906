import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="Lesson 4: Look inside the tokens")

with app.setup:
    import sys
    from pathlib import Path

    import marimo as mo
    import torch
    import torch.nn.functional as F

    from encoderlab import TokenSimilarityAnalyzer, load_dual, load_vision

    sys.path.insert(0, str(Path(__file__).parent.parent))  # the folder of the grader

    import pictures
    import shapes
    import show
    import token_maps
    from grader import Grader

    grader = Grader(__file__)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # Lesson 4: Look inside the tokens

    So far a picture was one vector. But the encoder makes many: one for each small square of the
    picture, and it is these *tokens* that a vision-language model reads. In this lesson you take
    them apart: where each belongs, how alike neighbours are, which ones stand out, how many there
    really are, and whether a map of them shows what it seems to show.

    Six exercises; it takes about half an hour and no network. Put your answer in the place of
    `...`. While one is missing or wrong, the lesson goes on with ours.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 1. From pixels to tokens

    A vision transformer cuts the picture into square *patches*, all of one size, and makes a
    *token*, a vector of $D$ numbers, of each. They stand in reading order: the first row from
    left to right, then the second. Before them stands one more, which belongs to no place: the
    *class token*, CLS. Layer by layer all tokens look at one another (*attention*); CLS gathers
    what the whole picture is about, and the embedding of lessons 1 and 2 is made of it.
    """)
    return


@app.cell
def _():
    # With a network, "openai/clip-vit-base-patch32" works here as well.
    MODEL = "tiny-clip"
    return (MODEL,)


@app.cell
def _(MODEL):
    vision = load_vision(MODEL, dtype="float32")
    dual = load_dual(MODEL, dtype="float32")
    side = vision.image_size
    patch = side // vision.grid[0]
    print(f"{vision.name}: pictures of {side} x {side} pixels, patches of {patch} x {patch}")
    return dual, patch, side, vision


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Exercise 1: count the tokens

    Write `count_tokens(height, width, patch)` for a picture of `height` x `width` pixels and
    patches of `patch` x `patch`. It returns a whole number, CLS with it. Pixels at the edge that
    fill no patch are dropped.
    """)
    return


@app.cell
def exercise_1():
    def count_tokens(height, width, patch):
        return ...

    # Your answer takes the place of the dots.
    return (count_tokens,)


@app.cell(hide_code=True)
def _(count_tokens):
    check_1 = grader.check(1, count_tokens)
    check_1
    return (check_1,)


@app.cell
def _(check_1, patch, side, vision):
    nine = pictures.nine_pictures()
    top = vision.n_layers
    seen = vision.encode([one.image for one in nine], layers=[top])
    # As the tower gives them: CLS first, then the patches.
    tower = torch.cat([seen.cls[:, None], seen.patches], dim=1)
    print(f"counted: {check_1.value(side, side, patch)} tokens")
    print(f"the tower gives {tuple(tower.shape)}: (pictures, tokens, D)")
    show.pictures([one.image for one in nine], [f"{i}: {p.sentence}" for i, p in enumerate(nine)])
    return nine, seen, top, tower


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 2. Back onto the grid

    A row of tokens says nothing about places. To see a map, CLS has to go and the rest has to
    come back onto its grid. Beware: a wrong order makes a map as well, and nothing raises an
    error.

    ### Exercise 2: tokens to a map

    Write `to_grid(tokens, height, width)` for the tokens of one picture, $(1 + HW, D)$ with CLS
    first. It returns a tensor $(H, W, D)$: cell $[i, j]$ is the token of the patch in row $i$
    and column $j$.
    """)
    return


@app.cell
def exercise_2():
    def to_grid(tokens, height, width):
        return ...

    # Your answer takes the place of the dots.
    return (to_grid,)


@app.cell(hide_code=True)
def _(to_grid):
    check_2 = grader.check(2, to_grid)
    check_2
    return (check_2,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Is it right? The simplest number about a token is its length. Look at its map beside the
    picture: the shape should be where it is. The lengths are those of the last layer, before the
    normalisation that the tower ends with.
    """)
    return


@app.cell
def _(check_2, nine, seen, top, tower, vision):
    grids = torch.stack([check_2.value(one, *vision.grid) for one in tower])
    lengths = seen.layers[top].norm(dim=-1).unflatten(1, vision.grid)
    views = [vision.preprocess.view(one.image) for one in nine]
    mo.hstack(
        [
            mo.image(views[2], width=130, height=130),
            token_maps.maps([lengths[2], lengths[5]], ["length, picture 2", "length, picture 5"]),
            mo.image(views[5], width=130, height=130),
        ],
        justify="start",
        align="center",
    )
    return grids, lengths, views


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 3. Neighbours

    Compare each token with the one to its right and the one below. The cosine is the one of
    lesson 1; only who is compared with whom is new. A grid of $H \times W$ has $W - 1$ pairs in
    each row, and $H - 1$ in each column. Slices do it without a loop: `grid[:, :-1]` is all but
    the last column, `grid[:, 1:]` all but the first.

    ### Exercise 3: cosines of neighbours

    Write `neighbour_cosines(grid)` for a grid $(H, W, D)$. It returns two tensors, `right` of
    shape $(H, W - 1)$ and `down` of shape $(H - 1, W)$: cell $[i, j]$ compares $(i, j)$ with
    $(i, j + 1)$, and with $(i + 1, j)$. The tokens may have any length.
    """)
    return


@app.cell
def exercise_3():
    def neighbour_cosines(grid):
        return ...

    # Your answer takes the place of the dots.
    return (neighbour_cosines,)


@app.cell(hide_code=True)
def _(neighbour_cosines):
    check_3 = grader.check(3, neighbour_cosines)
    check_3
    return (check_3,)


@app.cell
def _(check_3, grids, views):
    neighbours = [check_3.value(grid) for grid in grids]
    near = [float(torch.cat([r.flatten(), d.flatten()]).mean()) for r, d in neighbours]
    mo.hstack(
        [
            mo.image(views[5], width=200, height=200),
            token_maps.maps(neighbours[5], ["to the right", "to the one below"]),
        ],
        justify="start",
        align="center",
    )
    return near, neighbours


@app.cell(hide_code=True)
def _(near):
    mo.md(rf"""
    Dark lines are the edges of things. The mean over all pairs is {near[5]:.2f} for this picture
    and {near[0]:.2f} for picture 0, and it is tempting to say: "neighbours are very much alike".

    ## 4. Is that much? A null

    A cosine has no zero of its own. If any two tokens of this encoder had a cosine of 0.9, then
    0.9 would say nothing about neighbours. So compare with pairs that are *not* neighbours: any
    two tokens of the same picture, and two tokens of different pictures.

    ### Exercise 4: cosines of strangers

    Write `within(tokens)` for $(N, D)$: the mean cosine over all pairs of *different* tokens of
    one picture. And `between(tokens, others)` for $(N, D)$ and $(M, D)$: the mean cosine over
    all $N \cdot M$ pairs. Both return one number.
    """)
    return


@app.cell
def exercise_4():
    def within(tokens):
        return ...

    def between(tokens, others):
        return ...

    # Your answers take the place of the dots.
    return between, within


@app.cell(hide_code=True)
def _(between, within):
    check_4 = grader.check(4, within, between)
    check_4
    return (check_4,)


@app.cell
def _(check_4, grids, near, nine):
    _within, _between = check_4.value
    rows = [grid.flatten(0, 1) for grid in grids]
    print(f"{'':18} neighbours   same picture   other pictures")
    compared = []
    for _i, _one in enumerate(nine):
        _others = torch.cat([row for j, row in enumerate(rows) if j != _i])
        compared.append((near[_i], float(_within(rows[_i])), float(_between(rows[_i], _others))))
        _n, _s, _o = compared[-1]
        print(f"{_i}: {_one.sentence:15} {_n:10.2f} {_s:14.2f} {_o:16.2f}")
    means = [sum(column) / len(compared) for column in zip(*compared, strict=True)]
    print(f"{'mean':18} {means[0]:10.2f} {means[1]:14.2f} {means[2]:16.2f}")
    return compared, means, rows


@app.cell(hide_code=True)
def _(compared, means):
    mo.md(rf"""
    Of picture 0 any two tokens have a cosine of {compared[0][1]:.2f}: most of it is empty
    ground, and of its {compared[0][0]:.2f} hardly anything is due to being neighbours. Over the
    nine pictures neighbours come to {means[0]:.2f}, any two tokens of the same picture to
    {means[1]:.2f}, and those of different pictures to {means[2]:.2f}. What *place* adds is the
    first difference, {means[0] - means[1]:.2f}, and it is smaller than what *being in the same
    picture* adds, {means[1] - means[2]:.2f}.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 5. Tokens that stand out

    In large encoders a few tokens are many times as long as the others. They lie where the
    picture is empty, and the network uses them as a notebook for things that concern the whole
    picture (*registers*, Darcet and others, 2024). In a map or a mean they stand for nothing that
    can be seen. So they are looked for first, and numbers are given with and without them.

    The mean and the standard deviation are no good for that, because the outliers themselves
    drag both along. Take the median $m$ of the lengths, and of the distances to it the median
    again:

    $$
    s = 1.4826 \cdot \mathrm{median}_i \, \lvert \ell_i - m \rvert
    $$

    (1.4826 makes $s$ the standard deviation if the lengths are normally distributed.) A token is
    an *outlier* if its length is above $m + 5 s$ **and** above $1.5 \, m$.

    ### Exercise 5: outliers, and the mean without them

    Write `outliers(lengths)` for lengths $(H, W)$: it returns truth values of the same shape.
    And `mean_without(right, down, drop)`: the mean over all cosines of neighbours in `right` and
    `down` (of exercise 3) but those of pairs with a token where `drop` $(H, W)$ is true.
    """)
    return


@app.cell
def exercise_5():
    def outliers(lengths):
        return ...

    def mean_without(right, down, drop):
        return ...

    # Your answers take the place of the dots.
    return mean_without, outliers


@app.cell(hide_code=True)
def _(mean_without, outliers):
    check_5 = grader.check(5, outliers, mean_without)
    check_5
    return (check_5,)


@app.cell
def _(check_5, lengths, near, neighbours, nine, views, vision):
    _outliers, _mean_without = check_5.value
    marked = [torch.as_tensor(_outliers(one)).bool() for one in lengths]
    cleaned = [
        float(_mean_without(*pair, drop)) for pair, drop in zip(neighbours, marked, strict=True)
    ]
    print(f"{'':18} outliers   neighbours, all   without outliers")
    for _i, _one in enumerate(nine):
        _count = int(marked[_i].sum())
        print(f"{_i}: {_one.sentence:15} {_count:8} {near[_i]:17.3f} {cleaned[_i]:18.3f}")
    on_shape = [
        (int((marked[i].numpy() & token_maps.covered(views[i], vision.grid)).sum()), marked[i])
        for i in range(4)
    ]
    hits, found = sum(hit for hit, _ in on_shape), sum(int(one.sum()) for _, one in on_shape)
    print(f"in the four scenes {found} outliers, {hits} of them on the shape")
    return cleaned, found, hits


@app.cell(hide_code=True)
def _(cleaned, found, hits, near):
    mo.md(rf"""
    Look before you believe the story: in the scenes {hits} of the {found} outliers lie on the
    shape itself. This small network does not keep a notebook on empty ground; it makes the
    things *long*. Leaving the outliers out lifts the mean of picture 2 from {near[2]:.3f} to
    {cleaned[2]:.3f}, because what was left out is the circle. The rule finds what is long. What
    it means you have to look up in the picture.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 6. How many tokens are there really?

    A picture of empty ground has as many tokens as a page of text, but hardly as much to say.
    In how many directions do the tokens vary? Take their mean away, and decompose the matrix
    $(N, D)$ into its singular values $\sigma_k$. The shares $p_k$ of the variance are
    probabilities, and the exponential of their entropy says how many directions are in use, the
    *effective rank*:

    $$
    p_k = \frac{\sigma_k^2}{\sum_j \sigma_j^2}, \qquad
    r = \exp\Big(-\sum_k p_k \ln p_k\Big)
    $$

    One direction alone gives 1; $K$ directions of the same variance give $K$.

    ### Exercise 6: the effective rank

    Write `effective_rank(tokens)` for $(N, D)$. It returns one number. `torch.linalg.svdvals`
    gives the singular values. A share may be 0; then $p \ln p$ is 0 (`torch.xlogy(p, p)`).
    """)
    return


@app.cell
def exercise_6():
    def effective_rank(tokens):
        return ...

    # Your answer takes the place of the dots.
    return (effective_rank,)


@app.cell(hide_code=True)
def _(effective_rank):
    check_6 = grader.check(6, effective_rank)
    check_6
    return (check_6,)


@app.cell
def _(check_6, nine, rows):
    ranks = [float(check_6.value(row)) for row in rows]
    for _one, _rank in zip(nine, ranks, strict=True):
        print(f"{_one.sentence:16} {_rank:5.1f} {'#' * round(4 * _rank)}")
    return (ranks,)


@app.cell(hide_code=True)
def _(nine, ranks, rows):
    mo.md(rf"""
    {len(rows[0])} tokens, and the one with most to say ({nine[ranks.index(max(ranks))].sentence})
    varies in {max(ranks):.1f} directions. So many tokens are hardly needed. How many are, is the
    question of lesson 5.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 7. Maps that mislead

    The best known map of all compares every patch with CLS: "this is where the model looks". But
    nothing in the training has made a patch and CLS point in the same direction. What was
    trained is the cosine of CLS, after a last linear step (the *projection*), with the sentence.

    And a sentence? The projection can be applied to the patches too, and then each has a cosine
    with the text: "this is where the green circle is". Look at both for picture 2, and at the
    map of a sentence that is wrong. Which of them is bright on the circle?
    """)
    return


@app.cell
def _(dual, grids, nine, seen, views, vision):
    def cosine_map(grid, vector):
        return F.normalize(grid, dim=-1) @ F.normalize(vector, dim=-1)

    with torch.inference_mode():
        projected = vision.embed_patches(seen.patches).unflatten(1, vision.grid)
    sentences = torch.from_numpy(dual.embed_texts([one.sentence for one in nine]))
    mo.hstack(
        [
            mo.image(views[2], width=200, height=200),
            token_maps.maps(
                [
                    cosine_map(grids[2], seen.cls[2]),
                    cosine_map(projected[2], sentences[2]),
                    cosine_map(projected[2], sentences[7]),
                ],
                ["CLS", f'"{nine[2].sentence}"', f'"{nine[7].sentence}"'],
            ),
        ],
        justify="start",
        align="center",
    )
    return (cosine_map,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    One picture proves nothing. So take forty pictures of a single shape (those in which the
    shape covers at least three patches), where we know which patches it covers, and ask of every
    map: of a patch on the shape and one beside it, how often is the one on the shape higher? A
    perfect map has 100 %, a map that says nothing 50 %, and one that is upside down 0 %.
    """)
    return


@app.cell
def _(cosine_map, dual, vision):
    things = shapes.coloured_shapes(40, 160)
    _covered = [
        token_maps.covered(vision.preprocess.view(one.image), vision.grid) for one in things
    ]
    kept = [i for i, mask in enumerate(_covered) if mask.sum() >= 3]
    _seen = vision.encode([things[i].image for i in kept], layers=[vision.n_layers])
    with torch.inference_mode():
        _projected = vision.embed_patches(_seen.patches)
    _texts = torch.from_numpy(dual.embed_texts([things[i].captions[1] for i in kept]))
    # Somebody else's sentence: that of the picture five further on.
    _strangers = _texts.roll(5, 0)
    _maps = {
        "CLS, before the projection": map(cosine_map, _seen.patches, _seen.cls),
        "its own sentence": map(cosine_map, _projected, _texts),
        "a stranger's sentence": map(cosine_map, _projected, _strangers),
        "length of the token": _seen.layers[vision.n_layers].norm(dim=-1),
    }
    print(f"{len(kept)} pictures")
    right_way = {}
    for _name, _of_all in _maps.items():
        _each = [
            token_maps.higher_inside(one.unflatten(0, vision.grid), _covered[i])
            for one, i in zip(_of_all, kept, strict=True)
        ]
        right_way[_name] = sum(_each) / len(_each)
        print(f"{_name:28} {right_way[_name]:4.0%}")
    return (right_way,)


@app.cell(hide_code=True)
def _(right_way):
    mo.md(rf"""
    A patch on the shape is above one beside it in {right_way["CLS, before the projection"]:.0%}
    of the cases in the map of CLS, and in {right_way["its own sentence"]:.0%} in the map of the
    right sentence, while a stranger's sentence reaches
    {right_way["a stranger's sentence"]:.0%}. Below 50 % the map shows the *opposite* of the
    thing; larger CLIPs are known for it as well. The plain length of a token, which asks for no
    text at all, has {right_way["length of the token"]:.0%}. A map is a picture of numbers, and
    before you read it, measure it where you know the answer.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 8. All of it in two lines

    `TokenSimilarityAnalyzer` does everything of this lesson. Here its numbers stand beside
    yours; the last is its null, made of other pictures than ours. (`stage="projected"` takes the
    tokens after the projection, and for a CLS map before it the result warns.)
    """)
    return


@app.cell
def _(cleaned, means, near, nine, ranks, vision):
    analyzer = TokenSimilarityAnalyzer(encoder=vision)
    results = analyzer.analyze_batch([one.image for one in nine])
    _all, _clean = results[2].statistics(), results[2].statistics(without_outliers=True)
    print("picture 2                       yours   encoderlab")
    print(f"neighbours                   {near[2]:8.3f} {_all['neighbour_similarity']:12.3f}")
    print(f"neighbours, without outliers {cleaned[2]:8.3f} {_clean['neighbour_similarity']:12.3f}")
    print(f"effective rank               {ranks[2]:8.3f} {_all['effective_rank']:12.3f}")
    print(f"tokens of different pictures {means[2]:8.3f} {results[2].null.mean:12.3f}")
    print("warning:", *results[2].warnings)
    results[2]
    return


@app.cell(hide_code=True)
def _(check_1, check_2, check_3, check_4, check_5, check_6):
    grader.summary(check_1, check_2, check_3, check_4, check_5, check_6)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What you take with you

    - CLS goes before anything is laid onto the grid, and the grid is in reading order. A wrong
      order raises no error, so look at a map whose answer you know.
    - A cosine has no zero. Put pairs that share nothing beside it.
    - Look for outliers with the median, give numbers with and without them, and look where they
      lie.
    - Many tokens are not many directions: the effective rank says how many.
    - A map of CLS or of a sentence can be upside down. Measure it before you show it.

    Try more: `encoderlab tokens image.path=YOUR.jpg --text "a cat"` makes all of these maps for
    a picture of yours, layer by layer, and the map of a sentence in five ways.
    """)
    return


if __name__ == "__main__":
    app.run()
