import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="Lesson 1: Multimodal embeddings with CLIP")

with app.setup(hide_code=True):
    import torch
    import torch.nn.functional as F
    from PIL import Image

    import pictures
    import show
    from encoderlab import load_dual
    from grader import Grader

    grader = Grader(1)
    text = grader.text


@app.cell(hide_code=True)
def _():
    text(r"""
    # Lesson 1: Multimodal embeddings with CLIP

    In this lesson you build a search over two hundred pictures. You write the mathematics yourself:
    the cosine of two vectors, a matrix of cosines, and the position of the largest value. It takes
    about half an hour and needs no network.

    **How to use this notebook.** Click the round yellow button at the bottom right to run all
    cells. There are eight exercises. In each exercise cell, replace the placeholder `...` with your
    answer and run the cell (Ctrl+Enter, or the yellow button of the cell). The grader shows below
    the cell whether the answer is right. You may try as often as you like. While an answer is
    missing or wrong, the lesson continues with our solution.

    ## 1. Modality, and a model for two of them

    A *modality* is a kind of data: pictures, text, sound. A picture is an array of pixels and a
    sentence is a sequence of letters. How can a computer find that a picture and a sentence have
    the same meaning?

    **CLIP** (Contrastive Language-Image Pre-training, 2021) has two networks. The *image encoder*
    turns a picture into a vector of $D$ numbers, the *text encoder* turns a sentence into a vector
    of $D$ numbers. Both were trained together on pairs of pictures and captions: the two vectors of
    a pair point in nearly the same direction, and the vectors of unrelated pictures and captions do
    not. Such a vector is called an *embedding*. Because two modalities share one space, it is a
    *multimodal* embedding.

    The next cell selects the model. `tiny-clip` is included in EncoderLab. It is small, needs no
    download, and was trained on coloured shapes, charts, tables and pages.
    [ko]
    # 1강: CLIP 멀티모달 임베딩

    이 강의에서는 사진 200장을 문장으로 검색하는 코드를 만듭니다. 두 벡터의 코사인, 코사인 행렬,
    가장 큰 값의 위치를 구하는 코드를 직접 작성합니다. 30분쯤 걸리며 네트워크는 필요하지 않습니다.

    **진행 방법.** 오른쪽 아래의 둥근 노란 버튼을 누르면 모든 셀이 실행됩니다. 연습 문제는 여덟
    개입니다. 연습 셀의 `...` 자리에 답을 쓰고 셀을 실행하십시오(Ctrl+Enter 또는 셀의 노란 버튼). 셀
    아래에 채점 결과가 나옵니다. 몇 번이든 다시 시도할 수 있습니다. 답이 없거나 틀린 동안에는 준비된
    답으로 강의가 이어집니다.

    ## 1. 모달리티, 그리고 두 모달리티를 위한 모델

    *모달리티(modality)*는 사진, 텍스트, 소리와 같은 데이터의 종류입니다. 사진은 픽셀의 배열이고
    문장은 글자의 나열입니다. 컴퓨터는 사진과 문장의 뜻이 같다는 것을 어떻게 알 수 있을까요?

    **CLIP**(Contrastive Language-Image Pre-training, 2021)은 신경망 두 개로 이루어집니다. *이미지
    인코더(image encoder)*는 사진을 수 $D$개의 벡터로 바꾸고, *텍스트 인코더(text encoder)*는 문장을
    역시 수 $D$개의 벡터로 바꿉니다. 두 신경망은 사진과 설명문의 쌍으로 함께 학습되어, 쌍을 이루는
    두 벡터는 거의 같은 방향을 가리키고 서로 관계없는 벡터는 그렇지 않습니다. 이런 벡터를
    *임베딩(embedding)*이라고 하며, 두 모달리티가 한 공간을 함께 쓰므로 *멀티모달(multimodal)*
    임베딩이라고 합니다.

    다음 셀에서 모델을 정합니다. `tiny-clip`은 EncoderLab에 들어 있는 작은 모델로, 내려받을 필요가
    없으며 색깔 있는 도형, 차트, 표, 문서로 학습했습니다.
    """)
    return


