import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="Lesson 4: Look inside the tokens")

with app.setup(hide_code=True):
    import torch
    import torch.nn.functional as F

    import pictures
    import shapes
    import show
    import token_maps
    from encoderlab import TokenSimilarityAnalyzer, load_dual, load_vision
    from grader import Grader

    grader = Grader(4)
    text = grader.text


@app.cell(hide_code=True)
def _():
    text(r"""
    # Lesson 4: Look inside the tokens

    In lessons 1 and 2, a picture was one vector. The encoder also computes one vector for each
    small square of the picture, a *token*; these tokens are the input of a vision-language model.
    In this lesson you examine them: the position of each token, the similarity of neighbours,
    outliers, the number of directions in which they vary, and how reliable maps of tokens are.

    There are six exercises. The lesson takes about half an hour and needs no network. Replace each
    `...` with your answer.

    ## 1. From pixels to tokens

    A vision transformer splits the picture into square *patches* of equal size and turns each patch
    into a *token*, a vector of $D$ numbers. Tokens are in reading order: the first row from left to
    right, then the second. The first token, the *class token* (CLS), has no position in the
    picture. In each layer the tokens exchange information (*attention*). CLS collects information
    about the whole picture, and the embedding of lessons 1 and 2 is computed from it.
    [ko]
    # 4강: 토큰 들여다보기

    1강과 2강에서 사진 한 장은 벡터 하나였습니다. 인코더는 사진의 작은 정사각형마다 벡터도 하나씩
    만드는데, 이 *토큰(token)*이 비전-언어 모델의 입력입니다. 이 강의에서는 토큰의 위치, 이웃한
    토큰의 유사도, 이상치, 토큰이 변하는 방향의 수, 토큰으로 그린 지도의 신뢰성을 알아봅니다.

    연습은 여섯 개이며, 30분쯤 걸리고 네트워크는 필요하지 않습니다. `...` 자리에 답을 쓰십시오.

    ## 1. 픽셀에서 토큰까지

    비전 트랜스포머(vision transformer)는 사진을 크기가 같은 정사각형 *패치(patch)*로 자르고,
    패치마다 수 $D$개로 된 벡터인 *토큰*을 하나씩 만듭니다. 토큰은 글을 읽는 순서로 놓입니다. 첫
    행을 왼쪽에서 오른쪽으로, 그다음 둘째 행입니다. 맨 앞의 *클래스 토큰*(CLS)은 사진 속 위치가
    없습니다. 층마다 토큰들은 정보를 주고받으며(*어텐션*, attention), CLS는 사진 전체의 정보를
    모읍니다. 1강과 2강의 임베딩은 이 CLS로 만듭니다.
    """)
    return


@app.cell
def _():
    # With a network, "openai/clip-vit-base-patch32" works here as well.
    MODEL = "tiny-clip"
    vision = load_vision(MODEL, dtype="float32")
    dual = load_dual(MODEL, dtype="float32")
    side = vision.image_size
    patch = side // vision.grid[0]
    print(f"{vision.name}: pictures of {side} x {side} pixels, patches of {patch} x {patch}")
    return dual, patch, side, vision


@app.cell(hide_code=True)
def _():
    text(r"""
    ### Exercise 1: count the tokens

    Write `count_tokens(height, width, patch)` for a picture of `height` x `width` pixels and
    patches of `patch` x `patch`. It returns the number of tokens, including CLS. Pixels at the edge
    that do not fill a patch are dropped.
    [ko]
    ### 연습 1: 토큰 세기

    `height` x `width` 픽셀의 사진과 `patch` x `patch` 패치에 대해
    `count_tokens(height, width, patch)`를 작성하십시오. CLS를 포함한 토큰의 수를 돌려줍니다. 패치를
    채우지 못하는 가장자리 픽셀은 버립니다.
    """)
    return


@app.cell
def exercise_1():
    def count_tokens(height, width, patch):
        return ...

    check_1 = grader.check(1, count_tokens)
    return (check_1,)


