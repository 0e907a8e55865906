"""The sentences that zero-shot classification puts a class name into."""

TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}")
TEMPLATES_KO = ("{}", "{} 사진", "{} 그림", "{} 이미지")
