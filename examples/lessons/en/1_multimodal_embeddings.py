import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="Lesson 1: Multimodal embeddings with CLIP")

with app.setup(hide_code=True):
    import sys
    from pathlib import Path

    import marimo as mo
    import torch
    import torch.nn.functional as F
    from PIL import Image

    from encoderlab import load_dual

    sys.path.insert(0, str(Path(__file__).parent.parent))  # the folder of the grader

    import pictures
    import show
    from grader import Grader

    grader = Grader(__file__)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # Lesson 1: Multimodal embeddings with CLIP

    At the end of this lesson you search two hundred pictures with a sentence. On the way you
    write the mathematics yourself: the cosine of two vectors, of many at once, and the largest
    of many numbers. It takes about half an hour and needs no network.

    **How it works.** Begin with the round yellow button at the bottom right: it runs all cells.
    Seven exercises wait for you. Each has a cell with a placeholder, `...`: put your answer in
    its place and run the cell (Ctrl+Enter, or the yellow button of the cell). Below it the
    grader says what it thinks. You may try as often as you like, and no exercise blocks the next:
    while an answer is missing or wrong, the lesson goes on with ours.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 1. Modality, and a model for two of them

    A *modality* is a kind of data: pictures, text, sound. A picture is a block of pixels, a
    sentence is a row of letters, and nothing in the numbers of the one resembles the numbers of
    the other. How can a computer say that a picture and a sentence mean the same?

    **CLIP** (Contrastive Language-Image Pre-training, 2021) has two networks. The *image
    encoder* turns a picture into a vector of $D$ numbers, the *text encoder* turns a sentence
    into a vector of $D$ numbers as well. Both were trained together on pairs of pictures and
    captions, so that the two vectors of a pair point in nearly the same direction, and those of
    strangers do not. Such a vector is called an *embedding*; since two modalities share one
    space, it is a *multimodal* embedding.

    The next cell names the model. `tiny-clip` comes with EncoderLab: it is small, it needs no
    download, and it knows coloured shapes, charts, tables and pages. Everything below is done
    with whatever model stands there.
    """)
    return


@app.cell
def _():
    # With a network, "openai/clip-vit-base-patch32" works here as well: a CLIP of the world.
    MODEL = "tiny-clip"
    return (MODEL,)


@app.cell
def _(MODEL):
    encoder = load_dual(MODEL, dtype="float32")
    parameters = sum(
        p.numel()
        for network in (encoder.model.image_network, encoder.model.text_network)
        for p in network.parameters()
    )
    print(f"{encoder.name}: {parameters / 1e6:.1f} million parameters")
    print(f"pictures of {encoder.image_size} x {encoder.image_size} pixels, D = {encoder.dim}")
    return (encoder,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Here are nine pictures, each with a sentence that a person might say about it. A computer
    drew them, and the model has not seen them in its training.
    """)
    return


@app.cell
def _():
    nine = pictures.nine_pictures()
    nine_images = [picture.image for picture in nine]
    nine_sentences = [picture.sentence for picture in nine]
    show.pictures(nine_images, [f"{i}: {said}" for i, said in enumerate(nine_sentences)])
    return nine_images, nine_sentences


@app.cell
def _(encoder, nine_images, nine_sentences):
    picture_vectors = torch.from_numpy(encoder.embed_images(nine_images))
    sentence_vectors = torch.from_numpy(encoder.embed_texts(nine_sentences))
    print("pictures: ", tuple(picture_vectors.shape))
    print("sentences:", tuple(sentence_vectors.shape))
    print("the first numbers of picture 0: ", picture_vectors[0, :5])
    print("the first numbers of sentence 0:", sentence_vectors[0, :5])
    return picture_vectors, sentence_vectors


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    A row is a picture, or a sentence; a column has no meaning of its own. So we never ask what
    number 17 says. We ask how two rows lie to each other.

    ## 2. Cosine similarity, by hand

    Two vectors point in the same direction if the angle between them is small. Its cosine is

    $$
    \cos(a, b) = \frac{a \cdot b}{\lVert a \rVert \, \lVert b \rVert}
    = \frac{\sum_i a_i b_i}{\sqrt{\sum_i a_i^2} \, \sqrt{\sum_i b_i^2}}
    $$

    It is 1 for the same direction, 0 for a right angle, -1 for opposite directions. How long the
    two vectors are does not matter: that is what the division is for.
    """)
    return


@app.cell
def _():
    a = torch.tensor([3.0, 4.0])
    b = torch.tensor([4.0, 3.0])
    print("products, place by place:", a * b)
    print("dot product:", (a * b).sum(), "or", a @ b)
    print("length of a:", (a**2).sum().sqrt(), "or", a.norm())
    print("PyTorch's own cosine:", F.cosine_similarity(a, b, dim=0))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    **A trap.** `torch.tensor([3, 4])` holds whole numbers (`int64`), and a tensor of whole
    numbers has no length: a square root would not fit into its type. See what PyTorch says, and
    how a cast mends it.
    """)
    return