@app.cell
def _(check_1, patch, side, vision):
    nine = pictures.nine_pictures()
    top = vision.n_layers
    seen = vision.encode([one.image for one in nine], layers=[top])
    # The order of the encoder: CLS first, then the patches.
    tower = torch.cat([seen.cls[:, None], seen.patches], dim=1)
    print(f"counted: {check_1.value(side, side, patch)} tokens")
    print(f"the tower gives {tuple(tower.shape)}: (pictures, tokens, D)")
    show.pictures([one.image for one in nine], [f"{i}: {p.sentence}" for i, p in enumerate(nine)])
    return nine, seen, top, tower


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 2. Back onto the grid

    To draw a map of the tokens, remove CLS and arrange the other tokens on the grid. A wrong order
    raises no error; it gives a wrong map.

    ### Exercise 2: tokens to a map

    Write `to_grid(tokens, height, width)` for the tokens of one picture, $(1 + HW, D)$ with CLS
    first. It returns a tensor $(H, W, D)$: cell $[i, j]$ is the token of the patch in row $i$ and
    column $j$.
    [ko]
    ## 2. 다시 격자로

    토큰의 지도를 그리려면 CLS를 빼고 나머지 토큰을 격자에 놓아야 합니다. 순서가 틀려도 오류는 나지
    않고 틀린 지도가 만들어집니다.

    ### 연습 2: 토큰을 지도로

    `to_grid(tokens, height, width)`를 작성하십시오. `tokens`는 사진 한 장의 토큰 $(1 + HW, D)$이고
    CLS가 맨 앞에 있습니다. 텐서 $(H, W, D)$를 돌려줍니다. $[i, j]$ 칸은 $i$행 $j$열 패치의
    토큰입니다.
    """)
    return


@app.cell
def exercise_2():
    def to_grid(tokens, height, width):
        return ...

    check_2 = grader.check(2, to_grid)
    return (check_2,)


@app.cell(hide_code=True)
def _():
    text(r"""
    To check the order, compare a map of the token lengths with the picture: the shape should be at
    the same position in both. The lengths are those of the last layer, before the final
    normalisation of the encoder.
    [ko]
    순서가 맞는지 확인하려면 토큰 길이의 지도를 사진과 비교하십시오. 도형이 같은 위치에 있어야
    합니다. 길이는 마지막 층의 것이며, 인코더의 마지막 정규화를 거치기 전 값입니다.
    """)
    return


@app.cell
def _(check_2, nine, seen, top, tower, vision):
    grids = torch.stack([check_2.value(one, *vision.grid) for one in tower])
    lengths = seen.layers[top].norm(dim=-1).unflatten(1, vision.grid)
    views = [vision.preprocess.view(one.image) for one in nine]
    show.beside(
        views[2],
        token_maps.maps([lengths[2], lengths[5]], ["length, picture 2", "length, picture 5"]),
        views[5],
    )
    return grids, lengths, views


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 3. Neighbours

    Compare each token with the one to its right and the one below, using the cosine of lesson 1. A
    grid of $H \times W$ has $W - 1$ pairs in each row and $H - 1$ pairs in each column. You can use
    slices instead of a loop: `grid[:, :-1]` is all but the last column, `grid[:, 1:]` all but the
    first.

    ### Exercise 3: cosines of neighbours

    Write `neighbour_cosines(grid)` for a grid $(H, W, D)$. It returns two tensors, `right` of shape
    $(H, W - 1)$ and `down` of shape $(H - 1, W)$: cell $[i, j]$ compares $(i, j)$ with
    $(i, j + 1)$, and with $(i + 1, j)$. The tokens may have any length.
    [ko]
    ## 3. 이웃

    각 토큰을 1강의 코사인으로 오른쪽 토큰, 아래쪽 토큰과 비교하십시오. $H \times W$ 격자에는 행마다
    $W - 1$개, 열마다 $H - 1$개의 쌍이 있습니다. 슬라이스를 쓰면 반복문이 필요 없습니다.
    `grid[:, :-1]`은 마지막 열을 뺀 전부이고, `grid[:, 1:]`은 첫 열을 뺀 전부입니다.

    ### 연습 3: 이웃의 코사인

    격자 $(H, W, D)$에 대해 `neighbour_cosines(grid)`를 작성하십시오. 모양이 $(H, W - 1)$인
    `right`와 $(H - 1, W)$인 `down`, 텐서 두 개를 돌려줍니다. $[i, j]$ 칸은 $(i, j)$를 각각
    $(i, j + 1)$, $(i + 1, j)$와 비교합니다. 토큰의 길이는 1이 아닐 수 있습니다.
    """)
    return


@app.cell
def exercise_3():
    def neighbour_cosines(grid):
        return ...

    check_3 = grader.check(3, neighbour_cosines)
    return (check_3,)


