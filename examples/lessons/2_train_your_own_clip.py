import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="Lesson 2: Train your own CLIP")

with app.setup(hide_code=True):
    import math
    import time

    import marimo as mo
    import torch
    import torch.nn.functional as F

    import shapes
    import show
    from encoderlab.encoders.vision import stack
    from encoderlab.metrics.retrieval import retrieval
    from encoderlab.models.clip import (
        CLIP,
        CLIPConfig,
        Preprocess,
        TextConfig,
        Tokenizer,
        ViTConfig,
    )
    from grader import Grader

    grader = Grader(2)
    text = grader.text


@app.cell(hide_code=True)
def _():
    text(r"""
    # Lesson 2: Train your own CLIP

    In lesson 1 the model was there already. Now you train one: with a few hundred pictures and a
    network small enough for any computer, in less than a minute. You write the loss, hold some
    pictures out of the training, and measure what the model has learnt.

    Five exercises; it takes about half an hour and no network. As before, begin with the round
    yellow button at the bottom right, which runs all cells, and put your answer in the place of
    `...`.

    ## 1. The pairs

    A computer has drawn five hundred pictures, each of a single coloured shape. Every picture has
    two captions: one says all, the other leaves out the place. A *pair* is a picture, known by its
    number, with one of its captions.
    [ko]
    # 2강: 나만의 CLIP 학습하기

    1강에서는 모델이 이미 있었습니다. 이번에는 직접 만듭니다. 사진 몇백 장, 어떤 컴퓨터에서도 돌아갈
    만큼 작은 신경망, 1분이 안 되는 학습 시간이면 됩니다. 손실 함수를 작성하고, 사진 일부를 학습에서
    떼어 두고, 모델이 무엇을 배웠는지 잽니다.

    연습은 다섯 개이며, 30분쯤 걸리고 네트워크는 필요하지 않습니다. 1강과 같이 먼저 오른쪽 아래의
    둥근 노란 단추를 눌러 모든 셀을 실행하고, `...` 자리에 답을 쓰십시오.

    ## 1. 쌍

    컴퓨터가 사진 500장을 그렸습니다. 사진마다 색깔 있는 도형이 하나씩 있습니다. 사진 하나에는
    설명문이 두 개 있는데, 하나는 모든 것을 말하고 다른 하나는 위치를 빼고 말합니다. *쌍(pair)*은
    사진 번호와 그 사진의 설명문 하나입니다.
    """)
    return


