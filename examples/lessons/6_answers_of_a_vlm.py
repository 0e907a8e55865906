import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="Lesson 6: Judge an encoder by answers")

with app.setup(hide_code=True):
    import os
    from pathlib import Path

    import marimo as mo
    import numpy as np
    import torch

    import encoderlab
    import show
    from encoderlab.metrics.answers import accuracy, accuracy_over_seeds, exact_match
    from encoderlab.vlm.evaluate import other_images
    from encoderlab.vlm.questions import synthetic_questions
    from grader import Grader

    grader = Grader(6)
    text = grader.text


@app.cell(hide_code=True)
def _():
    text(r"""
    # Lesson 6: Judge an encoder by answers

    Lesson 3 compared encoders with metrics that need no training. The metrics are meant to predict
    with which encoder a vision-language model (VLM) answers best. In this lesson you train small
    VLMs, count their right answers, and check whether the metric selects the right encoder.

    There are five exercises. The lesson takes about forty minutes, including ten minutes of
    training, and needs no network. Replace each `...` with your answer.

    ## 1. A VLM answers

    The bundled `tiny-vlm` was trained on questions like those below. It returns the most probable
    answers with their probabilities.
    [ko]
    # 6강: 답으로 인코더 평가하기

    3강에서는 학습이 필요 없는 지표로 인코더를 비교했습니다. 지표의 목적은 어느 인코더를 쓸 때
    비전-언어 모델(VLM)이 가장 잘 답하는지 예측하는 것입니다. 이 강의에서는 작은 VLM을 학습해 정답을
    세고, 지표가 맞는 인코더를 고르는지 확인합니다.

    연습은 다섯 개이며, 학습 시간 10분을 포함해 40분쯤 걸리고 네트워크는 필요하지 않습니다. `...`
    자리에 답을 쓰십시오.

    ## 1. VLM이 답합니다

    내장 모델 `tiny-vlm`은 아래와 같은 질문으로 학습했습니다. 확률이 가장 높은 답들을 확률과 함께
    돌려줍니다.
    """)
    return


@app.cell
def _():
    # How long the lesson trains. One image has one question.
    N_IMAGES, N_TEST, EPOCHS, SEEDS = 2048, 300, 2, (0, 1, 2)
    return EPOCHS, N_IMAGES, N_TEST, SEEDS


@app.cell
def _(N_IMAGES, N_TEST):
    train_questions = synthetic_questions("train", range(N_IMAGES), ["en"])
    test_questions = synthetic_questions("test", range(N_TEST), ["en"])
    return test_questions, train_questions