@app.cell
def _():
    # With a network, "openai/clip-vit-base-patch32" works here as well.
    MODEL = "tiny-clip"
    encoder = load_dual(MODEL, dtype="float32")
    networks = (encoder.model.image_network, encoder.model.text_network)
    parameters = sum(p.numel() for network in networks for p in network.parameters())
    print(f"{encoder.name}: {parameters / 1e6:.1f} million parameters")
    print(f"pictures of {encoder.image_size} x {encoder.image_size} pixels, D = {encoder.dim}")
    return (encoder,)


@app.cell(hide_code=True)
def _():
    text(r"""
    The next cells show nine pictures, each with a sentence that describes it, and embed them. The
    pictures are synthetic and were not in the training data of the model.
    [ko]
    다음 셀들은 사진 아홉 장과 각 사진을 설명하는 문장을 보여 주고 임베딩합니다. 컴퓨터로 합성한
    사진이며 모델의 학습 데이터에는 없던 것입니다. 허브의 CLIP은 대부분 영어만 지원하므로 문장은
    영어로 씁니다. `tiny-clip`은 한국어도 조금 지원합니다.
    """)
    return


@app.cell
def _():
    nine_images, nine_sentences = zip(*pictures.nine_pictures(), strict=True)
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
    text(r"""
    Each row is a picture or a sentence. A single column has no meaning, so we compare whole rows.

    ## 2. Cosine similarity, by hand

    Two vectors point in nearly the same direction if the angle between them is small. The cosine of
    this angle is the *cosine similarity*:

    $$
    \cos(a, b) = \frac{a \cdot b}{\lVert a \rVert \, \lVert b \rVert}
    = \frac{\sum_i a_i b_i}{\sqrt{\sum_i a_i^2} \, \sqrt{\sum_i b_i^2}}
    $$

    It is 1 for the same direction, 0 for a right angle and -1 for opposite directions. It does not
    depend on the lengths of the vectors, because it divides by them.
    [ko]
    행 하나가 사진 하나 또는 문장 하나입니다. 열 하나에는 정해진 뜻이 없으므로 행 전체를 서로
    비교합니다.

    ## 2. 손으로 구하는 코사인 유사도

    두 벡터 사이의 각이 작으면 두 벡터는 거의 같은 방향을 가리킵니다. 그 각의 코사인, 곧 *코사인
    유사도(cosine similarity)*는 다음과 같습니다.

    $$
    \cos(a, b) = \frac{a \cdot b}{\lVert a \rVert \, \lVert b \rVert}
    = \frac{\sum_i a_i b_i}{\sqrt{\sum_i a_i^2} \, \sqrt{\sum_i b_i^2}}
    $$

    방향이 같으면 1, 직각이면 0, 반대 방향이면 -1입니다. 벡터의 길이로 나누므로 값이 길이에 따라
    달라지지 않습니다.
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
    text(r"""
    **Integer tensors.** `torch.tensor([3, 4])` contains integers (`int64`). PyTorch does not
    compute the length (norm) of an integer tensor. The next cell shows the error and the cast that
    avoids it.
    [ko]
    **정수 텐서.** `torch.tensor([3, 4])`에는 정수(`int64`)가 들어 있습니다. PyTorch는 정수 텐서의
    길이(norm)를 계산하지 않습니다. 다음 셀은 그 오류와, 자료형을 바꾸어(cast) 오류를 피하는 방법을
    보여 줍니다.
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
    text(r"""
    ### Exercise 1: the cosine of two vectors

    Write `cosine(a, b)` for two vectors of shape `(D,)`. It returns one number. Use sums, products
    and roots (or `@` and `.norm()`), but not `F.cosine_similarity`. It should also accept integer
    tensors.
    [ko]
    ### 연습 1: 두 벡터의 코사인

    모양이 `(D,)`인 두 벡터의 코사인을 구하는 `cosine(a, b)`를 작성하십시오. 반환값은 수 하나입니다.
    합, 곱, 제곱근(또는 `@`와 `.norm()`)을 사용하고 `F.cosine_similarity`는 사용하지 마십시오. 정수
    텐서도 받을 수 있어야 합니다.
    """)
    return


@app.cell
def exercise_1():
    def cosine(a, b):
        return ...

    check_1 = grader.check(1, cosine)
    return (check_1,)


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 3. Many cosines at once

    Nine pictures and nine sentences have 81 cosines. A matrix product computes all of them at once.
    If every row has length 1, then

    $$
    S = A B^{\top}, \qquad S_{ij} = a_i \cdot b_j = \cos(a_i, b_j)
    $$

    With $A$ of shape $(N, D)$ and $B$ of shape $(M, D)$, $S$ has the shape $(N, M)$: row $i$ is
    picture $i$, column $j$ is sentence $j$.

    To scale the rows to length 1, divide each row by its length. `keepdim=True` keeps the axis, so
    that the division is row by row:
    [ko]
    ## 3. 여러 코사인을 한꺼번에

    사진 아홉 장과 문장 아홉 개의 코사인은 81개이며, 행렬 곱으로 한 번에 구할 수 있습니다. 모든 행의
    길이가 1이면

    $$
    S = A B^{\top}, \qquad S_{ij} = a_i \cdot b_j = \cos(a_i, b_j)
    $$

    입니다. $A$의 모양이 $(N, D)$이고 $B$의 모양이 $(M, D)$이면 $S$의 모양은 $(N, M)$입니다. 행
    $i$는 사진 $i$, 열 $j$는 문장 $j$입니다.

    행의 길이를 1로 만들려면 각 행을 그 길이로 나눕니다. `keepdim=True`는 축을 유지하므로 나눗셈이
    행마다 이루어집니다.
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
    text(r"""
    **An example by hand.** One query $q = (1, 2, 2)$ of length 3 is a matrix of shape $(1, 3)$.
    Four vectors are a matrix $V$ of shape $(4, 3)$. The cosines of the query with all four are a
    matrix of shape $(1, 4)$:

    | vector | dot product with $q$ | length | cosine |
    |---|---|---|---|
    | $(2, 4, 4)$ | $2 + 8 + 8 = 18$ | 6 | $18 / (3 \cdot 6) = 1$ |
    | $(2, 1, 2)$ | $2 + 2 + 4 = 8$ | 3 | $8 / (3 \cdot 3) = 0.89$ |
    | $(2, -2, 1)$ | $2 - 4 + 2 = 0$ | 3 | $0 / (3 \cdot 3) = 0$ |
    | $(-1, -2, -2)$ | $-1 - 4 - 4 = -9$ | 3 | $-9 / (3 \cdot 3) = -1$ |

    The first vector has the direction of the query, the third is orthogonal to it, and the last has
    the opposite direction. The next cell computes these dot products and lengths in PyTorch:
    [ko]
    **손으로 계산하는 예.** 길이가 3인 질의 $q = (1, 2, 2)$ 하나는 모양이 $(1, 3)$인 행렬이고, 벡터
    네 개는 모양이 $(4, 3)$인 행렬 $V$입니다. 질의와 네 벡터의 코사인은 모양이 $(1, 4)$인
    행렬입니다.

    | 벡터 | $q$와의 내적 | 길이 | 코사인 |
    |---|---|---|---|
    | $(2, 4, 4)$ | $2 + 8 + 8 = 18$ | 6 | $18 / (3 \cdot 6) = 1$ |
    | $(2, 1, 2)$ | $2 + 2 + 4 = 8$ | 3 | $8 / (3 \cdot 3) = 0.89$ |
    | $(2, -2, 1)$ | $2 - 4 + 2 = 0$ | 3 | $0 / (3 \cdot 3) = 0$ |
    | $(-1, -2, -2)$ | $-1 - 4 - 4 = -9$ | 3 | $-9 / (3 \cdot 3) = -1$ |

    첫째 벡터는 질의와 방향이 같고, 셋째 벡터는 질의와 직각이며, 마지막 벡터는 방향이 반대입니다.
    다음 셀에서 같은 내적과 길이를 PyTorch로 구합니다.
    """)
    return


@app.cell
def _():
    query = torch.tensor([[1.0, 2.0, 2.0]])
    four = torch.tensor([[2.0, 4.0, 4.0], [2.0, 1.0, 2.0], [2.0, -2.0, 1.0], [-1.0, -2.0, -2.0]])
    print("shapes:", tuple(query.shape), "and", tuple(four.shape))
    print("dot products:", query @ four.T, "of shape", tuple((query @ four.T).shape))
    print("lengths:", query.norm(dim=-1), "and", four.norm(dim=-1))
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    ### Exercise 2: a matrix of cosines

    Write `cosine_matrix(a, b)` for `a` of shape $(N, D)$ and `b` of shape $(M, D)$. It returns the
    $(N, M)$ cosines. The input rows may have any length.
    [ko]
    ### 연습 2: 코사인의 행렬

    모양이 $(N, D)$인 `a`와 $(M, D)$인 `b`를 받아 $(N, M)$ 코사인 행렬을 돌려주는
    `cosine_matrix(a, b)`를 작성하십시오. 입력 행의 길이는 1이 아닐 수 있습니다.
    """)
    return


@app.cell
def exercise_2():
    def cosine_matrix(a, b):
        return ...

    check_2 = grader.check(2, cosine_matrix)
    return (check_2,)


@app.cell(hide_code=True)
def _():
    text(r"""
    The encoder returns vectors of length 1, so the matrix product is enough here. Rows are the nine
    pictures, columns are the nine sentences. For a good model the diagonal has the largest values.
    [ko]
    인코더가 돌려주는 벡터는 길이가 1이므로 여기서는 행렬 곱만 하면 됩니다. 행은 사진 아홉 장, 열은
    문장 아홉 개입니다. 좋은 모델이라면 대각선의 값이 가장 큽니다.
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
    text(rf"""
    The mean cosine is {_own.mean():.2f} on the diagonal and {_others.mean():.2f} off the diagonal.
    A cosine is not a probability: a matching pair can have a cosine well below 1, and an unrelated
    pair one above 0. Only the *order* of the cosines matters.

    You can compare sentences with sentences in the same way. A cat is more similar to a dog than to
    a submarine. Do the vectors of the three sentences agree?
    [ko]
    대각선의 코사인은 평균 {_own.mean():.2f}, 대각선 밖은 평균 {_others.mean():.2f}입니다. 코사인은
    확률이 아닙니다. 맞는 쌍의 코사인이 1보다 훨씬 작을 수 있고, 관계없는 쌍의 코사인이 0보다 클
    수도 있습니다. 코사인의 *크기 순서*만 의미가 있습니다.

    같은 방법으로 문장끼리도 비교할 수 있습니다. 고양이는 잠수함보다 개와 더 비슷합니다. 세 문장의
    벡터도 그렇습니까? (문장은 각각 고양이, 개, 잠수함의 사진이라는 뜻입니다.)
    """)
    return


@app.cell
def _(encoder):
    animals = ["a picture of a cat", "a picture of a dog", "a picture of a submarine"]
    animal_vectors = torch.from_numpy(encoder.embed_texts(animals))
    animal_similarity = animal_vectors @ animal_vectors.T
    show.matrix(animal_similarity, animals, animals)
    return (animal_similarity,)


@app.cell(hide_code=True)
def _(animal_similarity, encoder):
    _short = torch.from_numpy(encoder.embed_texts(["a ship", "a boat", "a chip"]))
    _short = _short @ _short.T
    text(rf"""
    The cosine of cat and dog is {animal_similarity[0, 1]:.2f}, that of cat and submarine
    {animal_similarity[0, 2]:.2f}, that of dog and submarine {animal_similarity[1, 2]:.2f}.
    `tiny-clip` was trained on shapes, charts, tables, pages and a few emoji, and rarely saw these
    words. Its cosines can therefore be wrong: that of "a ship" and "a boat" is {_short[0, 1]:.2f},
    that of "a ship" and "a chip", which only share letters, {_short[0, 2]:.2f}. A CLIP that was
    trained on millions of photographs is more reliable here.

    ## 4. The largest: value and position

    Two questions are easily confused: what is the largest number, and at which *position* is it?
    [ko]
    코사인은 고양이와 개가 {animal_similarity[0, 1]:.2f}, 고양이와 잠수함이
    {animal_similarity[0, 2]:.2f}, 개와 잠수함이 {animal_similarity[1, 2]:.2f}입니다. `tiny-clip`은
    도형, 차트, 표, 문서와 이모지 약간으로 학습되어 이 단어를 거의 보지 못했습니다. 그래서 값이
    틀릴 수 있습니다. "a ship"(배)과 "a boat"(보트)의 코사인은 {_short[0, 1]:.2f}이고, 철자만 비슷한
    "a ship"과 "a chip"(조각)의 코사인은 {_short[0, 2]:.2f}입니다. 사진 수백만 장으로 학습한
    CLIP은 이런 문장에서 더 믿을 만합니다.

    ## 4. 가장 큰 수: 값과 위치

    다음 두 질문은 혼동하기 쉽습니다. 가장 큰 수는 *얼마*입니까? 그 수의 *위치*는 어디입니까?
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
    text(r"""
    `argmax` of `[-2, 1, 99, 8]` is **2**: the position, counted from 0. `max` returns the
    value, 99. `topk(k)` returns the $k$ largest values in descending order (`.values`) and their
    positions (`.indices`).

    For a matrix, `dim` selects the axis that is searched and removed. For our $(9, 9)$ matrix
    `argmax(dim=1)` finds the best sentence for each picture, and `argmax(dim=0)` the best picture
    for each sentence:
    [ko]
    `[-2, 1, 99, 8]`의 `argmax`는 **2**입니다. 0부터 센 위치입니다. 값 99는 `max`로 구합니다.
    `topk(k)`는 가장 큰 값 $k$개를 큰 순서로(`.values`), 그 위치와 함께(`.indices`) 돌려줍니다.

    행렬에서는 `dim`으로 어느 축을 따라 찾을지 정하며, 결과에서 그 축은 없어집니다. 위의 $(9, 9)$
    행렬에서 `argmax(dim=1)`은 사진마다 가장 잘 맞는 문장을, `argmax(dim=0)`은 문장마다 가장 잘 맞는
    사진을 찾습니다.
    """)
    return


@app.cell
def _(similarity):
    print("best sentence of each picture:", similarity.argmax(dim=1).tolist())
    print("best picture of each sentence:", similarity.argmax(dim=0).tolist())
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 5. Nine pictures and a sentence

    Now a new sentence. `scores` contains its cosine with each picture, in a tensor of shape `(9,)`.
    [ko]
    ## 5. 사진 아홉 장과 문장 하나

    이번에는 새로운 문장입니다. `scores`는 이 문장과 각 사진의 코사인을 담은, 모양이 `(9,)`인
    텐서입니다.
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
    text(r"""
    ### Exercise 3: position and value

    Compute from `scores`, in code:

    - `best_position`: the position of the picture that fits best;
    - `best_cosine`: its cosine;
    - `top_three`: the positions of the three best pictures, best first.
    [ko]
    ### 연습 3: 위치와 값

    `scores`에서 다음을 코드로 구하십시오.

    - `best_position`: 가장 잘 맞는 사진의 위치
    - `best_cosine`: 그 사진의 코사인
    - `top_three`: 가장 잘 맞는 세 장의 위치. 가장 좋은 것부터
    """)
    return


@app.cell
def exercise_3(scores):
    best_position = ...
    best_cosine = ...
    top_three = ...

    check_3 = grader.check(3, best_position, best_cosine, top_three, scores=scores)
    return (check_3,)


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 6. A search over two hundred pictures

    The next cell creates a folder of two hundred files in your cache folder the first time it runs.
    As in many real folders, some files are greyscale, some have a palette or transparency, and some
    have the wrong extension: a PNG named `.jpg`, or a JPEG named `.png`.
    [ko]
    ## 6. 사진 200장 검색하기

    다음 셀은 처음 실행할 때 캐시 폴더 안에 파일 200개가 있는 폴더를 만듭니다. 실제 폴더에서 흔히
    그렇듯 흑백(greyscale) 사진, 팔레트나 투명도가 있는 사진, 확장자가 틀린 파일(`.jpg`라는 이름의
    PNG나 `.png`라는 이름의 JPEG)이 섞여 있습니다.
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
    text(r"""
    Pillow detects the format from the content of a file, so a wrong extension is no problem. But a
    greyscale picture has one channel, and the model needs three.

    ### Exercise 4: load them

    Write `load_images(folder)`. It opens *every* file in the folder in the order of the file names,
    converts each one to RGB, and returns the list. Before it returns, it prints the number of
    pictures. For this folder:

    ```
    Total 200 images are loaded!
    ```
    [ko]
    Pillow는 파일의 내용을 보고 형식을 판단하므로 확장자가 틀려도 문제가 없습니다. 그러나 흑백
    사진은 채널이 하나인데 모델에는 채널 세 개가 필요합니다.

    ### 연습 4: 불러오기

    `load_images(folder)`를 작성하십시오. 폴더의 *모든* 파일을 이름 순서대로 열고, 각각 RGB로 변환해
    리스트로 돌려줍니다. 돌려주기 전에 사진의 수를 출력합니다. 이 폴더에서는 다음과 같습니다.

    ```
    Total 200 images are loaded!
    ```
    """)
    return


@app.cell
def exercise_4(folder):
    def load_images(folder):
        return ...

    check_4 = grader.check(4, load_images, folder=folder)
    return (check_4,)


@app.cell
def _(check_4):
    gallery = check_4.value  # your answer if it is right
    show.pictures(gallery[:10], [str(i) for i in range(10)], side=70)
    return (gallery,)


@app.cell(hide_code=True)
def _():
    text(r"""
    ### Exercise 5: embed pictures and text

    Write two functions with the `encoder` from above. `encoder.embed_images` takes a list of
    pictures, `encoder.embed_texts` takes a list of sentences, and both return one row per item.

    - `embed_images(pictures)` returns the vectors of all pictures and prints their shape;
    - `embed_text(sentence)` returns the vector of *one* sentence as a matrix with one row, and
      prints its shape.

    The two printed lines are as follows. Take 200 and $D$ from the shape of the result:

    ```
    Image Embedding's shape: (200, D)
    Text Embedding's shape: (1, D)
    ```
    [ko]
    ### 연습 5: 사진과 텍스트 임베딩

    위에서 만든 `encoder`로 함수 두 개를 작성하십시오. `encoder.embed_images`는 사진의 리스트를,
    `encoder.embed_texts`는 문장의 리스트를 받으며, 둘 다 항목마다 행 하나를 돌려줍니다.

    - `embed_images(pictures)`는 모든 사진의 벡터를 돌려주고 그 모양을 출력합니다.
    - `embed_text(sentence)`는 문장 *하나*의 벡터를, 행이 하나인 행렬로 돌려주고 그 모양을
      출력합니다.

    출력은 다음 두 줄입니다. 200과 $D$는 결과의 모양에서 얻으십시오.

    ```
    Image Embedding's shape: (200, D)
    Text Embedding's shape: (1, D)
    ```
    """)
    return


@app.cell
def exercise_5(encoder, gallery):
    def embed_images(pictures):
        return ...

    def embed_text(sentence):
        return ...

    check_5 = grader.check(5, embed_images, embed_text, encoder=encoder, gallery=gallery)
    return (check_5,)


@app.cell
def _(check_5):
    gallery_vectors = check_5.value  # a tensor (200, D)
    print(tuple(gallery_vectors.shape))
    wanted = "a large purple star"  # for exercise 6
    return gallery_vectors, wanted


@app.cell(hide_code=True)
def _():
    text(r"""
    ### Exercise 6: show the best

    Write `top_1(sentence)`. It returns the position in `gallery_vectors` of the picture that fits
    the sentence best. `encoder.embed_texts` returns a NumPy array; `torch.from_numpy` converts it
    to a tensor. The next cell shows the picture.
    [ko]
    ### 연습 6: 가장 잘 맞는 사진 보여 주기

    문장에 가장 잘 맞는 사진의 `gallery_vectors` 안 위치를 돌려주는 `top_1(sentence)`를
    작성하십시오. `encoder.embed_texts`는 NumPy 배열을 돌려주며, `torch.from_numpy`로 텐서로 바꿀 수
    있습니다. 다음 셀이 그 사진을 보여 줍니다.
    """)
    return


@app.cell
def exercise_6(encoder, gallery_vectors, wanted):
    def top_1(sentence):
        return ...

    check_6 = grader.check(
        6, top_1, encoder=encoder, gallery_vectors=gallery_vectors, sentence=wanted
    )
    return (check_6,)


@app.cell
def _(check_6, gallery, wanted):
    show.pictures([gallery[check_6.value]], [f"{check_6.value}: {wanted}"])
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    ### Exercise 7: find the sentence

    The next cell shows five of the two hundred pictures. For each one, find a sentence whose first
    result is this picture. Describe what is *in* the picture and how it differs from the others. If
    another picture is first, the grader shows its number, and `gallery[number]` shows the picture.
    [ko]
    ### 연습 7: 알맞은 문장 찾기

    다음 셀은 200장 중 다섯 장을 보여 줍니다. 각 사진이 검색 결과 1위가 되는 문장을 찾으십시오. 사진
    *안에* 무엇이 있는지, 다른 사진과 무엇이 다른지 쓰면 됩니다. 다른 사진이 1위이면 채점기가 그
    번호를 알려 주며, `gallery[번호]`로 볼 수 있습니다. 문장은 영어로 쓰십시오. `tiny-clip`에는
    한국어 문장도 쓸 수 있습니다.
    """)
    return


@app.cell
def _(gallery):
    targets = pictures.TARGETS
    show.pictures([gallery[i] for i in targets], [f"picture {i}" for i in targets])
    return (targets,)


@app.cell
def exercise_7(encoder, gallery_vectors, targets):
    sentences = [..., ..., ..., ..., ...]

    check_7 = grader.check(
        7, sentences, encoder=encoder, gallery_vectors=gallery_vectors, targets=targets
    )
    return (check_7,)


@app.cell(hide_code=True)
def _():
    text(r"""
    ### Exercise 8: a query with a given result

    Find one sentence, `three_query`, whose *first three* results are the three pictures below, in
    any order. Describe what only these three pictures have in common.
    [ko]
    ### 연습 8: 결과가 정해진 질의

    *처음 세 결과*가 아래 세 사진이 되는 문장 하나를 찾아 `three_query`에 담으십시오. 세 사진의
    순서는 상관없습니다. 세 사진에만 공통된 것을 쓰면 됩니다.
    """)
    return


@app.cell
def _(gallery):
    three = pictures.THREE
    show.pictures([gallery[i] for i in three], [f"picture {i}" for i in three])
    return (three,)


@app.cell
def exercise_8(encoder, gallery_vectors, three):
    three_query = ...

    check_8 = grader.check(
        8, three_query, encoder=encoder, gallery_vectors=gallery_vectors, targets=three
    )
    return (check_8,)


@app.cell(hide_code=True)
def _():
    text(r"""
    ## 7. Limits of a search

    A search always returns a first result. Two of the next three sentences fit none of the
    pictures. Do the cosines show which two?
    [ko]
    ## 7. 검색의 한계

    검색은 언제나 1위 결과를 돌려줍니다. 다음 세 문장 중 둘은 어느 사진에도 맞지 않습니다. 코사인만
    보고 어느 둘인지 알 수 있습니까?
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
    text(r"""
    A search can only use what is in the picture. Each of the two hundred pictures was drawn from a
    caption that names its colours. The next cell searches with every caption. How often is its own
    picture the first result, among the pictures in colour and among the greyscale pictures?
    [ko]
    검색은 사진에 있는 것만 이용할 수 있습니다. 사진 200장은 모두 색깔이 적힌 설명문으로 그렸습니다.
    다음 셀은 그 설명문으로 검색합니다. 컬러 사진과 흑백 사진에서 원래 사진이 1위로 나오는 비율은
    각각 얼마입니까?
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
def _(check_1, check_2, check_3, check_4, check_5, check_6, check_7, check_8):
    grader.summary(check_1, check_2, check_3, check_4, check_5, check_6, check_7, check_8)
    return


@app.cell(hide_code=True)
def _():
    text(r"""
    ## Summary

    - A multimodal model maps pictures and sentences to one space, where similar meanings have
      similar vectors.
    - The cosine compares directions. For rows of length 1, $(N, D)$ times $(D, M)$ gives all
      $(N, M)$ cosines.
    - `argmax` returns a position, `max` a value, `topk` both.
    - The first result is the best one in the folder, but it may still be wrong.

    `encoderlab index FOLDER` and `encoderlab search "a sentence"` run the same search on large
    folders. In lesson 2 you train such a model yourself.
    [ko]
    ## 정리

    - 멀티모달 모델은 사진과 문장을 한 공간의 벡터로 바꾸며, 뜻이 비슷하면 벡터도 비슷합니다.
    - 코사인은 방향을 비교합니다. 행의 길이가 1이면 $(N, D)$에 $(D, M)$을 곱해 $(N, M)$ 코사인을
      모두 구합니다.
    - `argmax`는 위치, `max`는 값, `topk`는 둘 다 돌려줍니다.
    - 1위 결과는 폴더 안에서 가장 비슷한 사진일 뿐이며, 틀릴 수도 있습니다.

    `encoderlab index FOLDER`와 `encoderlab search "a sentence"`는 같은 검색을 큰 폴더에서
    실행합니다. 2강에서는 이런 모델을 직접 학습합니다.
    """)
    return


if __name__ == "__main__":
    app.run()
