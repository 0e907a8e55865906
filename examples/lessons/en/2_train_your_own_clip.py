import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="Lesson 2: Train your own CLIP")

with app.setup(hide_code=True):
    import math
    import sys
    import time
    from pathlib import Path

    import marimo as mo
    import torch
    import torch.nn.functional as F

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

    sys.path.insert(0, str(Path(__file__).parent.parent))  # the folder of the grader

    import shapes
    import show
    from grader import Grader

    grader = Grader(__file__)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # Lesson 2: Train your own CLIP

    In lesson 1 the model was there already. Now you make one: a few hundred pictures, a network
    small enough for any computer, less than a minute of training. You write the loss that it
    learns from, keep some pictures away from it, and measure honestly what it has learnt. It is
    not quite what you would think.

    Five exercises; it takes about half an hour and no network. As before, begin with the round
    yellow button at the bottom right, which runs all cells, and put your answer in the place of
    `...`. While one is missing or wrong, the lesson goes on with ours.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 1. The pairs

    A computer has drawn five hundred pictures, each of a single coloured shape. Every picture
    has two captions: one says all, the other leaves out the place. A *pair* is a picture, known
    by its number, with one of its captions.
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
    mo.md(r"""
    ## 2. The loss

    A batch has $N$ pictures and their $N$ captions. The matrix of cosines, multiplied by a factor
    $s$, gives the *logits*; row $i$ is picture $i$, column $j$ is caption $j$:

    $$
    z_{ij} = s \, \cos(a_i, b_j)
    $$

    Read row $i$ as a question with $N$ possible answers: which caption belongs to picture $i$?
    The right answer is caption $i$, on the diagonal. A *softmax* makes probabilities of the row,
    and the *cross-entropy* is minus the logarithm of the probability of the right one:

    $$
    \ell_i = -\ln \frac{e^{z_{ii}}}{\sum_j e^{z_{ij}}}
    $$

    The columns ask the opposite question: which picture belongs to caption $j$? The loss of CLIP
    is the mean over all rows, the mean over all columns, and the mean of the two.

    What is the factor $s$ for? A cosine lies between -1 and 1, and a softmax of such small
    numbers is nearly even. Look at one row of four cosines under three factors:
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
    mo.md(r"""
    $1/s$ is called the *temperature*. CLIP does not choose it: $s$ is a parameter that is learnt
    together with the rest, begins at $1/0.07$, and may not go beyond 100.

    ### Exercise 1: the contrastive loss

    Write `clip_loss(image, text, scale)`. The rows of `image` and `text`, both $(N, D)$, have
    length 1 already; `scale` is the factor $s$. It returns one number that a gradient can flow
    through. `F.cross_entropy(logits, targets)` is at your service: it does the softmax, the
    logarithm and the mean over the rows. The batch size may be any.
    """)
    return


@app.cell
def exercise_1():
    def clip_loss(image, text, scale):
        return ...

    # Your answer takes the place of the dots.
    return (clip_loss,)


@app.cell(hide_code=True)
def _(clip_loss):
    check_1 = grader.check(1, clip_loss)
    check_1
    return (check_1,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 3. What does chance look like?

    A number means nothing without the number that you would get for nothing. A model that has
    learnt nothing gives all $N$ captions of a batch the same probability.

    ### Exercise 2: the loss of knowing nothing

    Compute `chance_loss`, the value of the loss at which training begins for this batch size.
    """)
    return


@app.cell
def _():
    BATCH = 64
    return (BATCH,)


@app.cell
def exercise_2():
    chance_loss = ...
    # Your answer takes the place of the dots.
    return (chance_loss,)


