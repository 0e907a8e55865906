import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="1강: CLIP 멀티모달 임베딩")

with app.setup(hide_code=True):
    import sys
    from pathlib import Path

    import marimo as mo
    import torch
    import torch.nn.functional as F
    from PIL import Image

    from encoderlab import load_dual

    sys.path.insert(0, str(Path(__file__).parent.parent))  # 채점기가 있는 폴더

    import pictures
    import show
    from grader import Grader

    grader = Grader(__file__)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 1강: CLIP 멀티모달 임베딩

    이 강의를 마치면 문장 하나로 사진 200장을 검색하게 됩니다. 그 과정에서 필요한 수학을 직접
    코드로 작성합니다. 두 벡터의 코사인, 여러 벡터의 코사인, 그리고 여러 수 중 가장 큰 수를 찾는
    방법입니다. 30분쯤 걸리며 네트워크는 필요하지 않습니다.

    **진행 방법.** 먼저 오른쪽 아래의 둥근 노란 단추를 누르면 모든 셀이 실행됩니다. 연습 문제는
    모두 일곱 개입니다. 연습 셀에는 `...`이 있습니다. 그 자리에 답을 쓰고 셀을
    실행하십시오(Ctrl+Enter 또는 셀의 노란 단추). 바로 아래에서 채점기가 의견을 말해 줍니다. 몇
    번이고 다시 시도해도 되고, 한 연습에서 막혀도 다음 연습으로 넘어갈 수 있습니다. 답이 없거나
    틀린 동안에는 준비된 답으로 강의가 이어집니다.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 1. 모달리티, 그리고 두 모달리티를 위한 모델

    *모달리티(modality)*는 사진, 글, 소리와 같은 데이터의 종류를 말합니다. 사진은 픽셀이 모인
    것이고 문장은 글자가 이어진 것이어서, 한쪽의 수는 다른 쪽의 수와 전혀 닮지 않았습니다.
    그렇다면 컴퓨터는 사진과 문장의 뜻이 같다는 것을 어떻게 알 수 있겠습니까?

    **CLIP**(Contrastive Language-Image Pre-training, 2021)은 신경망 두 개로 이루어집니다.
    *이미지 인코더(image encoder)*는 사진을 수 $D$개의 벡터로 바꾸고, *텍스트 인코더(text
    encoder)*는 문장을 역시 수 $D$개의 벡터로 바꿉니다. 두 신경망은 사진과 설명문의 쌍으로 함께
    학습되어, 쌍을 이루는 두 벡터는 거의 같은 방향을 가리키고 서로 관계없는 벡터는 그렇지
    않습니다. 이런 벡터를 *임베딩(embedding)*이라고 하며, 두 모달리티가 한 공간을 함께 쓰므로
    *멀티모달(multimodal)* 임베딩이라고 합니다.

    다음 셀에서 모델의 이름을 정합니다. `tiny-clip`은 EncoderLab에 들어 있는 작은 모델로,
    내려받을 필요가 없고 색깔 있는 도형, 차트, 표, 문서를 압니다. 아래의 모든 내용은 이 자리에
    적힌 모델로 진행됩니다.
    """)
    return


@app.cell
def _():
    # 네트워크가 있으면 "openai/clip-vit-base-patch32"도 됩니다. 세상의 사진을 배운 CLIP입니다.
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
    여기 사진 아홉 장과, 사람이 그 사진을 보고 말할 법한 문장이 있습니다. 컴퓨터가 그린 그림이며,
    모델이 학습할 때 본 적이 없는 것들입니다. 문장을 영어로 쓰는 까닭은 허브의 CLIP이 대부분
    영어만 알기 때문입니다. `tiny-clip`은 한국어도 조금 압니다.
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
    행 하나가 사진 하나 또는 문장 하나입니다. 열 하나하나에는 정해진 뜻이 없습니다. 그래서 17번째
    수가 무엇을 말하는지 묻지 않고, 두 행이 서로 어떤 방향으로 놓여 있는지를 묻습니다.

    ## 2. 손으로 구하는 코사인 유사도

    두 벡터 사이의 각이 작으면 두 벡터는 같은 방향을 가리킵니다. 그 각의 코사인, 곧 *코사인
    유사도(cosine similarity)*는 다음과 같습니다.

    $$
    \cos(a, b) = \frac{a \cdot b}{\lVert a \rVert \, \lVert b \rVert}
    = \frac{\sum_i a_i b_i}{\sqrt{\sum_i a_i^2} \, \sqrt{\sum_i b_i^2}}
    $$

    방향이 같으면 1, 직각이면 0, 반대 방향이면 -1입니다. 두 벡터가 얼마나 긴지는 상관없습니다.
    나눗셈이 바로 그 일을 합니다.
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
    **함정 하나.** `torch.tensor([3, 4])`에는 정수(`int64`)가 들어 있으며, 정수 텐서의 길이는
    구할 수 없습니다. 제곱근이 정수형에 들어가지 않기 때문입니다. PyTorch가 무엇이라고 하는지,
    그리고 자료형을 바꾸면(cast) 어떻게 되는지 보십시오.
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
    ### 연습 1: 두 벡터의 코사인

    모양이 `(D,)`인 두 벡터의 코사인을 구하는 `cosine(a, b)`를 작성하십시오. 반환값은 수
    하나입니다. 합, 곱, 제곱근(또는 `@`와 `.norm()`)을 사용하고 `F.cosine_similarity`는 사용하지
    마십시오. 정수 텐서도 받을 수 있어야 합니다.
    """)
    return