@app.cell
def _(check_3, grids, views):
    neighbours = [check_3.value(grid) for grid in grids]
    near = [float(torch.cat([r.flatten(), d.flatten()]).mean()) for r, d in neighbours]
    show.beside(views[5], token_maps.maps(neighbours[5], ["to the right", "to the one below"]))
    return near, neighbours


@app.cell(hide_code=True)
def _(near):
    text(rf"""
    Dark lines are edges in the picture. The mean over all pairs is {near[5]:.2f} for this picture
    and {near[0]:.2f} for picture 0. Are these high values?

    ## 4. A null distribution

    A cosine of 0 is not the chance level. If any two tokens of this encoder had a cosine of 0.9,
    then 0.9 would not be special for neighbours. So compare with pairs that are *not* neighbours
    (the null distribution): any two tokens of the same picture, and two tokens of different
    pictures.

    ### Exercise 4: cosines of other pairs

    Write `within(tokens)` for $(N, D)$: the mean cosine over all pairs of *different* tokens of one
    picture. And `between(tokens, others)` for $(N, D)$ and $(M, D)$: the mean cosine over all
    $N \cdot M$ pairs. Both return one number.
    [ko]
    어두운 선은 사진 속의 가장자리입니다. 모든 쌍의 평균은 이 사진에서 {near[5]:.2f}, 0번 사진에서
    {near[0]:.2f}입니다. 높은 값일까요?

    ## 4. 귀무분포

    코사인 0이 우연 수준인 것은 아닙니다. 이 인코더에서 임의의 두 토큰의 코사인이 0.9라면, 0.9는
    이웃에 특별한 값이 아닙니다. 그래서 이웃이 *아닌* 쌍(귀무분포, null distribution), 곧 같은
    사진의 임의의 두 토큰, 서로 다른 사진의 두 토큰과 비교합니다.

    ### 연습 4: 이웃이 아닌 쌍의 코사인

    $(N, D)$에 대해 `within(tokens)`를 작성하십시오. 한 사진 안의 *서로 다른* 토큰으로 된 모든 쌍의
    코사인 평균입니다. 또 $(N, D)$와 $(M, D)$에 대해 `between(tokens, others)`를 작성하십시오.
    $N \cdot M$개 모든 쌍의 코사인 평균입니다. 둘 다 수 하나를 돌려줍니다.
    """)
    return