@app.cell
def _(test_questions):
    _asked = test_questions[:5]
    _tiny = encoderlab.VLM.load("tiny-vlm", "cpu")
    for _question in _asked:
        _answer = _tiny.answer(_question.image.load(), _question.text, candidates=3)
        _others = ", ".join(f"{text} {p:.0%}" for text, p in _answer.candidates)
        print(f"{_question.text} right: {_question.answers[0]}; candidates: {_others}")
    show.pictures([one.image.load() for one in _asked], [one.kind for one in _asked])
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 2. Build a VLM

    The encoder turns an image into 144 patch tokens. Four neighbours are concatenated into one,
    which gives 36 tokens. A *projector* of two layers maps each token to the width of the language
    model, and the tokens are put into the prompt. The encoder is frozen; the projector and the
    language model are trained.
    [ko]
    ## 2. VLM 만들기

    인코더가 이미지에서 패치 토큰 144개를 만듭니다. 이웃 네 개를 이어 붙여 토큰 36개로 줄입니다. 두
    층으로 된 *프로젝터(projector)*가 토큰을 언어 모델의 너비로 변환하고, 이 토큰을 프롬프트에
    넣습니다. 인코더는 고정하고 프로젝터와 언어 모델을 학습합니다.
    """)
    return


@app.cell
def _():
    def build(encoder, seed):
        return encoderlab.VLM.build(
            encoder,
            "tiny-llama",
            "mlp",
            reduce="pixel_shuffle:2",
            device="cpu",
            dtype="float32",
            seed=seed,
        )

    def tokens_of(vlm, questions):
        # The encoder is frozen, so it runs once for each image and not once for each step.
        images = [question.image.load() for question in questions]
        parts = [images[i : i + 64] for i in range(0, len(images), 64)]
        return torch.cat([vlm.vision_tokens(part).half() for part in parts])

    vlm = build("tiny-clip", seed=0)
    for _part in ("projector", "llm"):
        _count = sum(weights.numel() for weights in getattr(vlm, _part).parameters())
        print(f"{_part:9} {_count / 1e6:.2f} M parameters")
    print(f"image tokens in the prompt: {vlm.image_tokens}")
    return build, tokens_of, vlm


@app.cell(hide_code=True)
def _():
    text(r"""
    The model predicts the next token, and only the tokens of the *answer* count in the loss. The
    answers of a batch have different lengths, so the labels $(B, A)$ are padded on the left with
    $-100$ ("no token"):

    $$
    L = - \frac{1}{T} \sum_{b, a:\; y_{ba} \ne -100} \log p(y_{ba})
    $$

    $T$ is the number of answer tokens in the batch.

    ### Exercise 1: the loss of the answers

    Write `answer_loss(logits, labels)` for `logits` $(B, A, V)$ and `labels` $(B, A)$. Position $a$
    of the logits already predicts label $a$. It returns one number with a gradient.
    [ko]
    모델은 다음 토큰을 예측하며, 손실에는 *답*의 토큰만 셉니다. 한 배치에서 답의 길이가 서로
    다르므로 레이블 $(B, A)$의 왼쪽을 "토큰 없음"을 뜻하는 $-100$으로 채웁니다.

    $$
    L = - \frac{1}{T} \sum_{b, a:\; y_{ba} \ne -100} \log p(y_{ba})
    $$

    $T$는 배치에 있는 답 토큰의 수입니다.

    ### 연습 1: 답의 손실

    `logits` $(B, A, V)$와 `labels` $(B, A)$에 대해 `answer_loss(logits, labels)`를 작성하십시오.
    로짓의 위치 $a$는 이미 레이블 $a$를 예측합니다. 기울기를 구할 수 있는 수 하나를 돌려줍니다.
    """)
    return


@app.cell
def exercise_1():
    def answer_loss(logits, labels):
        return ...

    check_1 = grader.check(1, answer_loss)
    return (check_1,)


@app.cell
def _(EPOCHS, train_questions):
    def train(vlm, tokens, loss_of, seed):
        # Without tokens the model sees the questions alone.
        rates = {"projector": 2e-3, "llm": 1e-3}
        groups = [
            {"params": [*getattr(vlm, part).parameters()], "lr": rate}
            for part, rate in rates.items()
        ]
        rng = torch.Generator().manual_seed(seed)
        orders = [torch.randperm(len(train_questions), generator=rng) for _ in range(EPOCHS)]
        batches = [part for order in orders for part in order.split(32)]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.05, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [*rates.values()], total_steps=len(batches), pct_start=0.05
        )
        losses = []
        vlm.train()
        for batch in batches:
            asked = [train_questions[i] for i in batch]
            rows = vlm.prompter.rows(
                [question.text for question in asked],
                [question.answers[0] for question in asked],
                0 if tokens is None else vlm.image_tokens,
            )
            loss = loss_of(vlm, None if tokens is None else tokens[batch], rows)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vlm.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        vlm.eval()
        return losses

    return (train,)


@app.cell
def _(EPOCHS, train_questions):
    train_button = mo.ui.run_button(label=f"train ({EPOCHS} x {len(train_questions)} questions)")
    train_button
    return (train_button,)


@app.cell
def _(build, check_1, tokens_of, train, train_button, train_questions, vlm):
    # Train only when the button is pressed, not after every change above.
    mo.stop(
        mo.running_in_notebook() and not train_button.value,
        text("""
        Press the button above to train. The cells below run after the training.
        [ko]
        위의 버튼을 누르면 학습을 시작합니다. 아래 셀은 학습이 끝난 뒤에 실행됩니다.
        """),
    )

    def your_loss(vlm, tokens, rows):
        return check_1.value(vlm(tokens, rows), rows.labels)

    losses = train(vlm, tokens_of(vlm, train_questions), your_loss, seed=0)
    blind_vlm = build("tiny-clip", seed=0)
    blind_losses = train(blind_vlm, None, your_loss, seed=0)
    _last = sum(blind_losses[-10:]) / len(blind_losses[-10:])
    show.curve(losses, _last, "step", "loss, nats per answer token", "without the image")
    return blind_vlm, losses


@app.cell(hide_code=True)
def _(losses):
    text(rf"""
    The loss starts at {losses[0]:.2f} and rises at first: the language model was trained on similar
    texts and already guesses well, and the tokens of the untrained projector disturb it. The loss
    ends at {sum(losses[-10:]) / len(losses[-10:]):.2f}. The dashed line is the final loss of the
    same language model trained on the same questions *without the image*. The difference is the
    contribution of the image.

    ## 3. Accuracy and its controls

    An answer is right if it equals the expected answer, ignoring case, articles and the spelling of
    numbers (`exact_match`). A model without an image is sometimes right, too. So report four
    numbers together:

    - *right*: the model with the image;
    - *blind*: the same model, trained and tested without the image;
    - *shuffled*: the trained model with the image of another question;
    - *most common*: the most frequent training answer to the same question.

    ### Exercise 2: the most common answer

    Write `most_common(questions, answers)` for two lists of texts of equal length. It returns a
    dictionary: the most common answer to each question. A test question may be new, so the key `""`
    contains the most common answer over all questions.
    [ko]
    손실은 {losses[0]:.2f}에서 시작해 처음에는 커집니다. 언어 모델은 비슷한 글로 학습해 답을 잘
    추측하는데, 학습되지 않은 프로젝터의 토큰이 이를 방해하기 때문입니다. 마지막 손실은
    {sum(losses[-10:]) / len(losses[-10:]):.2f}입니다. 점선은 같은 언어 모델을 같은 질문으로 *이미지
    없이* 학습했을 때의 마지막 손실입니다. 그 차이가 이미지의 기여입니다.

    ## 3. 정답률과 대조군

    대소문자, 관사, 수의 표기를 무시하고 정답과 같으면 맞힌 것입니다(`exact_match`). 이미지가 없는
    모델도 가끔 맞히므로 네 가지 수를 함께 보고합니다.

    - *right*: 이미지를 본 모델
    - *blind*: 같은 모델을 이미지 없이 학습하고 시험한 것
    - *shuffled*: 학습한 모델에 다른 질문의 이미지를 준 것
    - *most common*: 학습 데이터에서 같은 질문에 가장 많이 나온 답

    ### 연습 2: 가장 흔한 답

    길이가 같은 문자열 리스트 두 개에 대해 `most_common(questions, answers)`를 작성하십시오.
    질문마다 가장 흔한 답을 담은 딕셔너리를 돌려줍니다. 시험 질문은 처음 보는 것일 수 있으므로, 키
    `""`에는 전체에서 가장 흔한 답을 둡니다.
    """)
    return


@app.cell
def exercise_2():
    def most_common(questions, answers):
        return ...

    check_2 = grader.check(2, most_common)
    return (check_2,)


@app.cell
def _(test_questions):
    def ask(vlm, tokens):
        texts = []
        for i in range(0, len(test_questions), 50):
            asked = [question.text for question in test_questions[i : i + 50]]
            seen = None if tokens is None else tokens[i : i + 50]
            texts += [answer.text for answer in vlm.answers(seen, asked)]
        return texts

    def is_right(texts):
        pairs = zip(texts, test_questions, strict=True)
        return np.array([exact_match(text, question.answers) for text, question in pairs])

    image = np.arange(len(test_questions))  # one question for each image
    kinds = np.array([question.kind for question in test_questions])
    return ask, image, is_right, kinds


@app.cell
def _(
    ask,
    blind_vlm,
    check_2,
    image,
    is_right,
    kinds,
    test_questions,
    tokens_of,
    train_questions,
    vlm,
):
    _tokens = tokens_of(vlm, test_questions)
    _common = check_2.value(
        [question.text for question in train_questions],
        [question.answers[0] for question in train_questions],
    )
    answers = ask(vlm, _tokens)
    right = {
        "right": is_right(answers),
        "blind": is_right(ask(blind_vlm, None)),
        "shuffled": is_right(ask(vlm, _tokens[other_images(image, seed=0)])),
        "most common": is_right([_common.get(one.text, _common[""]) for one in test_questions]),
    }
    print(f"{'kind':9}" + "".join(f"{name:>21}" for name in right))
    for _kind in ("all", *sorted(set(kinds))):
        _chosen = (kinds == _kind) | (_kind == "all")
        _scores = [accuracy(values[_chosen], image[_chosen]) for values in right.values()]
        print(f"{_kind:9}" + "".join(f"{score.as_percent():>21}" for score in _scores))
    return answers, right


@app.cell
def _(answers, test_questions):
    show.pictures(
        [question.image.load() for question in test_questions[:10]],
        [
            f"{question.text} {answer} (right: {question.answers[0]})"
            for question, answer in zip(test_questions[:10], answers, strict=False)
        ],
    )
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    Each share is followed by its 95 % confidence interval over images. The image contributes what
    is above *all* three controls. Sums (`math`) give their numbers in the question: the image adds
    little, and a small model cannot calculate.

    ### Exercise 3: share of the possible gain

    Write `share_between(right, blind)` for two shares between 0 and 1. It returns the share of the
    possible gain over the blind model: 0 if the model is as good as blind, 1 if all answers are
    right.
    [ko]
    비율 뒤의 구간은 이미지에 대한 95 % 신뢰 구간입니다. 대조군 셋 *모두*보다 높은 만큼이 이미지의
    기여입니다. 계산 문제(`math`)는 질문에 수가 들어 있어서 이미지가 거의 도움이 되지 않으며, 작은
    모델은 계산을 하지 못합니다.

    ### 연습 3: 가능한 향상 중 이룬 비율

    0과 1 사이의 비율 두 개에 대해 `share_between(right, blind)`를 작성하십시오. 블라인드(blind)
    모델보다 향상될 수 있는 만큼 중에서 실제로 향상된 비율을 돌려줍니다. 블라인드와 같으면 0, 모두
    맞히면 1입니다.
    """)
    return