@app.cell
def _():
    things = shapes.coloured_shapes(500)
    pairs = shapes.all_pairs(things)
    print(f"{len(things)} pictures, {len(pairs)} pairs; the first three:")
    for _pair in pairs[:3]:
        print("  ", _pair)
    show.pictures(
        [thing.image for thing in things[:6]], [thing.captions[1] for thing in things[:6]]
    )
    return pairs, things


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 2. The loss

    A batch has $N$ pictures and their $N$ captions. The matrix of cosines, multiplied by a factor
    $s$, gives the *logits*; row $i$ is picture $i$, column $j$ is caption $j$:

    $$
    z_{ij} = s \, \cos(a_i, b_j)
    $$

    Read row $i$ as a question with $N$ possible answers: which caption belongs to picture $i$? The
    right answer is caption $i$, on the diagonal. A *softmax* makes probabilities of the row, and
    the *cross-entropy* is minus the logarithm of the probability of the right one:

    $$
    \ell_i = -\ln \frac{e^{z_{ii}}}{\sum_j e^{z_{ij}}}
    $$

    The columns ask the opposite question: which picture belongs to caption $j$? The loss of CLIP is
    the mean over all rows, the mean over all columns, and the mean of the two.

    What is the factor $s$ for? A cosine lies between -1 and 1, and a softmax of such small numbers
    is nearly even. Look at one row of four cosines under three factors:
    [ko]
    ## 2. 손실 함수

    배치(batch) 하나에는 사진 $N$장과 그 설명문 $N$개가 있습니다. 코사인 행렬에 배율 $s$를 곱한 것이
    *로짓(logits)*입니다. 행 $i$는 사진 $i$, 열 $j$는 설명문 $j$입니다.

    $$
    z_{ij} = s \, \cos(a_i, b_j)
    $$

    행 $i$를 보기가 $N$개인 문제로 읽으십시오. 사진 $i$에 맞는 설명문은 무엇입니까? 정답은 대각선에
    있는 설명문 $i$입니다. *소프트맥스(softmax)*는 이 행을 확률로 바꾸고, *교차
    엔트로피(cross-entropy)*는 정답 확률의 로그에 마이너스를 붙인 것입니다.

    $$
    \ell_i = -\ln \frac{e^{z_{ii}}}{\sum_j e^{z_{ij}}}
    $$

    열은 반대로 묻습니다. 설명문 $j$에 맞는 사진은 무엇입니까? CLIP의 손실은 모든 행에 대한 평균과
    모든 열에 대한 평균, 이 둘의 평균입니다.

    배율 $s$는 왜 필요하겠습니까? 코사인은 -1과 1 사이의 수이고, 이렇게 작은 수의 소프트맥스는 거의
    균등합니다. 코사인 네 개로 된 한 행에 세 가지 배율을 적용해 보십시오.
    """)
    return


@app.cell
def _():
    row = torch.tensor([0.6, 0.3, 0.2, 0.1])
    for _scale in (1.0, 14.0, 100.0):
        _chances = F.softmax(_scale * row, dim=0)
        print(f"scale {_scale:5.0f}: {[round(float(p), 3) for p in _chances]}")
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    $1/s$ is called the *temperature*. CLIP does not choose it: $s$ is a parameter that is learnt
    together with the rest, begins at $1/0.07$, and may not go beyond 100.

    ### Exercise 1: the contrastive loss

    Write `clip_loss(image, text, scale)`. The rows of `image` and `text`, both $(N, D)$, have
    length 1 already; `scale` is the factor $s$. It returns one number that has a gradient. You may
    use `F.cross_entropy(logits, targets)`: it does the softmax, the logarithm and the mean over the
    rows. The batch size may be any.
    [ko]
    $1/s$를 *온도(temperature)*라고 합니다. CLIP에서는 사람이 이 값을 고르지 않습니다. $s$는
    나머지와 함께 학습되는 매개변수(parameter)이며, $1/0.07$에서 시작하고 100을 넘지 못합니다.

    ### 연습 1: 대조 손실

    대조 손실(contrastive loss)을 구하는 `clip_loss(image, text, scale)`을 작성하십시오. `image`와
    `text`는 모두 $(N, D)$이고 행의 길이는 이미 1입니다. `scale`은 배율 $s$입니다.
    기울기(gradient)를 구할 수 있는 수 하나를 돌려줍니다. `F.cross_entropy(logits, targets)`를
    사용해도 됩니다. 소프트맥스, 로그, 행에 대한 평균을 모두 해 줍니다. 배치 크기는 얼마든지 될 수
    있습니다.
    """)
    return


