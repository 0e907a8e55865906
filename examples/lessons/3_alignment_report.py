import marimo

__generated_with = "0.25.2"
app = marimo.App(
    width="medium",
    app_title="Lesson 3: Read an alignment report",
)

with app.setup(hide_code=True):
    import itertools
    import math
    import os
    from pathlib import Path

    import numpy as np

    import encoderlab
    import show
    from encoderlab.alignment.data import extract_features
    from encoderlab.alignment.settings import Alignment
    from encoderlab.data.decode import open_image
    from encoderlab.metrics.cka import Gram
    from encoderlab.metrics.coral import coral
    from encoderlab.metrics.correlation import correlate
    from encoderlab.metrics.neighbours import mutual_knn
    from encoderlab.metrics.strata import Strata, within_strata
    from grader import Grader

    grader = Grader(3)
    text = grader.text


@app.cell(hide_code=True)
def _():
    text(r"""
    # Lesson 3: Read an alignment report

    A vision-language model joins two networks that were trained separately: an encoder of pictures
    and a language model. Which encoder suits which language model? An *alignment report* answers
    with numbers, before anybody has trained anything.

    Most of these numbers can mislead. In this lesson you reproduce how: noise that scores higher
    than a real model, a metric that stays the same when the captions are shuffled, a projector that
    is perfect on the rows it was fitted on and useless on others, a correlation of -0.99 that means
    nothing. Then you read a real report, and the grader checks your conclusions.

    Seven exercises; it takes about forty minutes and no network. As before, put your answer in the
    place of `...`. This time you work in NumPy.

    ## 1. Two spaces, the same things

    Here are pictures with their captions. `x` holds what the encoder `tiny-clip` makes of the
    pictures, `y` what the language model `tiny-llama` makes of the captions. Row $i$ of both is the
    same sample; the columns have nothing to do with one another.
    [ko]
    # 3강: 정렬 보고서 읽기

    비전-언어 모델은 따로 학습된 두 신경망, 곧 비전 인코더(vision encoder)와 언어 모델을 잇습니다.
    어떤 인코더가 어떤 언어 모델에 어울리겠습니까? *정렬(alignment) 보고서*는 무엇도 학습하기 전에
    수로 답합니다.

    그런 수는 대부분 오해를 부를 수 있습니다. 이 강의에서는 그런 경우를 직접 만들어 봅니다. 실제
    모델보다 점수가 높은 잡음, 설명문을 뒤섞어도 그대로인 지표, 맞추는 데 쓴 행에서는 완벽하지만
    다른 행에서는 쓸모없는 프로젝터(projector), 아무 뜻도 없는 -0.99의 상관관계입니다. 그런 다음
    실제 보고서를 읽고, 결론이 맞는지 채점기가 확인합니다.

    연습은 일곱 개이며, 40분쯤 걸리고 네트워크는 필요하지 않습니다. 앞에서와 같이 `...` 자리에 답을
    쓰십시오. 이번에는 NumPy를 사용합니다.

    ## 1. 두 공간, 같은 대상

    설명문이 달린 사진들이 있습니다. `x`는 인코더 `tiny-clip`이 사진에서 얻은 것이고, `y`는 언어
    모델 `tiny-llama`가 설명문에서 얻은 것입니다. 두 행렬의 행 $i$는 같은 샘플이지만, 열은 서로 아무
    관계가 없습니다.
    """)
    return


