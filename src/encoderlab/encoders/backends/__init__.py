"""What runs the image tower: torch, a compiled torch, ONNX Runtime, OpenVINO.

A backend takes over one thing alone, the plain forward from standardised pixels to the tokens and
the vector of each image. Layers, attention, gradients and everything else go through torch.
`contract` says what a backend is, one file holds each, `probe` times and compares them,
`remembered` keeps its finding, `equip` puts one into an encoder.
"""