@app.cell
def exercise_1():
    def cosine(a, b):
        return ...

    # 점 세 개(...)를 지우고 그 자리에 답을 쓰십시오.
    return (cosine,)


@app.cell(hide_code=True)
def _(cosine):
    check_1 = grader.check(1, cosine)
    check_1
    return (check_1,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 3. 여러 코사인을 한꺼번에

    사진 아홉 장과 문장 아홉 개이면 코사인은 81개이고, 함수를 81번 부르는 반복문으로도 구할 수
    있습니다. 그러나 행렬 곱은 똑같은 합을 한 번에 구합니다. 모든 행의 길이가 이미 1이라면

    $$
    S = A B^{\top}, \qquad S_{ij} = a_i \cdot b_j = \cos(a_i, b_j)
    $$

    입니다. $A$의 모양이 $(N, D)$이고 $B$의 모양이 $(M, D)$이면 $S$의 모양은 $(N, M)$입니다. 행
    $i$는 사진 $i$, 열 $j$는 문장 $j$입니다.

    행의 길이를 1로 만들려면 각 행을 자기 길이로 나눕니다. `keepdim=True`는 축을 남겨서, 어느
    길이가 어느 행의 것인지 나눗셈이 알 수 있게 합니다.
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
    ### 연습 2: 코사인의 행렬

    모양이 $(N, D)$인 `a`와 $(M, D)$인 `b`를 받아 $(N, M)$ 코사인 행렬을 돌려주는
    `cosine_matrix(a, b)`를 작성하십시오. 들어오는 행의 길이는 얼마든지 될 수 있습니다.
    """)
    return


@app.cell
def exercise_2():
    def cosine_matrix(a, b):
        return ...

    # 점 세 개(...)를 지우고 그 자리에 답을 쓰십시오.
    return (cosine_matrix,)


@app.cell(hide_code=True)
def _(cosine_matrix):
    check_2 = grader.check(2, cosine_matrix)
    check_2
    return (check_2,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    인코더가 내는 벡터는 길이가 이미 1이므로 여기서는 곱하기만 하면 됩니다. 행은 사진 아홉 장,
    열은 문장 아홉 개입니다. 좋은 모델이라면 대각선이 밝습니다.
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
    대각선의 코사인은 평균 {_own.mean():.2f}, 대각선 밖은 평균 {_others.mean():.2f}입니다.
    코사인을 확률로 읽지 마십시오. 서로 짝이라고 1에 가까울 필요도, 남남이라고 0에 가까울 필요도
    없습니다. 중요한 것은 어느 쪽이 *더 큰가*입니다.

    ## 4. 가장 큰 수: 값과 위치

    헷갈리기 쉬운 두 질문이 있습니다. 가장 큰 수는 *얼마*입니까? 그리고 그 수는 *어디에*
    있습니까?
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
    `[-2, 1, 99, 8]`의 `argmax`는 **2**입니다. 0부터 센 위치입니다. 값 99는 다른 함수인 `max`로
    구합니다. `topk(k)`는 큰 것부터 $k$개의 값과 그 위치를 `.values`와 `.indices` 두 필드에 담아
    줍니다.

    행렬에서는 `dim`으로 어느 축을 따라 찾을지 정하며, 그 축은 사라집니다. 우리의 $(9, 9)$
    행렬에서 `argmax(dim=1)`은 사진마다 가장 잘 맞는 문장을, `argmax(dim=0)`은 문장마다 가장 잘
    맞는 사진을 찾습니다.
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
    ## 5. 사진 아홉 장과 문장 하나

    이번에는 아홉 문장에 없는 문장입니다. `scores`는 이 문장과 각 사진의 코사인이며, 모양이
    `(9,)`인 텐서입니다.
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
    ### 연습 3: 위치와 값

    눈으로 읽지 말고 코드로 `scores`에서 다음을 구하십시오.

    - `best_position`: 가장 잘 맞는 사진의 위치
    - `best_cosine`: 그 사진의 코사인
    - `top_three`: 가장 잘 맞는 세 장의 위치. 가장 좋은 것부터
    """)
    return