@app.cell
def exercise_1():
    def clip_loss(image, text, scale):
        return ...

    check_1 = grader.check(1, clip_loss)
    return (check_1,)


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 3. The loss by chance

    A score means little without the score that chance gives. A model that has learnt nothing gives
    all $N$ captions of a batch the same probability.

    ### Exercise 2: the loss by chance

    Compute `chance_loss`, the value of the loss at which training begins for this batch size.
    [ko]
    ## 3. 우연 수준의 손실

    우연히 얻을 수 있는 값을 모르면 점수의 뜻을 알 수 없습니다. 아무것도 배우지 못한 모델은 배치의
    설명문 $N$개 모두에 같은 확률을 줍니다.

    ### 연습 2: 우연 수준의 손실

    이 배치 크기에서 학습이 시작될 때의 손실 `chance_loss`를 구하십시오.
    """)
    return


@app.cell
def _():
    BATCH = 64
    return (BATCH,)


@app.cell
def exercise_2(BATCH):
    chance_loss = ...

    check_2 = grader.check(2, chance_loss, BATCH=BATCH)
    return (check_2,)


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 4. Hold out some pictures

    Whether a model has learnt something general shows only on pictures that it has never seen. So a
    part of the data is *held out*. The obvious way is to shuffle the pairs and to cut. But every
    picture is in two pairs. How often is a held-out picture then in the training part as well, with
    its other caption?
    [ko]
    ## 4. 사진 일부를 평가용으로 떼어 두기

    모델이 일반적인 것을 배웠는지는 한 번도 보지 못한 사진에서만 드러납니다. 그래서 데이터의 일부를
    *평가용(held out)*으로 떼어 둡니다. 가장 먼저 떠오르는 방법은 쌍을 섞은 다음 자르는 것입니다.
    그러나 사진은 저마다 두 쌍에 들어 있습니다. 그렇게 자르면 평가용 사진이 다른 설명문과 함께
    학습용에도 들어가는 일이 얼마나 많겠습니까?
    """)
    return


@app.cell
def _(pairs):
    _order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0)).tolist()
    _cut = round(0.8 * len(pairs))
    _trained = {pairs[i].picture for i in _order[:_cut]}
    _held_out = {pairs[i].picture for i in _order[_cut:]}
    print(f"held out: {len(_held_out)} pictures; of them seen in training: ", end="")
    print(f"{len(_held_out & _trained)} ({len(_held_out & _trained) / len(_held_out):.0%})")
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    That is *leakage*: the test contains what was trained on. The remedy is to divide the pictures,
    and not the pairs.

    ### Exercise 3: split by picture

    Write `split(pairs, share)`. It returns two lists of pairs: those to train on, and those held
    out. About `share` of the *pictures* are held out, no picture is on both sides, and no pair is
    lost. A pair has `.picture` and `.caption`. The pairs may come in any order.
    [ko]
    이것이 *데이터 누출(leakage)*입니다. 학습에 쓴 것이 평가에 다시 나옵니다. 해결책은 쌍이 아니라
    사진을 나누는 것입니다.

    ### 연습 3: 사진 단위로 나누기

    `split(pairs, share)`를 작성하십시오. 학습용 쌍과 평가용 쌍, 두 리스트를 돌려줍니다. *사진*의 약
    `share`만큼이 평가용이고, 양쪽에 모두 있는 사진은 없으며, 사라지는 쌍도 없어야 합니다. 쌍에는
    `.picture`와 `.caption`이 있습니다. 쌍은 어떤 순서로든 들어올 수 있습니다.
    """)
    return


@app.cell
def exercise_3(pairs):
    def split(pairs, share):
        return ...

    check_3 = grader.check(3, split, pairs=pairs, share=0.2)
    return (check_3,)


@app.cell
def _(check_3):
    train_pairs, held_out_pairs = check_3.value  # your answer if it is right
    train_pictures = sorted({pair.picture for pair in train_pairs})
    held_out_pictures = sorted({pair.picture for pair in held_out_pairs})
    print(f"{len(train_pictures)} pictures to train on, {len(held_out_pictures)} held out")
    return held_out_pictures, train_pairs, train_pictures


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 5. A small CLIP

    The image tower is a vision transformer: it cuts a picture of 48 x 48 pixels into patches of 8 x
    8 and processes them in two layers. The text tower is a transformer too. Its words come from a
    tokenizer that learns them from the captions to train on (from those alone: a vocabulary can
    leak as well).
    [ko]
    ## 5. 작은 CLIP

    이미지 쪽은 비전 트랜스포머(vision transformer)입니다. 48 x 48 픽셀의 사진을 8 x 8
    조각(patch)으로 나누어 두 층으로 처리합니다. 텍스트 쪽도 트랜스포머입니다. 텍스트의 단어는
    토크나이저(tokenizer)가 학습용 설명문에서 배웁니다. 학습용에서만 배우는 까닭은
    어휘(vocabulary)도 누출될 수 있기 때문입니다.
    """)
    return


