import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="Lesson 5: Choose a token budget")

with app.setup(hide_code=True):
    import torch
    import torch.nn.functional as F

    from encoderlab import load_dual, load_vision
    from encoderlab.compression.compressor import Compressor
    from encoderlab.compression.cost import KNOWN, cost
    from encoderlab.compression.token_set import TokenSet
    from encoderlab.data.synthetic import generate
    from encoderlab.patch_tokens.methods import reducers
    from grader import Grader

    grader = Grader(5)
    text = grader.text


@app.cell(hide_code=True)
def _():
    text(r"""
    # Lesson 5: Choose a token budget

    Lesson 4 suggested that a picture does not need all of its tokens. Each token costs a language
    model memory and time. In this lesson you compute this cost, reduce the number of tokens,
    measure the loss, and choose a token budget.

    There are five exercises. The lesson takes about half an hour and needs no network. Replace each
    `...` with your answer.

    ## 1. What a token costs

    A language model stores two vectors for every token that it has read, a *key* and a *value*, in
    every layer and for each key-value head: the *KV (key-value) cache*. Its size is proportional to
    the number of tokens. The computation for reading the prompt (*prefill*) also grows with the
    number of tokens, and its attention part grows with the square.

    ### Exercise 1: the bytes of the cache

    Write `cache_bytes(tokens, layers, kv_heads, head_dim)`. It returns the size in bytes of the
    keys and values of `tokens` tokens. Each vector has `head_dim` numbers of 16 bits.
    [ko]
    # 5강: 토큰 예산 정하기

    4강에 따르면 사진에 토큰이 모두 필요하지는 않습니다. 언어 모델에서는 토큰마다 메모리와 시간이
    듭니다. 이 강의에서는 그 비용을 계산하고, 토큰을 줄이고, 손실을 측정하고, 토큰 예산을 정합니다.

    연습은 다섯 개이며, 30분쯤 걸리고 네트워크는 필요하지 않습니다. `...` 자리에 답을 쓰십시오.

    ## 1. 토큰 하나의 비용

    언어 모델은 읽은 토큰마다 *키(key)*와 *값(value)* 벡터 두 개를 모든 층의 키-값 헤드마다
    저장합니다. 이것이 *KV(key-value) 캐시*이며 크기는 토큰 수에 비례합니다. 프롬프트를 읽는
    계산량(*프리필*, prefill)도 토큰 수에 따라 커지고, 그중 어텐션(attention)은 토큰 수의 제곱으로
    커집니다.

    ### 연습 1: 캐시의 바이트 수

    `cache_bytes(tokens, layers, kv_heads, head_dim)`을 작성하십시오. 그만큼의 토큰에 대한 키와 값이
    차지하는 바이트 수입니다. 벡터 하나는 수 `head_dim`개이고, 수 하나는 16비트입니다.
    """)
    return


@app.cell
def exercise_1():
    def cache_bytes(tokens, layers, kv_heads, head_dim):
        return ...

    check_1 = grader.check(1, cache_bytes)
    return (check_1,)


@app.cell
def _(check_1):
    llm = KNOWN["llama"]
    text_tokens = 64
    print(f"a language model of {llm.layers} layers, {text_tokens} tokens of text, a picture")
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
    text(rf"""
    With a sixteenth of the visual tokens, the prefill is
    {costs[576].prefill / costs[36].prefill:.1f} times smaller, not 16 times, because the number of
    text tokens does not change. The computation of the encoder is not counted here.

    ## 2. Four tokens become one

    The simplest reduction splits the grid into square windows and takes the mean of each window.
    Mind the order: four consecutive tokens are *not* a window of 2 x 2; they are side by side in
    one row.

    ### Exercise 2: average pooling

    Write `average_pool(tokens, side, small)` for tokens $(B, \text{{side}}^2, D)$ in reading order.
    It returns the mean of each square window, $(B, \text{{small}}^2, D)$, in reading order. `small`
    divides `side`. (Use `reshape` with two more axes, or `einops.reduce`.)
    [ko]
    시각 토큰을 16분의 1로 줄여도 텍스트 토큰은 그대로이므로 프리필은 16분의 1이 아니라
    {costs[576].prefill / costs[36].prefill:.1f}분의 1이 됩니다. 인코더의 계산량은 여기에 포함되지
    않습니다.

    ## 2. 토큰 네 개를 하나로

    토큰을 줄이는 가장 단순한 방법은 격자를 정사각형 창으로 나누고 창마다 평균을 내는 것입니다.
    순서에 주의하십시오. 이어진 토큰 네 개는 2 x 2 창이 *아니라* 한 행에 나란히 있는 토큰입니다.

    ### 연습 2: 평균 풀링

    글을 읽는 순서로 놓인 토큰 $(B, \text{{side}}^2, D)$에 대해
    `average_pool(tokens, side, small)`을 작성하십시오. 역시 글을 읽는 순서로
    $(B, \text{{small}}^2, D)$, 곧 정사각형 창마다의 평균을 돌려줍니다. `small`은 `side`의
    약수입니다. (축을 두 개 늘린 `reshape`나 `einops.reduce`를 쓰십시오.)
    """)
    return