@app.cell
def exercise_3():
    best_position = ...
    best_cosine = ...
    top_three = ...
    # 점 세 개(...)를 지우고 그 자리에 답을 쓰십시오.
    return best_cosine, best_position, top_three


@app.cell(hide_code=True)
def _(best_cosine, best_position, scores, top_three):
    check_3 = grader.check(3, best_position, best_cosine, top_three, scores=scores)
    check_3
    return (check_3,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## 6. 사진 200장 검색하기

    사진 폴더가 깔끔한 경우는 없습니다. 이 폴더에는 파일이 200개 있으며, 다음 셀을 처음 실행할 때
    여러분의 캐시 폴더에 그려집니다. 그중에는 흑백(greyscale) 사진도 있고, 팔레트나 투명도가 있는
    사진도 있으며, 이름이 사실과 다른 파일도 있습니다. `.jpg`라는 이름의 PNG, `.png`라는 이름의
    JPEG입니다.
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
    Pillow는 파일의 이름이 아니라 내용을 보므로 확장자가 틀려도 문제가 없습니다. 그러나 흑백
    사진은 다릅니다. 모델은 채널 세 개를 받는데 흑백 사진에는 채널이 하나뿐입니다.

    ### 연습 4: 불러오기

    `load_images(folder)`를 작성하십시오. 폴더의 *모든* 파일을 이름 순서대로 열고, 각각 RGB
    사진으로 바꾸어 리스트로 돌려줍니다. 돌려주기 전에 몇 장인지 출력합니다. 우리 폴더에서는
    다음과 같습니다.

    ```
    Total 200 images are loaded!
    ```
    """)
    return


@app.cell
def exercise_4():
    def load_images(folder):
        return ...

    # 점 세 개(...)를 지우고 그 자리에 답을 쓰십시오.
    return (load_images,)


@app.cell(hide_code=True)
def _(folder, load_images):
    check_4 = grader.check(4, load_images, folder=folder)
    check_4
    return (check_4,)


@app.cell
def _(check_4):
    gallery = check_4.value  # 정답이면 여러분의 답, 그전까지는 준비된 답
    show.pictures(gallery[:10], [str(i) for i in range(10)], side=70)
    return (gallery,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### 연습 5: 사진과 텍스트 임베딩

    위에서 만든 `encoder`로 함수 두 개를 작성하십시오. `encoder`의 `embed_images`는 사진의
    리스트를, `embed_texts`는 문장의 리스트를 받으며, 둘 다 하나마다 행 하나를 돌려줍니다.

    - `embed_images(pictures)`는 모든 사진의 벡터를 돌려주고 그 모양을 출력합니다.
    - `embed_text(sentence)`는 문장 *하나*의 벡터를, 행이 하나인 행렬로 돌려주고 그 모양을
      출력합니다.

    벡터 하나에 수가 $D$개라면 출력은 다음 두 줄입니다. 200과 $D$는 직접 적지 말고 모양에서
    얻으십시오.

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

    # 점 세 개(...)를 지우고 그 자리에 답을 쓰십시오.
    return embed_images, embed_text


@app.cell(hide_code=True)
def _(embed_images, embed_text, encoder, gallery):
    check_5 = grader.check(5, embed_images, embed_text, encoder=encoder, gallery=gallery)
    check_5
    return (check_5,)


@app.cell
def _(check_5):
    gallery_vectors = check_5.value  # (200, D) 텐서
    print(tuple(gallery_vectors.shape))
    return (gallery_vectors,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ### 연습 6: 가장 잘 맞는 사진 보여 주기

    문장에 가장 잘 맞는 사진의 `gallery_vectors` 안 위치를 돌려주는 `top_1(sentence)`를
    작성하십시오. 필요한 것은 모두 갖추었습니다. 문장의 벡터(`encoder.embed_texts`는 NumPy 배열을
    돌려주고 `torch.from_numpy`로 텐서가 됩니다), 코사인, 그리고 가장 큰 수의 위치입니다. 다음
    셀이 그 사진을 보여 줍니다.
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

    # 점 세 개(...)를 지우고 그 자리에 답을 쓰십시오.
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
    ### 연습 7: 알맞은 문장 찾기

    이번에는 거꾸로입니다. 200장 가운데 다섯 장이 여기 있습니다. 각 사진을 1등으로 올리는 문장을
    찾으십시오. 사진 *안에* 무엇이 있는지, 다른 사진과 무엇이 다른지 적으면 됩니다. 다른 사진이
    이기면 채점기가 그 번호를 알려 주며, `gallery[번호]`로 볼 수 있습니다. 문장은 영어로
    쓰십시오. `tiny-clip`에는 한국어로 물어도 됩니다.
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
    ## 7. 검색이 말해 주지 않는 것

    무엇을 물어도 검색에는 언제나 1등이 있습니다. 다음 세 문장 가운데 둘은 어느 사진에도 맞지
    않습니다. 코사인을 보십시오. 여러분이라면 알아차렸겠습니까?
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
    또한 검색은 사진에 남아 있는 것만 찾을 수 있습니다. 200장은 모두 색깔을 말하는 설명문을
    바탕으로 그려졌습니다. 그 설명문 하나하나로 검색하면 원래 사진이 1등으로 나오는 비율은
    얼마이겠습니까? 색을 그대로 가진 사진과 흑백이 된 사진을 나누어 보십시오.
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
    ## 이 강의에서 얻은 것

    - 멀티모달 모델은 사진과 문장을 한 공간에 놓으며, 그 공간에서 이웃은 뜻이 같습니다.
    - 코사인은 방향을 비교합니다. 행의 길이를 1로 만들고 $(N, D)$에 $(D, M)$을 곱하면 $(N, M)$
      코사인을 모두 얻습니다.
    - `argmax`는 위치, `max`는 값, `topk`는 둘 다입니다.
    - 1등은 있는 것 중에서 가장 낫다는 뜻일 뿐, 맞다는 증거가 아닙니다.

    `encoderlab index FOLDER`와 `encoderlab search "a sentence"`가 방금 여러분이 만든 일을 사진
    백만 장에 대해서도 합니다. 2강에서는 이런 모델을 직접 학습합니다.
    """)
    return


if __name__ == "__main__":
    app.run()