@app.cell
def _(things, train_pairs):
    tokenizer = Tokenizer.train("bpe", [pair.caption for pair in train_pairs], 400, 16)
    preprocess = Preprocess(48, "squash")
    pixels = preprocess.standardise(stack([preprocess.to_bytes(thing.image) for thing in things]))

    def new_model():
        torch.manual_seed(0)
        text = TextConfig(tokenizer.vocab_size, 16, 64, 2, 2, 128, end_token_id=tokenizer.end_id)
        return CLIP(CLIPConfig(ViTConfig(48, 8, 64, 2, 2, 128), text, 64), tokenizer, preprocess)

    print(f"{sum(p.numel() for p in new_model().parameters()):,} parameters")
    print(things[0].captions[0], "->", tokenizer([things[0].captions[0]])[0].tolist())
    return new_model, pixels, tokenizer


@app.cell(hide_code=True)
def _():
    text(r"""
    Here is the whole training. In each epoch every picture comes once, with one of its two
    captions. `embed` brings the rows to length 1; your loss does the rest. Press the button below
    to start it: it takes less than a minute.
    [ko]
    학습 코드는 이것이 전부입니다. 에폭(epoch)마다 모든 사진이 두 설명문 중 하나와 함께 한 번씩
    나옵니다. `embed`는 행의 길이를 1로 만들고, 나머지는 여러분의 손실 함수가 합니다. 아래 단추를
    누르면 학습이 시작되며 1분이 걸리지 않습니다.
    """)
    return


