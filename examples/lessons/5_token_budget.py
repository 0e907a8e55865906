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

    Lesson 4 suggested that a picture does not need all of its tokens, and each of them costs a
    language model memory and time. In this lesson you compute this cost, reduce the tokens, measure
    what is lost, and choose a budget that you can justify.

    Five exercises; it takes about half an hour and no network. Put your answer in the place of
    `...`.

    ## 1. What a token costs

    A language model keeps two vectors of every token that it has read, a *key* and a *value*, in
    every layer and for each of its key-value heads: the *KV cache*. It grows with the number of
    tokens. So does the work of reading the prompt (*prefill*), with one part, attention, that grows
    with the square.

    ### Exercise 1: the bytes of the cache

    Write `cache_bytes(tokens, layers, kv_heads, head_dim)`: the bytes of the keys and values of so
    many tokens. Each vector has `head_dim` numbers, each of 16 bits.
    [ko]
    # 5강: 토큰 예산 정하기

    4강에서 보았듯이 사진에 그 많은 토큰이 다 필요하지는 않은 듯합니다. 그런데 언어 모델에서는 토큰
    하나하나에 메모리와 시간이 듭니다. 이 강의에서는 그 비용을 계산하고, 토큰을 줄이고, 무엇을
    잃는지 재고, 근거를 댈 수 있는 토큰 예산을 정합니다.

    연습은 다섯 개이며, 30분쯤 걸리고 네트워크는 필요하지 않습니다. `...` 자리에 답을 쓰십시오.

    ## 1. 토큰 하나의 비용

    언어 모델은 읽은 토큰마다 *키(key)*와 *값(value)* 벡터 두 개를 모든 층에, 키-값 헤드마다 남겨
    둡니다. 이것이 *KV 캐시*이며 토큰 수에 비례해 커집니다. 프롬프트를 읽는 계산량(*프리필*,
    prefill)도 그렇고, 그중 어텐션(attention)은 토큰 수의 제곱으로 커집니다.

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
    A sixteenth of the visual tokens makes the prefill {costs[576].prefill / costs[36].prefill:.1f}
    times smaller: the text stays, and so does the encoder's own work, which is not counted here.

    ## 2. Four tokens become one

    The simplest way to fewer tokens: cut the grid into square windows, and take the mean of each.
    Beware of the order. Four tokens that follow one another in the row are *not* a window of 2 x 2;
    they lie side by side.

    ### Exercise 2: average pooling

    Write `average_pool(tokens, side, small)` for tokens $(B, \text{{side}}^2, D)$ in reading order.
    It returns $(B, \text{{small}}^2, D)$, in reading order too: the mean of each square window.
    `small` divides `side`. (`reshape` with two more axes does it, or `einops.reduce`.)
    [ko]
    시각 토큰을 16분의 1로 줄이면 프리필은 {costs[576].prefill / costs[36].prefill:.1f}분의 1이
    됩니다. 텍스트는 그대로 남고, 여기서 세지 않은 인코더 자신의 계산량도 그대로이기 때문입니다.

    ## 2. 토큰 네 개를 하나로

    토큰을 줄이는 가장 단순한 방법은 격자를 정사각형 창으로 나누고 창마다 평균을 내는 것입니다.
    순서를 조심하십시오. 한 줄로 이어진 토큰 네 개는 2 x 2 창이 *아니라* 옆으로 나란히 놓인
    것입니다.

    ### 연습 2: 평균 풀링

    글을 읽는 순서로 놓인 토큰 $(B, \text{{side}}^2, D)$에 대해
    `average_pool(tokens, side, small)`을 작성하십시오. 역시 글을 읽는 순서로
    $(B, \text{{small}}^2, D)$, 곧 정사각형 창마다의 평균을 돌려줍니다. `small`은 `side`의
    약수입니다. (축을 두 개 늘린 `reshape`나 `einops.reduce`로 됩니다.)
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
    Now the tokens: those of the layer before the last, which a vision-language model usually takes.
    One half of the pictures is there to choose with. The other half, the *fresh* ones, stays
    untouched until the end.
    [ko]
    이제 토큰입니다. 비전-언어 모델이 보통 사용하는, 끝에서 두 번째 층의 토큰입니다. 사진의 절반은
    예산을 고르는 데 씁니다. 나머지 절반인 *새 사진(fresh)*은 마지막까지 손대지 않습니다.
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

    Give every place the mean of its window back, and look how far it is from the token that stood
    there. A squared error alone says nothing: are 3.7 much? Divide it by the error of the simplest
    guess, the mean token everywhere, over the same pictures:

    $$
    e = \frac{\sum_i \lVert \hat{x}_i - x_i \rVert^2}{\sum_i \lVert \bar{x} - x_i \rVert^2}
    $$

    0 is lossless, 1 is as bad as the mean token everywhere, and one can do worse.

    ### Exercise 3: the relative error

    Write `relative_error(tokens, rebuilt)` for two tensors $(B, N, D)$. $\bar{x}$ is the mean of
    `tokens` over pictures and places, a vector of $D$ numbers. It returns one number.
    [ko]
    ## 3. 상대 오차

    모든 자리에 그 창의 평균을 되돌려 놓고, 원래 토큰과 얼마나 다른지 보십시오. 제곱 오차만으로는
    아무것도 알 수 없습니다. 3.7이면 큽니까? 같은 사진에서 가장 단순한 추측, 곧 어디에나 평균 토큰을
    놓았을 때의 오차로 나누십시오.

    $$
    e = \frac{\sum_i \lVert \hat{x}_i - x_i \rVert^2}{\sum_i \lVert \bar{x} - x_i \rVert^2}
    $$

    0이면 손실이 없고, 1이면 어디에나 평균 토큰을 놓은 것만큼 나쁘며, 그보다 나쁠 수도 있습니다.

    ### 연습 3: 상대 오차

    텐서 $(B, N, D)$ 두 개에 대해 `relative_error(tokens, rebuilt)`를 작성하십시오. $\bar{x}$는
    `tokens`를 사진과 자리에 대해 평균한, 수 $D$개로 된 벡터입니다. 수 하나를 돌려줍니다.
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

    An error counts every number alike. What matters is what can still be done with the tokens. So
    put the rebuilt ones back into the encoder at their layer, let the last block run, and compare
    the embedding that comes out with the one of all tokens: their cosine is the *score*.

    Here too both limits are needed. The class token has collected much before this layer, so even
    with the mean token in every place the score is not 0. That is the *floor*; all tokens are the
    *ceiling*, and only what lies between can be lost:

    $$
    \text{kept} = \frac{\text{score} - \text{floor}}{\text{full} - \text{floor}}
    $$
    [ko]
    ## 4. 과제의 점수

    오차는 모든 수를 똑같이 셉니다. 중요한 것은 그 토큰으로 무엇을 할 수 있는지입니다. 그러니 되살린
    토큰을 원래 층에 다시 넣고 마지막 블록을 실행하여, 나온 임베딩을 모든 토큰의 임베딩과
    비교합니다. 둘의 코사인이 *점수(score)*입니다.

    여기에도 두 끝이 필요합니다. 클래스 토큰은 이 층에 이르기 전에 이미 많은 것을 모았으므로, 모든
    자리에 평균 토큰을 놓아도 점수는 0이 아닙니다. 이것이 *바닥값(floor)*입니다. 모든 토큰의 점수가
    *천장(full)*이고, 잃을 수 있는 것은 그 사이에 있는 것뿐입니다.

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
    With *no* picture left in the patches, the right caption is still found in {lazy:.0%} of the
    cases, where chance gives {chance:.0%}. So "retrieval works after compression" would be true of
    a method that keeps nothing.

    ## 5. Six ways, side by side

    Means of windows; any tokens (*random*); those to which CLS attends most; similar tokens merged
    step by step (*ToMe*); the means of clusters (*k-means*); and a small network that was trained
    for it. All make exactly as many tokens. A method that keeps some tokens gives every other place
    the nearest one that it has kept.
    [ko]
    패치에 사진이 *전혀* 남아 있지 않아도 맞는 설명문을 {lazy:.0%} 찾습니다. 우연 수준은
    {chance:.0%}입니다. "압축한 뒤에도 검색이 된다"는 말은 아무것도 남기지 않는 방법에도 맞습니다.

    ## 5. 여섯 가지 방법을 나란히

    창의 평균(average), 아무 토큰(*random*), CLS의 어텐션이 가장 큰 토큰(cls_attention), 비슷한
    토큰을 차례로 병합하기(*ToMe*), 묶음의 평균(*k-means*), 그리고 이 일을 위해 학습한 작은
    신경망(trained)입니다. 모두 정확히 같은 수의 토큰을 만듭니다. 토큰 몇 개를 남기는 방법은 다른
    자리에 가장 가까운 남은 토큰을 놓습니다.
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
    Compare `average` and `random` at 36 tokens: which has the smaller error, and which keeps more?
    A small error does not mean useful tokens.

    ## 6. Choose

    ### Exercise 4: the smallest budget

    Write `smallest_budget(scores, floor, full, most)`. `scores` has the mean score for each number
    of tokens, in any order: `{36: 0.99, 16: 0.97}`. It returns the smallest number of tokens that
    loses no more than the share `most` of what lies between `floor` and `full`, or `None` if there
    is none.
    [ko]
    토큰 36개에서 `average`와 `random`을 비교하십시오. 오차가 작은 것은 어느 쪽이고, 점수를 더 많이
    지키는 것은 어느 쪽입니까? 오차가 작다고 토큰이 쓸모 있는 것은 아닙니다.

    ## 6. 고르기

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
    The last column is the one to believe. A budget is chosen because it looked good on these
    pictures, and part of that may be chance. The number to report comes from pictures that had no
    part in the choice.

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
    [ko]
    믿을 것은 마지막 열입니다. 예산은 이 사진들에서 좋아 보였기 때문에 골랐고, 그 가운데 일부는
    우연일 수 있습니다. 보고할 수치는 고르는 데 쓰지 않은 사진에서 나와야 합니다.

    ## 7. 차이는 진짜입니까?

    같은 사진에 두 방법을 쓰면, 어떤 사진은 둘 모두에 어렵습니다. 그러니 사진마다의 *차이*
    $d_i = a_i - b_i$를 보십시오. 그 평균의 95 % 신뢰 구간은 대략 다음과 같습니다.

    $$
    \bar{d} \pm 1.96 \, \frac{s}{\sqrt{n}}, \qquad
    s = \sqrt{\frac{1}{n - 1} \sum_i (d_i - \bar{d})^2}
    $$

    구간 안에 0이 있으면, 이 사진들로는 두 방법을 구별할 수 없습니다.

    ### 연습 5: 짝지은 비교

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

    - The cache grows with the tokens; prefill does too, and the text stays.
    - Neighbours on the grid are not neighbours in the row.
    - An error needs the mean token beside it, a score its floor and its ceiling.
    - A small error does not mean useful tokens. Measure with the task that you have.
    - Choose on some pictures, report on others, compare on the same ones, picture by picture.

    What the encoder can still use, a language model need not be able to read: that takes a test of
    its own. Try more: `encoderlab compress evaluate` measures thirteen ways at every budget, with
    intervals, on your pictures; `encoderlab compress --images FOLDER --grid 6` trains one.
    [ko]
    ## 정리

    - 캐시는 토큰 수에 비례해 커집니다. 프리필도 커지지만, 텍스트의 몫은 그대로입니다.
    - 격자의 이웃은 한 줄로 늘어놓은 토큰의 이웃이 아닙니다.
    - 오차 옆에는 평균 토큰을, 점수 옆에는 바닥값과 천장을 두십시오.
    - 오차가 작다고 토큰이 쓸모 있는 것은 아닙니다. 여러분이 하려는 과제로 재십시오.
    - 어떤 사진으로 고르고, 다른 사진으로 보고하며, 비교는 같은 사진에서 사진마다 하십시오.

    인코더가 아직 쓸 수 있는 토큰이라고 해서 언어 모델도 읽을 수 있는 것은 아닙니다. 그것은 따로
    시험해야 합니다. 더 해 보십시오. `encoderlab compress evaluate`는 여러분의 사진으로 열세 가지
    방법을 모든 예산에서 신뢰 구간과 함께 재고, `encoderlab compress --images FOLDER --grid 6`은
    압축기를 학습합니다.
    """)
    return


if __name__ == "__main__":
    app.run()