@app.cell
def exercise_2():
    def average_pool(tokens, side, small):
        return ...

    check_2 = grader.check(2, average_pool)
    return (check_2,)


@app.cell(hide_code=True)
def _():
    text(r"""
    The next cell computes tokens from the second-to-last layer, which vision-language models
    usually use. One half of the pictures is for choosing a budget (*choice*). The other half
    (*fresh*) is held out until the end.
    [ko]
    다음 셀은 비전-언어 모델이 보통 사용하는, 끝에서 두 번째 층의 토큰을 계산합니다. 사진의 절반은
    예산을 고르는 데 쓰고(choice), 나머지 절반인 *새 사진(fresh)*은 마지막까지 쓰지 않습니다.
    """)
    return


@app.cell
def _():
    # The trained compressors of section 5 are made for this encoder and its grid of 12 x 12.
    MODEL = "tiny-clip"
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
    return MODEL, layer, mean_token, sets, side, texts, vision


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 3. The relative error

    Replace every token by the mean of its window and compute the squared error. A squared error
    such as 3.7 has no scale. Divide it by the error of the simplest reconstruction, the mean token
    at every position, over the same pictures:

    $$
    e = \frac{\sum_i \lVert \hat{x}_i - x_i \rVert^2}{\sum_i \lVert \bar{x} - x_i \rVert^2}
    $$

    0 is lossless, 1 is as bad as the mean token at every position, and values above 1 are possible.

    ### Exercise 3: the relative error

    Write `relative_error(tokens, rebuilt)` for two tensors $(B, N, D)$. $\bar{x}$ is the mean of
    `tokens` over pictures and positions, a vector of $D$ numbers. It returns one number.
    [ko]
    ## 3. 상대 오차

    모든 토큰을 그 창의 평균으로 바꾸고 제곱 오차를 구하십시오. 3.7과 같은 제곱 오차는 그 자체로는
    큰지 작은지 알 수 없습니다. 같은 사진에서 가장 단순한 복원, 곧 모든 위치에 평균 토큰을 놓았을
    때의 오차로 나누십시오.

    $$
    e = \frac{\sum_i \lVert \hat{x}_i - x_i \rVert^2}{\sum_i \lVert \bar{x} - x_i \rVert^2}
    $$

    0이면 손실이 없고, 1이면 모든 위치에 평균 토큰을 놓은 것만큼 나쁘며, 1보다 클 수도 있습니다.

    ### 연습 3: 상대 오차

    텐서 $(B, N, D)$ 두 개에 대해 `relative_error(tokens, rebuilt)`를 작성하십시오. $\bar{x}$는
    `tokens`를 사진과 위치에 대해 평균한, 수 $D$개로 된 벡터입니다. 수 하나를 돌려줍니다.
    """)
    return


@app.cell
def exercise_3():
    def relative_error(tokens, rebuilt):
        return ...

    check_3 = grader.check(3, relative_error)
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
    text(r"""
    ## 4. The score of a task

    The relative error weights all numbers equally, but some matter more for a task than others. So
    put the rebuilt tokens back into the encoder at their layer, run the last block, and compare the
    resulting embedding with the embedding from all tokens. Their cosine is the *score*.

    The score needs two reference values. The class token has already collected information before
    this layer, so the score is not 0 even with the mean token at every position. This is the
    *floor*. The score with all tokens is the *ceiling* (full). The share of the score kept is

    $$
    \text{kept} = \frac{\text{score} - \text{floor}}{\text{full} - \text{floor}}
    $$
    [ko]
    ## 4. 과제의 점수

    상대 오차는 모든 수에 같은 비중을 두지만, 과제에 더 중요한 수가 있습니다. 그래서 복원한 토큰을
    원래 층에 다시 넣고 마지막 블록을 실행해, 나온 임베딩을 모든 토큰으로 구한 임베딩과 비교합니다.
    둘의 코사인이 *점수(score)*입니다.

    점수에는 기준값이 두 개 필요합니다. 클래스 토큰은 이 층 이전에 이미 정보를 모았으므로, 모든
    위치에 평균 토큰을 놓아도 점수는 0이 아닙니다. 이것이 *바닥값(floor)*입니다. 모든 토큰을 쓴
    점수가 *천장값(full)*입니다. 유지된 점수의 비율은 다음과 같습니다.

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
    text(rf"""
    With *no* information about the picture in the patches, the right caption is still found in
    {lazy:.0%} of the cases, where chance gives {chance:.0%}. So "retrieval works after compression"
    alone is not evidence for a method.

    ## 5. Six methods

    The next cell compares six methods: means of windows (average), random tokens (*random*), the
    tokens with the most attention from the class token (cls_attention), similar tokens merged step
    by step (*ToMe*, token merging), the means of clusters (*k-means*), and a small trained network
    (trained). All return the same number of tokens. Methods that select tokens fill every other
    position with the nearest selected token.
    [ko]
    패치에 사진의 정보가 *전혀* 없어도 {lazy:.0%}의 경우에 맞는 설명문을 찾습니다. 우연 수준은
    {chance:.0%}입니다. 따라서 "압축한 뒤에도 검색이 된다"는 것만으로는 방법이 좋다고 할 수
    없습니다.

    ## 5. 여섯 가지 방법

    다음 셀은 여섯 가지 방법을 비교합니다. 창의 평균(average), 무작위 토큰(*random*), 클래스 토큰의
    어텐션이 가장 큰 토큰(cls_attention), 비슷한 토큰을 차례로 병합하기(*ToMe*, token merging),
    군집의 평균(*k-means*), 학습한 작은 신경망(trained)입니다. 모두 같은 수의 토큰을 만듭니다.
    토큰을 선택하는 방법은 다른 위치를 가장 가까운 선택된 토큰으로 채웁니다.
    """)
    return