@app.cell
def _():
    whole = torch.tensor([3, 4])
    try:
        print(whole.norm())
    except RuntimeError as error:
        print("RuntimeError:", error)
    print("after .float():", whole.float().norm())
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Exercise 1: the cosine of two vectors

    Write `cosine(a, b)` for two vectors of shape `(D,)`. It returns one number. Use sums,
    products and roots (or `@` and `.norm()`), and not `F.cosine_similarity`. It should take
    tensors of whole numbers as well.
    """)
    return


@app.cell
def exercise_1():
    def cosine(a, b):
        return ...

    # Your answer takes the place of the dots.
    return (cosine,)


@app.cell(hide_code=True)
def _(cosine):
    check_1 = grader.check(1, cosine)
    check_1
    return (check_1,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 3. Many cosines at once

    Nine pictures and nine sentences make 81 cosines, and a loop of 81 calls would do. But a
    matrix product is the same sums, all in one go: if every row has the length 1 already, then

    $$
    S = A B^{\top}, \qquad S_{ij} = a_i \cdot b_j = \cos(a_i, b_j)
    $$

    With $A$ of shape $(N, D)$ and $B$ of shape $(M, D)$, $S$ has the shape $(N, M)$: row $i$ is
    picture $i$, column $j$ is sentence $j$.

    To bring rows to length 1, divide each by its own length. `keepdim=True` keeps the axis, so
    that the division knows which length belongs to which row:
    """)
    return


@app.cell
def _():
    m = torch.tensor([[3.0, 4.0], [6.0, 8.0], [0.0, 2.0]])
    print("without keepdim:", tuple(m.norm(dim=-1).shape))
    print("with keepdim:   ", tuple(m.norm(dim=-1, keepdim=True).shape))
    print(m / m.norm(dim=-1, keepdim=True))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Exercise 2: a matrix of cosines

    Write `cosine_matrix(a, b)` for `a` of shape $(N, D)$ and `b` of shape $(M, D)$. It returns
    the $(N, M)$ cosines. The rows that come in may have any length.
    """)
    return


@app.cell
def exercise_2():
    def cosine_matrix(a, b):
        return ...

    # Your answer takes the place of the dots.
    return (cosine_matrix,)


@app.cell(hide_code=True)
def _(cosine_matrix):
    check_2 = grader.check(2, cosine_matrix)
    check_2
    return (check_2,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    The encoder's vectors have length 1 already, so here the product alone will do. The nine
    pictures are the rows, the nine sentences the columns. A good model is bright along the
    diagonal.
    """)
    return


@app.cell
def _(nine_sentences, picture_vectors, sentence_vectors):
    similarity = picture_vectors @ sentence_vectors.T
    show.matrix(similarity, [f"picture {i}" for i in range(9)], nine_sentences)
    return (similarity,)


@app.cell(hide_code=True)
def _(similarity):
    _own = similarity.diagonal()
    _others = similarity[~torch.eye(9, dtype=torch.bool)]
    mo.md(rf"""
    On the diagonal the cosines are {_own.mean():.2f} on average, and {_others.mean():.2f} off
    it. Do not read a cosine as a probability: the two of a pair need not come near to 1, and
    strangers need not be at 0. What counts is which is *larger*.

    ## 4. The largest: value and position

    Two questions are easily confused. What is the largest number? And *where* does it stand?
    """)
    return


