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

    So far a picture was one vector. But the encoder makes many: one for each small square of the
    picture, and it is these *tokens* that a vision-language model reads. In this lesson you examine
    them: where each belongs, how similar neighbours are, which are outliers, in how many directions
    they vary, and whether a map of them shows what it seems to show.

    Six exercises; it takes about half an hour and no network. Put your answer in the place of
    `...`.

    ## 1. From pixels to tokens

    A vision transformer cuts the picture into square *patches*, all of one size, and makes a
    *token*, a vector of $D$ numbers, of each. They stand in reading order: the first row from left
    to right, then the second. Before them stands one more, which belongs to no place: the *class
    token*, CLS. In each layer the tokens exchange information (*attention*); CLS collects
    information about the whole picture, and the embedding of lessons 1 and 2 is made of it.
    [ko]
    # 4강: 토큰 들여다보기

    지금까지 사진 한 장은 벡터 하나였습니다. 그러나 인코더는 사진의 작은 정사각형마다 벡터를 하나씩
    만들며, 비전-언어 모델이 읽는 것이 바로 이 *토큰(token)*들입니다. 이 강의에서는 토큰을 하나하나
    들여다봅니다. 토큰이 어느 자리의 것인지, 이웃끼리 얼마나 비슷한지, 어떤 토큰이 이상치인지, 몇
    가지 방향으로 달라지는지, 토큰으로 그린 지도가 보이는 그대로를 뜻하는지 알아봅니다.

    연습은 여섯 개이며, 30분쯤 걸리고 네트워크는 필요하지 않습니다. `...` 자리에 답을 쓰십시오.

    ## 1. 픽셀에서 토큰까지

    비전 트랜스포머(vision transformer)는 사진을 크기가 같은 정사각형 *패치(patch)*로 자르고,
    패치마다 수 $D$개로 된 벡터인 *토큰*을 하나씩 만듭니다. 토큰은 글을 읽는 순서로 놓입니다. 첫
    행을 왼쪽에서 오른쪽으로, 그다음 둘째 행입니다. 그 앞에는 어느 자리에도 속하지 않는 토큰이 하나
    더 있습니다. *클래스 토큰* CLS입니다. 층마다 토큰들은 정보를 주고받으며(*어텐션*, attention),
    CLS는 사진 전체의 정보를 모읍니다. 1강과 2강의 임베딩은 이 CLS로 만듭니다.
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
    patches of `patch` x `patch`. It returns a whole number, CLS with it. Pixels at the edge that
    fill no patch are dropped.
    [ko]
    ### 연습 1: 토큰 세기

    `height` x `width` 픽셀의 사진과 `patch` x `patch` 패치에 대해
    `count_tokens(height, width, patch)`를 작성하십시오. CLS까지 센 정수를 돌려줍니다. 패치를 채우지
    못하는 가장자리 픽셀은 버립니다.
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
    # As the tower gives them: CLS first, then the patches.
    tower = torch.cat([seen.cls[:, None], seen.patches], dim=1)
    print(f"counted: {check_1.value(side, side, patch)} tokens")
    print(f"the tower gives {tuple(tower.shape)}: (pictures, tokens, D)")
    show.pictures([one.image for one in nine], [f"{i}: {p.sentence}" for i, p in enumerate(nine)])
    return nine, seen, top, tower


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 2. Back onto the grid

    A row of tokens says nothing about places. To see a map, CLS has to go and the rest has to come
    back onto its grid. Beware: a wrong order makes a map as well, and nothing raises an error.

    ### Exercise 2: tokens to a map

    Write `to_grid(tokens, height, width)` for the tokens of one picture, $(1 + HW, D)$ with CLS
    first. It returns a tensor $(H, W, D)$: cell $[i, j]$ is the token of the patch in row $i$ and
    column $j$.
    [ko]
    ## 2. 다시 격자로

    한 줄로 늘어선 토큰은 자리를 말해 주지 않습니다. 지도를 보려면 CLS를 떼어 내고 나머지를 다시
    격자에 놓아야 합니다. 조심하십시오. 순서가 틀려도 지도는 만들어지고, 오류는 나지 않습니다.

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
    Is it right? The simplest number about a token is its length. Look at its map beside the
    picture: the shape should be where it is. The lengths are those of the last layer, before the
    normalisation that the tower ends with.
    [ko]
    맞게 되었습니까? 토큰에 관한 가장 단순한 수는 길이입니다. 길이의 지도를 사진 옆에 놓고 보십시오.
    도형이 제자리에 있어야 합니다. 길이는 마지막 층의 것이며, 타워(tower) 끝의 정규화를 거치기 전
    값입니다.
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

    Compare each token with the one to its right and the one below. The cosine is the one of lesson
    1; only the pairs are new. A grid of $H \times W$ has $W - 1$ pairs in each row, and $H - 1$ in
    each column. Slices do it without a loop: `grid[:, :-1]` is all but the last column,
    `grid[:, 1:]` all but the first.

    ### Exercise 3: cosines of neighbours

    Write `neighbour_cosines(grid)` for a grid $(H, W, D)$. It returns two tensors, `right` of shape
    $(H, W - 1)$ and `down` of shape $(H - 1, W)$: cell $[i, j]$ compares $(i, j)$ with
    $(i, j + 1)$, and with $(i + 1, j)$. The tokens may have any length.
    [ko]
    ## 3. 이웃

    각 토큰을 오른쪽 토큰, 아래쪽 토큰과 비교하십시오. 코사인은 1강의 것 그대로이고, 비교하는 쌍만
    새롭습니다. $H \times W$ 격자에는 행마다 $W - 1$개, 열마다 $H - 1$개의 쌍이 있습니다. 슬라이스를
    쓰면 반복문이 필요 없습니다. `grid[:, :-1]`은 마지막 열을 뺀 전부이고, `grid[:, 1:]`은 첫 열을
    뺀 전부입니다.

    ### 연습 3: 이웃의 코사인

    격자 $(H, W, D)$에 대해 `neighbour_cosines(grid)`를 작성하십시오. 모양이 $(H, W - 1)$인
    `right`와 $(H - 1, W)$인 `down`, 텐서 두 개를 돌려줍니다. $[i, j]$ 칸은 $(i, j)$를 각각
    $(i, j + 1)$, $(i + 1, j)$와 비교합니다. 토큰의 길이는 얼마든지 될 수 있습니다.
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
    Dark lines are the edges of things. The mean over all pairs is {near[5]:.2f} for this picture
    and {near[0]:.2f} for picture 0. Does that mean that neighbours are very similar?

    ## 4. A null to compare with

    A cosine has no zero of its own. If any two tokens of this encoder had a cosine of 0.9, then 0.9
    would say nothing about neighbours. So compare with pairs that are *not* neighbours: any two
    tokens of the same picture, and two tokens of different pictures.

    ### Exercise 4: cosines of other pairs

    Write `within(tokens)` for $(N, D)$: the mean cosine over all pairs of *different* tokens of one
    picture. And `between(tokens, others)` for $(N, D)$ and $(M, D)$: the mean cosine over all
    $N \cdot M$ pairs. Both return one number.
    [ko]
    어두운 선은 사물의 가장자리입니다. 모든 쌍의 평균은 이 사진에서 {near[5]:.2f}, 0번 사진에서
    {near[0]:.2f}입니다. 이웃이 아주 비슷하다는 뜻입니까?

    ## 4. 비교할 귀무분포

    코사인에는 스스로 정해진 0점이 없습니다. 이 인코더에서 아무 토큰이나 둘을 골라도 코사인이
    0.9라면, 0.9는 이웃에 대해 아무것도 말해 주지 않습니다. 그러니 이웃이 *아닌* 쌍과 비교해야
    합니다(귀무분포, null). 같은 사진의 아무 두 토큰, 그리고 서로 다른 사진의 두 토큰입니다.

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
    Of picture 0 any two tokens have a cosine of {compared[0][1]:.2f}: most of it is plain
    background, and of its {compared[0][0]:.2f} hardly anything is due to being neighbours. Over the
    nine pictures neighbours come to {means[0]:.2f}, any two tokens of the same picture to
    {means[1]:.2f}, and those of different pictures to {means[2]:.2f}. What *place* adds is the
    first difference, {means[0] - means[1]:.2f}, and it is smaller than what *being in the same
    picture* adds, {means[1] - means[2]:.2f}.

    ## 5. Outliers

    In large encoders a few tokens are many times as long as the others. They lie where the picture
    is empty, and the network stores information about the whole picture in them (*registers*,
    Darcet and others, 2024). In a map or a mean they do not represent the place where they are. So
    they are detected first, and numbers are given with and without them.

    The mean and the standard deviation are not suitable for that, because the outliers change both.
    Take the median $m$ of the lengths, and of the distances to it the median again:

    $$
    s = 1.4826 \cdot \mathrm{{median}}_i \, \lvert \ell_i - m \rvert
    $$

    (1.4826 makes $s$ the standard deviation if the lengths are normally distributed.) A token is an
    *outlier* if its length is above $m + 5 s$ **and** above $1.5 \, m$.

    ### Exercise 5: outliers, and the mean without them

    Write `outliers(lengths)` for lengths $(H, W)$: it returns truth values of the same shape. And
    `mean_without(right, down, drop)`: the mean over all cosines of neighbours in `right` and `down`
    (of exercise 3) but those of pairs with a token where `drop` $(H, W)$ is true.
    [ko]
    0번 사진에서는 아무 두 토큰의 코사인이 {compared[0][1]:.2f}입니다. 사진 대부분이 빈 바탕이므로,
    이웃의 코사인 {compared[0][0]:.2f} 가운데 이웃이라서 생긴 몫은 거의 없습니다. 사진 아홉 장의
    평균을 보면 이웃은 {means[0]:.2f}, 같은 사진의 아무 두 토큰은 {means[1]:.2f}, 다른 사진의 토큰은
    {means[2]:.2f}입니다. *자리*가 더해 주는 것은 첫째 차이인 {means[0] - means[1]:.2f}이며, *같은
    사진에 있다는 것*이 더해 주는 {means[1] - means[2]:.2f}보다 작습니다.

    ## 5. 이상치

    큰 인코더에서는 토큰 몇 개가 다른 것보다 몇 배나 깁니다. 그런 토큰은 사진의 빈 곳에 있으며,
    신경망은 거기에 사진 전체에 관한 정보를 저장합니다(*레지스터*, register, Darcet 등 2024). 지도나
    평균에서 이런 토큰은 자기 자리를 나타내지 않습니다. 그래서 먼저 찾아내고, 수치는 이들을 넣은
    것과 뺀 것을 함께 제시합니다.

    평균과 표준편차는 여기에 알맞지 않습니다. 이상치(outlier)가 둘을 모두 크게 바꾸기 때문입니다.
    길이의 중앙값 $m$을 구하고, 중앙값까지 거리의 중앙값을 다시 구하십시오.

    $$
    s = 1.4826 \cdot \mathrm{{median}}_i \, \lvert \ell_i - m \rvert
    $$

    (길이가 정규분포를 따른다면 1.4826을 곱한 $s$는 표준편차가 됩니다.) 길이가 $m + 5 s$보다 크고
    **동시에** $1.5 \, m$보다 큰 토큰이 *이상치 토큰*입니다.

    ### 연습 5: 이상치, 그리고 이상치를 뺀 평균

    길이 $(H, W)$에 대해 `outliers(lengths)`를 작성하십시오. 같은 모양의 참거짓 값을 돌려줍니다. 또
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
    Check this on the pictures: in the scenes {hits} of the {found} outliers lie on the shape
    itself. This small network stores nothing on the background; the tokens of the *shapes* are
    long. Leaving the outliers out lifts the mean of picture 2 from {near[2]:.3f} to
    {cleaned[2]:.3f}, because what was left out is the circle. The rule finds long tokens. What they
    mean has to be checked in the picture.

    ## 6. How many tokens are there really?

    A picture of plain background has as many tokens as a page of text, but much less content. In
    how many directions do the tokens vary? Take their mean away, and decompose the matrix $(N, D)$
    into its singular values $\sigma_k$. The shares $p_k$ of the variance are probabilities, and the
    exponential of their entropy says how many directions are in use, the *effective rank*:

    $$
    p_k = \frac{{\sigma_k^2}}{{\sum_j \sigma_j^2}}, \qquad
    r = \exp\Big(-\sum_k p_k \ln p_k\Big)
    $$

    One direction alone gives 1; $K$ directions of the same variance give $K$.

    ### Exercise 6: the effective rank

    Write `effective_rank(tokens)` for $(N, D)$. It returns one number. `torch.linalg.svdvals` gives
    the singular values. A share may be 0; then $p \ln p$ is 0 (`torch.xlogy(p, p)`).
    [ko]
    사진에서 확인하십시오. 도형 사진 네 장에서 이상치 {found}개 가운데 {hits}개가 도형 위에
    있습니다. 이 작은 신경망은 빈 바탕에 아무것도 저장하지 않으며, *도형*의 토큰이 깁니다. 이상치를
    빼면 2번 사진의 평균이 {near[2]:.3f}에서 {cleaned[2]:.3f}로 올라가는데, 빠진 것이 바로 원이기
    때문입니다. 규칙은 긴 것을 찾을 뿐입니다. 그것이 무엇인지는 사진에서 확인해야 합니다.

    ## 6. 토큰은 실제로 몇 개입니까?

    빈 바탕의 사진도 글이 가득한 쪽과 토큰 수가 같지만, 내용은 훨씬 적습니다. 토큰은 몇 가지
    방향으로 달라집니까? 토큰의 평균을 빼고, 행렬 $(N, D)$를 특잇값(singular value) $\sigma_k$로
    분해하십시오. 분산의 비율 $p_k$는 확률이며, 그 엔트로피의 지수 함수 값은 방향이 몇 개나
    쓰이는지를 말해 줍니다. 이것이 *유효 랭크*(effective rank)입니다.

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
    There are {len(rows[0])} tokens, and even those of the picture with the largest rank
    ({nine[ranks.index(max(ranks))].sentence}) vary in {max(ranks):.1f} directions. So many tokens
    are hardly needed. Lesson 5 asks how many are.

    ## 7. Maps that mislead

    The best known map compares every patch with CLS: "this is where the model looks". But nothing
    in the training has made a patch and CLS point in the same direction. What was trained is the
    cosine of CLS, after a last linear step (the *projection*), with the sentence.

    And a sentence? The projection can be applied to the patches too, and then each has a cosine
    with the text: "this is where the green circle is". Look at both for picture 2, and at the map
    of a sentence that is wrong. Which of them is bright on the circle?
    [ko]
    토큰은 {len(rows[0])}개인데, 랭크가 가장 큰 사진({nine[ranks.index(max(ranks))].sentence})에서도
    방향은 {max(ranks):.1f}개입니다. 그렇게 많은 토큰은 거의 필요하지 않습니다. 몇 개면 되는지가
    5강의 질문입니다.

    ## 7. 속이는 지도

    가장 널리 알려진 지도는 모든 패치를 CLS와 비교하고, "모델이 여기를 본다"고 말합니다. 그러나 학습
    과정의 어떤 것도 패치와 CLS가 같은 방향을 향하게 하지 않았습니다. 학습된 것은 마지막 선형 단계인
    *사영*(projection)을 거친 CLS와 문장의 코사인입니다.

    문장은 어떻습니까? 사영을 패치에도 적용하면 패치마다 문장과의 코사인이 나오고, "초록 원이 여기
    있다"고 말할 수 있을 듯합니다. 2번 사진에서 두 지도를 보고, 틀린 문장의 지도도 보십시오. 원에서
    밝은 지도는 어느 것입니까?
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
    One picture proves nothing. So take forty pictures of a single shape (those in which the shape
    covers at least three patches), where we know which patches it covers, and ask of every map: of
    a patch on the shape and one beside it, how often is the one on the shape higher? A perfect map
    has 100 %, a map that says nothing 50 %, and one that is upside down 0 %.
    [ko]
    사진 한 장은 아무것도 증명하지 못합니다. 도형이 하나뿐인 사진 40장(그중 도형이 패치를 세 개 이상
    덮는 것)에서는 도형이 어느 패치를 덮는지 알고 있습니다. 지도마다 물어보십시오. 도형 위의 패치와
    도형 밖의 패치를 하나씩 고르면, 도형 위의 값이 더 큰 경우가 얼마나 됩니까? 완벽한 지도는 100 %,
    아무것도 말하지 않는 지도는 50 %, 뒤집힌 지도는 0 %입니다.
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
    A patch on the shape is above one beside it in {right_way["CLS, before the projection"]:.0%} of
    the cases in the map of CLS, and in {right_way["its own sentence"]:.0%} in the map of the right
    sentence, while the sentence of another picture reaches {right_way["another sentence"]:.0%}.
    Below 50 % the map shows the *opposite* of the thing; larger CLIPs are known for it as well. The
    plain length of a token, which asks for no text at all, has
    {right_way["length of the token"]:.0%}. Before you read a map, measure it where you know the
    answer.

    ## 8. All of it in two lines

    `TokenSimilarityAnalyzer` does everything of this lesson. Here its numbers stand beside yours;
    the last is its null, made of other pictures than ours. (`stage="projected"` takes the tokens
    after the projection, and for a CLS map before it the result warns.)
    [ko]
    도형 위의 패치가 더 높은 경우는 CLS 지도에서 {right_way["CLS, before the projection"]:.0%}, 맞는
    문장의 지도에서 {right_way["its own sentence"]:.0%}입니다. 다른 사진의 문장은
    {right_way["another sentence"]:.0%}입니다. 50 %보다 작으면 지도가 사물의 *반대*를 보여 주는
    것이며, 더 큰 CLIP도 그런 것으로 알려져 있습니다. 문장을 묻지도 않는 단순한 토큰 길이는
    {right_way["length of the token"]:.0%}입니다. 지도를 읽기 전에, 답을 아는 곳에서 먼저 재어
    보십시오.

    ## 8. 두 줄로 모두

    `TokenSimilarityAnalyzer`는 이 강의의 모든 것을 합니다. 아래에서 그 수치가 여러분의 수치 옆에
    있습니다. 마지막 줄은 분석기의 귀무분포이며 우리와 다른 사진으로 만든 것입니다.
    (`stage="projected"`는 사영을 거친 토큰을 쓰고, 그 전의 CLS 지도에는 결과에 경고가 붙습니다.)
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

    - CLS goes before anything is laid onto the grid, and the grid is in reading order. A wrong
      order raises no error, so look at a map whose answer you know.
    - A cosine has no zero. Put pairs that share nothing beside it.
    - Look for outliers with the median, give numbers with and without them, and look where they
      lie.
    - Many tokens are not many directions: the effective rank says how many.
    - A map of CLS or of a sentence can be upside down. Measure it before you show it.

    Try more: `encoderlab tokens image.path=YOUR.jpg --text "a cat"` makes all of these maps for a
    picture of yours, layer by layer, and the map of a sentence in five ways.
    [ko]
    ## 정리

    - 격자에 놓기 전에 CLS를 떼어 내고, 격자는 글을 읽는 순서로 채웁니다. 순서가 틀려도 오류가 나지
      않으니, 답을 아는 지도를 먼저 보십시오.
    - 코사인에는 0점이 없습니다. 아무 관계 없는 쌍을 옆에 두십시오.
    - 이상치는 중앙값으로 찾고, 수치는 넣은 것과 뺀 것을 함께 제시하며, 어디에 있는지 보십시오.
    - 토큰이 많다고 방향이 많은 것은 아닙니다. 몇 개인지는 유효 랭크가 말해 줍니다.
    - CLS나 문장의 지도는 뒤집혀 있을 수 있습니다. 남에게 보이기 전에 재어 보십시오.

    더 해 보십시오. `encoderlab tokens image.path=YOUR.jpg --text "a cat"`은 여러분의 사진으로 이
    모든 지도를 층마다 그리고, 문장의 지도는 다섯 가지 방법으로 그립니다.
    """)
    return


if __name__ == "__main__":
    app.run()
