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

    A vision-language model joins two networks that were trained separately: a vision encoder and a
    language model. Which encoder fits which language model? An *alignment report* estimates this
    without training.

    Most of its metrics can mislead. In this lesson you reproduce four cases: noise that scores
    higher than a real model, a metric that does not change when the captions are shuffled, a
    projector that fits the training rows perfectly and fails on others, and a correlation of -0.99
    without significance. Then you read a real report, and the grader checks your conclusions.

    There are seven exercises. The lesson takes about forty minutes, needs no network, and uses
    NumPy. Replace each `...` with your answer.

    ## 1. Two spaces, the same samples

    The samples are images with captions. `x` contains the embeddings of the images by the encoder
    `tiny-clip`, `y` the embeddings of the captions by the language model `tiny-llama`. Row $i$ of
    both is the same sample. The columns of `x` and `y` are unrelated.
    [ko]
    # 3강: 정렬 보고서 읽기

    비전-언어 모델은 따로 학습된 두 신경망, 곧 비전 인코더(vision encoder)와 언어 모델을 결합합니다.
    어떤 인코더가 어떤 언어 모델에 맞을까요? *정렬(alignment) 보고서*는 학습하지 않고 이를
    추정합니다.

    보고서의 지표는 대부분 오해를 부를 수 있습니다. 이 강의에서는 네 가지 경우를 직접 만들어 봅니다.
    실제 모델보다 점수가 높은 잡음, 설명문을 섞어도 변하지 않는 지표, 학습에 쓴 행에서는 완벽하지만
    다른 행에서는 쓸모없는 프로젝터(projector), 유의하지 않은 -0.99의 상관관계입니다. 그런 다음 실제
    보고서를 읽고, 채점기가 결론을 확인합니다.

    연습은 일곱 개이며, 40분쯤 걸리고 네트워크는 필요하지 않습니다. NumPy를 사용합니다. `...` 자리에
    답을 쓰십시오.

    ## 1. 두 공간, 같은 샘플

    샘플은 설명문이 있는 이미지입니다. `x`는 인코더 `tiny-clip`으로 구한 이미지 임베딩이고, `y`는
    언어 모델 `tiny-llama`로 구한 설명문 임베딩입니다. 두 행렬의 행 $i$는 같은 샘플이지만, `x`의
    열과 `y`의 열은 관계가 없습니다.
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

    A row of `x` cannot be compared with a row of `y`: they have different numbers of columns. But
    both spaces show *which samples are similar*. Compute an $n \times n$ similarity matrix for each
    space (the dot products of every two rows) and compare the two matrices. This is **CKA**,
    centred kernel alignment. The $n \times n$ matrices need not be computed, because CKA equals

    $$
    \mathrm{CKA}(X, Y) =
    \frac{\lVert X_c^\top Y_c \rVert_F^2}
    {\lVert X_c^\top X_c \rVert_F \; \lVert Y_c^\top Y_c \rVert_F}
    $$

    $X_c$ is *centred* $X$: the mean of each column over the samples is subtracted.
    $\lVert \cdot \rVert_F$ is the square root of the sum of all squares, `np.linalg.norm`. CKA is 1
    for two spaces that differ only by a rotation and a scale, and never below 0.

    ### Exercise 1: CKA

    Write `linear_cka(x, y)` for `x` of shape $(n, d)$ and `y` of shape $(n, k)$. It returns one
    number.
    [ko]
    ## 2. 손으로 구하는 CKA

    `x`의 행과 `y`의 행은 열의 수가 달라서 직접 비교할 수 없습니다. 그러나 두 공간에서 *어떤
    샘플들이 비슷한지*는 비교할 수 있습니다. 공간마다 $n \times n$ 유사도 행렬(모든 두 행의 내적)을
    구하고 두 행렬을 비교합니다. 이것이 **CKA**(centred kernel alignment)입니다. 다음 식과 같으므로
    $n \times n$ 행렬을 계산하지 않아도 됩니다.

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
    The CKA is {published_cka(x, y):.2f}, on a scale from 0 to 1. Is that a high value? The next
    section shows what to compare it with.

    ## 3. The CKA of noise

    Take two matrices of random numbers, drawn independently of each other.

    ### Exercise 2: the CKA of noise

    Write `noise_cka(n, d, seed)`: draw two matrices of shape $(n, d)$ with `rng.normal(size=...)`,
    both from one generator `rng = np.random.default_rng(seed)`, and return their `published_cka`.
    [ko]
    CKA는 0에서 1까지의 값이며 여기서는 {published_cka(x, y):.2f}입니다. 높은 값일까요? 무엇과
    비교해야 하는지 다음 절에서 살펴봅니다.

    ## 3. 잡음의 CKA

    서로 독립으로 뽑은 난수 행렬 두 개를 생각하십시오.

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
    Noise scores {published_cka(noise_x, noise_y):.2f}, the real encoder {published_cka(x, y):.2f}.
    With fewer samples than dimensions, the rows are nearly orthogonal. In both similarity matrices
    the diagonal (each sample with itself) is then far larger than the rest, and two diagonals
    always agree. So even noise has a CKA above 0, the *floor*. For noise with the same variance in
    all directions, the floor is about $d/(n+d)$. Most publications do not report it.

    The *debiased* CKA excludes the diagonal. For noise its mean is 0 at any size, so it can also be
    slightly below 0. From here on, use the debiased CKA.

    ## 4. Chance: shuffle the pairs

    Shuffling the pairs gives the chance level of *any* score. Shuffle the rows of `y`, so that the
    captions no longer match the images, and compute the score. Repeat this many times, and count
    how often a shuffle scores at least as high as the original pairs. This share is the p-value
    **p**:

    $$
    p = \frac{{1 + \text{{shuffles that reach the observed score}}}}{{1 + \text{{shuffles}}}}
    $$

    The 1 counts the original pairing, which is one of the possible pairings. Therefore p is never
    0: with 199 shuffles the smallest p is 1/200.

    ### Exercise 3: p from shuffles

    Write `shuffle_p(score, x, y, rounds, seed)`. `score(x, y)` is any function that returns a
    number; higher is better. Shuffle the rows of `y` `rounds` times with `rng.permutation(y)`, from
    one generator `rng = np.random.default_rng(seed)`, and return p.
    [ko]
    잡음의 점수는 {published_cka(noise_x, noise_y):.2f}, 실제 인코더의 점수는
    {published_cka(x, y):.2f}입니다. 샘플이 차원보다 적으면 행들이 거의 서로 직교합니다. 그러면 두
    유사도 행렬 모두 대각선(자기 자신과의 내적)이 나머지보다 훨씬 크고, 대각선끼리는 언제나
    일치합니다. 그래서 잡음의 CKA도 0보다 큰 *바닥값(floor)*을 가집니다. 모든 방향의 분산이 같은
    잡음의 바닥값은 약 $d/(n+d)$입니다. 논문에서는 대부분 바닥값을 보고하지 않습니다.

    *편향을 없앤(debiased)* CKA는 대각선을 제외합니다. 잡음의 평균은 행렬의 크기와 상관없이 0이므로
    값이 0보다 조금 작을 수도 있습니다. 이제부터는 이 값을 사용합니다.

    ## 4. 우연 수준: 짝 섞기

    짝을 섞으면 *어떤* 점수든 우연 수준을 알 수 있습니다. `y`의 행을 섞어 설명문이 이미지와 맞지
    않게 한 다음 점수를 구합니다. 여러 번 섞어서, 섞은 짝의 점수가 원래 짝의 점수 이상인 횟수를
    셉니다. 그 비율이 p값 **p**입니다.

    $$
    p = \frac{{1 + \text{{관측된 점수에 이른 횟수}}}}{{1 + \text{{섞은 횟수}}}}
    $$

    1은 가능한 짝짓기 중 하나인 원래의 짝을 센 것입니다. 그래서 p는 0이 되지 않습니다. 199번 섞으면
    가장 작은 p는 1/200입니다.

    ### 연습 3: 섞어서 구하는 p

    `shuffle_p(score, x, y, rounds, seed)`를 작성하십시오. `score(x, y)`는 수 하나를 돌려주는 임의의
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
    Compare the two figures. Even the biased score is informative when it is compared with its own
    shuffles: the score of the noise lies within their range, the score of the real pairs far
    outside.

    The debiased CKA needs no shuffles. Over all pairings, its mean is 0 and its variance is
    $2/(n(n-3))$ for any data. Therefore

    $$
    z = \text{CKA}_{\text{debiased}} \cdot \sqrt{n(n-3)/2}
    $$

    is the number of standard deviations above the chance level. A z above 3 is very unlikely by
    chance.
    [ko]
    두 그림을 비교하십시오. 편향된 점수라도 섞은 값들과 비교하면 쓸모가 있습니다. 잡음의 값은 섞은
    값들의 범위 안에 있고, 실제 짝의 값은 그 범위에서 멀리 떨어져 있습니다.

    편향을 없앤 CKA는 섞지 않아도 됩니다. 어떤 데이터에서든 모든 짝짓기에 대한 평균은 0이고 분산은
    $2/(n(n-3))$입니다. 따라서

    $$
    z = \text{CKA}_{\text{debiased}} \cdot \sqrt{n(n-3)/2}
    $$

    는 우연 수준보다 표준편차의 몇 배만큼 높은지를 나타냅니다. 3을 넘으면 우연이라고 보기
    어렵습니다.
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
    ## 5. Metrics that ignore the pairs

    **CORAL** (correlation alignment) compares the covariances of two sets of points. It is
    published as a distance $L$ and as a similarity $1/(1+L)$. A covariance does not depend on which
    image belongs to which caption. You can test any metric for this.

    ### Exercise 4: does a metric use the pairs?

    Write `ignores_pairing(metric, x, y)`. It returns True if `metric(x, y)` does not change when
    the rows of `y` are shuffled, and False otherwise. Allow for rounding: a sum in another order
    can differ in the last digits.
    [ko]
    ## 5. 짝을 무시하는 지표

    **CORAL**(correlation alignment)은 두 점 집합의 공분산을 비교합니다. 논문에서는 거리 $L$과
    유사도 $1/(1+L)$로 나타냅니다. 공분산은 어느 이미지가 어느 설명문의 것인지와 상관없습니다. 어떤
    지표든 이런 성질이 있는지 시험할 수 있습니다.

    ### 연습 4: 지표가 짝을 사용합니까?

    `ignores_pairing(metric, x, y)`를 작성하십시오. `y`의 행을 섞어도 `metric(x, y)`의 값이 변하지
    않으면 True, 아니면 False를 돌려줍니다. 반올림을 고려하십시오. 더하는 순서가 바뀌면 마지막
    자리가 달라질 수 있습니다.
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
    CORAL and the spectral similarity give real and shuffled pairs the same score. CORAL has a
    second fault, visible in the column of noise: the covariances of rows of length 1 are so small
    that $1/(1+L)$ is near 1 for any data. Such metrics compare the distributions of two sets of
    points. They cannot show that images and captions match.

    ## 6. CKA within types of data

    The samples are of three types. How much of the CKA comes from distinguishing the types, and how
    much from distinguishing the samples of one type? Take an "encoder" that outputs only the type
    of an image, as three numbers:
    [ko]
    CORAL과 스펙트럼 유사도는 실제 짝과 섞은 짝에 같은 점수를 줍니다. CORAL에는 결함이 하나 더
    있으며 잡음 열에서 볼 수 있습니다. 길이가 1인 행은 공분산이 아주 작아서 어떤 데이터에서든
    $1/(1+L)$이 1에 가깝습니다. 이런 지표는 두 점 집합의 분포를 비교할 뿐, 이미지와 설명문이 서로
    맞는지는 보여 주지 못합니다.

    ## 6. 데이터 유형 안의 CKA

    샘플에는 세 가지 데이터 유형이 있습니다. CKA 중 얼마가 유형을 구별하는 데서 오고, 얼마가 같은
    유형의 샘플을 구별하는 데서 올까요? 이미지의 유형만을 수 세 개로 나타내는 "인코더"를 생각해
    보십시오.
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
    Three columns that contain only the type reach {only.value:.2f}; the encoder reaches
    {clip.value:.2f}. A large z does not reveal this, because the types are a real property of the
    data. **CKA within types** compares each sample only with samples of its own type and adds up
    over the types. The next cell tests it on simulated features: each type has its own mean in both
    spaces, and the rest is independent noise.
    [ko]
    유형만 나타내는 열 세 개의 점수가 {only.value:.2f}이고, 인코더는 {clip.value:.2f}입니다. 유형은
    데이터의 실제 성질이므로 z가 커도 이 문제는 드러나지 않습니다.

    **유형 안의 CKA**(CKA within types)는 각 샘플을 같은 유형의 샘플하고만 비교하고 유형에 걸쳐
    더합니다. 다음 셀은 모의 특징으로 이를 시험합니다. 유형마다 두 공간에 평균이 있고, 나머지는
    독립인 잡음입니다.
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
    Over all samples, the simulated features score high. Within types their score is about 0, as
    expected. The real encoder keeps a part of its score: it represents more than the type of an
    image.

    ## 7. Training rows and held-out rows

    A *projector* is a more direct test than CKA: it predicts the language model's vectors from the
    encoder's vectors. The simplest projector is a linear map fitted by least squares. Its score is

    $$
    R^2 = 1 - \frac{\sum \lVert y_i - \hat y_i \rVert^2}{\sum \lVert y_i - \bar y \rVert^2}
    $$

    where $\hat y_i$ is the prediction and $\bar y$ the mean of the rows used for fitting (column by
    column). 1 is perfect, 0 is as good as always predicting the mean, and below 0 is worse.

    ### Exercise 5: seen and unseen

    Write `seen_and_unseen(x, y, fit)`. Fit on the first four fifths of the rows (`4 * len(x) // 5`;
    the rows are already shuffled): `predict = fit(some_x, some_y)` returns a function, and
    `predict(some_x)` the predictions. Return two numbers: $R^2$ on the rows used for fitting, and
    $R^2$ on the rest. Use the same $\bar y$ for both.
    [ko]
    모든 샘플을 함께 보면 모의 특징의 점수가 높습니다. 유형 안에서는 예상대로 약 0입니다. 실제
    인코더의 점수는 일부가 남습니다. 이미지의 유형 이상을 나타내기 때문입니다.

    ## 7. 학습에 쓴 행과 떼어 둔 행

    *프로젝터*는 CKA보다 직접적인 시험입니다. 인코더의 벡터에서 언어 모델의 벡터를 예측합니다. 가장
    단순한 프로젝터는 최소제곱법으로 구한 선형 사상입니다. 점수는 다음과 같습니다.

    $$
    R^2 = 1 - \frac{\sum \lVert y_i - \hat y_i \rVert^2}{\sum \lVert y_i - \bar y \rVert^2}
    $$

    $\hat y_i$는 예측이고, $\bar y$는 학습에 쓴 행의 열별 평균입니다. 1이면 완벽하고, 0이면 늘
    평균을 예측하는 것과 같으며, 0보다 작으면 그보다 나쁩니다.

    ### 연습 5: 본 것과 보지 못한 것

    `seen_and_unseen(x, y, fit)`을 작성하십시오. 앞의 5분의 4(`4 * len(x) // 5`개, 행은 이미 섞여
    있습니다)에 맞춥니다. `predict = fit(some_x, some_y)`는 함수를 주고 `predict(some_x)`는 예측을
    줍니다. 두 수를 돌려주십시오: 학습에 쓴 행의 $R^2$와 나머지 행의 $R^2$. $\bar y$는 둘에서
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
    With more dimensions than rows, a linear map can fit any targets: on seen pairs it scores
    {projected["shuffled pairs"][0]:.2f} even for shuffled captions. On unseen pairs, the real pairs
    score {projected["real pairs"][1]:.2f} and the shuffled ones
    {projected["shuffled pairs"][1]:.2f}. Only the score on unseen pairs is informative.
    (EncoderLab's report uses a ridge penalty, which limits the map, and scores every sample while
    it is held out.)

    ## 8. "A is ahead of B"

    Two encoders are scored on the same samples, and the intervals of their scores overlap. They may
    still be distinguishable: some samples are hard for both encoders and some are easy for both.
    This widens the interval of each score, but not that of their *difference*. So compute the
    difference for each sample, and the interval of *this difference*:
    [ko]
    차원이 행보다 많으면 선형 사상은 어떤 목표든 맞출 수 있습니다. 학습한 쌍에서는 설명문을 섞어도
    점수가 {projected["shuffled pairs"][0]:.2f}입니다. 보지 못한 쌍에서는 실제 짝이
    {projected["real pairs"][1]:.2f}, 섞은 짝이 {projected["shuffled pairs"][1]:.2f}입니다. 보지
    못한 쌍의 점수만 의미가 있습니다. (EncoderLab의 보고서는 사상을 제한하는 릿지(ridge) 벌점을
    쓰고, 모든 샘플을 떼어 둔 상태에서 채점합니다.)

    ## 8. "A가 B보다 앞섭니다"

    같은 샘플에서 잰 두 인코더의 점수의 신뢰 구간이 겹쳐도 둘을 구별할 수 있는 경우가 있습니다. 어떤
    샘플은 두 인코더 모두에 어렵고 어떤 샘플은 모두에 쉽습니다. 그래서 각 점수의 구간은 넓어지지만
    *차이*의 구간은 그렇지 않습니다. 샘플마다 차이를 구하고 *그 차이의* 구간을 보십시오.
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
    In the report, *ahead* means that the interval of the paired difference lies above 0. Otherwise
    the verdict is *cannot distinguish*. This does not mean that the two are equal, but that these
    samples are not enough; the report estimates how many samples are needed. With several
    comparisons the intervals are wider, so that all of them are valid together. Otherwise a
    comparison of twenty encoders would find a winner by chance.

    ## 9. Three encoders, r = -0.99

    For three encoders, the CKA and the recall of a trained model were measured. Does CKA predict
    the recall?
    [ko]
    보고서에서 *앞선다(ahead)*는 것은 짝지은 차이의 구간이 0보다 위에 있다는 뜻입니다. 그렇지 않으면
    판정은 *구별할 수 없음(cannot distinguish)*입니다. 둘이 같다는 뜻이 아니라 이 샘플로는
    부족하다는 뜻이며, 보고서는 필요한 샘플 수도 추정합니다. 비교가 여럿이면 모두 함께 성립하도록
    구간을 넓힙니다. 그러지 않으면 인코더 스무 개를 비교할 때 우연만으로 승자가 나옵니다.

    ## 9. 인코더 세 개, r = -0.99

    인코더 세 개에서 CKA와 학습된 모델의 재현율(recall)을 쟀습니다. CKA는 재현율을 예측합니까?
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
    One could conclude: "the higher the CKA, the worse the model". To find the chance level, assign
    the recalls to the encoders in every possible order. There are few orders, so all of them can be
    computed.

    ### Exercise 6: an exact p

    Write `exact_p(a, b)`: the share of *all* orders of `b` (`itertools.permutations(b)`, including
    the original order) whose correlation with `a` is at least as strong as the original one, with
    either sign. `np.corrcoef(a, b)[0, 1]` is $r$. Allow a tolerance of `1e-9` for rounding.
    [ko]
    "CKA가 높을수록 모델이 나쁘다"고 결론지을 수도 있습니다. 우연 수준을 알려면 재현율을 가능한 모든
    순서로 인코더에 배정합니다. 순서가 몇 가지뿐이므로 모두 계산할 수 있습니다.

    ### 연습 6: 정확한 p

    `exact_p(a, b)`를 작성하십시오. `b`의 *모든* 순서(`itertools.permutations(b)`, 원래 순서 포함)
    중에서 `a`와의 상관이 원래의 상관 이상으로 강한 순서의 비율입니다. 부호는 상관없습니다. $r$은
    `np.corrcoef(a, b)[0, 1]`입니다. 반올림을 고려해 `1e-9`의 허용 오차를 두십시오.
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
    Three points are too few to show a correlation. Among 25 such tables (for example five metrics
    and five benchmarks), a correlation of 0.99 occurs by chance in {found_by_luck:.0%} of the
    cases. Before you believe a correlation, count its points.

    ## 10. A real report

    The report compares three encoders with `tiny-llama` on the same samples, with two kinds of
    *controls*: `untrained:` is the same network before training, `shuffled:` is the trained network
    with shuffled captions. It takes less than a minute. The equivalent command is
    `encoderlab compare --llms tiny-llama --controls`.
    [ko]
    점 세 개로는 상관관계를 보일 수 없습니다. 이런 표가 25개이면(예: 지표 다섯 개와 벤치마크 다섯
    개) 우연만으로도 {found_by_luck:.0%}의 경우에 0.99의 상관이 나옵니다. 상관관계를 믿기 전에 점이
    몇 개인지 세십시오.

    ## 10. 실제 보고서

    보고서는 같은 샘플에서 인코더 세 개를 `tiny-llama`와 비교하며, 두 가지 *대조군(control)*을
    둡니다. `untrained:`는 학습하기 전의 같은 신경망이고, `shuffled:`는 학습된 신경망에서 설명문을
    섞은 것입니다. 1분이 걸리지 않습니다. 같은 일을 하는 명령은
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
    The columns are the debiased CKA (section 3), the published CKA with its floor (3), the CKA
    within types (6), and two projectors scored on unseen samples (7). The last lines are paired
    verdicts (8). The report file contains one more table, which the next cell prints: every encoder
    against its own untrained copy, *within types*.
    [ko]
    열은 편향을 없앤 CKA(3절), 바닥값이 있는 논문식 CKA(3절), 유형 안의 CKA(6절), 보지 못한 샘플로
    채점한 프로젝터 두 가지(7절)입니다. 마지막 줄들은 짝지은 판정입니다(8절). 보고서 파일에는 표가
    하나 더 있으며 다음 셀이 출력합니다. 각 인코더를 학습하지 않은 사본과 *유형 안에서* 비교한
    것입니다.
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

    Answer from the verdicts of the report, not from the largest score.

    1. `leader_is_ahead_of`: one encoder has the highest debiased CKA. Which of the other two is it
       *ahead* of? A list of none, one or two names, such as `["tiny-clip"]`.
    2. `fooled_column`: in the rows `shuffled:` images and captions do not match. In which column
       are their scores nevertheless clearly above 0? Give the title of the column, in quotes.
    3. `not_ahead_of_untrained`: which encoders are *not* ahead of their untrained copies within
       types? A list of names.
    [ko]
    ### 연습 7: 세 가지 질문

    가장 큰 점수가 아니라 보고서의 판정을 보고 답하십시오.

    1. `leader_is_ahead_of`: 편향을 없앤 CKA가 가장 높은 인코더가 있습니다. 나머지 둘 중 어느 것보다
       *앞섭니까(ahead)*? `["tiny-clip"]`과 같은 이름의 리스트이며, 이름은 없거나 한 개나 두
       개입니다.
    2. `fooled_column`: `shuffled:` 행에서는 이미지와 설명문이 맞지 않습니다. 그런데도 점수가 0보다
       뚜렷이 높은 열은 무엇입니까? 열의 제목을 따옴표 안에 쓰십시오.
    3. `not_ahead_of_untrained`: 유형 안에서, 학습하지 않은 사본보다 앞서지 *못하는* 인코더는
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
    Over all samples, {trained_ahead("cka_linear")} of the 3 encoders are ahead of their untrained
    copies; within types, {trained_ahead("cka_within")} of them. The output of an untrained network
    still depends on the brightness of an image and on where something is drawn, which can be enough
    to agree with some captions. If an encoder is ahead over all samples but not within types, these
    samples show only that its training distinguishes the types.
    [ko]
    모든 샘플을 함께 보면 인코더 3개 중 {trained_ahead("cka_linear")}개가 학습하지 않은 사본보다
    앞서지만, 유형 안에서는 {trained_ahead("cka_within")}개입니다. 학습하지 않은 신경망의 출력도
    이미지의 밝기와 무엇이 그려진 위치에 따라 달라지며, 이것만으로 어떤 설명문과는 일치할 수
    있습니다. 전체에서는 앞서고 유형 안에서는 앞서지 못한다면, 이 샘플이 보여 주는 학습의 효과는
    유형을 구별한다는 것뿐입니다.
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

    Check every score in a report with six questions:

    - What does noise of the same shape score? With few samples, the published CKA is near 1 for any
      data.
    - Does the score change when the captions are shuffled? If not, the metric does not use the
      pairs.
    - What is the score within one type of data?
    - Was it computed on training samples?
    - Is the interval of the *difference* above 0, on the same samples?
    - How many points does a correlation have, and how many tables were examined?

    To try next: change `n_samples` in `HOW`. Which verdicts change? For your own models and data,
    `encoderlab all --encoders ... --llms ... --data-root YOUR_DATA` writes the full report as one
    page.
    [ko]
    ## 정리

    보고서의 점수마다 다음 여섯 가지를 확인하십시오.

    - 모양이 같은 잡음의 점수는 얼마입니까? 샘플이 적으면 논문식 CKA는 어떤 데이터에서든 1에
      가깝습니다.
    - 설명문을 섞으면 점수가 변합니까? 변하지 않으면 짝을 사용하지 않는 지표입니다.
    - 한 가지 데이터 유형 안에서는 점수가 얼마입니까?
    - 학습에 쓴 샘플로 잰 점수입니까?
    - 같은 샘플에서 잰 *차이*의 구간이 0보다 위에 있습니까?
    - 상관관계의 점은 몇 개이고, 표를 몇 개나 살펴보았습니까?

    더 해 볼 것: `HOW`의 `n_samples`를 바꾸면 어떤 판정이 달라집니까? 자신의 모델과 데이터가 있다면
    `encoderlab all --encoders ... --llms ... --data-root YOUR_DATA`가 보고서 전체를 한 페이지로
    씁니다.
    """)
    return


if __name__ == "__main__":
    app.run()