@app.cell
def _():
    numbers = torch.tensor([-2, 1, 99, 8])
    print("max:   ", numbers.max())
    print("argmax:", numbers.argmax())
    values, positions = numbers.topk(2)
    print("topk:  ", values, "at", positions)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `argmax` of `[-2, 1, 99, 8]` is **2**: the position, counted from 0. The value 99 is another
    call, `max`. `topk(k)` gives both, the $k$ largest values in order and their positions, in
    two fields: `.values` and `.indices`.

    With a matrix, `dim` says which axis is searched (and disappears). For our $(9, 9)$ matrix
    `argmax(dim=1)` finds the best sentence of each picture, `argmax(dim=0)` the best picture of
    each sentence:
    """)
    return


@app.cell
def _(similarity):
    print("best sentence of each picture:", similarity.argmax(dim=1).tolist())
    print("best picture of each sentence:", similarity.argmax(dim=0).tolist())
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 5. Nine pictures and a sentence

    Now a sentence that is none of the nine. `scores` holds its cosine with each picture, in a
    tensor of shape `(9,)`.
    """)
    return


@app.cell
def _(encoder, picture_vectors):
    sentence = "a chart with bars"
    sentence_vector = torch.from_numpy(encoder.embed_texts([sentence]))
    scores = (picture_vectors @ sentence_vector.T).squeeze(1)
    print(sentence, tuple(scores.shape))
    print(scores)
    return (scores,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Exercise 3: position and value

    From `scores`, with code and not by eye:

    - `best_position`: which picture fits best, as a position;
    - `best_cosine`: its cosine;
    - `top_three`: the positions of the three best, the best first.
    """)
    return


@app.cell
def exercise_3():
    best_position = ...
    best_cosine = ...
    top_three = ...
    # Your answers take the place of the dots.
    return best_cosine, best_position, top_three


@app.cell(hide_code=True)
def _(best_cosine, best_position, scores, top_three):
    check_3 = grader.check(3, best_position, best_cosine, top_three, scores=scores)
    check_3
    return (check_3,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 6. A search over two hundred pictures

    A folder of pictures is never tidy. Ours has two hundred files, drawn into your cache folder
    when this cell first runs. Some are greyscale, some have a palette or transparency, and some
    names lie: a PNG that is called `.jpg`, a JPEG that is called `.png`.
    """)
    return


@app.cell
def _():
    folder = pictures.picture_folder()
    print(folder)
    for _path in sorted(folder.iterdir())[:7]:
        with Image.open(_path) as _image:
            print(f"{_path.name:10} is a {_image.format:5} of mode {_image.mode}")
    return (folder,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Pillow looks into the file and not at its name, so a wrong ending is harmless to it. A
    greyscale picture is not: it has one channel where the model wants three.

    ### Exercise 4: load them

    Write `load_images(folder)`. It opens *every* file of the folder, in the order of their
    names, turns each into an RGB picture, and returns them in a list. Before it returns, it
    prints how many there are; for our folder:

    ```
    Total 200 images are loaded!
    ```
    """)
    return


@app.cell
def exercise_4():
    def load_images(folder):
        return ...

    # Your answer takes the place of the dots.
    return (load_images,)


@app.cell(hide_code=True)
def _(folder, load_images):
    check_4 = grader.check(4, load_images, folder=folder)
    check_4
    return (check_4,)


@app.cell
def _(check_4):
    gallery = check_4.value  # yours if it is right, ours until then
    show.pictures(gallery[:10], [str(i) for i in range(10)], side=70)
    return (gallery,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Exercise 5: embed pictures and text

    Write two functions with the `encoder` from above. Its `embed_images` takes a list of
    pictures, its `embed_texts` a list of sentences, and both return one row for each.

    - `embed_images(pictures)` returns the vectors of all pictures, and prints their shape;
    - `embed_text(sentence)` returns the vector of *one* sentence, still as a matrix with one
      row, and prints its shape.

    With $D$ numbers for each, the two lines are (200 and $D$ from the shape, not typed in):

    ```
    Image Embedding's shape: (200, D)
    Text Embedding's shape: (1, D)
    ```
    """)
    return


@app.cell
def exercise_5():
    def embed_images(pictures):
        return ...

    def embed_text(sentence):
        return ...

    # Your answers take the place of the dots.
    return embed_images, embed_text


@app.cell(hide_code=True)
def _(embed_images, embed_text, encoder, gallery):
    check_5 = grader.check(5, embed_images, embed_text, encoder=encoder, gallery=gallery)
    check_5
    return (check_5,)