@app.cell
def _(BATCH, pixels, tokenizer):
    def embed(model, numbers, captions):
        image = F.normalize(model.encode_image(pixels[numbers]), dim=-1)
        text = F.normalize(model.encode_text(tokenizer(captions)), dim=-1)
        return image, text

    def train(model, pairs, loss_of, epochs):
        captions = {}
        for pair in pairs:
            captions.setdefault(pair.picture, []).append(pair.caption)
        pictures = torch.tensor(sorted(captions))
        optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
        steps = epochs * (len(pictures) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
        losses = []
        for _ in range(epochs):
            order = pictures[torch.randperm(len(pictures))]
            for start in range(0, len(order) - BATCH + 1, BATCH):
                numbers = order[start : start + BATCH]
                said = [captions[int(i)][torch.randint(2, ())] for i in numbers]
                loss = loss_of(*embed(model, numbers, said), model.logit_scale.exp())
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                model.clamp_logit_scale()
                losses.append(loss.item())
        return losses

    return embed, train


@app.cell
def _():
    EPOCHS = 20
    train_button = mo.ui.run_button(label=f"train ({EPOCHS} epochs)")
    train_button
    return EPOCHS, train_button


@app.cell
def _(EPOCHS, check_1, new_model, train, train_button, train_pairs):
    # Only at the press of the button, so that a change above does not train at once.
    mo.stop(
        mo.running_in_notebook() and not train_button.value,
        text("""
        Press the button above to train; the cells below wait for it.
        [ko]
        위의 단추를 누르면 학습합니다. 다음 내용은 학습이 끝난 뒤에 나옵니다.
        """),
    )
    untrained, model = new_model(), new_model()
    _started = time.perf_counter()
    losses = train(model, train_pairs, check_1.value, EPOCHS)
    print(f"{len(losses)} steps in {time.perf_counter() - _started:.0f} s")
    print(f"scale: {untrained.logit_scale.exp():.1f} before, {model.logit_scale.exp():.1f} after")
    return losses, model, untrained


@app.cell
def _(BATCH, losses):
    show.curve(losses, math.log(BATCH), "step", "loss", "ln N")
    return


@app.cell(hide_code=True)
def _(BATCH, losses):
    text(rf"""
    The loss began at {losses[0]:.2f}, which is about $\ln {BATCH} = {math.log(BATCH):.2f}$ as it
    should, and ended at {sum(losses[-6:]) / 6:.2f}. A training that stays at $\ln N$ learns
    nothing: look for a mistake.

    ## 6. Recall@K on held-out pictures

    The goal is not a low loss but to find the right caption. Take the held-out pictures and their
    complete captions. *Recall@K* is the share of pictures whose own caption is among the $K$ that
    fit best.

    ### Exercise 4: Recall@K

    Write `recall_at_k(similarity, k)`. Cell $[i, j]$ of `similarity` says how well picture $i$ and
    caption $j$ fit; the right caption of picture $i$ is caption $i$. It returns the share of rows
    with a hit, between 0 and 1.
    [ko]
    손실은 {losses[0]:.2f}에서 시작했습니다. 예상대로 $\ln {BATCH} = {math.log(BATCH):.2f}$에
    가깝습니다. 그리고 {sum(losses[-6:]) / 6:.2f}에서 끝났습니다. 손실이 $\ln N$에 머물러 있다면
    아무것도 배우지 못하는 것이므로 실수를 찾으십시오.

    ## 6. 평가용 사진에서의 Recall@K

    목표는 낮은 손실이 아니라 맞는 설명문을 찾는 것입니다. 평가용 사진과 그 전체 설명문을
    가져옵니다. *Recall@K*는 가장 잘 맞는 $K$개 안에 자기 설명문이 있는 사진의 비율입니다.

    ### 연습 4: Recall@K

    `recall_at_k(similarity, k)`를 작성하십시오. `similarity`의 $[i, j]$ 칸은 사진 $i$와 설명문
    $j$가 얼마나 맞는지를 말하며, 사진 $i$의 정답은 설명문 $i$입니다. 맞힌 행의 비율을 0과 1 사이의
    수로 돌려줍니다.
    """)
    return


@app.cell
def exercise_4():
    def recall_at_k(similarity, k):
        return ...

    check_4 = grader.check(4, recall_at_k)
    return (check_4,)


@app.cell(hide_code=True)
def _():
    text(r"""
    Now the table that every claim of learning needs: the trained model on pictures that it has not
    seen, beside an untrained one and beside chance. Beside them, for comparison only, stand as many
    pictures that it *was* trained on. The last column is EncoderLab's own metric, made
    independently of yours: it should say the same.
    [ko]
    이제 배웠다는 주장에 반드시 필요한 표입니다. 보지 못한 사진에 대한 학습된 모델의 점수 옆에,
    학습하지 않은 모델의 점수와 우연의 점수를 둡니다. 비교를 위해 같은 수의 *학습에 쓴* 사진도 함께
    둡니다. 마지막 칸은 여러분의 함수와 따로 만들어진 EncoderLab의 지표이며, 같은 값이어야 합니다.
    """)
    return


@app.cell
def _(
    check_4,
    embed,
    held_out_pictures,
    model,
    things,
    train_pictures,
    untrained,
):
    def measured(network, numbers):
        captions = [things[i].captions[0] for i in numbers]
        with torch.inference_mode():
            image, text = embed(network.eval(), torch.tensor(numbers), captions)
        ours = retrieval(image.numpy(), text.numpy()).image_to_text.recall
        return {k: (check_4.value(image @ text.T, k), ours[k].value) for k in (1, 5)}

    count = len(held_out_pictures)
    recalls = {
        "trained, held out": measured(model, held_out_pictures),
        "untrained, held out": measured(untrained, held_out_pictures),
        "trained, seen in training": measured(model, train_pictures[:count]),
    }
    print(f"{'':28} Recall@1  Recall@5   (encoderlab)")
    for _name, _found in recalls.items():
        _one, _five = _found[1], _found[5]
        print(f"{_name:28} {_one[0]:8.0%}  {_five[0]:8.0%}   {_one[1]:.0%}, {_five[1]:.0%}")
    print(f"{f'chance among {count}':28} {1 / count:8.0%}  {5 / count:8.0%}")
    return (recalls,)


@app.cell(hide_code=True)
def _(recalls):
    text(rf"""
    Compare the first line with the third: on pictures from the training, Recall@1 would be
    {recalls["trained, seen in training"][1][1]:.0%}; on new ones it is
    {recalls["trained, held out"][1][1]:.0%}. By this difference a split with leakage overestimates
    the model.

    ## 7. A classifier from sentences: zero-shot

    A model that compares pictures with sentences can classify without a single labelled example:
    write a sentence for each class, and take the class whose sentence is nearest. It is called
    *zero-shot* classification. One sentence describes only a part of a class, so several are used
    (for red: "a small red circle", "a large red star" and so on): bring their vectors to length 1,
    average them, and bring the average to length 1 again.

    ### Exercise 5: zero-shot

    Write `zero_shot(image_vectors, class_vectors)` for $(N, D)$ pictures and $(K, D)$ classes, all
    rows of length 1. It returns the class of each picture as a position: $N$ whole numbers.
    [ko]
    첫째 줄과 셋째 줄을 비교하십시오. 학습에 쓴 사진에서 Recall@1은
    {recalls["trained, seen in training"][1][1]:.0%}이고, 새 사진에서는
    {recalls["trained, held out"][1][1]:.0%}입니다. 누출이 있는 분할은 모델을 이 차이만큼 높게
    평가합니다.

    ## 7. 문장으로 만드는 분류기: 제로샷

    사진과 문장을 비교하는 모델은 정답 표가 하나도 없이 분류할 수 있습니다. 클래스(class)마다 문장을
    하나 쓰고, 가장 가까운 문장의 클래스를 고르면 됩니다. 이것을 *제로샷(zero-shot)* 분류라고
    합니다. 문장 하나는 클래스의 일부만 나타내므로 여러 문장을 씁니다(빨강이라면 "a small red
    circle", "a large red star" 등). 각 문장 벡터의 길이를 1로 만들고, 평균을 내고, 그 평균의 길이를
    다시 1로 만듭니다.

    ### 연습 5: 제로샷

    $(N, D)$ 사진과 $(K, D)$ 클래스를 받는 `zero_shot(image_vectors, class_vectors)`를 작성하십시오.
    모든 행의 길이는 1입니다. 사진마다 클래스의 위치, 곧 정수 $N$개를 돌려줍니다.
    """)
    return


@app.cell
def exercise_5():
    def zero_shot(image_vectors, class_vectors):
        return ...

    check_5 = grader.check(5, zero_shot)
    return (check_5,)


@app.cell(hide_code=True)
def _(check_5, embed, held_out_pictures, model, things, tokenizer, untrained):
    def accuracy(network, names, prompts_of, truth):
        with torch.inference_mode():
            images, _ = embed(network.eval(), torch.tensor(held_out_pictures), ["a"])
            centres = []
            for name in names:
                prompts = network.encode_text(tokenizer(prompts_of(name)))
                centres.append(F.normalize(F.normalize(prompts, dim=-1).mean(dim=0), dim=0))
            found = check_5.value(images, torch.stack(centres))
        right = [
            names[int(k)] == truth(things[i]) for k, i in zip(found, held_out_pictures, strict=True)
        ]
        return sum(right) / len(right)

    questions = {
        "colour": (
            shapes.COLOUR_NAMES,
            lambda colour: shapes.sentences(colours=[colour]),
            lambda thing: thing.colour,
        ),
        "shape": (
            shapes.SHAPE_NAMES,
            lambda shape: shapes.sentences(shapes=[shape]),
            lambda thing: thing.shape,
        ),
    }
    accuracies = {what: accuracy(model, *asked) for what, asked in questions.items()}
    for _what, _asked in questions.items():
        print(f"which {_what}? trained {accuracies[_what]:.0%}, ", end="")
        print(f"untrained {accuracy(untrained, *_asked):.0%}, chance {1 / len(_asked[0]):.0%}")
    return (accuracies,)


@app.cell(hide_code=True)
def _(accuracies, recalls):
    text(rf"""
    Compare the two questions. The right caption is among the best five for
    {recalls["trained, held out"][5][1]:.0%} of the held-out pictures, and the model names
    {accuracies["colour"]:.0%} of the colours. Of the shapes it names {accuracies["shape"]:.0%},
    where guessing gives {1 / len(shapes.SHAPE_NAMES):.0%}. How can it find captions without
    recognising shapes? Compare it with a person who knows the colour, the size and the place of
    everything, but no shape:
    [ko]
    두 질문을 비교하십시오. 평가용 사진의 {recalls["trained, held out"][5][1]:.0%}에서 정답 설명문이
    상위 다섯 개 안에 있고, 모델은 색깔의 {accuracies["colour"]:.0%}를 맞힙니다. 그런데 도형은
    {accuracies["shape"]:.0%}를 맞히며, 찍어도 {1 / len(shapes.SHAPE_NAMES):.0%}입니다. 도형을 보지
    않고도 어떻게 설명문을 찾을 수 있겠습니까? 색깔, 크기, 위치는 모두 알지만 도형은 전혀 모르는
    사람과 비교해 보십시오.
    """)
    return


@app.cell
def _(held_out_pictures, things):
    _without = [things[i].captions[0].replace(things[i].shape, "?") for i in held_out_pictures]
    _alike = torch.tensor([_without.count(said) for said in _without])
    print("knows everything but shapes:")
    for _k in (1, 5):
        print(f"  Recall@{_k} {(_k / _alike).clamp(max=1).mean():.0%}")
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    Such a person finds more captions than the model does. A high recall is possible without shapes,
    so the model had little reason to learn them, and the recall alone does not show it.
    [ko]
    그런 사람은 우리 모델보다 설명문을 더 많이 찾습니다. 도형을 몰라도 재현율(recall)이 높을 수
    있으므로 모델은 도형을 배울 이유가 별로 없었고, 재현율만 보아서는 이를 알 수 없습니다.
    """)
    return


@app.cell(hide_code=True)
def _(check_1, check_2, check_3, check_4, check_5):
    grader.summary(check_1, check_2, check_3, check_4, check_5)
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    ## Summary

    - CLIP's loss is a cross-entropy in both directions over the batch; it begins at $\ln N$.
    - Split by picture, not by pair. What has leaked cannot be told from what has been learnt.
    - Put chance and an untrained model beside every score.
    - A good score says that the model solves *this* task, not how. Ask it other questions.

    Try more: more pictures in `coloured_shapes`, more epochs, smaller patches. Does it learn
    shapes? For pairs of your own, `encoderlab train --train-csv YOUR.csv` does all this with checks
    and checkpoints, and exports a model that the line `MODEL = ...` of lesson 1 takes.
    [ko]
    ## 정리

    - CLIP의 손실은 배치 안에서 양방향으로 구한 교차 엔트로피이며, $\ln N$에서 시작합니다.
    - 쌍이 아니라 사진 단위로 나누십시오. 누출된 것은 배운 것과 구별할 수 없습니다.
    - 모든 점수 옆에 우연의 점수와 학습하지 않은 모델의 점수를 두십시오.
    - 좋은 점수는 모델이 *이* 과제를 푼다는 뜻이지, 어떻게 푸는지를 말하지 않습니다. 다른 질문도 해
      보십시오.

    더 해 보십시오. `coloured_shapes`의 사진을 늘리거나, 더 오래 학습하거나, 조각을 더 작게 하면
    도형도 배우겠습니까? 여러분의 쌍이 있다면 `encoderlab train --train-csv YOUR.csv`가 점검과
    체크포인트를 갖추어 이 모든 일을 하고, 1강의 `MODEL = ...` 줄에 쓸 수 있는 모델을 내보냅니다.
    """)
    return


if __name__ == "__main__":
    app.run()