@app.cell
def exercise_4():
    def within(tokens):
        return ...

    def between(tokens, others):
        return ...

    check_4 = grader.check(4, within, between)
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
    text(rf"""
    In picture 0, any two tokens have a mean cosine of {compared[0][1]:.2f}, because most of it is
    plain background. Its neighbours, with {compared[0][0]:.2f}, are hardly more similar. Over the
    nine pictures, the mean is {means[0]:.2f} for neighbours, {means[1]:.2f} for any two tokens of
    the same picture, and {means[2]:.2f} for tokens of different pictures. *Being neighbours* adds
    {means[0] - means[1]:.2f}, less than *being in the same picture*, which adds
    {means[1] - means[2]:.2f}.

    ## 5. Outliers

    In large encoders a few tokens are many times as long as the others. They are in empty regions,
    and the network stores information about the whole picture in them (*registers*, Darcet et al.,
    2024). They do not represent their own position. So detect them before you use a map or a mean,
    and report results with and without them.

    The mean and the standard deviation are not suitable for this, because outliers change both.
    Take the median $m$ of the lengths, and the median of the distances to $m$:

    $$
    s = 1.4826 \cdot \mathrm{{median}}_i \, \lvert \ell_i - m \rvert
    $$

    (1.4826 makes $s$ the standard deviation if the lengths are normally distributed.) A token is an
    *outlier* if its length is above $m + 5 s$ **and** above $1.5 \, m$.

    ### Exercise 5: outliers, and the mean without them

    Write `outliers(lengths)` for lengths $(H, W)$. It returns booleans of the same shape. Write
    also `mean_without(right, down, drop)`. It returns the mean over the cosines of neighbours in
    `right` and `down` (exercise 3), without the pairs that contain a token where `drop` $(H, W)$ is
    true.
    [ko]
    0번 사진은 대부분 빈 배경이어서 임의의 두 토큰의 평균 코사인이 {compared[0][1]:.2f}입니다.
    이웃의 코사인 {compared[0][0]:.2f}도 이보다 거의 높지 않습니다. 사진 아홉 장의 평균은 이웃
    {means[0]:.2f}, 같은 사진의 임의의 두 토큰 {means[1]:.2f}, 다른 사진의 토큰
    {means[2]:.2f}입니다. *이웃*이면 {means[0] - means[1]:.2f}만큼 높아지며, 이는 *같은 사진*일 때
    높아지는 {means[1] - means[2]:.2f}보다 작습니다.

    ## 5. 이상치

    큰 인코더에서는 토큰 몇 개가 다른 것보다 몇 배나 깁니다. 그런 토큰은 사진의 빈 영역에 있으며,
    신경망은 거기에 사진 전체에 관한 정보를 저장합니다(*레지스터*, register, Darcet 등 2024). 이런
    토큰은 자기 위치의 내용을 나타내지 않습니다. 그래서 지도나 평균을 쓰기 전에 찾아내고, 포함한
    결과와 제외한 결과를 함께 보고합니다.

    평균과 표준편차는 여기에 알맞지 않습니다. 이상치(outlier)가 둘을 모두 크게 바꾸기 때문입니다.
    길이의 중앙값 $m$을 구하고, 중앙값까지 거리의 중앙값을 다시 구하십시오.

    $$
    s = 1.4826 \cdot \mathrm{{median}}_i \, \lvert \ell_i - m \rvert
    $$

    (길이가 정규분포를 따른다면 1.4826을 곱한 $s$는 표준편차가 됩니다.) 길이가 $m + 5 s$보다 크고
    **동시에** $1.5 \, m$보다 큰 토큰이 *이상치 토큰*입니다.

    ### 연습 5: 이상치, 그리고 이상치를 뺀 평균

    길이 $(H, W)$에 대해 `outliers(lengths)`를 작성하십시오. 같은 모양의 불리언 값을 돌려줍니다. 또
    `mean_without(right, down, drop)`을 작성하십시오. 연습 3의 이웃 코사인 `right`와 `down` 전체의
    평균이되, `drop` $(H, W)$이 참인 토큰이 들어 있는 쌍은 뺍니다.
    """)
    return


@app.cell
def exercise_5():
    def outliers(lengths):
        return ...

    def mean_without(right, down, drop):
        return ...

    check_5 = grader.check(5, outliers, mean_without)
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
    text(rf"""
    In the pictures of shapes, {hits} of the {found} outliers are on the shape itself. This small
    network does not store information in the background; the tokens of the *shapes* are long.
    Excluding the outliers raises the mean of picture 2 from {near[2]:.3f} to {cleaned[2]:.3f},
    because the excluded tokens are the circle. The rule finds long tokens; check in the picture
    what they represent.

    ## 6. In how many directions do tokens vary?

    A picture of plain background has as many tokens as a page of text, but much less content. To
    measure in how many directions the tokens vary, subtract their mean and compute the singular
    values $\sigma_k$ of the matrix $(N, D)$. The shares $p_k$ of the variance are probabilities.
    The exponential of their entropy is the *effective rank*, the number of directions in use:

    $$
    p_k = \frac{{\sigma_k^2}}{{\sum_j \sigma_j^2}}, \qquad
    r = \exp\Big(-\sum_k p_k \ln p_k\Big)
    $$

    It is 1 for a single direction, and $K$ for $K$ directions of the same variance.

    ### Exercise 6: the effective rank

    Write `effective_rank(tokens)` for $(N, D)$. It returns one number. `torch.linalg.svdvals` gives
    the singular values. A share may be 0; then $p \ln p$ is 0 (`torch.xlogy(p, p)`).
    [ko]
    도형 사진 네 장에서 이상치 {found}개 중 {hits}개가 도형 위에 있습니다. 이 작은 신경망은 배경에
    정보를 저장하지 않으며, *도형*의 토큰이 깁니다. 이상치를 빼면 2번 사진의 평균이
    {near[2]:.3f}에서 {cleaned[2]:.3f}로 올라갑니다. 제외된 토큰이 원이기 때문입니다. 이 규칙은 긴
    토큰을 찾을 뿐이며, 그것이 무엇을 나타내는지는 사진에서 확인해야 합니다.

    ## 6. 토큰은 몇 가지 방향으로 변합니까?

    배경뿐인 사진도 글이 가득한 문서와 토큰 수가 같지만, 내용은 훨씬 적습니다. 토큰이 몇 가지
    방향으로 변하는지 재려면 토큰의 평균을 빼고, 행렬 $(N, D)$의 특잇값(singular value) $\sigma_k$를
    구하십시오. 분산의 비율 $p_k$는 확률이며, 그 엔트로피의 지수 함수 값이 쓰이는 방향의 수인 *유효
    랭크*(effective rank)입니다.

    $$
    p_k = \frac{{\sigma_k^2}}{{\sum_j \sigma_j^2}}, \qquad
    r = \exp\Big(-\sum_k p_k \ln p_k\Big)
    $$

    방향이 하나뿐이면 1이고, 분산이 같은 방향이 $K$개이면 $K$입니다.

    ### 연습 6: 유효 랭크

    $(N, D)$에 대해 `effective_rank(tokens)`를 작성하십시오. 수 하나를 돌려줍니다. 특잇값은
    `torch.linalg.svdvals`로 구합니다. 비율이 0일 수도 있으며, 그때 $p \ln p$는
    0입니다(`torch.xlogy(p, p)`).
    """)
    return