@app.cell
def _(MODEL, check_3, floors, found, fulls, score, sets, side):
    WAYS = ("average", "random", "cls_attention", "tome", "kmeans")
    trained = {}
    if MODEL == "tiny-clip":
        trained = {k: Compressor.from_pretrained(f"tiny-clip-12to{k}") for k in (6, 4, 3)}

    def rebuilt_by(way, small, name):
        method = trained[small] if way == "trained" else reducers(way)[0]
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
    text(r"""
    Compare `average` and `random` at 36 tokens. Which has the smaller error, and which keeps more
    of the score? A small error does not mean that the tokens are useful.

    ## 6. Choose a budget

    ### Exercise 4: the smallest budget

    Write `smallest_budget(scores, floor, full, most)`. `scores` has the mean score for each number
    of tokens, in any order: `{36: 0.99, 16: 0.97}`. It returns the smallest number of tokens that
    loses at most the share `most` of the range between `floor` and `full`, or `None` if no budget
    is good enough.
    [ko]
    토큰 36개에서 `average`와 `random`을 비교하십시오. 오차가 작은 것은 어느 쪽이고, 점수를 더 많이
    지키는 것은 어느 쪽입니까? 오차가 작다고 토큰이 쓸모 있는 것은 아닙니다.

    ## 6. 예산 고르기

    ### 연습 4: 가장 작은 예산

    `smallest_budget(scores, floor, full, most)`를 작성하십시오. `scores`에는 토큰 수마다 평균
    점수가 아무 순서로나 들어 있습니다(예: `{36: 0.99, 16: 0.97}`). `floor`와 `full` 사이에서 잃는
    비율이 `most`를 넘지 않는 가장 작은 토큰 수를 돌려주고, 그런 것이 없으면 `None`을 돌려줍니다.
    """)
    return