@app.cell
def _():
    CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    STORE = CACHE / "encoderlab" / "lessons" / "features"
    HOW = {"n_samples": 20, "device": "cpu", "dtype": "float32"}  # 20 samples of each type
    _settings = Alignment(
        encoders=["tiny-clip"], llms=["tiny-llama"], features_dir=str(STORE), **HOW
    )
    aligned = extract_features(_settings)
    _order = np.random.default_rng(0).permutation(aligned.n)  # so that the types are mixed
    x = aligned.vision["tiny-clip"].pooled[_order].astype(float)
    y = aligned.text["tiny-llama"].pooled[_order].astype(float)
    types = np.array(aligned.labels)[_order]
    print(f"{len(x)} samples, {', '.join(aligned.types)}; x {x.shape}, y {y.shape}")
    show.pictures(
        [open_image(aligned.images[i]) for i in _order[:5]],
        [f"{aligned.labels[i]}: {aligned.texts[i][:48]} ..." for i in _order[:5]],
    )
    return HOW, STORE, types, x, y


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 2. CKA by hand

    A cosine of a row of `x` with a row of `y` means nothing: they do not even have the same length.
    But both spaces can be asked the same question: *which samples are alike?* Write the answers of
    each space into a table $n \times n$, the products of every two rows, and compare the two
    tables. That is **CKA**, centred kernel alignment. The tables need not be made; it is the same
    as

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
    [ko]
    ## 2. 손으로 구하는 CKA

    `x`의 행과 `y`의 행 사이의 코사인은 아무 뜻이 없습니다. 길이부터 다릅니다. 그러나 두 공간에 같은
    질문을 할 수는 있습니다. *어떤 샘플들이 서로 닮았습니까?* 각 공간의 답을 $n \times n$ 표에
    적고(두 행의 내적을 모두 적습니다) 두 표를 비교합니다. 이것이 **CKA**(centered kernel
    alignment)입니다. 표를 실제로 만들지 않아도 됩니다. 다음 식과 같기 때문입니다.

    $$
    \mathrm{CKA}(X, Y) =
    \frac{\lVert X_c^\top Y_c \rVert_F^2}
    {\lVert X_c^\top X_c \rVert_F \; \lVert Y_c^\top Y_c \rVert_F}
    $$

    $X_c$는 *중심화한* $X$입니다. 곧 각 열에서 샘플에 대한 평균을 뺀 것입니다.
    $\lVert \cdot \rVert_F$는 모든 원소의 제곱합의 제곱근이며 `np.linalg.norm`으로 구합니다. 회전과
    배율만 다른 두 공간의 CKA는 1이고, 0보다 작아지지 않습니다.

    ### 연습 1: CKA

    모양이 $(n, d)$인 `x`와 $(n, k)$인 `y`를 받는 `linear_cka(x, y)`를 작성하십시오. 수 하나를
    돌려줍니다.
    """)
    return


@app.cell
def exercise_1():
    def linear_cka(x, y):
        return ...

    check_1 = grader.check(1, linear_cka)
    return (check_1,)


@app.cell
def _(check_1, x, y):
    published_cka = check_1.value  # your answer if it is right
    print(f"x with y                 {published_cka(x, y):.3f}")
    print(f"the same, by EncoderLab  {encoderlab.CKA.compute_cka(x, y):.3f}")
    print(f"x with itself            {published_cka(x, x):.3f}")
    return (published_cka,)


@app.cell(hide_code=True)
def _(published_cka, x, y):
    text(rf"""
    {published_cka(x, y):.2f}, on a scale from 0 to 1. Is that much? The next section says what to
    compare it with.

    ## 3. What does noise reach?

    Take two matrices of random numbers, drawn independently. Nothing in one has to do with anything
    in the other.

    ### Exercise 2: the CKA of noise

    Write `noise_cka(n, d, seed)`: draw two matrices of shape $(n, d)$ with `rng.normal(size=...)`,
    both from one generator `rng = np.random.default_rng(seed)`, and return their `published_cka`.
    [ko]
    0에서 1까지의 눈금에서 {published_cka(x, y):.2f}입니다. 높은 값입니까? 무엇과 비교해야 하는지
    다음 절에서 살펴봅니다.

    ## 3. 잡음은 어디까지 갑니까?

    서로 독립으로 뽑은 난수 행렬 두 개를 생각하십시오. 한쪽의 어떤 것도 다른 쪽과 관계가 없습니다.

    ### 연습 2: 잡음의 CKA

    `noise_cka(n, d, seed)`를 작성하십시오. 생성기 하나 `rng = np.random.default_rng(seed)`에서
    `rng.normal(size=...)`로 모양이 $(n, d)$인 행렬 두 개를 뽑고, 둘의 `published_cka`를 돌려줍니다.
    """)
    return


@app.cell
def exercise_2(published_cka):
    def noise_cka(n, d, seed):
        return ...

    check_2 = grader.check(2, noise_cka, published_cka=published_cka)
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
    text(rf"""
    Noise scores {published_cka(noise_x, noise_y):.2f}, a real encoder {published_cka(x, y):.2f}.
    With fewer samples than dimensions every sample has a direction nearly of its own. In both
    tables the diagonal, each sample with itself, is then far larger than the rest, and two
    diagonals always agree. For noise with equal spread in all directions the floor is about
    $d/(n+d)$; most published values are given without it.

    The *debiased* CKA leaves the diagonal out. Noise has 0 on average, at any size, and a value
    below 0 is simply chance. From here on we read that one.

    ## 4. Chance: shuffle the pairs

    There is a way to find the floor of *any* score, without theory. Mix up the captions: every row
    of `y` stays what it is, but no longer stands beside its picture. The score is then the level of
    chance. Repeat it many times, and count how often a shuffle scores at least as high as the pairs
    as they are. The share is called **p**:

    $$
    p = \frac{{1 + \text{{shuffles that reach the observed score}}}}{{1 + \text{{shuffles}}}}
    $$

    Why the 1? The pairing as it is, is one of the possible pairings, and it reaches its own score.
    Therefore p is never 0: with 199 shuffles the smallest p is 1/200.

    ### Exercise 3: p from shuffles

    Write `shuffle_p(score, x, y, rounds, seed)`. `score(x, y)` is any function that returns a
    number, the larger the better. Shuffle the rows of `y` `rounds` times with `rng.permutation(y)`,
    from one generator `rng = np.random.default_rng(seed)`, and return p.
    [ko]
    잡음의 점수는 {published_cka(noise_x, noise_y):.2f}, 실제 인코더의 점수는
    {published_cka(x, y):.2f}입니다. 샘플이 차원보다 적으면 샘플마다 거의 자기만의 방향이 있습니다.
    그러면 두 표 모두 대각선, 곧 자기 자신과의 내적이 나머지보다 훨씬 크고, 대각선끼리는 언제나
    일치합니다. 모든 방향으로 고르게 퍼진 잡음의 바닥값(floor)은 약 $d/(n+d)$입니다. 논문에 실린
    값에는 대부분 바닥값이 함께 나와 있지 않습니다.

    *편향을 없앤(debiased)* CKA는 대각선을 뺍니다. 잡음의 값은 크기와 상관없이 평균 0이며, 0보다
    작은 값은 그저 우연입니다. 이제부터는 이 값을 읽습니다.

    ## 4. 우연 수준: 짝 섞기

    이론 없이도 *어떤* 점수든 바닥값을 찾을 수 있습니다. 설명문을 뒤섞으면 됩니다. `y`의 행은 모두
    그대로이지만 자기 사진과 짝이 맞지 않게 됩니다. 이때의 점수가 우연 수준입니다. 여러 번 섞어서,
    섞은 짝의 점수가 원래의 짝만큼 높은 경우가 얼마나 되는지 셉니다. 그 비율이 **p**입니다.

    $$
    p = \frac{{1 + \text{{관측된 점수에 이른 횟수}}}}{{1 + \text{{섞은 횟수}}}}
    $$

    1은 왜 더합니까? 원래의 짝도 가능한 짝짓기 중 하나이고, 자기 점수에 이르기 때문입니다. 그래서
    p는 결코 0이 되지 않습니다. 199번 섞으면 가장 작은 p는 1/200입니다.

    ### 연습 3: 섞어서 구하는 p

    `shuffle_p(score, x, y, rounds, seed)`를 작성하십시오. `score(x, y)`는 수를 돌려주는 아무
    함수이며 클수록 좋습니다. 생성기 하나 `rng = np.random.default_rng(seed)`를 써서 `y`의 행을
    `rng.permutation(y)`로 `rounds`번 섞고 p를 돌려주십시오.
    """)
    return


@app.cell
def exercise_3():
    def shuffle_p(score, x, y, rounds, seed):
        return ...

    check_3 = grader.check(3, shuffle_p)
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
    text(r"""
    Compare the two figures. Even the biased number is informative beside its own shuffles: the
    value of the noise lies among them, that of the real pairs far outside.

    The debiased CKA needs no shuffles. Over all pairings its mean is 0 and its variance
    $2/(n(n-3))$, whatever the data, so that

    $$
    z = \text{CKA}_{\text{debiased}} \cdot \sqrt{n(n-3)/2}
    $$

    says how many standard deviations of chance it lies above chance. Above 3, chance is a poor
    explanation.
    [ko]
    두 그림을 비교하십시오. 편향된 수라도 섞은 값들과 함께 보면 쓸모가 있습니다. 잡음의 값은 섞은
    값들 사이에 있고, 실제 짝의 값은 멀리 떨어져 있습니다.

    편향을 없앤 CKA라면 섞지 않아도 됩니다. 모든 짝짓기에 대한 평균이 0이고 분산이 $2/(n(n-3))$이며,
    이는 데이터와 상관없이 성립합니다. 따라서

    $$
    z = \text{CKA}_{\text{debiased}} \cdot \sqrt{n(n-3)/2}
    $$

    는 우연 수준보다 표준편차의 몇 배만큼 높은지를 말합니다. 3을 넘으면 우연이라고 보기 어렵습니다.
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
    text(r"""
    ## 5. Metrics that do not look at the pairs

    **CORAL** compares two clouds of points by their covariances: how wide is each in which
    directions? It is published as a distance $L$, and as a similarity $1/(1+L)$. A covariance does
    not depend on which point belongs to which caption. Does that matter? Test it with any metric.

    ### Exercise 4: does it look at the pairs?

    Write `ignores_pairing(metric, x, y)`. It returns True if `metric(x, y)` stays the same when the
    rows of `y` are shuffled, and False otherwise. Mind the last digits: a sum in another order is
    rounded in another way.
    [ko]
    ## 5. 짝을 보지 않는 지표

    **CORAL**은 두 점구름을 공분산으로 비교합니다. 각각 어느 방향으로 얼마나 퍼져 있는지를 보는
    것입니다. 논문에서는 거리 $L$과 유사도 $1/(1+L)$로 나타냅니다. 공분산은 어느 점이 어느 설명문의
    것인지와 상관없습니다. 그것이 문제가 되겠습니까? 어떤 지표든 시험해 봅시다.

    ### 연습 4: 짝을 봅니까?

    `ignores_pairing(metric, x, y)`를 작성하십시오. `y`의 행을 섞어도 `metric(x, y)`의 값이
    그대로이면 True, 아니면 False를 돌려줍니다. 마지막 자리에 주의하십시오. 더하는 순서가 바뀌면
    반올림이 달라집니다.
    """)
    return