@app.cell
def _(check_5):
    gallery_vectors = check_5.value  # a tensor (200, D)
    print(tuple(gallery_vectors.shape))
    return (gallery_vectors,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Exercise 6: show the best

    Write `top_1(sentence)`: the position in `gallery_vectors` of the picture that fits the
    sentence best. You have everything: a vector for the sentence (`encoder.embed_texts` gives a
    NumPy array, `torch.from_numpy` makes a tensor of it), cosines, and the position of the
    largest. The next cell shows the picture.
    """)
    return


@app.cell
def _():
    wanted = "a large purple star"
    return (wanted,)


@app.cell
def exercise_6():
    def top_1(sentence):
        return ...

    # Your answer takes the place of the dots.
    return (top_1,)


@app.cell(hide_code=True)
def _(encoder, gallery_vectors, top_1, wanted):
    check_6 = grader.check(
        6, top_1, encoder=encoder, gallery_vectors=gallery_vectors, sentence=wanted
    )
    check_6
    return (check_6,)


@app.cell
def _(check_6, gallery, wanted):
    show.pictures([gallery[check_6.value]], [f"{check_6.value}: {wanted}"])
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### Exercise 7: find the words

    Now the other way round. Here are five of the two hundred pictures. For each, find a
    sentence that brings it to the first place. Say what is *in* the picture, and what sets it
    apart from its rivals; if another one wins, the grader names it, and you can look at it
    with `gallery[number]`.
    """)
    return


@app.cell
def _(gallery):
    targets = pictures.TARGETS
    show.pictures([gallery[i] for i in targets], [f"picture {i}" for i in targets])
    return (targets,)


@app.cell
def exercise_7():
    sentences = [
        ...,
        ...,
        ...,
        ...,
        ...,
    ]
    return (sentences,)


@app.cell(hide_code=True)
def _(encoder, gallery_vectors, sentences, targets):
    check_7 = grader.check(
        7, sentences, encoder=encoder, gallery_vectors=gallery_vectors, targets=targets
    )
    check_7
    return (check_7,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 7. What a search does not tell you

    A search always has a first place, whatever you ask. Two of these three sentences fit none
    of the pictures. Look at the cosines: would you have noticed?
    """)
    return


@app.cell
def _(encoder, gallery_vectors):
    for _asked in ("a large purple star", "a red car", "a submarine in the desert"):
        _scores = gallery_vectors @ torch.from_numpy(encoder.embed_texts([_asked]))[0]
        print(f"{_asked}: picture {int(_scores.argmax())}, cosine {_scores.max():.2f}")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    And a search can only find what the picture still holds. Each of the two hundred pictures
    was drawn from a caption that names its colours. If we search with every caption, how often
    does its own picture come first: among those that kept their colours, and among those that
    are grey?
    """)
    return


@app.cell
def _(encoder, folder, gallery_vectors):
    _captions = [pictures.item(i).captions[0] for i in range(len(gallery_vectors))]
    _cosines = gallery_vectors @ torch.from_numpy(encoder.embed_texts(_captions)).T
    _first = _cosines.argmax(dim=0) == torch.arange(len(_captions))
    _grey = torch.tensor([Image.open(path).mode == "L" for path in sorted(folder.iterdir())])
    print(f"in colour: {_first[~_grey].float().mean():.0%} of {int((~_grey).sum())}")
    print(f"grey:      {_first[_grey].float().mean():.0%} of {int(_grey.sum())}")
    return


@app.cell(hide_code=True)
def _(check_1, check_2, check_3, check_4, check_5, check_6, check_7):
    grader.summary(check_1, check_2, check_3, check_4, check_5, check_6, check_7)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## What you take with you

    - A multimodal model puts pictures and sentences into one space; neighbours mean the same.
    - The cosine compares directions. Bring rows to length 1, and $(N, D)$ times $(D, M)$ gives
      all $(N, M)$ cosines.
    - `argmax` is a position, `max` a value, `topk` both.
    - The first place is the best of what there is, not proof that it is right.

    `encoderlab index FOLDER` and `encoderlab search "a sentence"` do what you have just built,
    for a million pictures. In lesson 2 you train such a model yourself.
    """)
    return


if __name__ == "__main__":
    app.run()