@app.cell
def exercise_3():
    def share_between(right, blind):
        return ...

    check_3 = grader.check(3, share_between)
    return (check_3,)


@app.cell
def _(check_3, right):
    _share = check_3.value(right["right"].mean(), right["blind"].mean())
    print(f"{_share:.0%} of the way from blind to perfect")
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 4. The answers of four encoders

    The next cell trains VLMs with three trained encoders and an untrained one:
    `untrained:tiny-clip` has the architecture of `tiny-clip` and random weights. Each VLM is
    trained with several *seeds*, which change the initial projector and the order of the questions.
    How much do the scores differ between seeds? This takes some minutes.
    [ko]
    ## 4. 인코더 네 개의 정답률

    다음 셀은 학습된 인코더 세 개와 학습하지 않은 인코더 하나로 VLM을 학습합니다.
    `untrained:tiny-clip`은 `tiny-clip`과 구조가 같고 가중치가 무작위입니다. VLM마다 여러
    *시드(seed)*로 학습하며, 시드에 따라 프로젝터의 초깃값과 질문의 순서가 달라집니다. 시드에 따른
    점수의 차이는 얼마나 됩니까? 몇 분 걸립니다.
    """)
    return


@app.cell
def _(
    SEEDS,
    ask,
    build,
    image,
    is_right,
    test_questions,
    tokens_of,
    train,
    train_questions,
):
    ENCODERS = ("tiny-clip", "tiny-siglip", "tiny-dinov2", "untrained:tiny-clip")

    def loss_per_token(vlm, tokens, rows):
        return vlm.loss(tokens, rows) / (rows.labels != -100).sum()

    _right = []
    for _encoder in ENCODERS:
        _seeds = []
        for _seed in mo.status.progress_bar(SEEDS, title=_encoder, remove_on_exit=True):
            _vlm = build(_encoder, _seed)
            if not _seeds:  # the encoder is the same for all seeds
                _tokens = [tokens_of(_vlm, asked) for asked in (train_questions, test_questions)]
            train(_vlm, _tokens[0], loss_per_token, _seed)
            _seeds.append(is_right(ask(_vlm, _tokens[1])))
        _right.append(np.array(_seeds))
    by_seed = np.array([one.mean(axis=1) for one in _right])  # (encoder, seed)
    print("encoder               right answers          by seed")
    for _encoder, _one, _shares in zip(ENCODERS, _right, by_seed, strict=True):
        _score = accuracy_over_seeds(_one, image)
        _list = " ".join(f"{share:.1%}" for share in _shares)
        print(f"{_encoder:21} {_score.as_percent():22} {_list}")
    return ENCODERS, by_seed


@app.cell(hide_code=True)
def _():
    text(r"""
    These intervals include the variation over images *and* seeds. They are wide because three seeds
    are few. With one seed they would be narrower but too optimistic.

    ## 5. The ranking by CKA

    The metric of lesson 3 measures how similar two similarity structures are: the debiased CKA
    (centred kernel alignment) of an encoder's pooled embeddings and those of the language model. It
    needs no training and takes seconds.
    [ko]
    이 구간은 이미지와 시드에 따른 변동을 *모두* 포함합니다. 시드 세 개는 적어서 구간이 넓습니다.
    시드가 하나면 구간은 더 좁지만 지나치게 낙관적입니다.

    ## 5. CKA로 매긴 순위

    3강의 지표는 두 유사도 구조가 얼마나 비슷한지를 나타내는, 인코더의 풀링된 임베딩과 언어 모델의
    임베딩 사이의 편향을 없앤 CKA(centred kernel alignment)입니다. 학습이 필요 없고 몇 초면 됩니다.
    """)
    return


@app.cell
def _(ENCODERS, by_seed):
    _cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    _compared = encoderlab.compare(
        encoders=[*ENCODERS],
        llms=["tiny-llama"],
        n_samples=20,
        device="cpu",
        dtype="float32",
        features_dir=_cache / "encoderlab" / "lessons" / "features",
    )
    _cka = {row.encoder: row.scores["cka_linear"] for row in _compared.rows}
    cka = np.array([float(_cka[name]) for name in ENCODERS])

    def place(values):
        return (-np.asarray(values)).argsort().argsort() + 1

    print("encoder               CKA                      place   by answers   by answers of seed")
    _places = zip(ENCODERS, place(cka), place(by_seed.mean(axis=1)), strict=True)
    for _i, (_encoder, _by_cka, _by_answers) in enumerate(_places):
        _each = " ".join(str(place(column)[_i]) for column in by_seed.T)
        print(
            f"{_encoder:21} {_cka[_encoder].as_number():24} {_by_cka:5} {_by_answers:12}   {_each}"
        )
    _answers = ENCODERS[by_seed.mean(axis=1).argmax()]
    print(f"CKA would have chosen {ENCODERS[cka.argmax()]}, the answers {_answers}")
    return (cka,)


@app.cell(hide_code=True)
def _():
    text(r"""
    Compare the places with the intervals of section 4. Is the encoder with the highest CKA worse
    than another by more than the noise? Do the seeds agree? One wrong choice among these encoders
    does not show that the metric is wrong in general.

    ## 6. The noise between seeds

    A metric cannot predict the ranking by answers better than one seed predicts that of another
    seed. Spearman's $\rho$ measures how far two rankings agree: it is the correlation of the ranks,
    1 for the same ranking and -1 for the reverse. Its mean over all pairs of seeds is the *noise
    ceiling*.

    ### Exercise 4: the noise ceiling

    Write `noise_ceiling(by_seed)` for an array (encoders, seeds) of shares without ties. It returns
    the mean of $\rho$ over all pairs of *different* seeds. The rank of a value is the number of
    smaller values, `values.argsort().argsort()`. The correlation is `np.corrcoef(a, b)[0, 1]`.
    (`scipy.stats.spearmanr` computes both.)
    [ko]
    순위를 4절의 구간과 비교하십시오. CKA가 가장 높은 인코더가 다른 인코더보다 잡음 이상으로
    뒤집니까? 시드끼리는 일치합니까? 이 인코더들에서 한 번 잘못 골랐다고 해서 지표가 일반적으로
    틀렸다고 할 수는 없습니다.

    ## 6. 시드 사이의 잡음

    지표는 한 시드의 순위가 다른 시드의 순위를 예측하는 것보다 더 잘 예측할 수 없습니다.
    스피어만(Spearman)의 $\rho$는 두 순위가 얼마나 일치하는지를 나타내는 순위의 상관계수이며, 같은
    순위면 1, 역순이면 -1입니다. 모든 시드 쌍에 대한 평균이 *잡음 천장(noise ceiling)*입니다.

    ### 연습 4: 잡음 천장

    동점이 없는 비율의 배열 (인코더, 시드)에 대해 `noise_ceiling(by_seed)`를 작성하십시오. *서로
    다른* 시드의 모든 쌍에 대한 $\rho$의 평균을 돌려줍니다. 값의 순위는 그보다 작은 값의 개수이며
    `values.argsort().argsort()`로, 상관계수는 `np.corrcoef(a, b)[0, 1]`로 구합니다.
    (`scipy.stats.spearmanr`는 둘 다 계산합니다.)
    """)
    return


@app.cell
def exercise_4():
    def noise_ceiling(by_seed):
        return ...

    check_4 = grader.check(4, noise_ceiling)
    return (check_4,)


@app.cell
def _(by_seed, check_4, cka):
    _answers = by_seed.mean(axis=1)
    # Two columns: the ranking by CKA and that by answers.
    rho = {
        "four encoders": check_4.value(np.stack([cka, _answers], axis=1)),
        "trained ones": check_4.value(np.stack([cka, _answers], axis=1)[:3]),
    }
    ceilings = {"four encoders": check_4.value(by_seed), "trained ones": check_4.value(by_seed[:3])}
    print("                rho of CKA and answers   noise ceiling")
    for _name, _rho in rho.items():
        print(f"{_name:15} {_rho:+22.2f}   {ceilings[_name]:+13.2f}")
    return ceilings, rho


@app.cell(hide_code=True)
def _(ceilings, rho):
    text(rf"""
    For all four encoders, $\rho$ is {rho["four encoders"]:.2f} between CKA and the answers and
    {ceilings["four encoders"]:.2f} between seeds. But it is expected that the untrained encoder
    differs from the others. For the three trained encoders alone, $\rho$ is
    {rho["trained ones"]:.2f}, and {ceilings["trained ones"]:.2f} between seeds. Before you believe
    a $\rho$ of 1 or -1, count the encoders.

    ## 7. How many encoders are needed?

    Suppose that the ranking by the metric is *perfect*, $\rho = 1$. Of $n!$ rankings, one is
    perfect and one is its reverse, so the probability of $|\rho| = 1$ by chance is $p = 2/n!$; for
    three encoders, this is one third. If you test several metrics, multiply $p$ by their number
    (Bonferroni).

    ### Exercise 5: the smallest number of encoders

    Write `encoders_needed(metrics, level)`. It returns the smallest $n$ for which a perfect ranking
    has a corrected $p$ of at most `level`, where `metrics` is the number of metrics tested.
    [ko]
    네 개 전체에서 CKA와 답의 $\rho$는 {rho["four encoders"]:.2f}이고, 시드끼리는
    {ceilings["four encoders"]:.2f}입니다. 그러나 학습하지 않은 인코더가 나머지와 다른 것은
    당연합니다. 학습된 세 개만 보면 {rho["trained ones"]:.2f}이고, 시드끼리는
    {ceilings["trained ones"]:.2f}입니다. $\rho$가 1이나 -1이라고 믿기 전에 인코더의 수를 세십시오.

    ## 7. 인코더가 몇 개 필요합니까?

    지표의 순위가 *완벽하다고*, 곧 $\rho = 1$이라고 가정합니다. 순위 $n!$가지 중 하나는 완벽하고
    하나는 그 역순이므로, 우연히 $|\rho| = 1$이 될 확률은 $p = 2/n!$이며 인코더가 세 개면 3분의
    1입니다. 지표를 여러 개 시험하면 $p$에 지표의 수를 곱하십시오(본페로니, Bonferroni).

    ### 연습 5: 인코더의 가장 작은 수

    `encoders_needed(metrics, level)`를 작성하십시오. 지표를 `metrics`개 시험했을 때, 완벽한 순위의
    보정한 $p$가 `level` 이하가 되는 가장 작은 $n$을 돌려줍니다.
    """)
    return


@app.cell
def exercise_5():
    def encoders_needed(metrics, level):
        return ...

    check_5 = grader.check(5, encoders_needed)
    return (check_5,)


@app.cell
def _(check_5):
    for _metrics in (1, 5, 10):
        print(
            f"{_metrics:2} metrics: {check_5.value(_metrics, 0.05)} encoders with a perfect ranking"
        )
    return


@app.cell(hide_code=True)
def _(check_1, check_2, check_3, check_4, check_5):
    grader.summary(check_1, check_2, check_3, check_4, check_5)
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    ## Summary

    - Only the answer's tokens count in the loss.
    - Compare the share of right answers with the blind model, shuffled images and the most common
      answer.
    - Train with at least three seeds, and report how much they differ.
    - Compare a metric with the noise ceiling, the agreement between seeds.
    - Four encoders are not enough to test the ranking by a metric. With one metric and a perfect
      ranking five are needed, in practice more.

    `tiny-vlm` was trained like your model, for 4,269 steps. The same VLM with a randomly
    initialised encoder is almost as often right: 82.3 % against 75.6 % of 1,000 questions. A random
    network preserves most of the information in a simple image, and a language model trained with
    it learns to use its tokens. The trained encoder helps most with little data, as here. So
    compare every encoder with its untrained copy.

    To try next: `encoderlab e2e --answers` runs this comparison for any encoders and language
    models, with every metric, and saves the trained VLMs. `encoderlab vlm evaluate` tests a model
    on your own questions.
    [ko]
    ## 정리

    - 손실에서는 답의 토큰만 셉니다.
    - 정답률을 블라인드 모델, 이미지를 섞은 결과, 가장 흔한 답과 비교하십시오.
    - 시드 세 개 이상으로 학습하고, 서로 얼마나 다른지 보고하십시오.
    - 지표를 시드 사이의 일치도인 잡음 천장과 비교하십시오.
    - 인코더 네 개로는 지표의 순위를 검정할 수 없습니다. 지표가 하나이고 순위가 완벽해도 다섯 개가
      필요하며, 실제로는 더 많이 필요합니다.

    `tiny-vlm`은 여러분의 모델과 같은 방법으로 4,269단계를 학습했습니다. 인코더를 무작위로 초기화한
    같은 VLM도 거의 그만큼 맞힙니다. 질문 1,000개에서 82.3 %와 75.6 %입니다. 무작위 신경망도 단순한
    이미지의 정보를 대부분 보존하며, 함께 학습한 언어 모델은 그 토큰을 쓰는 법을 배웁니다. 학습된
    인코더는 여기서처럼 데이터가 적을 때 가장 도움이 됩니다. 그러므로 모든 인코더를 학습하지 않은
    사본과 비교하십시오.

    더 해 볼 것: `encoderlab e2e --answers`는 임의의 인코더와 언어 모델로 같은 비교를 모든 지표와
    함께 실행하고 학습한 VLM을 저장합니다. `encoderlab vlm evaluate`는 자신의 질문으로 모델을
    시험합니다.
    """)
    return


if __name__ == "__main__":
    app.run()