@app.cell
def exercise_4():
    def smallest_budget(scores, floor, full, most):
        return ...

    check_4 = grader.check(4, smallest_budget)
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
    text(r"""
    Report the last column. The budget was chosen because its score was good on the first half of
    the pictures, and part of that may be chance. The pictures of the last column were not used for
    the choice.

    ## 7. A paired comparison

    Some pictures are hard for both of two methods. So use the *difference* for each picture,
    $d_i = a_i - b_i$. The 95 % confidence interval of its mean is approximately

    $$
    \bar{d} \pm 1.96 \, \frac{s}{\sqrt{n}}, \qquad
    s = \sqrt{\frac{1}{n - 1} \sum_i (d_i - \bar{d})^2}
    $$

    If the interval contains 0, these pictures cannot distinguish the two methods.

    ### Exercise 5: a paired interval

    Write `paired_interval(a, b)` for the scores $(n,)$ of two methods on the same pictures. It
    returns the lower and the upper end of the interval for $a - b$.
    [ko]
    마지막 열을 보고하십시오. 예산은 사진의 첫 절반에서 점수가 좋아서 고른 것이고, 그 일부는 우연일
    수 있습니다. 마지막 열의 사진은 고르는 데 쓰지 않았습니다.

    ## 7. 짝지은 비교

    어떤 사진은 두 방법 모두에 어렵습니다. 그래서 사진마다 *차이* $d_i = a_i - b_i$를 구합니다. 그
    평균의 95 % 신뢰 구간은 대략 다음과 같습니다.

    $$
    \bar{d} \pm 1.96 \, \frac{s}{\sqrt{n}}, \qquad
    s = \sqrt{\frac{1}{n - 1} \sum_i (d_i - \bar{d})^2}
    $$

    구간 안에 0이 있으면, 이 사진들로는 두 방법을 구별할 수 없습니다.

    ### 연습 5: 짝지은 구간

    같은 사진에 대한 두 방법의 점수 $(n,)$을 받는 `paired_interval(a, b)`를 작성하십시오. $a - b$에
    대한 구간의 아래 끝과 위 끝을 돌려줍니다.
    """)
    return


@app.cell
def exercise_5():
    def paired_interval(a, b):
        return ...

    check_5 = grader.check(5, paired_interval)
    return (check_5,)


@app.cell
def _(check_5, rebuilt_by, score):
    def compared(one, other, small):
        a, b = (score(rebuilt_by(way, small, "fresh"), "fresh") for way in (one, other))
        low, high = (float(end) for end in check_5.value(a, b))
        verdict = one if low > 0 else other if high < 0 else "cannot distinguish"
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
    text(r"""
    ## Summary

    - The cache is proportional to the number of tokens. The prefill also grows with it, but the
      cost of the text tokens stays.
    - Consecutive tokens do not form a square window of the grid.
    - Compare an error with that of the mean token, and a score with its floor and its ceiling.
    - A small error does not mean that the tokens are useful. Measure with your own task.
    - Choose on some pictures and report on others. Compare methods on the same pictures.

    Tokens that are useful for the encoder may not be useful for a language model; test that
    separately. To try next: `encoderlab compress evaluate` measures all methods at every budget,
    with intervals, on your own pictures. `encoderlab compress --images FOLDER --grid 6` trains a
    compressor.
    [ko]
    ## 정리

    - 캐시는 토큰 수에 비례합니다. 프리필도 토큰 수에 따라 커지지만, 텍스트 토큰의 비용은 변하지
      않습니다.
    - 이어진 토큰이 격자의 정사각형 창을 이루는 것은 아닙니다.
    - 오차는 평균 토큰의 오차와, 점수는 바닥값과 천장값과 비교하십시오.
    - 오차가 작다고 토큰이 쓸모 있는 것은 아닙니다. 실제로 하려는 과제로 측정하십시오.
    - 고를 때와 보고할 때 서로 다른 사진을 쓰고, 방법은 같은 사진에서 비교하십시오.

    인코더에 쓸모 있는 토큰이 언어 모델에는 쓸모없을 수 있으므로 따로 시험해야 합니다. 더 해 볼 것:
    `encoderlab compress evaluate`는 자신의 사진에서 모든 방법을 예산마다 신뢰 구간과 함께 측정하고,
    `encoderlab compress --images FOLDER --grid 6`은 압축기를 학습합니다.
    """)
    return


if __name__ == "__main__":
    app.run()