@app.cell(hide_code=True)
def _(BATCH, chance_loss):
    check_2 = grader.check(2, chance_loss, batch_size=BATCH)
    check_2
    return (check_2,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 4. Keep some pictures away

    Whether a model has learnt something general shows only on pictures that it has never seen.
    So a part of the data is *held out*. It is tempting to shuffle the pairs and to cut. But every
    picture is in two pairs. How often does a held-out picture then sit in the training part as
    well, with its other caption?
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
    mo.md(r"""
    That is *leakage*: the exam contains the homework. The cure is to divide the pictures, and
    never the pairs.

    ### Exercise 3: split by picture

    Write `split(pairs, share)`. It returns two lists of pairs: those to train on, and those held
    out. About `share` of the *pictures* are held out, no picture is on both sides, and no pair is
    lost. A pair has `.picture` and `.caption`. The pairs may come in any order.
    """)
    return


@app.cell
def exercise_3():
    def split(pairs, share):
        return ...

    # Your answer takes the place of the dots.
    return (split,)


@app.cell(hide_code=True)
def _(pairs, split):
    check_3 = grader.check(3, split, pairs=pairs, share=0.2)
    check_3
    return (check_3,)


@app.cell
def _(check_3):
    train_pairs, held_out_pairs = check_3.value  # yours if they are right, ours until then
    train_pictures = sorted({pair.picture for pair in train_pairs})
    held_out_pictures = sorted({pair.picture for pair in held_out_pairs})
    print(f"{len(train_pictures)} pictures to train on, {len(held_out_pictures)} held out")
    return held_out_pictures, train_pairs, train_pictures


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 5. A small CLIP

    The image tower is a vision transformer: it cuts a picture of 48 x 48 pixels into patches of
    8 x 8 and looks at them in two layers. The text tower is a transformer too. Its words come
    from a tokenizer that learns them from the captions to train on (from those alone: a
    vocabulary can leak as well).
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
    mo.md(r"""
    And here is the training, all of it. In each round every picture comes once, with one of its
    two captions. `embed` brings the rows to length 1; your loss does the rest. Press the button
    below to start it: it takes less than a minute.
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
        mo.md("Press the button above to train; what follows waits for it."),
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
    mo.md(rf"""
    The loss began at {losses[0]:.2f}, which is about $\ln {BATCH} = {math.log(BATCH):.2f}$ as it
    should, and ended at {sum(losses[-6:]) / 6:.2f}. When a training of yours stays at $\ln N$,
    look for a mistake before you look for a larger computer.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 6. Has it learnt anything? Recall@K

    A falling loss is not the goal; finding is. Take the held-out pictures and their complete
    captions. *Recall@K* is the share of pictures whose own caption is among the $K$ that fit
    best.

    ### Exercise 4: Recall@K

    Write `recall_at_k(similarity, k)`. Cell $[i, j]$ of `similarity` says how well picture $i$
    and caption $j$ fit; the right caption of picture $i$ is caption $i$. It returns the share of
    rows with a hit, between 0 and 1.
    """)
    return


@app.cell
def exercise_4():
    def recall_at_k(similarity, k):
        return ...

    # Your answer takes the place of the dots.
    return (recall_at_k,)


@app.cell(hide_code=True)
def _(recall_at_k):
    check_4 = grader.check(4, recall_at_k)
    check_4
    return (check_4,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Now the table that every claim of learning needs: the trained model on pictures that it has
    not seen, beside an untrained one and beside chance. Beside them, for comparison only, stand
    as many pictures that it *was* trained on. The last column is EncoderLab's own metric, made
    independently of yours: it should say the same.
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
    mo.md(rf"""
    Compare the first line with the third: on pictures from the training, Recall@1 would be
    {recalls["trained, seen in training"][1][1]:.0%}; on new ones it is
    {recalls["trained, held out"][1][1]:.0%}. The difference is what a leaking split would have
    sold you.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 7. A classifier from sentences: zero-shot

    A model that compares pictures with sentences can classify without a single labelled example:
    write a sentence for each class, and take the class whose sentence is nearest. It is called
    *zero-shot* classification. One sentence is a narrow view of a class, so several are used (for
    red: "a small red circle", "a large red star" and so on): bring their vectors to length 1,
    average them, and bring the average to length 1 again.

    ### Exercise 5: zero-shot

    Write `zero_shot(image_vectors, class_vectors)` for $(N, D)$ pictures and $(K, D)$ classes,
    all rows of length 1. It returns the class of each picture as a position: $N$ whole numbers.
    """)
    return


@app.cell
def exercise_5():
    def zero_shot(image_vectors, class_vectors):
        return ...

    # Your answer takes the place of the dots.
    return (zero_shot,)


@app.cell(hide_code=True)
def _(zero_shot):
    check_5 = grader.check(5, zero_shot)
    check_5
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
            lambda colour: [
                f"a {size} {colour} {shape}"
                for size in shapes.SIZE_NAMES
                for shape in shapes.SHAPE_NAMES
            ],
            lambda thing: thing.colour,
        ),
        "shape": (
            shapes.SHAPE_NAMES,
            lambda shape: [
                f"a {size} {colour} {shape}"
                for size in shapes.SIZE_NAMES
                for colour in shapes.COLOUR_NAMES
            ],
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
    mo.md(rf"""
    Compare the two questions. The right caption is among the best five for
    {recalls["trained, held out"][5][1]:.0%} of the held-out pictures, and the model names
    {accuracies["colour"]:.0%} of the colours. Of the shapes it names
    {accuracies["shape"]:.0%}, where guessing gives {1 / len(shapes.SHAPE_NAMES):.0%}. How can it
    find captions without seeing shapes? Imagine somebody who knows the colour, the size and the
    place of everything, and of shapes nothing:
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
    mo.md(r"""
    Such a person finds more captions than our model does. There is much to gain without shapes,
    so the model had little reason to learn them yet, and the recall alone would never have told
    you.
    """)
    return


@app.cell(hide_code=True)
def _(check_1, check_2, check_3, check_4, check_5):
    grader.summary(check_1, check_2, check_3, check_4, check_5)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What you take with you

    - CLIP's loss is a cross-entropy in both directions over the batch; it begins at $\ln N$.
    - Split by picture, not by pair. What has leaked cannot be told from what has been learnt.
    - Put chance and an untrained model beside every score.
    - A good score says that the model solves *this* task, not how. Ask it other questions.

    Try more: more pictures in `coloured_shapes`, more epochs, smaller patches. Do shapes come?
    For pairs of your own, `encoderlab train --train-csv YOUR.csv` does all this with checks and
    checkpoints, and exports a model that the line `MODEL = ...` of lesson 1 takes.
    """)
    return


if __name__ == "__main__":
    app.run()