@app.cell
def exercise_6():
    def effective_rank(tokens):
        return ...

    check_6 = grader.check(6, effective_rank)
    return (check_6,)


@app.cell
def _(check_6, nine, rows):
    ranks = [float(check_6.value(row)) for row in rows]
    for _one, _rank in zip(nine, ranks, strict=True):
        print(f"{_one.sentence:16} {_rank:5.1f} {'#' * round(4 * _rank)}")
    return (ranks,)


@app.cell(hide_code=True)
def _(nine, ranks, rows):
    text(rf"""
    There are {len(rows[0])} tokens, but even in the picture with the largest effective rank
    ({nine[ranks.index(max(ranks))].sentence}) they vary in only {max(ranks):.1f} directions. Fewer
    tokens should therefore be enough. Lesson 5 measures how many.

    ## 7. Maps that mislead

    The best known map shows the cosine of every patch with CLS, and is often read as "where the
    model looks". But the training did not align patches with CLS. It trained the cosine of the
    sentence with CLS after a last linear layer (the *projection*).

    A second map applies the projection to the patches and shows the cosine of each patch with a
    sentence. The next cell shows both maps for picture 2, and the map of a wrong sentence. Which
    map is bright on the circle?
    [ko]
    토큰은 {len(rows[0])}개인데, 유효 랭크가 가장 큰
    사진({nine[ranks.index(max(ranks))].sentence})에서도 방향은 {max(ranks):.1f}개뿐입니다. 따라서
    토큰이 더 적어도 될 것입니다. 몇 개면 되는지는 5강에서 측정합니다.

    ## 7. 오해를 부르는 지도

    가장 널리 알려진 지도는 각 패치와 CLS의 코사인을 보여 주며, 흔히 "모델이 보는 곳"으로
    해석됩니다. 그러나 학습은 패치와 CLS의 방향을 맞추지 않습니다. 학습한 것은 마지막 선형 층인
    *사영*(projection)을 거친 CLS와 문장의 코사인입니다.

    둘째 지도는 사영을 패치에 적용해 각 패치와 문장의 코사인을 보여 줍니다. 다음 셀은 2번 사진에서
    두 지도와 틀린 문장의 지도를 보여 줍니다. 원에서 밝은 지도는 어느 것입니까?
    """)
    return


@app.cell
def _(dual, grids, nine, seen, views, vision):
    def cosine_map(grid, vector):
        return F.normalize(grid, dim=-1) @ F.normalize(vector, dim=-1)

    with torch.inference_mode():
        projected = vision.embed_patches(seen.patches).unflatten(1, vision.grid)
    sentences = torch.from_numpy(dual.embed_texts([one.sentence for one in nine]))
    show.beside(
        views[2],
        token_maps.maps(
            [
                cosine_map(grids[2], seen.cls[2]),
                cosine_map(projected[2], sentences[2]),
                cosine_map(projected[2], sentences[7]),
            ],
            ["CLS", f'"{nine[2].sentence}"', f'"{nine[7].sentence}"'],
        ),
    )
    return (cosine_map,)


