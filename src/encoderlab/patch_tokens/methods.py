"""The token reduction methods: name, and what it does in a few words."""

# Every method that `compress evaluate` compares, beside trained compressors, and what it does.
METHODS = {
    "average": "the mean of each window",
    "bilinear": "bilinear interpolation down and up",
    "strided": "the middle token of each window",
    "random": "any tokens, five draws",
    "random_in_window": "any token of each window, five draws",
    "cls_attention": "what CLS looks at most",
    "diverse": "tokens far from one another (farthest points)",
    "kmeans": "the means of clusters of like tokens",
    "tome": "like tokens merged, split by parity (ToMe)",
    "tome_checkerboard": "like tokens merged, checkerboard split",
    "token_pca": "the best mixing of places, fitted",
    "block_pca": "the best linear map of windows, fitted",
    "smaller_image": "the encoder on a smaller image",
}
