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

    In this lesson you train a small CLIP (Contrastive Language-Image Pre-training) model on a few
    hundred pictures, in less than a minute. You write the loss, split the data, and measure what
    the model has learnt.

    There are five exercises. The lesson takes about half an hour and needs no network. Click the
    round yellow button at the bottom right to run all cells, and replace each `...` with your
    answer.

    ## 1. The pairs

    The data are five hundred synthetic pictures, each of a single coloured shape. Every picture has
    two captions: one is complete, the other does not name the position. A *pair* is the number of a
    picture and one of its captions.
    [ko]
    # 2강: 나만의 CLIP 학습하기

    이 강의에서는 사진 몇백 장으로 작은 CLIP(Contrastive Language-Image Pre-training) 모델을 1분
    안에 학습합니다. 손실 함수를 작성하고, 데이터를 나누고, 모델이 무엇을 배웠는지 측정합니다.

    연습은 다섯 개이며, 30분쯤 걸리고 네트워크는 필요하지 않습니다. 오른쪽 아래의 둥근 노란 버튼을
    눌러 모든 셀을 실행하고, `...` 자리에 답을 쓰십시오.

    ## 1. 쌍

    데이터는 색깔 있는 도형이 하나씩 있는 합성 사진 500장입니다. 사진마다 설명문이 두 개 있으며,
    하나는 모든 속성을 적은 것이고 다른 하나는 위치를 뺀 것입니다. *쌍(pair)*은 사진 번호와 그
    사진의 설명문 하나입니다.
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

    Row $i$ is a classification problem with $N$ classes: which caption belongs to picture $i$? The
    right answer is caption $i$, on the diagonal. A *softmax* turns the row into probabilities. The
    *cross-entropy* is minus the logarithm of the probability of the right answer:

    $$
    \ell_i = -\ln \frac{e^{z_{ii}}}{\sum_j e^{z_{ij}}}
    $$

    The columns are the same problem in the other direction: which picture belongs to caption $j$?
    The CLIP loss is the mean of two means: the mean over all rows and the mean over all columns.

    The factor $s$ is needed because cosines lie between -1 and 1, and a softmax of such small
    numbers is nearly uniform. The next cell shows one row of four cosines with three factors:
    [ko]
    ## 2. 손실 함수

    배치(batch) 하나에는 사진 $N$장과 그 설명문 $N$개가 있습니다. 코사인 행렬에 배율 $s$를 곱한 것이
    *로짓(logits)*입니다. 행 $i$는 사진 $i$, 열 $j$는 설명문 $j$입니다.

    $$
    z_{ij} = s \, \cos(a_i, b_j)
    $$

    행 $i$는 클래스가 $N$개인 분류 문제입니다. 사진 $i$에 맞는 설명문은 무엇입니까? 정답은 대각선에
    있는 설명문 $i$입니다. *소프트맥스(softmax)*는 이 행을 확률로 바꾸고, *교차
    엔트로피(cross-entropy)*는 정답 확률의 로그에 마이너스를 붙인 것입니다.

    $$
    \ell_i = -\ln \frac{e^{z_{ii}}}{\sum_j e^{z_{ij}}}
    $$

    열은 같은 문제를 반대 방향으로 푼 것입니다. 설명문 $j$에 맞는 사진은 무엇입니까? CLIP의 손실은
    모든 행에 대한 평균과 모든 열에 대한 평균, 이 둘의 평균입니다.

    배율 $s$가 필요한 까닭은 코사인이 -1과 1 사이의 수이고, 이렇게 작은 수의 소프트맥스는 거의
    균등하기 때문입니다. 다음 셀은 코사인 네 개로 된 한 행에 세 가지 배율을 적용합니다.
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
    $1/s$ is called the *temperature*. In CLIP, $s$ is a learnt parameter that starts at $1/0.07$
    and is limited to 100.

    ### Exercise 1: the contrastive loss

    Write `clip_loss(image, text, scale)`. The rows of `image` and `text`, both $(N, D)$, have
    length 1 already; `scale` is the factor $s$. It returns one number with a gradient. You may use
    `F.cross_entropy(logits, targets)`, which computes the softmax, the logarithm and the mean over
    the rows. The function must accept any batch size.
    [ko]
    $1/s$를 *온도(temperature)*라고 합니다. CLIP에서 $s$는 학습되는 매개변수(parameter)이며,
    $1/0.07$에서 시작하고 100을 넘지 않도록 제한합니다.

    ### 연습 1: 대조 손실

    대조 손실(contrastive loss)을 구하는 `clip_loss(image, text, scale)`을 작성하십시오. `image`와
    `text`는 모두 $(N, D)$이고 행의 길이는 이미 1입니다. `scale`은 배율 $s$입니다.
    기울기(gradient)를 구할 수 있는 수 하나를 돌려줍니다. `F.cross_entropy(logits, targets)`를
    사용해도 됩니다. 소프트맥스, 로그, 행에 대한 평균을 모두 계산합니다. 어떤 배치 크기에도 동작해야
    합니다.
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
    ## 3. The chance level of the loss

    A score needs a chance level to compare with. A model that has learnt nothing gives all $N$
    captions of a batch the same probability.

    ### Exercise 2: the chance level

    Compute `chance_loss`, the loss of such a model for this batch size. Training starts near this
    value.
    [ko]
    ## 3. 우연 수준의 손실

    점수는 우연 수준과 비교해야 합니다. 아무것도 배우지 못한 모델은 배치의 설명문 $N$개 모두에 같은
    확률을 줍니다.

    ### 연습 2: 우연 수준의 손실

    이 배치 크기에서 그런 모델의 손실 `chance_loss`를 구하십시오. 학습은 이 값 근처에서 시작합니다.
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

    To test whether a model generalises, evaluate it on *held-out* pictures that it has never seen.
    The obvious split shuffles the pairs and cuts the list. But every picture is in two pairs. How
    many held-out pictures are then also in the training part, with their other caption?
    [ko]
    ## 4. 사진 일부를 평가용으로 떼어 두기

    모델이 일반화하는지 알려면 학습에 쓰지 않은 *평가용(held out)* 사진으로 평가해야 합니다. 가장
    쉬운 분할은 쌍을 섞은 다음 자르는 것입니다. 그러나 사진마다 쌍이 두 개 있습니다. 이렇게 자르면
    평가용 사진 중 몇 장이 다른 설명문과 함께 학습용에도 들어갑니까?
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
    This is *leakage*: the test data contain training data. To avoid it, split the pictures and not
    the pairs.

    ### Exercise 3: split by picture

    Write `split(pairs, share)`. It returns two lists of pairs: training pairs and held-out pairs.
    About `share` of the *pictures* are held out, no picture is in both lists, and every pair is in
    one of them. A pair has `.picture` and `.caption`. The input pairs may be in any order.
    [ko]
    이것이 *데이터 누출(leakage)*입니다. 평가 데이터에 학습 데이터가 섞여 있습니다. 누출을 막으려면
    쌍이 아니라 사진을 기준으로 나누어야 합니다.

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

    The image encoder is a vision transformer: it splits a picture of 48 x 48 pixels into patches of
    8 x 8 and processes them in two layers. The text encoder is a transformer too. Its tokenizer
    learns the vocabulary from the training captions only, because a vocabulary can leak as well.
    [ko]
    ## 5. 작은 CLIP

    이미지 인코더는 비전 트랜스포머(vision transformer)입니다. 48 x 48 픽셀의 사진을 8 x 8
    패치(patch)로 나누어 두 층으로 처리합니다. 텍스트 인코더도 트랜스포머입니다.
    토크나이저(tokenizer)는 어휘(vocabulary)를 학습용 설명문에서만 배웁니다. 어휘도 누출될 수 있기
    때문입니다.
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
    The next cell is the whole training loop. Each epoch uses every picture once, with one of its
    two captions. `embed` scales the rows to length 1, and the training calls your loss. Press the
    button below to start; it takes less than a minute.
    [ko]
    다음 셀이 학습 코드의 전부입니다. 에폭(epoch)마다 모든 사진을 두 설명문 중 하나와 함께 한 번씩
    씁니다. `embed`는 행의 길이를 1로 만들고, 학습은 여러분의 손실 함수를 호출합니다. 아래 버튼을
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
    # Train only when the button is pressed, not after every change above.
    mo.stop(
        mo.running_in_notebook() and not train_button.value,
        text("""
        Press the button above to train. The cells below run after the training.
        [ko]
        위의 버튼을 누르면 학습을 시작합니다. 아래 셀은 학습이 끝난 뒤에 실행됩니다.
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
    The loss started at {losses[0]:.2f}, close to $\ln {BATCH} = {math.log(BATCH):.2f}$ as expected,
    and ended at {sum(losses[-6:]) / 6:.2f}. If the loss stays at $\ln N$, the model learns nothing;
    look for a mistake in the code.

    ## 6. Recall@K on held-out pictures

    The model should find the right caption for a held-out picture among all complete captions.
    *Recall@K* is the share of pictures whose own caption is among the $K$ best captions.

    ### Exercise 4: Recall@K

    Write `recall_at_k(similarity, k)`. Cell $[i, j]$ of `similarity` is the similarity of picture
    $i$ and caption $j$; the right caption of picture $i$ is caption $i$. It returns the share of
    rows with a hit, between 0 and 1.
    [ko]
    손실은 예상대로 $\ln {BATCH} = {math.log(BATCH):.2f}$에 가까운 {losses[0]:.2f}에서 시작해
    {sum(losses[-6:]) / 6:.2f}에서 끝났습니다. 손실이 $\ln N$에 머물러 있으면 모델이 아무것도 배우지
    못하는 것이므로 코드의 오류를 찾으십시오.

    ## 6. 평가용 사진에서의 Recall@K

    모델은 모든 속성이 적힌 설명문 중에서 평가용 사진에 맞는 것을 찾아야 합니다. *Recall@K*는 가장
    잘 맞는 설명문 $K$개 안에 자기 설명문이 있는 사진의 비율입니다.

    ### 연습 4: Recall@K

    `recall_at_k(similarity, k)`를 작성하십시오. `similarity`의 $[i, j]$ 칸은 사진 $i$와 설명문
    $j$의 유사도이며, 사진 $i$의 정답은 설명문 $i$입니다. 맞힌 행의 비율을 0과 1 사이의 수로
    돌려줍니다.
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
    The table compares the trained model on held-out pictures with an untrained model and with
    chance. The third row shows, for comparison only, the same number of *training* pictures. The
    last column is computed with EncoderLab's own metric and should agree with yours.
    [ko]
    표는 평가용 사진에서 학습된 모델을 학습하지 않은 모델, 우연 수준과 비교합니다. 셋째 줄은 참고를
    위해 같은 수의 *학습에 쓴* 사진으로 잰 것입니다. 마지막 열은 EncoderLab의 지표로 계산한 것이며
    여러분의 값과 같아야 합니다.
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
    Compare the first line with the third. Recall@1 is
    {recalls["trained, seen in training"][1][1]:.0%} on training pictures and
    {recalls["trained, held out"][1][1]:.0%} on new ones. A split with leakage overestimates the
    model by up to this difference.

    ## 7. A classifier from sentences: zero-shot

    A model that compares pictures with sentences can classify without labelled examples: write a
    sentence for each class, and take the class whose sentence is most similar. This is called
    *zero-shot* classification. One sentence describes only a part of a class, so use several (for
    red: "a small red circle", "a large red star" and so on). Scale their vectors to length 1,
    average them, and scale the average to length 1 again.

    ### Exercise 5: zero-shot

    Write `zero_shot(image_vectors, class_vectors)` for $(N, D)$ pictures and $(K, D)$ classes, all
    rows of length 1. It returns the class of each picture as a position: $N$ integers.
    [ko]
    첫째 줄과 셋째 줄을 비교하십시오. 학습에 쓴 사진에서 Recall@1은
    {recalls["trained, seen in training"][1][1]:.0%}이고, 새 사진에서는
    {recalls["trained, held out"][1][1]:.0%}입니다. 누출이 있는 분할은 모델을 최대 이 차이만큼 높게
    평가합니다.

    ## 7. 문장으로 만드는 분류기: 제로샷

    사진과 문장을 비교하는 모델은 레이블이 있는 예 없이도 분류할 수 있습니다. 클래스(class)마다
    문장을 하나 쓰고, 가장 비슷한 문장의 클래스를 고르면 됩니다. 이것을 *제로샷(zero-shot)* 분류라고
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
    The right caption is among the best five for {recalls["trained, held out"][5][1]:.0%} of the
    held-out pictures, and the model classifies {accuracies["colour"]:.0%} of the colours correctly.
    But for shapes its accuracy is only {accuracies["shape"]:.0%}, where guessing gives
    {1 / len(shapes.SHAPE_NAMES):.0%}. How can it find captions without recognising shapes? The next
    cell computes the recall of an ideal model that knows the colour, the size and the position, but
    not the shape:
    [ko]
    평가용 사진의 {recalls["trained, held out"][5][1]:.0%}에서 정답 설명문이 상위 다섯 개 안에 있고,
    모델은 색깔의 {accuracies["colour"]:.0%}를 맞힙니다. 그런데 도형은 {accuracies["shape"]:.0%}만
    맞히며, 우연 수준은 {1 / len(shapes.SHAPE_NAMES):.0%}입니다. 도형을 모르고 어떻게 설명문을 찾을
    수 있을까요? 다음 셀은 색깔, 크기, 위치는 알지만 도형은 모르는 이상적인 모델의 재현율(recall)을
    계산합니다.
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
    This ideal model finds more captions than the trained model. A high recall is possible without
    shapes, so the model had little reason to learn them. The recall alone does not show this.
    [ko]
    이 이상적인 모델은 학습된 모델보다 설명문을 더 많이 찾습니다. 도형을 몰라도 재현율이 높을 수
    있으므로 모델은 도형을 배울 이유가 별로 없었습니다. 재현율만 보아서는 이를 알 수 없습니다.
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

    - The CLIP loss is a cross-entropy in both directions over the batch. It starts near $\ln N$.
    - Split by picture, not by pair, to avoid leakage.
    - Compare every score with chance and with an untrained model.
    - A good score shows that the model solves *this* task, not how it does so. Test it on other
      tasks.

    To try next: more pictures in `coloured_shapes`, more epochs, smaller patches. Does the model
    learn shapes? For your own pairs, `encoderlab train --train-csv YOUR.csv` trains with checks and
    checkpoints, and exports a model that you can use in the line `MODEL = ...` of lesson 1.
    [ko]
    ## 정리

    - CLIP의 손실은 배치 안에서 양방향으로 구한 교차 엔트로피이며, $\ln N$ 근처에서 시작합니다.
    - 누출을 막으려면 쌍이 아니라 사진 단위로 나누십시오.
    - 모든 점수를 우연 수준, 학습하지 않은 모델의 점수와 비교하십시오.
    - 좋은 점수는 모델이 *이* 과제를 푼다는 뜻이며, 어떻게 푸는지는 알려 주지 않습니다. 다른
      과제로도 시험하십시오.

    더 해 볼 것: `coloured_shapes`의 사진과 에폭을 늘리거나 패치를 더 작게 해 보십시오. 모델이
    도형도 배웁니까? 자신의 쌍이 있다면 `encoderlab train --train-csv YOUR.csv`가 점검과
    체크포인트를 갖추어 학습하고, 1강의 `MODEL = ...` 줄에 쓸 수 있는 모델을 내보냅니다.
    """)
    return


if __name__ == "__main__":
    app.run()