@app.cell
def exercise_4():
    def ignores_pairing(metric, x, y):
        return ...

    check_4 = grader.check(4, ignores_pairing)
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
    text(r"""
    CORAL and the spectral similarity give the same to the real pairs and to the mixed ones. CORAL
    has a second fault, which its column of noise shows: rows of length 1 have covariances so small
    that $1/(1+L)$ is 1 whatever you compare. Such metrics may say that two clouds have the same
    shape. They can never say that pictures and captions belong together.

    ## 6. CKA within types of data

    Our samples are of three types. How much of the CKA comes from telling the three apart, and how
    much from knowing one chart from another? Imagine an "encoder" with three numbers per picture:
    is it of the first type, the second, the third? It represents nothing else.
    [ko]
    CORAL과 스펙트럼 유사도는 실제 짝과 뒤섞은 짝에 같은 값을 줍니다. CORAL에는 흠이 하나 더 있는데,
    잡음 칸에서 볼 수 있습니다. 길이가 1인 행은 공분산이 아주 작아서, 무엇을 비교하든 $1/(1+L)$이
    1이 됩니다. 이런 지표는 두 점구름의 모양이 같다고 말할 수는 있어도, 사진과 설명문이 서로
    맞는다고는 결코 말할 수 없습니다.

    ## 6. 데이터 유형 안의 CKA

    샘플에는 세 가지 데이터 유형이 있습니다. CKA 중 얼마가 세 유형을 가려내는 데서 오고, 얼마가 차트
    하나하나를 알아보는 데서 오겠습니까? 사진마다 수가 세 개뿐인 "인코더"를 상상해 보십시오. 첫째
    유형인가, 둘째인가, 셋째인가? 유형 말고는 아무것도 보지 못합니다.
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
    text(rf"""
    Three columns that know nothing but the type reach {only.value:.2f}; the encoder reaches
    {clip.value:.2f}. And z cannot warn you, because it is no accident: the types are really there.
    But they are not what you meant to measure. The remedy is to compare each sample with samples of
    its own type only, and to add up over the types: **CKA within types**. Test it on simulated
    features, where the answer is known: each type has its place in both spaces, and around it
    everything is independent noise.
    [ko]
    유형 말고는 아무것도 모르는 열 세 개가 {only.value:.2f}에 이르고, 인코더는
    {clip.value:.2f}입니다. z도 경고해 주지 못합니다. 유형은 실제로 있는 것이어서 우연이 아니기
    때문입니다. 다만 재려던 것이 아닐 뿐입니다.

    해결책은 각 샘플을 같은 유형의 샘플하고만 비교하고 유형에 걸쳐 더하는 것입니다. 이것이 **유형
    안의 CKA**(CKA within types)입니다. 답을 아는 모의 특징으로 시험해 봅시다. 유형마다 두 공간에
    자리가 있고, 그 둘레에는 독립인 잡음뿐입니다.
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
    text(r"""
    Over all samples the simulated features score high. Within types nothing is left, as it should
    be. The real encoder keeps a part: it represents more of a picture than its type.

    ## 7. Fitted rows and held-out rows

    CKA asks which samples are alike. A *projector* is a more direct test: can a map carry the
    encoder's vectors into the language model's? Here is the simplest one, least squares. Its score
    is

    $$
    R^2 = 1 - \frac{\sum \lVert y_i - \hat y_i \rVert^2}{\sum \lVert y_i - \bar y \rVert^2}
    $$

    where $\hat y_i$ is what it predicts and $\bar y$ the mean of the rows that it was fitted on
    (column by column): 1 is perfect, 0 is no better than always saying the mean, and below 0 is
    worse than that.

    ### Exercise 5: seen and unseen

    Write `seen_and_unseen(x, y, fit)`. Fit on the first four fifths of the rows (`4 * len(x) // 5`;
    our rows are mixed already): `predict = fit(some_x, some_y)` gives a function, and
    `predict(some_x)` the predictions. Return two numbers: $R^2$ on the rows it was fitted on, and
    $R^2$ on the rest. $\bar y$ is the same in both.
    [ko]
    모든 샘플을 함께 보면 모의 특징의 점수가 높습니다. 유형 안에서는 남는 것이 없고, 그래야
    맞습니다. 실제 인코더의 점수는 일부가 남습니다. 사진에서 유형보다 많은 것을 나타내기 때문입니다.

    ## 7. 맞추는 데 쓴 행과 떼어 둔 행

    CKA는 어떤 샘플들이 닮았는지를 묻습니다. *프로젝터*는 더 직접적인 시험입니다. 인코더의 벡터를
    언어 모델의 벡터로 옮기는 사상이 있습니까? 가장 단순한 것은 최소제곱법입니다. 점수는 다음과
    같습니다.

    $$
    R^2 = 1 - \frac{\sum \lVert y_i - \hat y_i \rVert^2}{\sum \lVert y_i - \bar y \rVert^2}
    $$

    $\hat y_i$는 예측이고, $\bar y$는 맞추는 데 쓴 행들의 열별 평균입니다. 1이면 완벽하고, 0이면 늘
    평균만 말하는 것과 같으며, 0보다 작으면 그보다도 나쁩니다.

    ### 연습 5: 본 것과 보지 못한 것

    `seen_and_unseen(x, y, fit)`을 작성하십시오. 앞의 5분의 4(`4 * len(x) // 5`개, 행은 이미 섞여
    있습니다)에 맞춥니다. `predict = fit(some_x, some_y)`는 함수를 주고 `predict(some_x)`는 예측을
    줍니다. 두 수를 돌려주십시오: 맞추는 데 쓴 행의 $R^2$와 나머지 행의 $R^2$. $\bar y$는 둘에서
    같습니다.
    """)
    return


@app.cell
def exercise_5():
    def seen_and_unseen(x, y, fit):
        return ...

    check_5 = grader.check(5, seen_and_unseen)
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
    text(rf"""
    With more dimensions than rows a linear map can send anything anywhere: on the pairs that it has
    seen it scores {projected["shuffled pairs"][0]:.2f} even where the captions are mixed up. On
    unseen pairs the real ones give {projected["real pairs"][1]:.2f}, the mixed ones
    {projected["shuffled pairs"][1]:.2f}. Only the right column says anything. (A ridge penalty
    would limit the map; EncoderLab's report uses one, and scores every sample while it is held
    out.)

    ## 8. "A is ahead of B"

    Two encoders have been scored on the same samples. Each score has an interval, and the two
    overlap. Does that mean that they cannot be told apart? No: some samples are hard for both and
    some are easy for both, and this makes each score unsure, but not their *difference*. So take
    the difference sample by sample, and look at *its* interval:
    [ko]
    차원이 행보다 많으면 선형 사상은 무엇이든 어디로든 보낼 수 있습니다. 이미 본 쌍에서는 설명문이
    뒤섞여 있어도 점수가 {projected["shuffled pairs"][0]:.2f}입니다. 보지 못한 쌍에서는 실제 짝이
    {projected["real pairs"][1]:.2f}, 뒤섞은 짝이 {projected["shuffled pairs"][1]:.2f}입니다. 오른쪽
    칸만 의미가 있습니다. (릿지(ridge) 벌점을 주면 사상이 제한됩니다. EncoderLab의 보고서는 릿지를
    쓰고, 모든 샘플을 떼어 둔 상태에서 채점합니다.)

    ## 8. "A가 B보다 앞섭니다"

    같은 샘플에서 두 인코더의 점수를 쟀습니다. 점수마다 신뢰 구간이 있고, 두 구간이 겹칩니다. 그러면
    둘을 구별할 수 없습니까? 그렇지 않습니다. 어떤 샘플은 둘 모두에게 어렵고 어떤 샘플은 둘 모두에게
    쉽습니다. 그래서 각 점수는 불확실해져도 둘의 *차이*는 그렇지 않습니다. 샘플마다 차이를 구하고
    *그 차이의* 구간을 보십시오.
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
    text(r"""
    The rule of the report: *ahead* means that the interval of the paired difference lies above 0.
    Otherwise the verdict is *cannot distinguish*, however far apart the two numbers look. That is
    not "they are equal": it says that these samples cannot tell, and the report adds about how many
    could. With several comparisons the intervals are made wider, so that all of them hold together:
    otherwise a comparison of twenty encoders finds a winner by chance.

    ## 9. Three encoders, r = -0.99

    Somebody has measured three encoders: their CKA, and the recall that a trained model reached in
    the end. Does CKA predict the recall?
    [ko]
    보고서의 규칙은 이렇습니다. *앞선다(ahead)*는 것은 짝지은 차이의 구간이 0보다 위에 있다는
    뜻입니다. 그렇지 않으면 두 수가 아무리 달라 보여도 판정은 *구별할 수 없음(cannot
    distinguish)*입니다. 둘이 같다는 말이 아니라 이 샘플로는 알 수 없다는 말이며, 보고서는 샘플이 몇
    개쯤 있어야 하는지도 덧붙입니다. 비교가 여럿이면 모두 함께 성립하도록 구간을 넓힙니다. 그러지
    않고 인코더 스무 개를 비교하면 우연만으로 승자가 나옵니다.

    ## 9. 인코더 세 개, r = -0.99

    누군가 인코더 세 개의 CKA와, 학습을 마친 모델이 얻은 재현율(recall)을 쟀습니다. CKA는 재현율을
    예측합니까?
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
    text(r"""
    One could conclude: "the higher the CKA, the worse the model". But what does chance give? As
    with the captions, give the recalls to the encoders in every possible order. There are so few
    orders that all of them can be computed.

    ### Exercise 6: an exact p

    Write `exact_p(a, b)`: the share of *all* orders of `b` (`itertools.permutations(b)`, the order
    as it is among them) whose correlation with `a` is as strong as the one given, or stronger, of
    either sign. `np.corrcoef(a, b)[0, 1]` is $r$. Allow a slack of `1e-9` for rounding.
    [ko]
    "CKA가 높을수록 모델이 나쁘다"고 결론지을 수도 있습니다. 그런데 우연이라면 어떻겠습니까?
    설명문을 섞었듯이, 재현율을 가능한 모든 순서로 인코더에 나누어 줍니다. 순서가 몇 가지뿐이므로
    무작위로 뽑을 필요도 없습니다.

    ### 연습 6: 정확한 p

    `exact_p(a, b)`를 작성하십시오. `b`의 *모든* 순서(`itertools.permutations(b)`, 원래 순서도 그
    안에 있습니다) 중에서 `a`와의 상관이 주어진 것만큼 또는 그보다 강한 순서의 비율입니다. 부호는
    상관없습니다. $r$은 `np.corrcoef(a, b)[0, 1]`입니다. 반올림을 위해 `1e-9`의 여유를 두십시오.
    """)
    return


@app.cell
def exercise_6():
    def exact_p(a, b):
        return ...

    check_6 = grader.check(6, exact_p)
    return (check_6,)


@app.cell
def _(check_6, cka_of_three, recall_of_three):
    print(f"p of the three encoders: {check_6.value(cka_of_three, recall_of_three):.2f}")
    for _order in itertools.permutations(recall_of_three.tolist()):
        print(f"  recall {_order}: r = {np.corrcoef(cka_of_three, _order)[0, 1]:+.3f}")
    print("EncoderLab says:", correlate(cka_of_three, recall_of_three).verdict)
    # 25 tables of three encoders each, by chance alone: is there an |r| of 0.99?
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
    text(rf"""
    Three points cannot show anything, however straight the line. And among 25 such tables, say five
    metrics times five benchmarks, there is a correlation of 0.99 in {found_by_luck:.0%} of cases by
    chance alone. Before you believe a correlation, count its points.

    ## 10. A real report

    Now everything at once. Three encoders with `tiny-llama` on our samples, with two kinds of
    *controls*: `untrained:` is the same network before its training, `shuffled:` is the trained one
    with mixed-up captions. It takes less than a minute; the same as a command would be
    `encoderlab compare --llms tiny-llama --controls`.
    [ko]
    점 세 개로는 아무리 곧은 선이라도 아무 말도 할 수 없습니다. 지표 다섯 개와 벤치마크 다섯 개처럼
    이런 표가 25개이면, 우연만으로도 {found_by_luck:.0%}의 경우에 0.99의 상관이 나옵니다. 상관관계를
    믿기 전에 점이 몇 개인지 세십시오.

    ## 10. 실제 보고서

    이제 모두 함께 봅니다. 우리 샘플에서 인코더 세 개를 `tiny-llama`와 비교하며, 두 가지
    *대조군(control)*을 둡니다. `untrained:`는 학습하기 전의 같은 신경망이고, `shuffled:`는 설명문을
    뒤섞은 학습된 신경망입니다. 1분이 걸리지 않습니다. 명령으로는
    `encoderlab compare --llms tiny-llama --controls`입니다.
    """)
    return


@app.cell
def _(HOW, STORE):
    report = encoderlab.compare(
        encoders=["tiny-clip", "tiny-siglip", "tiny-dinov2"],
        llms=["tiny-llama"],
        controls=True,
        projectors=True,
        epochs=100,  # of the trained projectors; usually 300
        features_dir=STORE,
        **HOW,
    )
    print(report.to_text())
    return (report,)


@app.cell(hide_code=True)
def _():
    text(r"""
    You know every column: CKA debiased (section 3), as published with its floor (3), within types
    (6), and two maps judged on unseen samples (7). The last lines are paired verdicts (8). One more
    table, which the report keeps in its file: every encoder against its own untrained copy, *within
    types*:
    [ko]
    모든 열은 앞에서 다룬 것입니다. 편향을 없앤 CKA(3절), 바닥값이 붙은 논문식 CKA(3절), 유형 안의
    CKA(6절), 그리고 보지 못한 샘플로 평가한 사상 두 가지(7절)입니다. 마지막 줄들은 짝지은
    판정입니다(8절). 표가 하나 더 있는데, 보고서 파일에 들어 있습니다. 각 인코더를 학습하지 않은
    자신과 *유형 안에서* 비교한 것입니다.
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
    text(r"""
    ### Exercise 7: three questions

    Answer from the report, not from the largest number.

    1. `leader_is_ahead_of`: one encoder has the highest debiased CKA. Which of the other two is it
       *ahead* of? A list of names, such as `["tiny-clip"]`; it may have one, two or none.
    2. `fooled_column`: in the rows `shuffled:` nothing belongs together any more. In which column
       are their numbers clearly above 0 all the same? The head of the column, in quotes.
    3. `not_ahead_of_untrained`: which encoders are, within types, *not* ahead of their untrained
       copies? A list of names.
    [ko]
    ### 연습 7: 세 가지 질문

    가장 큰 수가 아니라 보고서를 보고 답하십시오.

    1. `leader_is_ahead_of`: 편향을 없앤 CKA가 가장 높은 인코더가 있습니다. 나머지 둘 중 어느 것보다
       *앞섭니까(ahead)*? `["tiny-clip"]`과 같은 이름의 리스트이며, 한 개나 두 개일 수도 있고 비어
       있을 수도 있습니다.
    2. `fooled_column`: `shuffled:` 행에서는 아무것도 서로 맞지 않습니다. 그런데도 수가 0보다 뚜렷이
       높은 열은 무엇입니까? 열의 제목을 따옴표 안에 쓰십시오.
    3. `not_ahead_of_untrained`: 유형 안에서, 학습하지 않은 자신보다 앞서지 *못하는* 인코더는
       무엇입니까? 이름의 리스트입니다.
    """)
    return


@app.cell
def exercise_7(report):
    leader_is_ahead_of = ...
    fooled_column = ...
    not_ahead_of_untrained = ...

    check_7 = grader.check(
        7, leader_is_ahead_of, fooled_column, not_ahead_of_untrained, report=report
    )
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

    text(rf"""
    The third answer may be unexpected. Over all samples {trained_ahead("cka_linear")} of the 3
    encoders are ahead of their untrained copies; within types {trained_ahead("cka_within")} of
    them. An untrained network still passes on how dark a picture is and where something is drawn,
    and that may be enough to agree with some captions. Where an encoder is ahead over all samples
    but not within types, all that these samples show of its training is that it tells the types
    apart. One number would have hidden this.
    [ko]
    셋째 답은 뜻밖일 수 있습니다. 모든 샘플을 함께 보면 인코더 3개 중
    {trained_ahead("cka_linear")}개가 학습하지 않은 자신보다 앞서지만, 유형 안에서는
    {trained_ahead("cka_within")}개입니다. 학습하지 않은 신경망도 사진이 얼마나 어둡고 어디에 무엇이
    그려져 있는지는 전해 주며, 어떤 설명문에는 그것으로 충분할 수 있습니다. 전체에서는 앞서고 유형
    안에서는 앞서지 못한다면, 이 샘플들이 보여 주는 학습의 효과는 유형을 가려낸다는 것뿐입니다. 수
    하나만 보았다면 알 수 없었을 것입니다.
    """)
    return


@app.cell(hide_code=True)
def _(check_1, check_2, check_3, check_4, check_5, check_6, check_7):
    grader.summary(check_1, check_2, check_3, check_4, check_5, check_6, check_7)
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    ## Summary

    Six questions for any number in any report:

    - What does noise of the same shape score? With few samples, CKA as published is near 1 for
      anything.
    - What is left when the captions are shuffled? A metric that stays the same does not use the
      pairs.
    - What is left within one type of data?
    - Was it scored on what it had seen?
    - Is the interval of the *difference* above 0, on the same samples?
    - How many points does the correlation have, and how many tables were looked at?

    Try more: `n_samples` in `HOW`, and watch which verdicts change. With models and data of your
    own, `encoderlab all --encoders ... --llms ... --data-root YOUR_DATA` writes the whole report as
    one page.
    [ko]
    ## 정리

    어떤 보고서의 어떤 수에든 여섯 가지를 물으십시오.

    - 모양이 같은 잡음은 몇 점입니까? 샘플이 적으면 논문식 CKA는 무엇이든 1에 가깝습니다.
    - 설명문을 섞으면 무엇이 남습니까? 그대로인 지표는 짝을 보지 않은 것입니다.
    - 한 가지 데이터 유형 안에서는 무엇이 남습니까?
    - 이미 본 것으로 매긴 점수입니까?
    - 같은 샘플에서 잰 *차이*의 구간이 0보다 위에 있습니까?
    - 상관관계의 점은 몇 개이고, 표를 몇 개나 들여다보았습니까?

    더 해 보십시오. `HOW`의 `n_samples`를 바꾸고 어떤 판정이 달라지는지 보십시오. 여러분의 모델과
    데이터가 있다면 `encoderlab all --encoders ... --llms ... --data-root YOUR_DATA`가 보고서 전체를
    한 페이지로 씁니다.
    """)
    return


if __name__ == "__main__":
    app.run()