@app.cell(hide_code=True)
def _():
    text(r"""
    One picture is not enough. The next cell takes forty pictures of a single shape and keeps those
    in which the shape covers at least three patches. For every map it computes how often a patch on
    the shape has a higher value than a patch outside. A perfect map has 100 %, an uninformative map
    50 %, and an inverted map 0 %.
    [ko]
    사진 한 장으로는 부족합니다. 다음 셀은 도형이 하나뿐인 사진 40장 중 도형이 패치를 세 개 이상
    덮는 것을 씁니다. 지도마다 도형 위의 패치가 도형 밖의 패치보다 값이 큰 비율을 계산합니다. 완벽한
    지도는 100 %, 정보가 없는 지도는 50 %, 반전된 지도는 0 %입니다.
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
    # The sentence of the picture five positions further.
    _others = _texts.roll(5, 0)
    _maps = {
        "CLS, before the projection": map(cosine_map, _seen.patches, _seen.cls),
        "its own sentence": map(cosine_map, _projected, _texts),
        "another sentence": map(cosine_map, _projected, _others),
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
    text(rf"""
    A patch on the shape is higher in {right_way["CLS, before the projection"]:.0%} of the cases in
    the map of CLS, in {right_way["its own sentence"]:.0%} in the map of the right sentence, and in
    {right_way["another sentence"]:.0%} in the map of another picture's sentence. Below 50 %, the
    map is inverted; this is also known from larger CLIP (contrastive language-image pre-training)
    models. The length of a token, which uses no text, reaches
    {right_way["length of the token"]:.0%}. Before you use a map, test it on pictures for which you
    know the answer.

    ## 8. The same analysis in two lines

    `TokenSimilarityAnalyzer` computes the values of this lesson. The next cell compares them with
    yours. The last row is its null, computed from other pictures. (`stage="projected"` uses the
    tokens after the projection. For a CLS map before the projection, the result contains a
    warning.)
    [ko]
    도형 위의 패치가 더 높은 비율은 CLS 지도에서 {right_way["CLS, before the projection"]:.0%}, 맞는
    문장의 지도에서 {right_way["its own sentence"]:.0%}, 다른 사진의 문장의 지도에서
    {right_way["another sentence"]:.0%}입니다. 50 %보다 작으면 지도가 반전된 것이며, 더 큰
    CLIP(contrastive language-image pre-training)에서도 알려진 현상입니다. 텍스트를 쓰지 않는 토큰
    길이는 {right_way["length of the token"]:.0%}입니다. 지도를 쓰기 전에, 답을 아는 사진에서 먼저
    시험하십시오.

    ## 8. 두 줄로 하는 같은 분석

    `TokenSimilarityAnalyzer`는 이 강의의 값을 모두 계산합니다. 다음 셀은 그 값을 여러분의 값과
    비교합니다. 마지막 줄은 귀무분포이며 다른 사진으로 계산한 것입니다. (`stage="projected"`는
    사영을 거친 토큰을 씁니다. 사영 전의 CLS 지도에는 결과에 경고가 들어 있습니다.)
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
    text(r"""
    ## Summary

    - Remove CLS before you arrange the tokens on the grid in reading order. A wrong order raises no
      error, so check it with a map whose answer you know.
    - Compare the cosine of neighbours with the cosine of unrelated pairs.
    - Find outliers with the median, report results with and without them, and check where they are.
    - The effective rank is the number of directions in which the tokens vary.
    - A map of CLS or of a sentence can be inverted. Test it before you use it.

    To try next: `encoderlab tokens image.path=YOUR.jpg --text "a cat"` draws these maps for your
    own picture, layer by layer, and the map of a sentence with five methods.
    [ko]
    ## 정리

    - 격자에 놓기 전에 CLS를 빼고, 격자는 글을 읽는 순서로 채웁니다. 순서가 틀려도 오류가 나지
      않으므로 답을 아는 지도로 확인하십시오.
    - 이웃의 코사인을 관계없는 쌍의 코사인과 비교하십시오.
    - 이상치는 중앙값으로 찾고, 포함한 결과와 제외한 결과를 함께 보고하며, 위치를 확인하십시오.
    - 유효 랭크는 토큰이 변하는 방향의 수입니다.
    - CLS나 문장의 지도는 반전되어 있을 수 있습니다. 쓰기 전에 시험하십시오.

    더 해 볼 것: `encoderlab tokens image.path=YOUR.jpg --text "a cat"`은 자신의 사진으로 이런
    지도를 층마다 그리고, 문장의 지도는 다섯 가지 방법으로 그립니다.
    """)
    return


if __name__ == "__main__":
    app.run()
